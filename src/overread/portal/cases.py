"""The page of one case."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from overread.portal import findings, measured, objects, opened
from overread.portal.advice import advice
from overread.portal.auth import actor_of, require, tell
from overread.portal.opened import Opened, SeveralCases
from overread.portal.plot import plot
from overread.portal.readings import note_opened, reading_context
from overread.portal.state import Here, Portal
from overread.portal.text import age
from overread.portal.worklist import reading_nav
from overread.store import cases, history, visible
from overread.store.cases import UNDER_WAY, Case, CaseState, Shown
from overread.store.users import Signed
from overread.validation.page import Page
from overread.validation.permissions import may, reach

router = APIRouter(include_in_schema=False)

MaySee = Annotated[Signed, Depends(require("case.see"))]


def _titles(portal: Portal) -> dict[str, str]:
    return {name: one.title or name for name, one in portal.site.pipelines.items()}


@router.get("/cases/{case_id}")
def case_page(
    request: Request,
    portal: Here,
    signed: MaySee,
    case_id: str,
    *,
    baseline: str = "",
    view: str = "",
    over: str = "",
) -> Response:
    """Show one case, and tell the audit who opened it.

    An exam's id leads to its case; where it is one of several projects, the person chooses.

    Parameters
    ----------
    baseline : str
        The exam that changes are counted from: ``first``, ``nadir``, or a case's id; each series'
        own where empty.
    over : str
        Name of the result, or id of the edit, that the viewer draws over the images; by itself the
        first that can be.
    view : str
        What stands beside it: ``findings`` (images with what was found drawn on them), ``viewer``
        or ``captures``; by itself the first of those that there is.
    """
    with portal.database.read() as session:
        case = opened.find(portal, session, signed, case_id)
        if case.id != case_id:
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"/cases/{case.id}{query}", status_code=303)
        context = _context(portal, session, case, signed, baseline)
        drawn = cases.overlay(context["shown"], over)
        context["over"] = (drawn.id if drawn.author else drawn.name) if drawn else ""
        context["viewer"] = f"/cases/{case.id}/viewer"
        if over and over == context["over"]:
            context["viewer"] += f"?over={quote(over)}"
        context["view"] = view if view in context["views"] else next(iter(context["views"]), "")
    with portal.database.write() as writing:
        tell(writing, request, "open case", f"case {case.id}")
        seen = [one.id for one in (*context["shown"].results, *context["shown"].edits)]
        note_opened(writing, request, signed, case, seen)
    return portal.templates.TemplateResponse(request, "case.html", context)


@router.get("/cases/{case_id}/state")
def case_state(
    request: Request, portal: Here, signed: MaySee, case_id: str, seen: str = ""
) -> Response:
    """Give the part of a case that changes while its job is under way; nothing while it does not.

    Once the job has ended the page loads itself again, with the viewer.
    """
    with portal.database.read() as session:
        case = opened.find(portal, session, signed, case_id)
        if case.case.state not in UNDER_WAY:
            return Response(headers={"HX-Refresh": "true"})
        context = {"id": case.id} | _state(portal, session, case.case, signed)
    if context["seen"] == seen:
        return Response(status_code=204)
    return portal.templates.TemplateResponse(request, "_state.html", context)


@router.get("/cases/{case_id}/measurements")
def case_measurements(
    request: Request,
    portal: Here,
    signed: MaySee,
    case_id: str,
    *,
    baseline: str = "",
    view: str = "",
    over: str = "",
) -> Response:
    """Give the blocks that hold numbers, to take the place of those on the page.

    The parameters are those of the page; the address that it now has goes along, so that it can be
    shared.
    """
    with portal.database.read() as session:
        case = opened.find(portal, session, signed, case_id)
        context = _numbers(portal, session, case, baseline)
    asked = {"baseline": baseline, "view": view, "over": over}
    query = urlencode({key: value for key, value in asked.items() if value})
    context |= {"id": case.id, "swapped": True}
    page = portal.templates.TemplateResponse(request, "_numbers.html", context)
    page.headers["HX-Replace-Url"] = f"/cases/{case.id}" + (f"?{query}" if query else "")
    return page


def no_case(request: Request, portal: Portal, signed: Signed | None) -> Response:
    """Say that there is no such case, whether there is none or it is not for this person."""
    return portal.templates.TemplateResponse(
        request,
        "message.html",
        {
            "signed": signed,
            "title": "There is no such case",
            "text": "The link names a case that this site does not have, or not for this account.",
            "next_steps": ["Open the exam again from the PACS, or look for it among the cases."],
        },
        status_code=404,
    )


def which_case(
    request: Request, portal: Portal, signed: Signed | None, several: SeveralCases
) -> Response:
    """Let the person choose the project whose case is meant."""
    projects = portal.site.projects
    choices = [
        (one.id, projects[one.project].shown if one.project in projects else one.project)
        for one in several.enrolments
    ]
    return portal.templates.TemplateResponse(
        request, "which_case.html", {"signed": signed, "choices": choices}
    )


def _context(
    portal: Portal, session: Session, opened_case: Opened, signed: Signed, baseline: str
) -> dict[str, Any]:
    case, page = opened_case.case, opened_case.page
    numbers = _numbers(portal, session, opened_case, baseline)
    shown = numbers["shown"]
    images = cases.images(session, case.exam)
    drawn = findings.pictures(session, portal.archive, case, shown)
    made = objects.objects(session, portal.archive, shown)
    who = cases.patient(session, case.exam)
    enrolled = opened_case.enrolment
    project = opened_case.project
    return (
        numbers
        | _state(portal, session, case, signed)
        | _provenance(portal, session, case, shown)
        | reading_context(portal, session, signed, opened_case, shown)
        | {
            "signed": signed,
            "id": opened_case.id,
            "project": project.shown if project else enrolled.project if enrolled else "",
            "page": page,
            "images": images,
            "pictures": drawn,
            "made": made,
            "views": _views(page, drawn, made, has_images=bool(images)),
            "patient": who,
            "age": age(who.patient_birth_date, case.exam.study_date) if who else "",
            "siblings": _siblings(portal, session, opened_case, signed),
            "title": _titles(portal).get(case.exam.pipeline) or case.exam.pipeline,
            "nav": reading_nav(session, signed, enrolled),
            "swapped": False,
        }
    )


def _numbers(
    portal: Portal, session: Session, opened_case: Opened, baseline: str
) -> dict[str, Any]:
    """Gather what the blocks with numbers show."""
    case, enrolled = opened_case.case, opened_case.enrolment
    visits = history.history(
        session, portal.archive, case, opened_case.sight, enrolled.project if enrolled else ""
    )
    laid = measured.courses(visits, case.id, opened_case.page, baseline)
    shown = cases.shown(session, case.id, opened_case.sight)
    return {
        "case": case,
        "page": opened_case.page,
        "shown": shown,
        "visits": visits,
        "courses": laid,
        "plots": [plot(course) for course in laid if course.is_plotted],
        "sheet": measured.sheet(case.measurements, laid, shown.results),
        "baseline": baseline,
        "colours": measured.region_colours(shown.results),
        "source_words": measured.source_words,
    }


def _state(portal: Portal, session: Session, case: Case, signed: Signed) -> dict[str, Any]:
    """Gather what says where a case is."""
    arrived = cases.count_instances(session, case.exam.id)
    running = cases.steps(session, case.job.id) if case.job else []
    return {
        "case": case,
        "advice": advice(case),
        "under_way": case.state in UNDER_WAY,
        "seen": f"{case.state}.{case.step}.{arrived}",
        "arrived": arrived,
        "planned": list((case.job.definition if case.job else {}).get("steps", {})),
        "finished": [step.name for step in running if step.state == "done"],
        "pipeline": portal.site.pipelines.get(case.exam.pipeline),
        "may_see_job": may(actor_of(signed), "job.see").yes,
    }


def _provenance(portal: Portal, session: Session, case: Case, shown: Shown) -> dict[str, Any]:
    """Gather what made the results."""
    job = shown.job or case.job
    pipeline = portal.site.pipelines.get(case.exam.pipeline)
    return {
        "job": job,
        "steps": cases.steps(session, job.id) if job else [],
        "members": cases.count_instances(session, (shown.exam or case.exam).id),
        "stage": job.stage if job else pipeline.stage if pipeline else "development",
    }


def _siblings(
    portal: Portal, session: Session, opened_case: Opened, signed: Signed
) -> list[tuple[str, str, CaseState]]:
    """List the other pipelines' cases of the same study that the person may see."""
    where = reach(signed.actor, "case.see")
    titles = _titles(portal)
    return [
        (other.id, titles.get(other.exam.pipeline, other.exam.pipeline), other.state)
        for other in cases.siblings(session, opened_case.case)
        if where.everywhere or visible.projects_of(session, other.id) & where.projects
    ]


def _views(
    page: Page, drawn: list[findings.Picture], made: list[objects.Made], *, has_images: bool
) -> dict[str, str]:
    """Name what can stand beside a case, in the order of its page."""
    there = {
        "findings": bool(drawn),
        "viewer": has_images,
        "captures": any(one.frames for one in made),
    }
    return {name: name.capitalize() for name in page.views if there[name]}
