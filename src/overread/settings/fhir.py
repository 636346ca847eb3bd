"""FHIR servers: what pipelines may ask, and who may launch the portal."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from overread.settings.values import Duration, Frozen


class Smart(Frozen):
    """What the portal is to an EHR that launches it (SMART App Launch 2): a registered client.

    Attributes
    ----------
    client_id : str
        As registered there.
    client_secret : SecretStr, optional
        For a confidential client; where left out, the client is a public one.
    scope : str
        What is asked for.
    """

    client_id: str = Field(min_length=1)
    client_secret: SecretStr | None = None
    scope: str = "launch patient/Patient.read patient/ImagingStudy.read"


class FhirServer(Frozen):
    """A FHIR server (R4 or later). Its key in ``fhir`` is the name that pipelines give it.

    Attributes
    ----------
    plain_http : bool
        Whether ``url`` may be ``http://`` to another machine than this one.
    url : str
        Its base address, as ``https://ehr.hospital/fhir``.
    token : SecretStr, optional
        Bearer token.
    patient_systems : dict
        IssuerOfPatientID to the ``system`` of the identifiers that FHIR knows its patients by. The
        empty one stands for images that name no issuer.
    certificate_authority : Path, optional
        PEM file of who signed the server's certificate, relative to the site folder; where left
        out, the system's.
    timeout : timedelta
        How long it may be silent.
    smart : Smart, optional
        What the portal is to it, where its users may launch the portal.
    """

    plain_http: bool = False
    url: str
    token: SecretStr | None = None
    patient_systems: dict[str, Annotated[str, Field(min_length=1, pattern=r"^[^|\s]+$")]] = Field(
        min_length=1
    )
    certificate_authority: Path | None = None
    timeout: Duration = timedelta(seconds=10)
    smart: Smart | None = None

    @field_validator("url")
    @classmethod
    def _safe(cls, url: str, info: ValidationInfo) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise ValueError(f"{url!r} is no base address; write one as https://ehr.hospital/fhir")
        if parts.query or parts.fragment:
            raise ValueError(f"{url!r} has more than a base address; write it without ? and #")
        here = parts.hostname in {"127.0.0.1", "::1", "localhost"}
        if parts.scheme == "http" and not here and not info.data.get("plain_http"):
            raise ValueError(
                f"{url!r} would carry patients' values in the clear; write https://, or "
                "plain_http: true beside it"
            )
        return url.rstrip("/")
