"""What a step may know of a FHIR server: the engine asks, before the step, and hands on the answer.

Model code never reaches the server: it could ask for any patient. The engine asks for what the
pipeline's `clinical_values` step names, and for the exam's own patient, as the database has it: the
copies in the job's folder are within reach of model code. Nothing of an answer is logged.

Searches go by POST, so that no patient's identifier stands in an address, which servers and
proxies log (FHIR R4, 3.1.0.7: a server that searches by GET does so by POST).
"""

from __future__ import annotations

import logging
import re
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydicom import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread import registry
from overread.dicom.encoded import text
from overread.engine.fhir_records import (
    Observation,
    Patient,
    Subject,
    contradictions,
    of_observations,
    of_patient,
    subject,
)
from overread.errors import StepFailed, Unavailable
from overread.operators.clinical import Value, clinical_values
from overread.operators.run import read_settings
from overread.pipelines.job import StepState
from overread.pipelines.ports import signature
from overread.settings import FhirServer, Settings
from overread.store.tables import Job, StepRun

Told = dict[str, dict[str, str]]
"""By the value's name, as `overread.pipelines.ports.Context` has it."""

R = TypeVar("R", Patient, Observation)

KEPT_AS = "fhir"
"""Beside a step's ports in what it was given (`StepRun.inputs`): what servers said."""

SAID_BY_IMAGES = (
    "patient_id", "issuer", "patient_name", "patient_birth_date", "patient_sex", "study_date",
)  # fmt: skip
"""What is asked of an exam's images, as the database's columns are called."""

_KEYWORDS = (
    "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate",
)  # fmt: skip

PAUSES = (1.0, 4.0)
"""Seconds before a server that did not answer is asked again."""

_PAGES = 20
_BYTES = 16_000_000

for _name in ("httpx", "httpcore"):  # they log addresses, and those of pages say who is asked for
    logging.getLogger(_name).setLevel(logging.WARNING)


class _Search(BaseModel):
    model_config = ConfigDict(extra="ignore")
    mode: str = "match"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="ignore")
    resource: dict[str, Any]
    search: _Search = _Search()


class _Link(BaseModel):
    model_config = ConfigDict(extra="ignore")
    relation: str
    url: str


class _Bundle(BaseModel):
    model_config = ConfigDict(extra="ignore")
    kind: str = Field(alias="resourceType", pattern="^Bundle$")
    entry: tuple[_Entry, ...] = ()
    link: tuple[_Link, ...] = ()


def values_of(request: Mapping[str, Any]) -> dict[str, Value]:
    """Return the values that a `clinical_values` step names; of another step none.

    Parameters
    ----------
    request : mapping
        See `overread.engine.child`; from the job, which is pinned.
    """
    if request["source"] is not None:
        return {}
    function = registry.load("operators", request["operator"])
    if function is not clinical_values:
        return {}
    given = read_settings(signature(request["operator"], function), request["settings"], {})
    return dict(given["values"])


def asked(request: Mapping[str, Any]) -> dict[str, Value]:
    """Return those values of a step that a FHIR server has, by name."""
    return {name: value for name, value in values_of(request).items() if value.fhir is not None}


def said_by(headers: Iterable[Dataset]) -> list[dict[str, str]]:
    """Return of images without a database what `ask` wants of them."""
    return [
        {key: text(header, keyword) for key, keyword in zip(SAID_BY_IMAGES, _KEYWORDS, strict=True)}
        for header in headers
    ]


def told_before(session: Session, job: Job, name: str) -> dict[str, Any]:
    """Return what servers said when a step ran before, so that it makes the same again.

    What an earlier attempt ended badly with does not count: a person may have corrected it there.

    Returns
    -------
    dict
        What they said, below `KEPT_AS`; empty where nothing counts.
    """
    rows = session.scalars(
        select(StepRun)
        .where(StepRun.job_id == job.id, StepRun.name == name)
        .order_by(StepRun.attempt.desc())
    )
    said = (
        row.inputs[KEPT_AS]
        for row in rows
        if KEPT_AS in row.inputs and (row.attempt == job.attempt or row.state == StepState.DONE)
    )
    newest = next(said, None)
    return {KEPT_AS: newest} if newest else {}


