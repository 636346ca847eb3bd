"""The tables: what arrived, what was decided, what was made, who looked.

Times are UTC and aware. DICOM dates and times stay text, as written. Ids that leave this house are
opaque text; none of them is derived from a patient.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import uuid4

from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UTCDateTime(TypeDecorator[datetime]):
    """An aware datetime, stored as UTC. A naive one is refused where it is written."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002  (the library's signature)
    ) -> datetime | None:
        """Convert to UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; our own events are UTC and aware")
        return value.astimezone(UTC)

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002  (the library's signature)
    ) -> datetime | None:
        """Mark as UTC what the database gives back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def new_id() -> str:
    """Make an opaque identifier (32 hexadecimal digits, random)."""
    return uuid4().hex


class Base(DeclarativeBase):
    """The schema."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UTCDateTime,
        dict[str, Any]: JSON,
        list[Any]: JSON,
    }


class Association(Base):
    """An association that was accepted."""

    __tablename__ = "association"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    calling_ae: Mapped[str]
    called_ae: Mapped[str]
    peer_address: Mapped[str]
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    ended: Mapped[str | None]
    """``released``, ``aborted`` or ``lost``; none while it is open."""
    receiver: Mapped[str] = mapped_column(default="")
    """The receiver process that has it; opaque, new at each start."""


class Turned(Base):
    """What was turned away, counted by day: strangers, wrong AE titles, a full disk."""

    __tablename__ = "turned"
    __table_args__ = (UniqueConstraint("day", "calling_ae", "called_ae", "peer_address", "reason"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    day: Mapped[str]
    calling_ae: Mapped[str]
    called_ae: Mapped[str]
    peer_address: Mapped[str]
    reason: Mapped[str]
    count: Mapped[int]
    last_at: Mapped[datetime]


class Quarantine(Base):
    """Bytes that could not be taken as an instance, kept and shown."""

    __tablename__ = "quarantine"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    association_id: Mapped[str | None] = mapped_column(ForeignKey("association.id"))
    at: Mapped[datetime]
    key: Mapped[str]
    size: Mapped[int]
    status: Mapped[int]
    """The DIMSE status that the sender was answered."""
    reason: Mapped[str]
    affected_sop_instance_uid: Mapped[str]


class Instance(Base):
    """One kept object, byte for byte as it came (or as we made it).

    One SOP Instance UID may have several rows: its first copy, variants of it, conflicts with it.
    """

    __tablename__ = "instance"
    __table_args__ = (
        UniqueConstraint("sop_instance_uid", "transfer_syntax_uid", "digest"),
        Index(None, "study_uid", "series_uid"),
        Index(None, "study_uid", "patient_id", "issuer"),
        Index(None, "accession"),
        Index(None, "patient_id", "issuer"),
        Index(
            "ix_instance_unsettled",
            "id",
            sqlite_where=text("standing = 'unsettled'"),
            postgresql_where=text("standing = 'unsettled'"),
        ),
        Index(
            "ix_instance_conflict",
            "id",
            sqlite_where=text("standing = 'conflict'"),
            postgresql_where=text("standing = 'conflict'"),
        ),
        Index(
            "ix_instance_without_patient_id",
            "study_uid",
            "patient_name",
            "patient_birth_date",
            sqlite_where=text("patient_id = ''"),
            postgresql_where=text("patient_id = ''"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    sop_instance_uid: Mapped[str]
    sop_class_uid: Mapped[str]
    transfer_syntax_uid: Mapped[str]
    study_uid: Mapped[str]
    series_uid: Mapped[str]
    patient_id: Mapped[str]
    issuer: Mapped[str]
    """IssuerOfPatientID as written, or the sender's default."""
    patient_name: Mapped[str]
    patient_birth_date: Mapped[str]
    patient_sex: Mapped[str]
    accession: Mapped[str]
    study_id: Mapped[str]
    study_date: Mapped[str]
    study_time: Mapped[str]
    study_description: Mapped[str]
    modality: Mapped[str]
    series_number: Mapped[str]
    series_description: Mapped[str]
    series_date: Mapped[str]
    series_time: Mapped[str]
    body_part: Mapped[str]
    instance_number: Mapped[str]
    rows: Mapped[int | None]
    columns: Mapped[int | None]
    frames: Mapped[int]
    """NumberOfFrames; 1 where the object has none."""
    digest: Mapped[str]
    """SHA-256 of the encoded dataset, without the file's preamble and meta group."""
    key: Mapped[str]
    """The object's key in the archive: a DICOM file (PS3.10)."""
    size: Mapped[int]
    """Bytes of the encoded dataset."""
    standing: Mapped[str]
    """``kept``, ``variant``, ``conflict``, ``unsettled`` (a second copy whose pixels are not
    compared yet), ``ours`` (we made it) or ``fetched``."""
    standing_reason: Mapped[str]
    received_at: Mapped[datetime]


