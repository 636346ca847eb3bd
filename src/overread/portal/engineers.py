"""The pages of the site's engineers, together; and what was set aside."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from overread.portal.auth import actor_of, require, signed_in
from overread.portal.engineering import deliveries, exams, health, jobs, routes, setup, why
from overread.portal.state import Here, portal_of
from overread.store import aside
from overread.store.users import Signed
from overread.validation.permissions import may

router = APIRouter(include_in_schema=False)
for part in (exams, jobs, deliveries, setup, routes, health, why):
    router.include_router(part.router)

_LISTED = 100
"""Rows that a table of what was set aside shows at most, the newest ones."""
_BADGE = timedelta(days=7)
"""How old what the navigation counts may be."""


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
