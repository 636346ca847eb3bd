"""What the API answers: its nouns, as the portal writes them and `overread.client` reads them.

Times are ISO 8601 in UTC, but for those of a scanner's clock, which are without a zone. Ids are
opaque. A list is a bare array; where there is more of it, the answer's ``Link`` header names the
next page.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, NaiveDatetime, WithJsonSchema

ScannersTime = Annotated[
    NaiveDatetime,  # which RFC 3339's "date-time", with its zone, is not
    WithJsonSchema({"type": "string", "description": "ISO 8601, by the scanner's clock, no zone"}),
]


class Noun(BaseModel):
    """Anything that is read from a row, or from an answer."""

    model_config = ConfigDict(from_attributes=True)


class Exam(Noun):
    """An exam revision: the instances of one Study that came for one pipeline."""

    id: str
    root_id: str
    revision: int
    pipeline: str
    ae_title: str
    patient_id: str
    issuer: str
    accession: str
    study_uid: str
    study_date: str
    study_description: str
    state: str
    held_reason: str
    opened_at: datetime
    last_arrival_at: datetime
    closed_at: datetime | None
    evidence: dict[str, Any]


class Step(Noun):
    """One step of a job, in one attempt."""

    name: str
    attempt: int
    runs: int
    position: int
    operator: str
    state: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    settings: dict[str, Any]
    report: dict[str, Any]
    progress: dict[str, Any]
    error: str
    started_at: datetime
    ended_at: datetime | None


class Job(Noun):
    """One run of one pipeline version on one exam revision."""

    id: str
    exam_id: str
    pipeline: str
    pipeline_version: str
    pipeline_digest: str
    models: list[Any]
    operators: dict[str, Any]
    stage: str
    origin: str
    priority: int
    state: str
    reason: str
    attempt: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class JobWithSteps(Job):
    """A job with its steps."""

    steps: list[Step]


class StepLog(Noun):
    """What one step logged and printed, in one attempt."""

    name: str
    attempt: int
    log: str


class Result(Noun):
    """A result, with its provenance. ``author`` is empty where a pipeline made it."""

    id: str
    job_id: str
    exam_id: str
    name: str
    kind: str
    data: dict[str, Any]
    digest: str
    model: str
    model_version: str
    model_digest: str
    pipeline: str
    pipeline_version: str
    sources: list[Any]
    version: int
    supersedes: str | None
    superseded_by: str | None
    author: str
    edits: str | None
    created_at: datetime


class Compared(Noun):
    """One segment in two versions of a segmentation; no distance where only one has it."""

    label: str
    dice: float
    first_ml: float
    second_ml: float
    difference_ml: float
    surface_distance_mm: float | None


class Instance(Noun):
    """What the index holds of an instance's header."""

    id: int
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_uid: str
    series_uid: str
    patient_id: str
    issuer: str
    accession: str
    modality: str
    series_number: str
    series_description: str
    instance_number: str
    rows: int | None
    columns: int | None
    frames: int
    digest: str
    size: int
    standing: str
    standing_reason: str
    received_at: datetime


class Delivery(Noun):
    """One instance on its way to one destination."""

    id: str
    destination: str
    instance_id: int
    cause: str
    why: dict[str, Any]
    state: str
    attempts: int
    error: str
    created_at: datetime
    next_at: datetime | None
    ended_at: datetime | None


class Number(Noun):
    """One measured number of a patient's history, and its change from the baseline."""

    exam: str
    case: str
    acquired_at: ScannersTime | None
    accession: str
    quantity: str
    region: str
    value: float
    unit: str
    source: str
    version: str
    is_edit: bool
    change_percent: float | None
    change_absolute: float | None
    is_baseline: bool
    is_crossed: bool


class Case(Noun):
    """An exam that is a case of a project."""

    id: str
    project: str
    pipeline: str
    exam: str
    accession: str
    patient_id: str
    study_date: str
    study_description: str
    state: str
    reason: str
    urgent: bool
    enrolled_at: datetime
    ready_at: datetime | None


class CaseInFull(Case):
    """A case with its results, the numbers over the patient's exams, and what made them."""

    results: list[Result]
    job: JobWithSteps | None
    numbers: list[Number]


class Reading(Noun):
    """One reader's answers to a project's form on a case."""

    id: str
    case: str
    project: str
    reader: str
    state: str
    urgent: bool
    form: str
    form_digest: str
    answers: dict[str, Any]
    revision: int
    results_shown: list[str]
    amends: str | None
    reason: str | None
    ready_at: datetime
    due_at: datetime | None
    opened_at: datetime | None
    saved_at: datetime | None
    submitted_at: datetime | None


class Project(Noun):
    """A project as the site defines it."""

    name: str
    title: str
    pipelines: list[str]
    form: str
    page: dict[str, Any]


class ReaderProgress(Noun):
    """How far one reader is."""

    reader: str
    to_read: int
    begun: int
    urgent: int
    done: int


class Progress(Noun):
    """How far a project is."""

    project: str
    cases: int
    ready: int
    readers: list[ReaderProgress]


class Pipeline(Noun):
    """A pipeline as the site defines it."""

    name: str
    version: str
    title: str
    ae_title: str
    stage: str
    definition: dict[str, Any]
    models: list[str]
    projects: list[str]


class Model(Noun):
    """A model's card, and where it is used."""

    name: str
    version: str
    title: str
    task: str
    runtime: str
    sha256: str
    intended_use: str
    investigational: bool
    manufacturer: str
    licence: str
    input: dict[str, Any]
    labels: list[str]
    pipelines: list[str]


class Verified(Noun):
    """Whether a model's files are those that its card pins."""

    verified: bool
    said: str


class Route(Noun):
    """A rule of where images go."""

    name: str
    send_to: list[str]
    when: Any


class Decision(Noun):
    """Whether an instance goes to one AE title by one route, and why."""

    route: str
    ae_title: str
    send: bool
    why: dict[str, Any]


class Tried(Noun):
    """What the routes would do with one instance."""

    study: str
    series: str
    modality: str
    decisions: list[Decision]


class Replayed(Noun):
    """One series under the present routes, against what was done when it came."""

    accession: str
    series: str
    modality: str
    received_at: datetime
    would: list[str]
    did: list[str]
    added: list[str]
    dropped: list[str]


class Form(Noun):
    """A form: what readers are asked."""

    name: str
    title: str
    digest: str
    document: dict[str, Any]


class Role(Noun):
    """A role that a user holds; ``project`` is empty for the whole site."""

    role: str
    project: str = ""


class User(Noun):
    """Somebody who may sign in."""

    id: str
    name: str
    origin: str
    disabled: bool
    created_at: datetime
    roles: list[Role]


class Me(Noun):
    """Who asks, and what they may do."""

    name: str
    id: str
    roles: list[Role]
    scopes: list[str] | None
    may: dict[str, list[str] | None]
    """Action to the projects that it may be done in; null where it may be done everywhere."""


class AuditEntry(Noun):
    """One row of the audit."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    address: str
    sign_in: str


class Check(Noun):
    """One thing that was looked at: ``well``, a ``notice``, or ``wrong``."""

    check: str
    state: str
    said: str


class Health(Noun):
    """How the site is."""

    well: bool
    checks: list[Check]


class Refusal(Noun):
    """Why a request was not answered."""

    detail: Any
