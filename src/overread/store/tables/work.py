"""What was done with it: jobs, steps, results, deliveries; and by which workers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from overread.store.tables.base import Base, new_id


class Job(Base):
    """One run of one pipeline version on one exam revision."""

    __tablename__ = "job"
    __table_args__ = (
        Index(None, "exam_id"),
        Index(None, "state", "created_at", "id"),
        Index(None, "created_at"),
    )

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
    __table_args__ = (
        UniqueConstraint("job_id", "name"),
        Index(None, "exam_id"),
        Index(None, "instance_id"),
    )

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
    project: Mapped[str] = mapped_column(default="", server_default="")
    """The project as whose case the exam was open when it was edited: others' people do not see it.
    Empty where a pipeline made it, and where the exam was in no project."""
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