def ask(
    values: Mapping[str, Value],
    images: Iterable[Mapping[str, str]],
    settings: Settings,
    seconds: float,
    look: Callable[[], None] = lambda: None,
) -> Told:
    """Ask the site's FHIR servers for values of an exam's patient.

    Parameters
    ----------
    values : mapping
        See `asked`.
    images : iterable of mapping
        The exam's; see `overread.engine.fhir_records.subject`.
    settings : Settings
        Of the site.
    seconds : float
        How long all of it may take.
    look : callable
        Called while it waits; raises where the job must not go on.

    Raises
    ------
    Refused
        The images are not of one patient.
    StepFailed
        A server does not answer, or with what is no answer; says what to do.
    """
    exam = subject(images)
    ends = time.monotonic() + seconds
    told: Told = {}
    for name in dict.fromkeys(value.fhir.server for value in values.values() if value.fhir):
        if name not in settings.fhir:
            raise StepFailed(
                f"the site does not name the FHIR server {name} any more; expected it below fhir "
                "in overread.yaml"
            )
        of_it = {key: one for key, one in values.items() if one.fhir and one.fhir.server == name}
        with _Server(name, settings.fhir[name], settings.root, ends, look) as server:
            told |= _of_server(server, of_it, exam, settings.site.timezone)
    return {name: told[name] for name in values}


def _of_server(server: _Server, values: Mapping[str, Value], exam: Subject, zone: str) -> Told:
    patient = _patient(server, exam)
    if isinstance(patient, dict):
        return dict.fromkeys(values, patient)
    told: Told = {}
    for name, value in values.items():
        if value.fhir and value.fhir.observation and value.fhir.within is not None:
            found = _observations(server, patient, value, exam)
            told[name] = of_observations(found, value, exam, zone)
        else:
            told[name] = of_patient(patient, value, exam)
    return told


def _patient(server: _Server, exam: Subject) -> Patient | dict[str, str]:
    """Find the exam's patient; else return what to say of every value."""
    known = f"FHIR server {server.name}"
    system = server.settings.patient_systems.get(exam.issuer)
    if system is None:
        issuer = f"issuer {exam.issuer!r}" if exam.issuer else "images that name no issuer"
        return {
            "missing": f"{known} cannot be asked for patients of {issuer}; "
            f"fhir.{server.name}.patient_systems says of which it can"
        }
    found = [
        one
        for one in server.search(Patient, identifier=f"{system}|{_escaped(exam.patient_id)}")
        if any(
            (at.system, at.value) == (system, exam.patient_id) and at.use != "old"
            for at in one.identifier
        )
    ]
    if len({one.id for one in found}) != 1:
        return {"missing": f"{known} knows {len(found) or 'no'} patients by the exam's PatientID"}
    patient = found[0]
    if not patient.active or any(link.type == "replaced-by" for link in patient.link):
        return {"missing": f"the patient's record at {known} is no longer in use"}
    if differs := contradictions(patient, exam):
        return {
            "refused": f"{' and '.join(differs)} of the patient at {known} are not those of the "
            "images, though the PatientID is the same"
        }
    return patient


def _observations(
    server: _Server, patient: Patient, value: Value, exam: Subject
) -> list[Observation]:
    wanted = value.fhir
    assert wanted and wanted.observation and wanted.within is not None  # noqa: S101, as it was asked
    around = timedelta(days=1)  # a day has its own begin in every zone
    found = server.search(
        Observation,
        patient=patient.id,
        code=f"{wanted.observation.system}|{wanted.observation.code}",
        date=[f"ge{exam.studied - wanted.within - around}", f"le{exam.studied + around}"],
    )
    mine = {f"Patient/{patient.id}", f"{server.settings.url}/Patient/{patient.id}"}
    if any(one.subject.reference.partition("/_history/")[0] not in mine for one in found):
        raise StepFailed(
            f"FHIR server {server.name} was asked for one patient's observations, and gave those "
            "of another; it cannot be used"
        )
    return found


def _escaped(value: str) -> str:
    """Write a value so that a server takes it as one (FHIR R4, 3.1.1.4.1)."""
    return re.sub(r"([\\|,$])", r"\\\1", value)


