"""Jobs as they are kept: to list them, to read one, to ask for another run, to stop one.

Nothing runs here: what is written is seen by a worker, which acts on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from overread.errors import UsageError
from overread.pipelines.job import ENDED, ON_DEMAND, JobState, may_follow
from overread.store.audit import record
from overread.store.tables import Exam, Job, Result, StepRun, new_id


def job(session: Session, job_id: str, within: ColumnElement[bool] | None = None) -> Job:
    """Return one job.

    Parameters
    ----------
    job_id : str
        Its id, or the beginning of it where that is enough to tell it.
    within : ColumnElement, optional
        What its exam has to meet, as of `overread.store.visible.exams`.

    Raises
    ------
    UsageError
        There is none, or more than one begins so.
    """
    query = select(Job).where(Job.id.startswith(job_id, autoescape=True)).limit(2)
    if within is not None:
        query = query.join(Exam, Exam.id == Job.exam_id).where(within)
    found = session.scalars(query).all()
    if not job_id or len(found) != 1:
        raise UsageError(
            f"{'more than one' if len(found) > 1 else 'no'} job has an id that begins with "
            f"{job_id!r}; overread job list shows them"
        )
    return found[0]


def find(
    *,
    state: str = "",
    pipeline: str = "",
    exam_id: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    within: ColumnElement[bool] | None = None,
) -> Select[Job]:
    """Make the query of jobs, unordered; what is left empty narrows nothing.

    Parameters
    ----------
    state : str
        Only those in this `JobState`.
    pipeline : str
        Only those of this pipeline.
    exam_id : str
        Only those of this exam revision.
    since, until : datetime
        Only those opened since then; only those opened before then.
    within : ColumnElement
        What their exams have to meet, as of `overread.store.visible.exams`.
    """
    asked = {Job.state: state, Job.pipeline: pipeline, Job.exam_id: exam_id}
    query = select(Job).where(*(column == value for column, value in asked.items() if value))
    if since is not None:
        query = query.where(Job.created_at >= since)
    if until is not None:
        query = query.where(Job.created_at < until)
    if within is not None:
        query = query.join(Exam, Exam.id == Job.exam_id).where(within)
    return query


def jobs(
    session: Session,
    *,
    state: str = "",
    pipeline: str = "",
    exam_id: str = "",
    limit: int = 100,
) -> Sequence[Job]:
    """List jobs, the newest first, at most ``limit``; narrowed as `find` says."""
    query = find(state=state, pipeline=pipeline, exam_id=exam_id)
    return session.scalars(query.order_by(Job.created_at.desc(), Job.id).limit(limit)).all()


def steps(session: Session, job_id: str) -> Sequence[StepRun]:
    """List the steps of a job that were begun, by attempt and place in the pipeline."""
    return session.scalars(
        select(StepRun).where(StepRun.job_id == job_id).order_by(StepRun.attempt, StepRun.position)
    ).all()


def results(session: Session, job_id: str) -> Sequence[Result]:
    """List the results of a job, by name."""
    return session.scalars(
        select(Result).where(Result.job_id == job_id).order_by(Result.name)
    ).all()


def current_results(session: Session, root_id: str) -> Sequence[Result]:
    """List the results of an exam, whatever its revision, that no later one has superseded."""
    return session.scalars(
        select(Result)
        .join(Exam, Exam.id == Result.exam_id)
        .where(Exam.root_id == root_id, Result.superseded_by.is_(None))
        .order_by(Result.name)
    ).all()


def retry(
    session: Session,
    job_id: str,
    *,
    at: datetime,
    actor: str,
    from_step: str = "",
    force: bool = False,
    address: str = "",
    sign_in: str = "",
) -> Job:
    """Ask for another run of a job that has ended.

    A job that was refused, failed or cancelled runs again itself, as its next attempt. One that is
    done keeps its results; with ``force`` a new job on the same exam is opened, with the same
    definition, whose results supersede them.

    Parameters
    ----------
    session : Session
        A writing session.
    at : datetime
        Aware.
    actor : str
        Who asks.
    from_step : str
        The step to begin at; what the steps before it made is used again. Empty begins at the
        first one.
    force : bool
        Whether to run again what is done.
    address, sign_in : str
        Where it is asked from, as of `overread.store.audit.record`.

    Returns
    -------
    Job
        The job that is queued now.

    Raises
    ------
    UsageError
        The job has not ended; or it is done and ``force`` is not given; or it has no such step; or
        a step before ``from_step`` was never done.
    """
    one = job(session, job_id)
    if one.state not in ENDED:
        raise UsageError(
            f"job {one.id} is {one.state}; only one that has ended is run again "
            f"(overread job cancel {one.id[:8]} stops it)"
        )
    if from_step and from_step not in one.definition["steps"]:
        raise UsageError(
            f"job {one.id} has no step {from_step!r}; it has {', '.join(one.definition['steps'])}"
        )
    if one.state == JobState.DONE:
        if not force or from_step:
            raise UsageError(
                f"job {one.id} is done and its results stay as they are; "
                "--force runs the exam again from the first step, as a new job"
            )
        one = _again(session, one, at)
    elif may_follow(JobState.QUEUED, JobState(one.state)):
        one.state = JobState.QUEUED
        one.attempt += 1
        one.from_step = from_step
        one.reason = ""
        one.priority = ON_DEMAND
        one.started_at = one.ended_at = None
    detail = {"from": from_step, "force": force}
    subject = f"job {one.id}"
    record(session, at, actor, "retry job", subject, detail, address=address, sign_in=sign_in)
    return one


def _again(session: Session, done: Job, at: datetime) -> Job:
    """Open a new job with all that the done one was pinned to."""
    fresh = Job(
        id=new_id(),
        exam_id=done.exam_id,
        pipeline=done.pipeline,
        pipeline_version=done.pipeline_version,
        pipeline_digest=done.pipeline_digest,
        definition=done.definition,
        models=done.models,
        operators=done.operators,
        overread_version=done.overread_version,
        stage=done.stage,
        priority=ON_DEMAND,
        origin="forced",
        state=JobState.QUEUED,
        reason="",
        attempt=1,
        from_step="",
        worker="",
        created_at=at,
        started_at=None,
        ended_at=None,
    )
    session.add(fresh)
    return fresh


def cancel(
    session: Session,
    job_id: str,
    *,
    at: datetime,
    actor: str,
    address: str = "",
    sign_in: str = "",
) -> Job:
    """Stop a job; a step that is running is killed by its worker within a second.

    ``address`` and ``sign_in`` are as of `retry`.

    Raises
    ------
    UsageError
        The job has ended.
    """
    one = job(session, job_id)
    if not may_follow(JobState.CANCELLED, JobState(one.state)):
        raise UsageError(f"job {one.id} is {one.state}; there is nothing to cancel")
    one.state = JobState.CANCELLED
    one.reason = f"cancelled by {actor}"
    one.ended_at = at
    subject = f"job {one.id}"
    record(session, at, actor, "cancel job", subject, address=address, sign_in=sign_in)
    return one


def summary(one: Job) -> dict[str, Any]:
    """Say what a listing shows of a job."""
    return {
        "id": one.id,
        "exam": one.exam_id,
        "pipeline": one.pipeline,
        "pipeline_version": one.pipeline_version,
        "state": one.state,
        "reason": one.reason,
        "origin": one.origin,
        "priority": one.priority,
        "stage": one.stage,
        "attempt": one.attempt,
        "from_step": one.from_step,
        "created_at": one.created_at,
        "started_at": one.started_at,
        "ended_at": one.ended_at,
    }
