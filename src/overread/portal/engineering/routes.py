"""Routes as a page: the rules, tried on a file or an exam, and replayed."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from overread.dicom.match import Explanation
from overread.dicom.study import Origin
from overread.errors import UsageError
from overread.portal.auth import require
from overread.portal.engineering import trial
from overread.portal.state import Here
from overread.store import exams as exams_kept
from overread.store.replay import Tried, try_exam
from overread.store.tables import Arrival, Association, Exam, Instance
from overread.store.users import Signed

router = APIRouter(include_in_schema=False)

MaySee = Annotated[Signed, Depends(require("route.see"))]


def lines(why: dict[str, object]) -> list[str]:
    """Put a decision's condition into lines for people."""
    condition = why.get("condition")
    return Explanation.from_json(condition).lines() if isinstance(condition, dict) else []


@router.get("/routes")
def routes_page(
    request: Request, portal: Here, signed: MaySee, *, exam: str = "", since: str = ""
) -> Response:
    """Show the rules; with an exam or accession number, what they do with it; since a day, all."""
    exam = exam.strip()[:64]
    tried, problem, told = None, "", None
    if exam:
        try:
            tried = _on_exam(portal, exam)
        except UsageError as error:
            problem = str(error)
    day = _day(since)
    if since and day is None:
        problem = f"{since[:20]!r} is no day; expected one as 2026-06-02"
    if day is not None:
        with portal.database.read() as session:
            told = trial.replayed(session, portal, day, None)
    context = {
        "signed": signed,
        "routes": portal.site.routes,
        "pipelines": {one.ae_title: one for one in portal.site.pipelines.values()},
        "destinations": portal.site.settings.destinations,
        "tried": tried,
        "exam": exam,
        "since": since if day is not None else "",
        "replay": told,
        "problem": problem,
        "lines": lines,
        "suggested": (portal.now() - timedelta(days=7)).date().isoformat(),
        "largest": trial.LARGEST,
    }
    status = 404 if problem else 200
    return portal.templates.TemplateResponse(request, "routes.html", context, status_code=status)


def _day(written: str) -> datetime | None:
    try:
        return datetime.combine(date.fromisoformat(written), time.min, UTC)
    except ValueError:
        return None


def _on_exam(portal: Here, named: str) -> list[Tried]:
    """Try the routes on an exam: by its id, the beginning of it, or its accession number.

    Raises
    ------
    UsageError
        There is no such exam.
    """
    with portal.database.read() as session:
        found = session.scalar(
            select(Exam).where(Exam.accession == named).order_by(Exam.opened_at.desc()).limit(1)
        )
        exam = found or exams_kept.exam(session, named)
        rows = session.execute(
            select(Instance, Association)
            .join(Arrival, Arrival.instance_id == Instance.id)
            .outerjoin(Association, Association.id == Arrival.association_id)
            .where(
                Instance.study_uid == exam.study_uid,
                Instance.patient_id == exam.patient_id,
                Instance.standing != "ours",
            )
            .order_by(Arrival.origin != "sent", Arrival.id)
        )
        members = [
            (instance, Origin(came.calling_ae, came.called_ae, came.peer_address))
            if came is not None
            else (instance, Origin())
            for instance, came in rows
        ]
    return try_exam(portal.archive, portal.site.routes, members)


@router.post("/routes/test")
async def try_file(
    request: Request,
    portal: Here,
    signed: MaySee,
    *,
    calling: str = "",
    called: str = "",
    peer: str = "",
) -> Response:
    """Try the routes on the beginning of a file that was dropped; it is kept nowhere."""
    content = await trial.body(request)
    origin = Origin(calling[:16], called[:16], peer[:64])
    tried, problem = [], ""
    try:
        tried.append(await run_in_threadpool(trial.try_file, portal.site.routes, content, origin))
    except UsageError as error:
        problem = str(error)
    return portal.templates.TemplateResponse(
        request,
        "_tried.html",
        {"signed": signed, "tried": tried, "problem": problem, "lines": lines},
        status_code=422 if problem else 200,
    )