class _Server:
    """Asks one FHIR server."""

    def __init__(
        self,
        name: str,
        settings: FhirServer,
        root: Path,
        ends: float,
        look: Callable[[], None],
    ) -> None:
        self.name = name
        self.settings = settings
        self._ends = ends
        self._look = look
        authority = settings.certificate_authority
        headers = {"Accept": "application/fhir+json"}
        if settings.token is not None:
            headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
        try:
            trusted = ssl.create_default_context(cafile=root / authority if authority else None)
        except OSError as error:
            raise StepFailed(
                f"fhir.{name}.certificate_authority cannot be read ({error.strerror})"
            ) from error
        # The environment is not looked at: a proxy that stands there is none for patients' values.
        self._client = httpx.Client(
            verify=trusted,
            headers=headers,
            timeout=settings.timeout.total_seconds(),
            trust_env=False,
        )

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def search(self, kind: type[R], **parameters: str | list[str]) -> list[R]:
        """Search for resources, all pages of them."""
        url = f"{self.settings.url}/{kind.__name__}/_search"
        bundle = self._bundle("POST", url, {**parameters, "_count": "100"})
        found: list[R] = []
        for _ in range(_PAGES):
            try:
                found += [
                    kind.model_validate(one.resource)
                    for one in bundle.entry
                    if one.search.mode == "match"
                    and one.resource.get("resourceType") == kind.__name__
                ]
            except ValidationError as error:
                raise self._no_answer(error) from None  # its text quotes the patient's values
            following = [link.url for link in bundle.link if link.relation == "next"]
            if not following:
                return found
            if urlsplit(following[0])[:2] != urlsplit(url)[:2]:  # it would be given the token
                raise StepFailed(
                    f"FHIR server {self.name} has the next page at another address than "
                    f"fhir.{self.name}.url in overread.yaml; write the one that it calls itself by"
                )
            bundle = self._bundle("GET", following[0], None)
        raise StepFailed(
            f"FHIR server {self.name} has more than {_PAGES} pages of {kind.__name__}; a shorter "
            "within in the pipeline asks for fewer"
        )

    def _bundle(self, method: str, url: str, data: Mapping[str, Any] | None) -> _Bundle:
        content = self._answer(method, url, data)
        try:
            return _Bundle.model_validate_json(content)
        except ValidationError as error:
            raise self._no_answer(error) from None

    def _no_answer(self, error: ValidationError) -> StepFailed:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "the whole"
        return StepFailed(
            f"FHIR server {self.name} answers with what is no FHIR (R4) Bundle ({where}); look at "
            f"fhir.{self.name}.url in overread.yaml"
        )

    def _answer(self, method: str, url: str, data: Mapping[str, Any] | None) -> bytes:
        """Ask, some times over where nobody answers.

        Raises
        ------
        StepFailed
            Nobody answers, or something else is wrong that a person must look at.
        """
        why = ""
        for pause in (0.0, *PAUSES):
            self._wait(pause)
            try:
                return self._once(method, url, data)
            except Unavailable as error:
                why = str(error)
        raise StepFailed(
            f"FHIR server {self.name} is away ({why}); retry the job when it answers again"
        )

    def _once(self, method: str, url: str, data: Mapping[str, Any] | None) -> bytes:
        content = bytearray()
        try:
            with self._client.stream(method, url, data=data) as response:
                self._check(response)
                for chunk in response.iter_bytes():
                    content += chunk
                    self._wait(0.0)
                    if len(content) > _BYTES:
                        raise StepFailed(
                            f"FHIR server {self.name} answers with more than {_BYTES} bytes"
                        )
        except httpx.ConnectError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise StepFailed(
                    f"the certificate of FHIR server {self.name} is not to be trusted ({error}); "
                    f"fhir.{self.name}.certificate_authority in overread.yaml names who signed it"
                ) from None
            raise Unavailable(str(error)) from None
        except httpx.HTTPError as error:
            raise Unavailable(type(error).__name__) from None
        return bytes(content)

    def _check(self, response: httpx.Response) -> None:
        code = response.status_code
        if code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
            raise Unavailable(f"it answers {code}")
        if code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise StepFailed(
                f"FHIR server {self.name} does not let us in ({code}); look at "
                f"fhir.{self.name}.token in overread.yaml, and what it may read there"
            )
        if not response.is_success:
            raise StepFailed(
                f"FHIR server {self.name} answers {code}; fhir.{self.name}.url in overread.yaml "
                "must be its base address, and it must let Patient and Observation be searched"
            )

    def _wait(self, seconds: float) -> None:
        """Look whether the job goes on, and pause."""
        ends = time.monotonic() + seconds
        while True:
            self._look()
            if time.monotonic() > self._ends:
                raise StepFailed(f"FHIR server {self.name} took longer than the step may take")
            if (left := ends - time.monotonic()) <= 0:
                return
            time.sleep(min(left, 0.1))  # short, so that a cancelled job ends at once
