"""Jobs as pages: the steps as a timeline, what they logged and made, another run, a stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.engine.folders import JobFolder
from overread.errors import StepFailed, UsageError
from overread.operators.files import IMAGE
from overread.pipelines.job import ENDED, StepState
from overread.portal.auth import by, require, sight_of
from overread.portal.engineering import artifacts, preview, timeline
from overread.portal.engineering.missing import missing
from overread.portal.state import Here, Portal
from overread.store import by_time, enrolments, visible
from overread.store import jobs as jobs_kept
from overread.store.tables import Enrolment, Exam, Job, Result, StepRun
from overread.store.users import Signed
from overread.validation.permissions import may, reach

router = APIRouter(include_in_schema=False)

MaySee = Annotated[Signed, Depends(require("job.see"))]
MayRun = Annotated[Signed, Depends(require("job.run"))]

ROWS = 50


@router.get("/jobs")
def jobs_page(
    request: Request,
    portal: Here,
    signed: Annotated[Signed, Depends(require("job.list"))],
    *,
    state: str = "",
    pipeline: str = "",
    after: str = "",
) -> Response:
    """List the jobs."""
    within = visible.exams(reach(signed.actor, "job.list"))
    query = jobs_kept.find(state=state, pipeline=pipeline, within=within)
    with portal.database.read() as session:
        page = by_time.newest_or_first(
            session, query, Job.created_at, Job.id, after=after, limit=ROWS
        )
        exams = {job.exam_id: session.get(Exam, job.exam_id) for job in page.rows}
    context = {
        "signed": signed,
        "jobs": page.rows,
        "next": page.next,
        "after": after,
        "exams": exams,
        "state": state,
        "pipeline": pipeline,
        "pipelines": sorted(portal.site.pipelines),
        "now": portal.now(),
    }
    return portal.templates.TemplateResponse(request, "jobs.html", context)


def find(session: Session, signed: Signed, job_id: str, action: str = "job.see") -> Job:
    """Return a job within reach.

    Raises
    ------
    UsageError
        There is none.
    """
    return jobs_kept.job(session, job_id, visible.exams(reach(signed.actor, action)))


@dataclass(frozen=True)
class Shown:
    """A step run, and what can be opened of it.

    Attributes
    ----------
    files : mapping
        What is recorded of its files.
    is_kept : bool
        Whether they lie here still.
    is_pictured : bool
        Whether there are pictures of it.
    """

    run: StepRun
    files: artifacts.Files
    is_kept: bool
    is_pictured: bool


def _shown(steps: Sequence[StepRun], folder: JobFolder) -> list[Shown]:
    shown = []
    for run in steps:
        files = artifacts.files_of(run)
        is_kept = bool(files) and folder.step(run.name).is_dir()
        pictured = run.outputs.get("type") in preview.PICTURED and IMAGE in files
        shown.append(Shown(run, files, is_kept, is_kept and pictured))
    return shown


@router.get("/jobs/{job_id}")
def job_page(request: Request, portal: Here, signed: MaySee, job_id: str) -> Response:
    """Show one job: its steps over time, with inputs, outputs and log, and what it made."""
    with portal.database.read() as session:
        try:
            job = find(session, signed, job_id)
        except UsageError:
            return missing(request, portal, signed, "job")
        return _page(request, portal, signed, session, job)


def _page(  # noqa: PLR0917 - a page, of a job, in a session
    request: Request,
    portal: Portal,
    signed: Signed,
    session: Session,
    job: Job,
    problem: str = "",
) -> Response:
    exam = session.get_one(Exam, job.exam_id)
    steps = jobs_kept.steps(session, job.id)
    made = select(Result.id).where(Result.job_id == job.id, visible.results(sight_of(request)))
    seen = set(session.scalars(made))
    results = [one for one in jobs_kept.results(session, job.id) if one.id in seen]
    context = {
        "signed": signed,
        "job": job,
        "exam": exam,
        "cases": _cases(session, signed, exam),
        "steps": _shown(steps, artifacts.folder_of(portal, job)),
        "timeline": timeline.draw(job, steps, portal.now()),
        "results": results,
        "names": list(job.definition.get("steps", {})),
        "problem": problem,
        "may_run": may(signed.actor, "job.run").yes,
        **running(session, job),
    }
    status = 409 if problem else 200
    return portal.templates.TemplateResponse(request, "job.html", context, status_code=status)


def _cases(session: Session, signed: Signed, exam: Exam) -> list[Enrolment]:
    where = reach(signed.actor, "case.see")
    within = None if where.everywhere else where.projects
    return enrolments.of_exam(session, exam.root_id, within)


@router.get("/jobs/{job_id}/running")
def job_running(
    request: Request, portal: Here, signed: MaySee, job_id: str, seen: str = ""
) -> Response:
    """Show how far the step that runs has come; where a step has ended, ask for the page anew."""
    with portal.database.read() as session:
        try:
            job = find(session, signed, job_id)
        except UsageError as error:
            raise HTTPException(404) from error
        context = {"signed": signed, "job": job, **running(session, job)}
    fresh = {} if seen == context["seen"] else {"HX-Refresh": "true"}
    return portal.templates.TemplateResponse(request, "_running.html", context, headers=fresh)


def running(session: Session, job: Job) -> dict[str, Any]:
    """Say which step of a job runs, and in a word where the job stands."""
    steps = jobs_kept.steps(session, job.id)
    now = [step for step in steps if step.state == StepState.RUNNING]
    ended = sum(step.ended_at is not None for step in steps)
    return {
        "under_way": job.state not in ENDED,
        "running": now[-1] if now else None,
        "seen": f"{job.state} {job.attempt} {len(steps)} {ended}",
    }


@router.post("/jobs/{job_id}/retry")
def retry(
    request: Request,
    portal: Here,
    signed: MayRun,
    job_id: str,
    *,
    from_step: Annotated[str, Form(max_length=200)] = "",
    force: Annotated[bool, Form()] = False,
) -> Response:
    """Run a job again."""
    who = by(request)
    with portal.database.write() as session:
        try:
            job = find(session, signed, job_id, "job.run")
        except UsageError:
            return missing(request, portal, signed, "job")
        try:
            queued = jobs_kept.retry(
                session, job.id, at=portal.now(), actor=who.name, from_step=from_step,
                force=force, address=who.address, sign_in=who.sign_in,
            )  # fmt: skip
        except UsageError as error:
            return _page(request, portal, signed, session, job, problem=str(error))
        session.flush()
        return RedirectResponse(f"/jobs/{queued.id}", status_code=303)


@router.post("/jobs/{job_id}/cancel")
def cancel(request: Request, portal: Here, signed: MayRun, job_id: str) -> Response:
    """Stop a job."""
    who = by(request)
    with portal.database.write() as session:
        try:
            job = find(session, signed, job_id, "job.run")
        except UsageError:
            return missing(request, portal, signed, "job")
        try:
            jobs_kept.cancel(
                session, job.id, at=portal.now(), actor=who.name, address=who.address,
                sign_in=who.sign_in,
            )  # fmt: skip
        except UsageError as error:
            return _page(request, portal, signed, session, job, problem=str(error))
    return RedirectResponse(f"/jobs/{job.id}", status_code=303)


def _opened(portal: Portal, signed: Signed, job_id: str, step: str) -> tuple[Job, artifacts.Files]:
    """Return a job, and what is recorded of the files of one of its steps.

    Raises
    ------
    UsageError
        There is none, or none within reach.
    """
    with portal.database.read() as session:
        job = find(session, signed, job_id)
        return job, artifacts.recorded(session, job, step, visible.sight(signed.actor))


_GONE = (UsageError, FileNotFoundError, StepFailed)


@router.get("/jobs/{job_id}/steps/{step}/files/{name:path}")
def file(  # noqa: PLR0917 - a path has its parts
    request: Request, portal: Here, signed: MaySee, job_id: str, step: str, name: str
) -> Response:
    """Send a file that a step made."""
    try:
        job, files = _opened(portal, signed, job_id, step)
        return artifacts.send(portal, job, step, name, files)
    except _GONE as error:
        return missing(request, portal, signed, "file", f"{error}.")


@router.get("/jobs/{job_id}/steps/{step}")
def step_page(request: Request, portal: Here, signed: MaySee, job_id: str, step: str) -> Response:
    """Show what a step made: pictures of a volume or mask, JSON as it stands, files to keep."""
    try:
        job, files = _opened(portal, signed, job_id, step)
    except UsageError as error:
        return missing(request, portal, signed, "step", f"{error}.")
    folder, scratch = artifacts.folder_of(portal, job), portal.site.settings.data
    texts: dict[str, str] = {}
    problem, made = "", None
    try:
        for name in files:
            if name.endswith(".json"):
                texts[name] = artifacts.pretty(artifacts.read(portal, job, step, name, files))
        if IMAGE in files:
            made = preview.read(folder, step, files, scratch)
    except _GONE as error:
        problem = str(error)
    context = {
        "signed": signed,
        "job": job,
        "step": step,
        "files": files,
        "texts": texts,
        "problem": problem,
        "grid": preview.grid(made) if made is not None else None,
        "first": preview.middle(made) if made is not None else 0,
    }
    return portal.templates.TemplateResponse(request, "step.html", context)


@router.get("/jobs/{job_id}/steps/{step}/slices/{index}.png")
def slice_picture(portal: Here, signed: MaySee, *, job_id: str, step: str, index: int) -> Response:
    """Draw one slice of the volume or mask that a step made."""
    try:
        job, files = _opened(portal, signed, job_id, step)
        folder = artifacts.folder_of(portal, job)
        made = preview.read(folder, step, files, portal.site.settings.data)
        return Response(preview.png(made, index), media_type="image/png")
    except _GONE as error:
        raise HTTPException(404, str(error)) from error
