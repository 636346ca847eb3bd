"""How the site is, as a page: services, queues, disk, and what ``overread doctor`` looks at."""

from __future__ import annotations

import shutil
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from sqlalchemy import func as sql
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.engine import checks
from overread.portal.auth import require
from overread.portal.state import Here, Portal
from overread.store import aside, deliveries
from overread.store.tables import Association, Exam, Job, Worker
from overread.store.users import Signed

router = APIRouter(include_in_schema=False)

MaySee = Annotated[Signed, Depends(require("site.see"))]

_LISTED = 20


@router.get("/health")
def health_page(request: Request, portal: Here, signed: MaySee) -> Response:
    """Show how the site is; what takes a while to look at comes in by itself."""
    with portal.database.read() as session:
        context = {"signed": signed, "now": portal.now(), **_now(portal, session)}
    return portal.templates.TemplateResponse(request, "health.html", context)


@router.get("/health/checks")
def health_checks(request: Request, portal: Here, signed: MaySee) -> Response:
    """Look at everything that the site needs."""
    rows = [
        checks.examine(name, find)
        for name, find in checks.checks(portal.site.settings, portal.site)
    ]
    return portal.templates.TemplateResponse(
        request, "_checks.html", {"signed": signed, "rows": rows, "at": portal.now()}
    )


def _now(portal: Portal, session: Session) -> dict[str, Any]:
    disk = shutil.disk_usage(portal.site.settings.data)
    now = portal.now()
    workers = session.scalars(select(Worker).order_by(Worker.seen_at.desc())).all()
    return {
        "disk": disk,
        "watermark": portal.site.settings.storage.watermark,
        "workers": [(one, now - one.seen_at < checks.dead_after()) for one in workers],
        "jobs": _count(session, Job.state),
        "exams": _count(session, Exam.state),
        "deliveries": deliveries.count_states(session),
        "oldest": session.scalar(select(sql.min(Job.created_at)).where(Job.state == "queued")),
        "associations": session.scalars(
            select(Association).order_by(Association.opened_at.desc()).limit(_LISTED)
        ).all(),
        "turned": aside.turned_away(session, _LISTED),
    }


def _count(session: Session, column: Any) -> dict[str, int]:
    rows = session.execute(select(column, sql.count()).group_by(column).order_by(column))
    return dict(rows.tuples().all())
