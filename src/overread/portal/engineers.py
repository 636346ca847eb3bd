"""The pages of the site's engineers: exams, jobs, one job with its log, what was set aside."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from overread.errors import UsageError
from overread.pipelines.job import ENDED, StepState
from overread.portal.auth import actor_of, require, signed_in
from overread.portal.state import Here, portal_of
from overread.store import aside, cases
from overread.store import exams as exams_kept
from overread.store import jobs as jobs_kept
from overread.store.tables import Exam, Job
from overread.store.users import Signed
from overread.validation.permissions import may

router = APIRouter(include_in_schema=False)

_LISTED = 100
"""Rows that a table of what was set aside shows at most, the newest ones."""
_BADGE = timedelta(days=7)
"""How old what the navigation counts may be."""


@router.get("/exams")
def exams_page(
    request: Request,
    portal: Here,
    signed: Annotated[Signed, Depends(require("exam.list"))],
    q: str = "",
    state: str = "",
) -> Response:
    """List the exams, every revision of them."""
    with portal.database.read() as session:
        listed = exams_kept.exams(session, state=state, accession=q.strip(), limit=200)
        numbers = {exam.id: cases.count_instances(session, exam.id) for exam in listed}
    return portal.templates.TemplateResponse(
        request,
        "exams.html",
        {
            "signed": signed,
            "exams": listed,
            "numbers": numbers,
            "q": q,
            "state": state,
            "now": portal.now(),
        },
    )


@router.get("/jobs")
def jobs_page(
    request: Request,
    portal: Here,
    signed: Annotated[Signed, Depends(require("job.list"))],
    state: str = "",
) -> Response:
    """List the jobs."""
    with portal.database.read() as session:
        listed = jobs_kept.jobs(session, state=state, limit=200)
        exams = {job.exam_id: session.get(Exam, job.exam_id) for job in listed}
    return portal.templates.TemplateResponse(
        request,
        "jobs.html",
        {"signed": signed, "jobs": listed, "exams": exams, "state": state, "now": portal.now()},
    )


@router.get("/jobs/{job_id}")
def job_page(
    request: Request,
    portal: Here,
    signed: Annotated[Signed, Depends(require("job.see"))],
    job_id: str,
) -> Response:
    """Show one job: its steps with times, inputs, outputs and log, and what it made."""
    with portal.database.read() as session:
        try:
            job = jobs_kept.job(session, job_id)
        except UsageError as error:
            return portal.templates.TemplateResponse(
                request,
                "message.html",
                {
                    "signed": signed,
                    "title": "There is no such job",
                    "text": f"{error}.",
                    "next_steps": ["Look for it among the jobs."],
                },
                status_code=404,
            )
        context = {
            "signed": signed,
            "job": job,
            "exam": session.get(Exam, job.exam_id),
            "steps": jobs_kept.steps(session, job.id),
            "results": jobs_kept.results(session, job.id),
            **_running(session, job),
        }
    return portal.templates.TemplateResponse(request, "job.html", context)


@router.get("/jobs/{job_id}/running")
def job_running(
    request: Request,
    portal: Here,
    signed: Annotated[Signed, Depends(require("job.see"))],
    job_id: str,
    seen: str = "",
) -> Response:
    """Show how far the step that runs has come; where a step has ended, ask for the page anew."""
    with portal.database.read() as session:
        job = session.get(Job, job_id)
        if job is None:
            raise HTTPException(404)
        context = {"signed": signed, "job": job, **_running(session, job)}
    fresh = {} if seen == context["seen"] else {"HX-Refresh": "true"}
    return portal.templates.TemplateResponse(request, "_running.html", context, headers=fresh)


def _running(session: Session, job: Job) -> dict[str, Any]:
    """Say which step of a job runs, and in a word where the job stands."""
    steps = jobs_kept.steps(session, job.id)
    running = [step for step in steps if step.state == StepState.RUNNING]
    ended = sum(step.ended_at is not None for step in steps)
    return {
        "under_way": job.state not in ENDED,
        "running": running[-1] if running else None,
        "seen": f"{job.state} {job.attempt} {len(steps)} {ended}",
    }


@router.get("/aside")
def aside_page(
    request: Request,
    portal: Here,
    signed: Annotated[Signed, Depends(require("aside.see"))],
) -> Response:
    """Show what was quarantined, contradicts another, is held, or was turned away."""
    with portal.database.read() as session:
        context = {
            "signed": signed,
            "listed": _LISTED,
            "quarantined": aside.quarantined(session, _LISTED),
            "conflicts": aside.conflicts(session, _LISTED),
            "held": aside.held(session, _LISTED),
            "turned": aside.turned_away(session, _LISTED),
        }
    return portal.templates.TemplateResponse(request, "aside.html", context)


def count_aside(request: Request) -> dict[str, Any]:
    """Give every page the number beside *Set aside*; 0 for whoever does not see that entry."""
    part_of_a_page = "hx-request" in request.headers
    if part_of_a_page or not may(actor_of(signed_in(request)), "aside.see").yes:
        return {"aside_count": 0}
    portal = portal_of(request)
    with portal.database.read() as session:
        return {"aside_count": aside.count_since(session, portal.now() - _BADGE)}
