"""The cases, and the page of one case."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from overread.portal import findings, measured, objects, viewer
from overread.portal.advice import advice
from overread.portal.auth import actor_of, require
from overread.portal.plot import plot
from overread.portal.state import Here, Portal
from overread.portal.text import age
from overread.store import cases, history
from overread.store.audit import record
from overread.store.cases import UNDER_WAY, Case, CaseState
from overread.store.tables import Instance
from overread.store.users import Signed
from overread.validation.permissions import may

router = APIRouter(include_in_schema=False)

_LISTED = 500
"""Cases that the list shows at most, the newest ones."""

MayList = Annotated[Signed, Depends(require("case.list"))]
MaySee = Annotated[Signed, Depends(require("case.see"))]


@router.get("/")
def worklist(
    request: Request, portal: Here, signed: MayList, q: str = "", state: str = ""
) -> Response:
    """Show the cases; only their rows, when the page asks again for itself."""
    with portal.database.read() as session:
        found = cases.list_cases(session, search=q.strip(), limit=_LISTED)
    counts = Counter(case.state for case in found)
    wanted = state if state in CaseState.__members__.values() else ""
    listed = [case for case in found if not wanted or case.state == wanted]
    template = "_rows.html" if request.headers.get("hx-request") else "cases.html"
    return portal.templates.TemplateResponse(
        request,
        template,
        {
            "signed": signed,
            "cases": listed,
            "counts": [(one, counts[one]) for one in CaseState if counts[one]],
            "total": len(found),
            "is_cut": len(found) == _LISTED,
            "q": q,
            "state": wanted,
            "advice": advice,
            "titles": _titles(portal),
            "now": portal.now(),
        },
    )


def _titles(portal: Portal) -> dict[str, str]:
    return {name: one.title or name for name, one in portal.site.pipelines.items()}


def no_case(request: Request, portal: Portal, signed: Signed) -> Response:
    """Say that there is no such case."""
    return portal.templates.TemplateResponse(
        request,
        "message.html",
        {
            "signed": signed,
            "title": "There is no such case",
            "text": "The link names a case that this site does not have.",
            "next_steps": ["Open the exam again from the PACS, or look for it among the cases."],
        },
        status_code=404,
    )


@router.get("/cases/{case_id}")
def case_page(
    request: Request,
    portal: Here,
    signed: MaySee,
    case_id: str,
    *,
    view: str = "",
    over: str = "",
) -> Response:
    """Show one case, and tell the audit who opened it.

    Parameters
    ----------
    over : str
        Name of the result that the viewer draws over the images; by itself the first that can be.
    view : str
        What stands beside it: ``findings`` (images with what was found drawn on them), ``viewer``
        or ``captures``; by itself the first of those that there is.
    """
    with portal.database.read() as session:
        case = cases.find_case(session, case_id)
        if case is None:
            return no_case(request, portal, signed)
        context = _context(portal, session, case, signed)
        drawn = cases.overlay(context["shown"], over)
        context["over"] = drawn.name if drawn else ""
        context["viewer"] = f"/cases/{case.id}/viewer"
        if over and over == context["over"]:
            context["viewer"] += f"?over={quote(over)}"
        context["view"] = view if view in context["views"] else next(iter(context["views"]), "")
    with portal.database.write() as writing:
        record(writing, portal.now(), signed.account.name, "open case", f"case {case.id}")
    return portal.templates.TemplateResponse(request, "case.html", context)


@router.get("/cases/{case_id}/state")
def case_state(
    request: Request, portal: Here, signed: MaySee, case_id: str, seen: str = ""
) -> Response:
    """Give the part of a case that changes while its job is under way; nothing while it does not.

    Once the job has ended the page loads itself again, with the viewer.
    """
    with portal.database.read() as session:
        case = cases.find_case(session, case_id)
        if case is None:
            return no_case(request, portal, signed)
        if case.state not in UNDER_WAY:
            return Response(headers={"HX-Refresh": "true"})
        context = _context(portal, session, case, signed)
    if context["seen"] == seen:
        return Response(status_code=204)
    return portal.templates.TemplateResponse(request, "_state.html", context)


@router.get("/cases/{case_id}/viewer")
def open_viewer(
    request: Request, portal: Here, signed: MaySee, case_id: str, over: str = ""
) -> Response:
    """Go to the viewer: the study's images, and of what was drawn on them the current result.

    Parameters
    ----------
    over : str
        Name of the result that is drawn; by itself the first that can be.
    """
    with portal.database.read() as session:
        case = cases.find_case(session, case_id)
        if case is None:
            return no_case(request, portal, signed)
        drawn = cases.overlay(cases.shown(session, case.id), over)
        made = session.get(Instance, drawn.instance_id) if drawn else None
        study_uid = made.study_uid if made is not None else case.exam.study_uid
        series = cases.images(session, case.exam, study_uid)
    uids = [one.uid for one in series]
    if made is not None:
        first = made.series_uid
        uids.append(first)
    else:  # the largest series, since a localizer mostly comes first
        first = max(series, key=lambda one: one.instances).uid if series else ""
    return RedirectResponse(viewer.link(study_uid, uids, first), status_code=303)


def _context(portal: Portal, session: Session, case: Case, signed: Signed) -> dict[str, Any]:
    shown = cases.shown(session, case.id)
    job = shown.job or case.job
    ran = cases.steps(session, job.id) if job else []
    points = history.history(session, case)
    here = next((point for point in points if point.case.id == case.id), None)
    who = cases.patient(session, case.exam)
    arrived = cases.count_instances(session, case.exam.id)
    running = cases.steps(session, case.job.id) if case.job else []
    definition = job.definition if job else {}
    stage = job.stage if job else _stage(portal, case)
    planned = list(definition.get("steps", {}))
    images = cases.images(session, case.exam)
    drawn = findings.pictures(session, portal.archive, case, shown)
    made = objects.objects(session, portal.archive, shown)
    return {
        "signed": signed,
        "case": case,
        "advice": advice(case),
        "under_way": case.state in UNDER_WAY,
        "seen": f"{case.state}.{case.step}.{arrived}",
        "shown": shown,
        "job": job,
        "steps": ran,
        "planned": list((case.job.definition if case.job else {}).get("steps", {})) or planned,
        "finished": [step.name for step in running if step.state == "done"],
        "points": points,
        "plot": plot(points, case.id),
        "regions": _regions(points),
        "sheet": measured.sheet(case, shown.results, here.changes if here else None),
        "images": images,
        "pictures": drawn,
        "made": made,
        "views": _views(drawn, made, has_images=bool(images)),
        "patient": who,
        "age": age(who.patient_birth_date, case.exam.study_date) if who else "",
        "arrived": arrived,
        "members": cases.count_instances(session, (shown.exam or case.exam).id),
        "siblings": cases.siblings(session, case),
        "title": _titles(portal).get(case.exam.pipeline) or definition.get("title", ""),
        "titles": _titles(portal),
        "stage": stage,
        "pipeline": portal.site.pipelines.get(case.exam.pipeline),
        "may_see_job": may(actor_of(signed), "job.see").yes,
    }


def _views(
    drawn: list[findings.Picture], made: list[objects.Made], *, has_images: bool
) -> dict[str, str]:
    """Name what can stand beside a case, the first of it first."""
    views = {"findings": "Findings"} if drawn else {}
    if has_images:
        views["viewer"] = "Viewer"
    if any(one.frames for one in made):
        views["captures"] = "Captures"
    return views


def _stage(portal: Portal, case: Case) -> str:
    pipeline = portal.site.pipelines.get(case.exam.pipeline)
    return pipeline.stage if pipeline else "development"


def _regions(points: list[history.Point]) -> list[str]:
    return list(dict.fromkeys(region for point in points for region in point.volumes))
