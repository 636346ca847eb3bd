"""What the portal says to an EHR that launches it: SMART App Launch 2, as a client.

The EHR opens ``/launch`` with its address (``iss``) and an opaque ``launch``. We ask that address
where to authorize, send the browser there (OAuth 2 code flow with PKCE), and exchange the code that
comes back for a token: with it comes the patient whose record is open, and the encounter. The token
reads that patient's identifiers once, and is forgotten. Who uses the portal is none of the EHR's
business here: people sign in as always.
"""

from __future__ import annotations

import json
import secrets
import ssl
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx

from overread.errors import OverreadError
from overread.settings import FhirServer, Smart

_LARGEST = 1 << 20
"""Bytes of an answer that are read."""
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class NotLaunched(OverreadError):
    """The EHR did not bring what is needed; says what, without anything of the patient."""


@dataclass(frozen=True)
class Errand:
    """A browser that is sent to the EHR.

    Attributes
    ----------
    url : str
        Where to.
    kept : mapping of str to str
        What it must bring along when it comes back, in a cookie.
    """

    url: str
    kept: Mapping[str, str]


@dataclass(frozen=True)
class Context:
    """What is open in the EHR.

    Attributes
    ----------
    identities : frozenset of (str, str)
        PatientID and issuer, as images have them.
    birth_date : str
        As FHIR has it, ``1970-01-01``; empty where it does not say.
    accessions : frozenset of str
        Accession numbers of the imaging studies that it was launched on, or of the encounter.
    """

    identities: frozenset[tuple[str, str]]
    birth_date: str = ""
    accessions: frozenset[str] = frozenset()


