"""What arrived: associations, instances, arrivals, exams, and what was set aside."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from overread.store.tables.base import KEY, Base, name_key, new_id


def _name_key(context: Any) -> str:
    return name_key(context.get_current_parameters()["patient_name"])


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
        Index(None, "state", "opened_at", "id"),
        Index(None, "accession"),
        Index(None, "patient_id", "issuer"),
        Index(None, "name_key", "id"),
        Index(None, "opened_at", "id"),
        Index(None, "pipeline", "opened_at", "id"),
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
    name_key: Mapped[str] = mapped_column(KEY, default=_name_key)
    """The name as `name_key` makes it, for the search; made where the row is."""
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
    __table_args__ = (Index(None, "instance_id"),)

    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"), primary_key=True)
    arrival_id: Mapped[int] = mapped_column(ForeignKey("arrival.id"))
