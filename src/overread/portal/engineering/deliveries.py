"""Deliveries as a page: their state, what the other side said, another try, a hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select

from overread.errors import UsageError
from overread.portal.auth import by, require
from overread.portal.engineering.missing import missing
from overread.portal.state import Here, Portal
from overread.store import by_time, deliveries
from overread.store.tables import Delivery, Exam, ExamInstance, Instance, Result
from overread.store.users import Signed
from overread.validation.permissions import may

router = APIRouter(include_in_schema=False)

MayList = Annotated[Signed, Depends(require("delivery.list"))]
MayRun = Annotated[Signed, Depends(require("delivery.run"))]

ROWS = 50
STATES = ("queued", "waiting", "delivered", "failed", "held")


@router.get("/deliveries")
def deliveries_page(
    request: Request,
    portal: Here,
    signed: MayList,
    *,
    state: str = "",
    destination: str = "",
    after: str = "",
) -> Response:
    """List the deliveries."""
    return _page(request, portal, signed, state=state, destination=destination, after=after)


def _page(
    request: Request,
    portal: Portal,
    signed: Signed,
    *,
    state: str = "",
    destination: str = "",
    after: str = "",
    problem: str = "",
) -> Response:
    query = deliveries.find(destination=destination, state=state)
    place = (Delivery.created_at, Delivery.id)
    with portal.database.read() as session:
        page = by_time.newest_or_first(session, query, *place, after=after, limit=ROWS)
        ids = [one.instance_id for one in page.rows]
        instances = {
            one.id: one for one in session.scalars(select(Instance).where(Instance.id.in_(ids)))
        }
        member = (
            select(ExamInstance.instance_id, Exam)
            .join(Exam, Exam.id == ExamInstance.exam_id)
            .where(ExamInstance.instance_id.in_(ids))
            .order_by(Exam.revision)
        )
        exams = dict(session.execute(member).tuples().all())
        made = select(Result).where(Result.instance_id.in_(ids))
        results = {one.instance_id: one for one in session.scalars(made)}
        counts = deliveries.count_states(session)
    names = {*portal.site.settings.destinations, *(name for name, _ in counts)}
    context = {
        "signed": signed,
        "deliveries": page.rows,
        "next": page.next,
        "after": after,
        "instances": instances,
        "exams": exams,
        "results": results,
        "counts": counts,
        "state": state,
        "states": STATES,
        "destination": destination,
        "destinations": sorted(names),
        "may_retry": deliveries.may_retry,
        "may_hold": deliveries.may_hold,
        "may_run": may(signed.actor, "delivery.run").yes,
        "problem": problem,
        "now": portal.now(),
    }
    return portal.templates.TemplateResponse(
        request, "deliveries.html", context, status_code=409 if problem else 200
    )


def _change(
    request: Request,
    portal: Portal,
    signed: Signed,
    delivery_id: str,
    change: Callable[..., Delivery],
) -> Response:
    who = by(request)
    with portal.database.read() as session:
        if session.get(Delivery, delivery_id) is None:
            return missing(request, portal, signed, "delivery")
    try:
        with portal.database.write() as session:
            change(
                session, delivery_id, at=portal.now(), actor=who.name, address=who.address,
                sign_in=who.sign_in,
            )  # fmt: skip
    except UsageError as error:
        return _page(request, portal, signed, problem=str(error))
    return RedirectResponse(f"/deliveries#d-{delivery_id}", status_code=303)


@router.post("/deliveries/{delivery_id}/retry")
def retry(request: Request, portal: Here, signed: MayRun, delivery_id: str) -> Response:
    """Try a delivery again."""
    return _change(request, portal, signed, delivery_id, deliveries.retry)


@router.post("/deliveries/{delivery_id}/hold")
def hold(request: Request, portal: Here, signed: MayRun, delivery_id: str) -> Response:
    """Hold a delivery back."""
    return _change(request, portal, signed, delivery_id, deliveries.hold)
