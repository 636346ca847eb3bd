"""The JSON API: what scripts ask. Described at ``/api/v1/openapi.json``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select

from overread.errors import UsageError
from overread.portal.auth import require
from overread.portal.state import Here
from overread.store import exams as exams_kept
from overread.store import jobs as jobs_kept
from overread.store import studies
from overread.store.tables import Exam, Instance, Result

router = APIRouter(prefix="/api/v1", tags=["overread"])

Limit = Annotated[int, Query(ge=1, le=1000)]


class _Row(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ExamRow(_Row):
    """An exam revision."""

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


class StepRow(_Row):
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


class JobRow(_Row):
    """A job."""

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


class JobWithSteps(JobRow):
    """A job with its steps."""

    steps: list[StepRow]


class ResultRow(_Row):
    """A result, with its provenance."""

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
    created_at: datetime


class InstanceRow(_Row):
    """What the index holds of an instance's header."""

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


@router.get("/exams", dependencies=[Depends(require("exam.list"))])
def list_exams(
    portal: Here, state: str = "", pipeline: str = "", accession: str = "", limit: Limit = 100
) -> list[ExamRow]:
    """List exams, the newest first."""
    with portal.database.read() as session:
        listed = exams_kept.exams(
            session, state=state, pipeline=pipeline, accession=accession, limit=limit
        )
        return [ExamRow.model_validate(exam) for exam in listed]


@router.get("/exams/{exam_id}", dependencies=[Depends(require("exam.list"))])
def one_exam(portal: Here, exam_id: str) -> ExamRow:
    """Give one exam revision."""
    with portal.database.read() as session:
        exam = session.get(Exam, exam_id)
        if exam is None:
            raise HTTPException(404, "there is no such exam")
        return ExamRow.model_validate(exam)


@router.get("/jobs", dependencies=[Depends(require("job.list"))])
def list_jobs(
    portal: Here, state: str = "", pipeline: str = "", exam: str = "", limit: Limit = 100
) -> list[JobRow]:
    """List jobs, the newest first."""
    with portal.database.read() as session:
        listed = jobs_kept.jobs(session, state=state, pipeline=pipeline, exam_id=exam, limit=limit)
        return [JobRow.model_validate(job) for job in listed]


@router.get("/jobs/{job_id}", dependencies=[Depends(require("job.see"))])
def one_job(portal: Here, job_id: str) -> JobWithSteps:
    """Give one job with its steps."""
    with portal.database.read() as session:
        try:
            job = jobs_kept.job(session, job_id)
        except UsageError as error:
            raise HTTPException(404, str(error)) from error
        steps = [StepRow.model_validate(step) for step in jobs_kept.steps(session, job.id)]
        return JobWithSteps(**JobRow.model_validate(job).model_dump(), steps=steps)


@router.get("/results", dependencies=[Depends(require("result.list"))])
def list_results(
    portal: Here,
    *,
    job: str = "",
    exam: str = "",
    accession: str = "",
    current: bool = False,
    limit: Limit = 100,
) -> list[ResultRow]:
    """List results, the newest first.

    ``exam`` is an exam's id, ``accession`` its accession number; ``current`` leaves out those that
    a later one supersedes.
    """
    query = select(Result).join(Exam, Exam.id == Result.exam_id)
    if job:
        query = query.where(Result.job_id == job)
    if exam:
        query = query.where(Result.exam_id == exam)
    if accession:
        query = query.where(Exam.accession == accession)
    if current:
        query = query.where(Result.superseded_by.is_(None))
    query = query.order_by(Result.created_at.desc(), Result.name).limit(limit)
    with portal.database.read() as session:
        return [ResultRow.model_validate(result) for result in session.scalars(query)]


@router.get("/instances", dependencies=[Depends(require("exam.list"))])
def list_instances(portal: Here, study: str, series: str = "") -> list[InstanceRow]:
    """List the instances of a study or series, as the index knows them."""
    with portal.database.read() as session:
        listed: list[Instance] = studies.instances(session, study, series)
        return [InstanceRow.model_validate(one) for one in listed]