class Ehr:
    """One EHR.

    Parameters
    ----------
    server : FhirServer
        Its settings; ``smart`` is among them.
    root : Path
        The site folder.
    """

    def __init__(self, server: FhirServer, root: Path) -> None:
        if server.smart is None:
            raise ValueError("a FHIR server without `smart` launches nothing")
        self.server, self.smart = server, server.smart
        self._root = root

    def send(self, launch: str, back: str) -> Errand:
        """Return where to send the browser that was opened with ``launch``.

        Parameters
        ----------
        back : str
            Where it comes back to, as it is registered with the EHR.

        Raises
        ------
        NotLaunched
            The EHR does not answer, or not as the standard has it.
        """
        with self._client() as client:
            says = self._configuration(client)
        if "S256" not in says.get("code_challenge_methods_supported", ["S256"]):
            raise NotLaunched("it does not take code challenges by S256, which SMART requires")
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self.smart.client_id,
            "redirect_uri": back,
            "scope": self.smart.scope,
            "state": state,
            "aud": self.server.url,
            "launch": launch,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        address = _endpoint(says, "authorization_endpoint")
        joint = "&" if urlsplit(address).query else "?"
        kept = {"iss": self.server.url, "state": state, "verifier": verifier}
        return Errand(f"{address}{joint}{urlencode(asked)}", kept)

    def receive(self, code: str, verifier: str, back: str) -> Context:
        """Exchange the code that a browser brought for what is open in the EHR.

        Raises
        ------
        NotLaunched
            The code is not good, no patient is open, or the EHR says nothing of the patient.
        """
        with self._client() as client:
            says = self._configuration(client)
            token = self._token(client, _endpoint(says, "token_endpoint"), code, verifier, back)
            patient = str(token.get("patient") or "")
            if not patient:
                raise NotLaunched("no patient is open there")
            bearer = {"Authorization": f"Bearer {token['access_token']}"}
            person = self._read(client, f"Patient/{quote(patient, safe='')}", bearer)
            if person.get("resourceType") != "Patient" or person.get("id") != patient:
                raise NotLaunched("it gave another resource than the patient that was asked for")
            identities = self._identities(person)
            if not identities:
                raise NotLaunched("the patient has no identifier of a system that this site knows")
            accessions = self._accessions(client, token, bearer)
        return Context(identities, str(person.get("birthDate") or ""), accessions)

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        authority = self.server.certificate_authority
        trusted = ssl.create_default_context(cafile=self._root / authority if authority else None)
        seconds = self.server.timeout.total_seconds()
        with httpx.Client(
            verify=trusted, timeout=seconds, follow_redirects=False, trust_env=False
        ) as client:
            yield client

    def _configuration(self, client: httpx.Client) -> dict[str, Any]:
        address = f"{self.server.url}/.well-known/smart-configuration"
        return _ask(client, "GET", address, {"Accept": "application/json"})

    def _token(
        self, client: httpx.Client, address: str, code: str, verifier: str, back: str
    ) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back,
            "code_verifier": verifier,
        }
        headers = {"Accept": "application/json"}
        secret = self.smart.client_secret
        auth = None
        if secret is None:
            form["client_id"] = self.smart.client_id
        else:
            auth = httpx.BasicAuth(self.smart.client_id, secret.get_secret_value())
        said = _ask(client, "POST", address, headers, form, auth)
        if str(said.get("token_type", "")).lower() != "bearer" or not said.get("access_token"):
            raise NotLaunched("it gave no bearer token for the code")
        return said

    def _read(self, client: httpx.Client, path: str, bearer: Mapping[str, str]) -> dict[str, Any]:
        headers = {"Accept": "application/fhir+json", **bearer}
        return _ask(client, "GET", f"{self.server.url}/{path}", headers)

    def _identities(self, person: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
        return frozenset(
            (str(one["value"]), issuer)
            for one in _list(person.get("identifier"))
            for issuer, system in self.server.patient_systems.items()
            if one.get("value") and one.get("system") == system and one.get("use") != "old"
        )

    def _accessions(
        self, client: httpx.Client, token: Mapping[str, Any], bearer: Mapping[str, str]
    ) -> frozenset[str]:
        """Return the accession numbers that the launch is about; none where it does not say."""
        named = [
            str(one.get("reference"))
            for one in _list(token.get("fhirContext"))
            if str(one.get("reference", "")).startswith("ImagingStudy/")
        ]
        studies = [
            self._read(client, f"ImagingStudy/{quote(one.partition('/')[2], safe='')}", bearer)
            for one in named
        ]
        encounter = str(token.get("encounter") or "")
        if not studies and encounter and "ImagingStudy" in self.smart.scope:
            query = urlencode({"encounter": f"Encounter/{encounter}"})
            try:
                bundle = self._read(client, f"ImagingStudy?{query}", bearer)
            except NotLaunched:  # not every EHR can be asked so; the patient alone will do
                return frozenset()
            studies = [one.get("resource") or {} for one in _list(bundle.get("entry"))]
        return frozenset(number for one in studies for number in _accession_numbers(one))


def _list(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _accession_numbers(study: Mapping[str, Any]) -> Iterator[str]:
    """Find the identifiers of type ACSN (HL7 table 0203)."""
    for one in _list(study.get("identifier")):
        kind = one.get("type")
        codings = _list(kind.get("coding")) if isinstance(kind, dict) else []
        if any(coding.get("code") == "ACSN" for coding in codings) and one.get("value"):
            yield str(one["value"])


def _endpoint(says: Mapping[str, Any], name: str) -> str:
    address = str(says.get(name) or "")
    parts = urlsplit(address)
    plain = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not parts.hostname or not (parts.scheme == "https" or plain) or "@" in parts.netloc:
        raise NotLaunched(f"its smart-configuration names no {name} that is https")
    return address


def _ask(  # noqa: PLR0917 - an HTTP request
    client: httpx.Client,
    method: str,
    address: str,
    headers: Mapping[str, str],
    form: Mapping[str, str] | None = None,
    auth: httpx.Auth | None = None,
) -> dict[str, Any]:
    """Ask for a JSON object."""
    try:
        with client.stream(method, address, headers=dict(headers), data=form, auth=auth) as answer:
            body = b""
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) > _LARGEST:
                    raise NotLaunched("its answer is larger than 1 MB")
            status = answer.status_code
    except httpx.HTTPError as error:
        raise NotLaunched(f"it does not answer ({type(error).__name__})") from error
    if status != httpx.codes.OK:
        what = "the code" if form is not None else "a request"
        raise NotLaunched(f"it refused {what} (status {status})")
    try:
        said = json.loads(body)
    except ValueError as error:
        raise NotLaunched("its answer is no JSON") from error
    if not isinstance(said, dict):
        raise NotLaunched("its answer is no JSON object")
    return said


def launching(servers: Mapping[str, FhirServer], iss: str) -> tuple[str, FhirServer] | None:
    """Return the EHR of that address, among those whose users may launch the portal."""
    for name, server in servers.items():
        if isinstance(server.smart, Smart) and server.url == iss.rstrip("/"):
            return name, server
    return None