class Arrival(Base):
    """One coming of one instance to one AE title: over the network, or by a route."""

    __tablename__ = "arrival"
    __table_args__ = (
        Index(None, "ae_title", "disposition"),
        Index(None, "instance_id"),
        Index(
            "ix_arrival_held",
            "id",
            sqlite_where=text("substr(disposition, 1, 5) = 'held:'"),
            postgresql_where=text("substr(disposition, 1, 5) = 'held:'"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"))
    association_id: Mapped[str | None] = mapped_column(ForeignKey("association.id"))
    ae_title: Mapped[str]
    """The AE title that it came to: called by the sender, or named by the route."""
    origin: Mapped[str]
    """``sent`` (a C-STORE or STOW-RS to that AE title), ``routed`` (a route named it)."""
    route: Mapped[str]
    why: Mapped[dict[str, Any]]
    """For a routed arrival, the rule's explanation."""
    at: Mapped[datetime]
    disposition: Mapped[str]
    """``new`` until the engine has looked; then what became of it: ``gathered``, ``repeat``,
    ``late: no step selects it``, ``held: …``, ``kept`` (the router's own AE title), ``ours`` (we
    made it, and it came back)."""
    exam_id: Mapped[str | None] = mapped_column(ForeignKey("exam.id"))


class Exam(Base):
    """The instances of one Study (or one Patient's arrival window) for one pipeline, one revision.

    A closed one is never changed; what comes later opens the next revision.
    """

    __tablename__ = "exam"
    __table_args__ = (
        UniqueConstraint("root_id", "revision"),
        Index(None, "pipeline", "group", "state"),
        Index(None, "state"),
        Index(None, "accession"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    root_id: Mapped[str]
    """The id of the first revision."""
    revision: Mapped[int]
    pipeline: Mapped[str]
    ae_title: Mapped[str]
    group: Mapped[str]
    """What gathers: the StudyInstanceUID, or the patient's identity."""
    patient_id: Mapped[str]
    issuer: Mapped[str]
    patient_name: Mapped[str]
    study_uid: Mapped[str]
    accession: Mapped[str]
    study_date: Mapped[str]
    study_description: Mapped[str]
    modality: Mapped[str]
    state: Mapped[str]
    """``open``, ``closed`` or ``held``."""
    held_reason: Mapped[str]
    opened_at: Mapped[datetime]
    last_arrival_at: Mapped[datetime]
    due_at: Mapped[datetime]
    """When completeness is to be looked at again."""
    closed_at: Mapped[datetime | None]
    evidence: Mapped[dict[str, Any]]
    """What completeness saw, and which of it decided."""
    priority: Mapped[int]


class ExamInstance(Base):
    """Membership of an instance in an exam."""

    __tablename__ = "exam_instance"

    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"), primary_key=True)
    arrival_id: Mapped[int] = mapped_column(ForeignKey("arrival.id"))


class Job(Base):
    """One run of one pipeline version on one exam revision."""

    __tablename__ = "job"
    __table_args__ = (Index(None, "exam_id"), Index(None, "state"), Index(None, "created_at"))

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"))
    pipeline: Mapped[str]
    pipeline_version: Mapped[str]
    pipeline_digest: Mapped[str]
    """SHA-256 of the definition, in canonical JSON."""
    definition: Mapped[dict[str, Any]]
    """The definition that the job began with, and ends on."""
    models: Mapped[list[Any]]
    """Name, version and digest of each model."""
    operators: Mapped[dict[str, Any]]
    """Operator to the digest of its source (a site's own) or its distribution and version."""
    overread_version: Mapped[str]
    stage: Mapped[str]
    priority: Mapped[int]
    origin: Mapped[str]
    """``routed``, ``on demand``, ``forced`` or ``edit`` (measures what a reader has drawn)."""
    edits: Mapped[str | None] = mapped_column(default=None)
    """The edited segmentation (a result) that an ``edit`` measures."""
    state: Mapped[str]
    reason: Mapped[str]
    """Why it was refused, failed or cancelled, for the person who must act."""
    attempt: Mapped[int]
    """1, and one more for each retry."""
    from_step: Mapped[str]
    """Where the current attempt began; empty for the first step."""
    worker: Mapped[str]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class StepRun(Base):
    """One step of one job, in one attempt."""

    __tablename__ = "step_run"
    __table_args__ = (UniqueConstraint("job_id", "name", "attempt"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    name: Mapped[str]
    attempt: Mapped[int]
    runs: Mapped[int]
    """How often it was begun in this attempt: more than once after a crash."""
    position: Mapped[int]
    operator: Mapped[str]
    state: Mapped[str]
    inputs: Mapped[dict[str, Any]]
    """Port to step, files and digests."""
    outputs: Mapped[dict[str, Any]]
    """Type, files and digests."""
    settings: Mapped[dict[str, Any]]
    report: Mapped[dict[str, Any]]
    """What the operator says of each of its inputs: used, not used, and why."""
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    """While it runs: ``done``, ``of``, and ``what`` is counted; empty where nothing was told."""
    error: Mapped[str]
    log: Mapped[str]
    worker: Mapped[str]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Result(Base):
    """A typed output of a job, with its provenance. Never overwritten."""

    __tablename__ = "result"
    __table_args__ = (UniqueConstraint("job_id", "name"), Index(None, "exam_id"))

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"))
    name: Mapped[str]
    """The step that made it."""
    kind: Mapped[str]
    """What was made: ``measurements``, ``detections``, ``classification``, or a kind of object."""
    data: Mapped[dict[str, Any]]
    """The content, for measurements; what describes the object, for an object."""
    instance_id: Mapped[int | None] = mapped_column(ForeignKey("instance.id"))
    """The DICOM object, where the result is one."""
    digest: Mapped[str]
    model: Mapped[str]
    model_version: Mapped[str]
    model_digest: Mapped[str]
    pipeline: Mapped[str]
    pipeline_version: Mapped[str]
    sources: Mapped[list[Any]]
    """SOP Instance UIDs of the source images."""
    version: Mapped[int]
    supersedes: Mapped[str | None]
    """The result that this one replaces as the current one."""
    superseded_by: Mapped[str | None]
    author: Mapped[str] = mapped_column(default="", server_default="")
    """The user who edited it; empty where a pipeline made it. Each author's versions supersede
    that author's own, and no other's."""
    edits: Mapped[str | None] = mapped_column(default=None)
    """The result that this one is an edit of."""
    created_at: Mapped[datetime]


class Delivery(Base):
    """One instance on its way to one destination."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("destination", "instance_id"),
        Index(None, "destination", "state"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    destination: Mapped[str]
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"))
    cause: Mapped[str]
    """``route NAME`` or ``job ID``."""
    why: Mapped[dict[str, Any]]
    state: Mapped[str]
    """``queued``, ``delivered``, ``waiting`` (to be tried again), ``failed`` (a person must act),
    ``held`` (a copy that conflicts with another, or is not settled yet)."""
    attempts: Mapped[int]
    error: Mapped[str]
    created_at: Mapped[datetime]
    next_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class Lease(Base):
    """Who does what only one may do at a time, and until when."""

    __tablename__ = "lease"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    expires_at: Mapped[datetime]


class Worker(Base):
    """A worker and its last sign of life."""

    __tablename__ = "worker"

    name: Mapped[str] = mapped_column(primary_key=True)
    """Stable and unique: the executor id."""
    boot: Mapped[str]
    """New at each start; a late writer of an earlier one is fenced out."""
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]


class User(Base):
    """A person who may sign in."""

    __tablename__ = "user"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(unique=True)
    password: Mapped[str]
    """An argon2id hash; empty for who signs in elsewhere."""
    origin: Mapped[str] = mapped_column(default="local", server_default="local")
    """The identity plugin that knows the person."""
    groups: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    """Groups that the directory or provider named at the latest sign-in."""
    email: Mapped[str] = mapped_column(default="", server_default="")
    """Where the person is told that there is something to read; empty for nowhere."""
    disabled: Mapped[bool]
    created_at: Mapped[datetime]


class Held(Base):
    """A role that a user was given here; the site's files give others."""

    __tablename__ = "held_role"

    user_id: Mapped[str] = mapped_column(ForeignKey("user.id"), primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)
    project: Mapped[str] = mapped_column(primary_key=True, default="")
    """Empty for the whole site."""


class Session(Base):
    """A sign-in, or a token."""

    __tablename__ = "session"
    __table_args__ = (Index(None, "user_id"),)

    token_digest: Mapped[str] = mapped_column(primary_key=True)
    """SHA-256 of the cookie's token; the token itself is kept nowhere."""
    id: Mapped[str] = mapped_column(default=new_id, unique=True)
    """Opaque; what the audit and the account's page call it."""
    user_id: Mapped[str] = mapped_column(ForeignKey("user.id"))
    csrf: Mapped[str]
    label: Mapped[str] = mapped_column(default="", server_default="")
    """What a token is for, as its owner said."""
    scopes: Mapped[list[Any] | None] = mapped_column(default=None)
    """What a token is limited to; none where it is not."""
    address: Mapped[str] = mapped_column(default="", server_default="")
    """Where it was opened from."""
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    """When it ends unless it is used."""
    ends_at: Mapped[datetime]
    """When it ends, used or not."""


class Enrolment(Base):
    """An exam that is a case of a project; links name it by its id."""

    __tablename__ = "enrolment"
    __table_args__ = (UniqueConstraint("project", "root_id"), Index(None, "root_id"))

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    project: Mapped[str]
    root_id: Mapped[str]
    """The exam's first revision."""
    pipeline: Mapped[str]
    urgent: Mapped[bool] = mapped_column(default=False)
    enrolled_at: Mapped[datetime]
    ready_at: Mapped[datetime | None]
    """When its first results were there; none before."""


class Reading(Base):
    """One reader's work on one case: to be done, begun, or submitted, and then never changed."""

    __tablename__ = "reading"
    __table_args__ = (
        UniqueConstraint("enrolment_id", "reader_id", "amends"),
        Index("ix_reading_to_do", "reader_id", "state", "rank", "ready_at", "id"),
        Index(None, "project", "state"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    enrolment_id: Mapped[str] = mapped_column(ForeignKey("enrolment.id"))
    project: Mapped[str]
    reader_id: Mapped[str] = mapped_column(ForeignKey("user.id"))
    state: Mapped[str]
    """``open``, ``draft``, ``submitted``, or ``withdrawn`` (no longer to be done)."""
    rank: Mapped[int] = mapped_column(default=1)
    """0 for an urgent case, else 1: the lower is read first."""
    ready_at: Mapped[datetime]
    due_at: Mapped[datetime | None]
    answers: Mapped[dict[str, Any]] = mapped_column(default=dict)
    revision: Mapped[int] = mapped_column(default=0)
    """Of the draft: one more for each time that it was saved, so that a stale page is noticed."""
    form: Mapped[str] = mapped_column(default="")
    form_digest: Mapped[str] = mapped_column(default="")
    """The form that the answers are to, as of `overread.validation.forms.Form`."""
    shown: Mapped[list[Any]] = mapped_column(default=list)
    """Ids of the results that the reader was shown."""
    opened_at: Mapped[datetime | None]
    """When the reader first opened the case."""
    saved_at: Mapped[datetime | None]
    submitted_at: Mapped[datetime | None]
    amends: Mapped[str] = mapped_column(default="")
    """The submitted reading that this one corrects; empty for a first one."""


class Audit(Base):
    """What was done, by whom, to what. Only ever appended to."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "subject"), Index(None, "at"))

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    """A user's name, an AE title or ``overread``."""
    action: Mapped[str]
    subject: Mapped[str]
    """Kind and opaque id, such as ``job 3f…``."""
    detail: Mapped[dict[str, Any]]
    address: Mapped[str] = mapped_column(default="", server_default="")
    """Network address that it came from; empty for what this house did by itself."""
    session: Mapped[str] = mapped_column(default="", server_default="")
    """Id of the sign-in or token; empty where there was none."""
