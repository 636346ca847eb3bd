"""Jobs, what they logged and made, and results."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread import nouns
from overread.errors import StepFailed
from overread.portal.api.conventions import (
    LINK,
    After,
    Limit,
    Since,
    Text,
    Until,
    listed,
    new_router,
    refusals,
    refusing,
    there,
)
from overread.portal.auth import by, require, sight_of
from overread.portal.engineering import artifacts
from overread.portal.state import Here
from overread.store import by_time, visible
from overread.store import jobs as jobs_kept
from overread.store.tables import Exam, Job, Result
from overread.store.users import Signed
from overread.validation.permissions import reach

router = new_router("jobs and results")

MaySee = Annotated[Signed, Depends(require("job.see"))]
MayRun = Annotated[Signed, Depends(require("job.run"))]


def job_within(session: Session, signed: Signed, action: str, job_id: str) -> Job:
    """Return a job that the caller may do something to, by its id or the beginning of it.

    Raises
    ------
    UsageError
        There is none, or it is beyond the caller's reach.
    """
    within = visible.exams(reach(signed.actor, action))
    return jobs_kept.job(session, job_id, within)


@router.get("/jobs", responses=LINK)
def list_jobs(
    request: Request,
    response: Response,
    portal: Here,
    signed: Annotated[Signed, Depends(require("job.list"))],
    *,
    state: Text = "",
    pipeline: Text = "",
    exam: Annotated[Text, Query(description="Id of an exam revision.")] = "",
    since: Since = None,
    until: Until = None,
    after: After = "",
    limit: Limit = 100,
) -> list[nouns.Job]:
    """List jobs, the newest first."""
    query = jobs_kept.find(
        state=state,
        pipeline=pipeline,
        exam_id=exam,
        since=since,
        until=until,
        within=visible.exams(reach(signed.actor, "job.list")),
    )
    with portal.database.read() as session, refusing(422):
        page = by_time.newest(session, query, Job.created_at, Job.id, after=after, limit=limit)
    return listed(request, response, page, nouns.Job)


def with_steps(session: Session, job: Job) -> nouns.JobWithSteps:
    """Return a job with its steps, by attempt and place."""
    steps = [nouns.Step.model_validate(step) for step in jobs_kept.steps(session, job.id)]
    return nouns.JobWithSteps(**nouns.Job.model_validate(job).model_dump(), steps=steps)


@router.get("/jobs/{job_id}", responses=refusals(404))
def get_job(portal: Here, signed: MaySee, job_id: str) -> nouns.JobWithSteps:
    """Give one job with its steps; the beginning of its id is enough where it is unique."""
    with portal.database.read() as session, refusing(404):
        job = job_within(session, signed, "job.see", job_id)
        return with_steps(session, job)


@router.get("/jobs/{job_id}/log", responses=refusals(404))
def get_log(portal: Here, signed: MaySee, job_id: str) -> list[nouns.StepLog]:
    """Give what each step of a job logged and printed."""
    with portal.database.read() as session, refusing(404):
        job = job_within(session, signed, "job.see", job_id)
        return [nouns.StepLog.model_validate(one) for one in jobs_kept.steps(session, job.id)]


@router.get(
    "/jobs/{job_id}/steps/{step}/files/{name:path}",
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "The file."},
        **refusals(404),
    },
    response_class=Response,
)
def get_file(
    request: Request, portal: Here, signed: MaySee, *, job_id: str, step: str, name: str
) -> Response:
    """Give a file that a step of a job made, as long as the job's work folder is kept."""
    with portal.database.read() as session, refusing(404):
        job = job_within(session, signed, "job.see", job_id)
        recorded = artifacts.recorded(session, job, step, sight_of(request))
    try:
        return artifacts.send(portal, job, step, name, recorded)
    except (FileNotFoundError, StepFailed) as error:
        return artifacts.gone(error)


