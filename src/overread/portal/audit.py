"""The audit's page, and its export."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from sqlalchemy.orm import Session

from overread.portal.auth import require, tell
from overread.portal.state import Here, Portal
from overread.store import audit, seal
from overread.store.audit import Entry, Wanted
from overread.store.audit_export import FORMATS, MEDIA_TYPES, Format, export
from overread.store.audit_message import EVENTS
from overread.store.subjects import behind
from overread.store.users import Signed

router = APIRouter(include_in_schema=False)

MaySee = Annotated[Signed, Depends(require("audit.see"))]

_LISTED = 100
"""Rows of a page."""

_PAGES = {
    "case": "/cases/{}",
    "job": "/jobs/{}",
    "user": "/users/{}",
    "project": "/projects/{}",
}
"""Kind of subject to the page that shows it."""
_LISTS = {
    "cases": "/cases", "exams": "/exams", "jobs": "/jobs", "aside": "/aside", "site": "/health",
    "delivery": "/deliveries", "model": "/models", "audit": "/audit",
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What a page of the audit was asked for, as it was written.

    Attributes
    ----------
    actor, action, subject : str
        As of `Wanted`.
    since, until : str
        Days (UTC), ``2026-06-02``; the last one is wanted, too.
    """

    actor: Annotated[str, Query(max_length=128)] = ""
    action: Annotated[str, Query(max_length=64)] = ""
    subject: Annotated[str, Query(max_length=128)] = ""
    since: Annotated[str, Query(max_length=10)] = ""
    until: Annotated[str, Query(max_length=10)] = ""

    @property
    def said(self) -> dict[str, str]:
        """What is not empty, for a link."""
        return {name: value for name, value in self.__dict__.items() if value}

    def wanted(self) -> tuple[Wanted, str]:
        """Return what is looked for, and what was wrong with it."""
        since, until = _day(self.since), _day(self.until)
        wrong = [
            f"“{text}” is no day; write one as 2026-06-02."
            for text, found in ((self.since, since), (self.until, until))
            if text and found is None
        ]
        if until is not None:
            until += timedelta(days=1)
        return (
            Wanted(self.actor.strip(), self.action, self.subject.strip(), since, until),
            " ".join(wrong),
        )


def _day(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None


@dataclass(frozen=True)
class Line:
    """One row of the page.

    Attributes
    ----------
    entry : Entry
        What was told.
    sealed : bool
        Whether a block of the chain holds it.
    link : str
        Address of what it was done to; empty where that has no page, or is no longer there.
    """

    entry: Entry
    sealed: bool
    link: str


@router.get("/audit")
def audit_page(
    request: Request,
    portal: Here,
    signed: MaySee,
    asked: Annotated[Asked, Depends()],
    before: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
) -> Response:
    """Show what was told, the newest first."""
    wanted, problem = asked.wanted()
    with portal.database.read() as session:
        found = audit.newest(session, wanted, before=before, limit=_LISTED + 1)
        standing = seal.standing(session)
        lines = [
            Line(row, standing.holds(row.id), _link(session, row.subject))
            for row in found[:_LISTED]
        ]
    more = {**asked.said, "before": lines[-1].entry.id} if len(found) > _LISTED else {}
    return portal.templates.TemplateResponse(
        request,
        "audit.html",
        {
            "signed": signed,
            "lines": lines,
            "asked": asked,
            "problem": problem,
            "standing": standing,
            "actions": sorted(EVENTS),
            "formats": FORMATS,
            "query": urlencode(asked.said),
            "older": f"/audit?{urlencode(more)}" if more else "",
            "newest": f"/audit?{urlencode(asked.said)}" if before else "",
            "now": portal.now(),
        },
        status_code=400 if problem else 200,
    )


def _link(session: Session, subject: str) -> str:
    kind, _, name = subject.partition(" ")
    if kind in _LISTS:
        return _LISTS[kind]
    if kind in _PAGES and name:
        return _PAGES[kind].format(quote(name, safe=""))
    found = behind(session, subject)
    return f"/cases/{found.case_id}" if found is not None and found.case_id else ""


@router.get("/audit/export")
def export_audit(
    request: Request,
    portal: Here,
    signed: MaySee,  # noqa: ARG001 - the guard
    asked: Annotated[Asked, Depends()],
    form: Annotated[Format, Query(alias="format")] = "jsonl",
) -> Response:
    """Give all rows that are asked for, as a file; that is told, too."""
    wanted, problem = asked.wanted()
    if problem:
        return Response(problem + "\n", 400, media_type="text/plain; charset=utf-8")
    # What was typed to look for rows is not told: it might be a name.
    detail = {"format": form, "filtered_by": sorted(asked.said)}
    with portal.database.write() as session:
        tell(session, request, "export audit", "audit", detail)
        session.flush()
        until = audit.newest(session, Wanted(), limit=1)[0].id
    return StreamingResponse(
        _exported(portal, wanted, form, until),
        media_type=MEDIA_TYPES[form],
        headers={"Content-Disposition": f'attachment; filename="audit.{_NAMES[form]}"'},
    )


_NAMES: dict[Format, str] = {"csv": "csv", "jsonl": "jsonl", "dicom": "xml.txt"}


def _exported(portal: Portal, wanted: Wanted, form: Format, until: int) -> Iterator[str]:
    with portal.database.read() as session:
        yield from export(session, wanted, form, until=until, site=portal.site.settings.site.name)
