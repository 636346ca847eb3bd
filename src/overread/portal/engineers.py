"""The pages of the site's engineers: exams, jobs, one job with its steps and log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from overread.errors import UsageError
from overread.portal.auth import require
from overread.portal.state import Here
from overread.store import cases
from overread.store import exams as exams_kept
from overread.store import jobs as jobs_kept
from overread.store.tables import Exam
from overread.store.users import Signed

router = APIRouter(include_in_schema=False)


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
        }
    return portal.templates.TemplateResponse(request, "job.html", context)
