"""My work, all cases, projects: the lists, and where a reader goes next."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from overread.portal.advice import advice
from overread.portal.auth import allow, require
from overread.portal.state import Here, Portal
from overread.store import listing, search, worklist
from overread.store.listing import Listing
from overread.store.paging import Days
from overread.store.tables import Enrolment
from overread.store.users import Signed
from overread.store.worklist import Wanted
from overread.validation.permissions import Reach, may, reach

router = APIRouter(include_in_schema=False)

MayList = Annotated[Signed, Depends(require("case.list"))]
MaySeeProjects = Annotated[Signed, Depends(require("project.see"))]

READING_STATES = {"": "to read", "open": "not begun", "draft": "begun", "submitted": "done"}
"""What a worklist can be narrowed to, and how the page says it."""


@dataclass(frozen=True)
class Filter:
    """What a list is narrowed to, as its address says it.

    Attributes
    ----------
    q : str
        Accession number, PatientID or the beginning of a name.
    since, until : str
        Days, ``2026-06-02``; both are in it. Anything else counts as none.
    after : str
        The place that the page begins after.
    """

    q: Annotated[str, Query(max_length=200)] = ""
    project: Annotated[str, Query(max_length=64)] = ""
    pipeline: Annotated[str, Query(max_length=200)] = ""
    state: Annotated[str, Query(max_length=20)] = ""
    since: Annotated[str, Query(max_length=10)] = ""
    until: Annotated[str, Query(max_length=10)] = ""
    after: Annotated[str, Query(max_length=80)] = ""

    def link(self, path: str, **changed: str) -> str:
        """Return the address of the same list with something else; it begins anew."""
        other = replace(self, **{"after": "", **changed})
        given = {one.name: getattr(other, one.name) for one in fields(other)}
        asked = urlencode({name: value for name, value in given.items() if value})
        return f"{path}?{asked}" if asked else path

    def days(self, zone: str) -> Days:
        """Return the span of time that is meant, in the site's time zone."""
        since, until = _day(self.since), _day(self.until)
        return Days(
            _midnight(since, zone) if since else None,
            _midnight(until + timedelta(days=1), zone) if until else None,
        )

    @property
    def is_narrowed(self) -> bool:
        """Whether anything is left out."""
        return any(getattr(self, one.name) for one in fields(self) if one.name != "after")


Asked = Annotated[Filter, Depends()]


def _day(text: str) -> date | None:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if 1970 <= found.year <= 9000 else None


def _midnight(day: date, zone: str) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)


def _projects(where: Reach) -> frozenset[str] | None:
    """Return the projects that something is limited to; none where it is not."""
    return None if where.everywhere else where.projects


@router.get("/")
def my_work(request: Request, portal: Here, signed: MayList, asked: Asked) -> Response:
    """Show what the one who is signed in has to read; who reads nothing is shown all cases."""
    if not _of_mine(portal, signed):
        return all_cases(request, portal, signed, asked)
    reader, zone = signed.account.id, portal.site.settings.site.timezone
    projects = _projects(reach(signed.actor, "reading.give"))
    state = asked.state if asked.state in READING_STATES else ""
    wanted = Wanted(asked.project, asked.pipeline, state, asked.days(zone), projects)
    with portal.database.read() as session:
        counts = worklist.counts(session, reader, projects)
        is_cut = False
        if asked.q.strip():
            found = search.find(session, asked.q, reach(signed.actor, "case.list"))
            rows, after, is_cut = worklist.search(session, reader, found, wanted), "", found.is_cut
        else:
            page = worklist.queue(session, reader, wanted, after=asked.after)
            rows, after = list(page.rows), page.next
        mine = [name for name in _of_mine(portal, signed) if asked.project in ("", name)]
        coming = listing.on_their_way(session, mine)
        resume = worklist.resume(session, reader, projects) if not asked.is_narrowed else None
    context = {
        **_common(portal, signed, asked),
        "listed": rows,
        "after": after,
        "is_cut": is_cut,
        "state": state,
        "states": READING_STATES,
        "counts": counts,
        "coming": [] if asked.after or state == "submitted" else coming,
        "resume": resume,
        "to_read": sum(one.to_read for one in counts),
        "urgent": sum(one.urgent for one in counts),
        "overdue": sum(one.is_overdue(portal.now()) for one in rows),
    }
    template = "_queue.html" if request.headers.get("hx-request") else "worklist.html"
    return portal.templates.TemplateResponse(request, template, context)


