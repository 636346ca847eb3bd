"""Deliveries: what is on its way to the destinations."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Depends, Request, Response

from overread import nouns
from overread.portal.api.conventions import (
    LINK,
    After,
    Limit,
    Text,
    listed,
    new_router,
    refusals,
    refusing,
)
from overread.portal.auth import by, require
from overread.portal.state import Here, Portal
from overread.store import by_time, deliveries
from overread.store.tables import Delivery

router = new_router("deliveries")


@router.get("/deliveries", responses=LINK, dependencies=[Depends(require("delivery.list"))])
def list_deliveries(
    request: Request,
    response: Response,
    portal: Here,
    *,
    destination: Text = "",
    state: Text = "",
    cause: Text = "",
    after: After = "",
    limit: Limit = 100,
) -> list[nouns.Delivery]:
    """List deliveries, the newest first."""
    query = deliveries.find(destination=destination, state=state, cause=cause)
    with portal.database.read() as session, refusing(422):
        page = by_time.newest(
            session, query, Delivery.created_at, Delivery.id, after=after, limit=limit
        )
    return listed(request, response, page, nouns.Delivery)


@router.get(
    "/deliveries/{delivery_id}",
    responses=refusals(404),
    dependencies=[Depends(require("delivery.list"))],
)
def get_delivery(portal: Here, delivery_id: str) -> nouns.Delivery:
    """Give one delivery; the beginning of its id is enough where it is unique."""
    with portal.database.read() as session, refusing(404):
        return nouns.Delivery.model_validate(deliveries.delivery(session, delivery_id))


def _change(
    request: Request, portal: Portal, delivery_id: str, change: Callable[..., Delivery]
) -> nouns.Delivery:
    who = by(request)
    with portal.database.write() as session:
        with refusing(404):
            one = deliveries.delivery(session, delivery_id)
        with refusing(409):
            changed = change(
                session, one.id, at=portal.now(), actor=who.name, address=who.address,
                sign_in=who.sign_in,
            )  # fmt: skip
        return nouns.Delivery.model_validate(changed)


@router.post(
    "/deliveries/{delivery_id}/retry",
    responses=refusals(404, 409),
    dependencies=[Depends(require("delivery.run"))],
)
def retry_delivery(request: Request, portal: Here, delivery_id: str) -> nouns.Delivery:
    """Try a delivery again that has failed, waits, or is held by hand."""
    return _change(request, portal, delivery_id, deliveries.retry)


@router.post(
    "/deliveries/{delivery_id}/hold",
    responses=refusals(404, 409),
    dependencies=[Depends(require("delivery.run"))],
)
def hold_delivery(request: Request, portal: Here, delivery_id: str) -> nouns.Delivery:
    """Hold a delivery back until it is tried again by hand."""
    return _change(request, portal, delivery_id, deliveries.hold)
