"""An exam's whole way as a page, or where and why it stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.errors import UsageError
from overread.portal.auth import require
from overread.portal.state import Here, Portal
from overread.store import visible
from overread.store.tables import Exam, Instance
from overread.store.users import Signed
from overread.store.way import way
from overread.validation.permissions import reach

router = APIRouter(include_in_schema=False)


def way_of(portal: Portal, signed: Signed, accession: str) -> dict[str, Any]:
    """Tell the way of an accession number to whom it may be told.

    Raises
    ------
    UsageError
        Nothing of that accession number has arrived, or it is not within the caller's reach.
    """
    site = portal.site
    with portal.database.read() as session:
        if not _is_within(session, signed, accession):
            raise UsageError(f"nothing of yours has arrived under accession number {accession!r}")
        return way(
            session,
            accession,
            portal.archive,
            site.routes,
            frozenset(one.ae_title for one in site.pipelines.values()),
        )


def _is_within(session: Session, signed: Signed, accession: str) -> bool:
    """Say whether all that came under an accession number is within reach; else it is not shown.

    Images count as well as exams: they may be of another patient, and of no exam.
    """
    where = reach(signed.actor, "exam.why")
    if where.everywhere:
        return True
    seen = replace(visible.sight(signed.actor), cases=where)
    came = select(Instance.id).where(Instance.accession == accession, Instance.standing != "ours")
    every = select(Exam.id).where(Exam.accession == accession)
    beyond = (
        session.scalar(every.where(~visible.exams(where)).limit(1)) is not None
        or session.scalar(came.where(~visible.instances(seen)).limit(1)) is not None
    )
    return not beyond and session.scalar(every.limit(1)) is not None


@router.get("/why")
def why_page(
    request: Request,
    portal: Here,
    signed: Annotated[Signed, Depends(require("exam.why"))],
    accession: str = "",
) -> Response:
    """Show the whole way of what came under an accession number."""
    accession = accession.strip()[:64]
    told: dict[str, Any] | None = None
    problem = ""
    if accession:
        try:
            told = way_of(portal, signed, accession)
        except UsageError as error:
            problem = str(error)
    return portal.templates.TemplateResponse(
        request,
        "why.html",
        {"signed": signed, "told": told, "problem": problem, "accession": accession},
        status_code=404 if problem else 200,
    )