def _of_mine(portal: Portal, signed: Signed) -> list[str]:
    """List the site's projects that somebody reads in."""
    return [
        name
        for name in sorted(portal.site.projects)
        if may(signed.actor, "reading.give", projects=[name]).yes
    ]


@router.get("/cases")
def all_cases(request: Request, portal: Here, signed: MayList, asked: Asked) -> Response:
    """Show every case that the one who is signed in may see, the newest first."""
    where, zone = reach(signed.actor, "case.list"), portal.site.settings.site.timezone
    state = asked.state if asked.state in listing.STATES else ""
    what = Listing(where, asked.project, asked.pipeline, state, asked.days(zone))
    with portal.database.read() as session:
        is_cut = False
        if asked.q.strip():
            found = search.find(session, asked.q, where)
            rows, after, is_cut = listing.found(session, what, found), "", found.is_cut
        else:
            page = listing.listed(session, what, after=asked.after)
            rows, after = list(page.rows), page.next
    context = {
        **_common(portal, signed, asked),
        "listed": rows,
        "after": after,
        "is_cut": is_cut,
        "state": state,
        "states": {"": "all", **{one: one for one in listing.STATES}},
    }
    template = "_rows.html" if request.headers.get("hx-request") else "cases.html"
    return portal.templates.TemplateResponse(request, template, context)


def _common(portal: Portal, signed: Signed, asked: Filter) -> dict[str, Any]:
    where = reach(signed.actor, "case.list")
    seen = {
        name: one.shown
        for name, one in sorted(portal.site.projects.items())
        if where.everywhere or name in where.projects
    }
    used = {pipeline for name in seen for pipeline in portal.site.projects[name].pipelines}
    return {
        "signed": signed,
        "asked": asked,
        "projects": seen,
        "titles": {
            name: one.title or name
            for name, one in portal.site.pipelines.items()
            if where.everywhere or name in used
        },
        "advice": advice,
        "now": portal.now(),
    }


@router.get("/projects")
def all_projects(request: Request, portal: Here, signed: MaySeeProjects) -> Response:
    """Show how far each project is, in counts."""
    shown = []
    with portal.database.read() as session:
        for name, project in sorted(portal.site.projects.items()):
            if may(signed.actor, "project.see", projects=[name]).yes:
                progress = worklist.progress(session, name)
                shown.append((project, worklist.enrolled(session, name), progress))
    return portal.templates.TemplateResponse(
        request, "projects.html", {"signed": signed, "shown": shown}
    )


@router.get("/projects/{name}")
def one_project(request: Request, portal: Here, signed: MaySeeProjects, name: str) -> Response:
    """Show how far each reader of a project is, in counts."""
    project = portal.site.projects.get(name)
    is_seen = project is not None and may(signed.actor, "case.list", projects=[name]).yes
    if project is None or not is_seen:
        return portal.templates.TemplateResponse(
            request,
            "message.html",
            {
                "signed": signed,
                "title": "There is no such project",
                "text": "The link names a project that this site does not have.",
                "next_steps": ["Choose one of the projects."],
            },
            status_code=404,
        )
    allow(signed, "project.see", f"project {name}", projects=[name])
    with portal.database.read() as session:
        context = {
            "signed": signed,
            "project": project,
            "enrolled": worklist.enrolled(session, name),
            "progress": worklist.progress(session, name),
            "titles": {one: p.title or one for one, p in portal.site.pipelines.items()},
        }
    return portal.templates.TemplateResponse(request, "project.html", context)


@dataclass(frozen=True)
class ReadingNav:
    """Where a reader goes from a case, and how far the project is.

    Attributes
    ----------
    previous, next : str
        Enrolments' ids; empty where there is none.
    done, total : int
        "7 of 24 read".
    """

    previous: str
    next: str
    done: int
    total: int


def reading_nav(session: Session, signed: Signed, case: Enrolment | None) -> ReadingNav | None:
    """Say where a reader goes from a case, for ``_reading_nav.html`` (as ``nav``).

    None where the one who is signed in reads nothing in the case's project.
    """
    if case is None or not may(signed.actor, "reading.give", projects=[case.project]).yes:
        return None
    reader, projects = signed.account.id, _projects(reach(signed.actor, "reading.give"))
    done, total = worklist.position(session, reader, case.project)
    before = worklist.previous_reading(session, reader, None, case.id, projects=projects)
    after = worklist.next_reading(session, reader, None, case.id, projects=projects)
    return ReadingNav(before or "", after or "", done, total) if total else None