class Again(BaseModel):
    """How a job is to be run again."""

    from_step: str = Field(default="", max_length=200, description="Empty: from the first one.")
    force: bool = Field(default=False, description="Run a job that is done again, as a new one.")


@router.post("/jobs/{job_id}/retry", responses=refusals(404, 409))
def retry_job(
    request: Request, portal: Here, signed: MayRun, job_id: str, again: Again | None = None
) -> nouns.Job:
    """Run a job again that was refused, failed or cancelled."""
    again = again or Again()
    who = by(request)
    with portal.database.write() as session:
        with refusing(404):
            job = job_within(session, signed, "job.run", job_id)
        with refusing(409):
            queued = jobs_kept.retry(
                session, job.id, at=portal.now(), actor=who.name, from_step=again.from_step,
                force=again.force, address=who.address, sign_in=who.sign_in,
            )  # fmt: skip
            session.flush()
        return nouns.Job.model_validate(queued)


@router.post("/jobs/{job_id}/cancel", responses=refusals(404, 409))
def cancel_job(request: Request, portal: Here, signed: MayRun, job_id: str) -> nouns.Job:
    """Stop a job that is queued or running."""
    who = by(request)
    with portal.database.write() as session:
        with refusing(404):
            job = job_within(session, signed, "job.run", job_id)
        with refusing(409):
            stopped = jobs_kept.cancel(
                session, job.id, at=portal.now(), actor=who.name, address=who.address,
                sign_in=who.sign_in,
            )  # fmt: skip
        return nouns.Job.model_validate(stopped)


@router.get("/results", responses=LINK, dependencies=[Depends(require("result.list"))])
def list_results(
    request: Request,
    response: Response,
    portal: Here,
    *,
    job: Annotated[Text, Query(description="Id of a job.")] = "",
    exam: Annotated[Text, Query(description="Id of an exam revision.")] = "",
    accession: Text = "",
    kind: Text = "",
    current: Annotated[bool, Query(description="Leave out what a later one supersedes.")] = False,
    after: After = "",
    limit: Limit = 100,
) -> list[nouns.Result]:
    """List results, the newest first."""
    query = _results(request).join(Exam, Exam.id == Result.exam_id)
    asked = {
        Result.job_id: job,
        Result.exam_id: exam,
        Exam.accession: accession,
        Result.kind: kind,
    }
    query = query.where(*(column == value for column, value in asked.items() if value))
    if current:
        query = query.where(Result.superseded_by.is_(None))
    with portal.database.read() as session, refusing(422):
        page = by_time.newest(
            session, query, Result.created_at, Result.id, after=after, limit=limit
        )
    return listed(request, response, page, nouns.Result)


def _results(request: Request) -> Any:
    return select(Result).where(visible.results(sight_of(request)))


@router.get(
    "/results/{result_id}",
    responses=refusals(404),
    dependencies=[Depends(require("result.list"))],
)
def get_result(request: Request, portal: Here, result_id: str) -> nouns.Result:
    """Give one result, with its content where it is measurements, detections or classes."""
    with portal.database.read() as session:
        found = session.scalar(_results(request).where(Result.id == result_id))
        result = there(found, "result")
        return nouns.Result.model_validate(result)


@router.get(
    "/results/{result_id}/versions",
    responses=refusals(404),
    dependencies=[Depends(require("result.list"))],
)
def list_versions(request: Request, portal: Here, result_id: str) -> list[nouns.Result]:
    """List the versions of a result that the caller may see, the oldest first.

    These are what the same step made of the same exam, in every revision of it and by every author.
    """
    with portal.database.read() as session:
        found = session.scalar(_results(request).where(Result.id == result_id))
        result = there(found, "result")
        exam = session.get_one(Exam, result.exam_id)
        query = (
            _results(request)
            .join(Exam, Exam.id == Result.exam_id)
            .where(Exam.root_id == exam.root_id, Result.name == result.name)
            .order_by(Result.created_at, Result.id)
        )
        return [nouns.Result.model_validate(one) for one in session.scalars(query)]
