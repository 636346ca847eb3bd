"""Deliveries as they are kept: one instance on its way to one destination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from overread.store.tables import Delivery, Instance, new_id

OPEN = ("queued", "waiting")
"""States in which a delivery is tried, or will be."""


def order(
    session: Session,
    instance_id: int,
    destination: str,
    *,
    cause: str,
    why: Mapping[str, Any],
    at: datetime,
) -> Delivery:
    """Ask that an instance be sent to a destination; once for each pair, however often asked.

    Parameters
    ----------
    session : Session
        A writing session.
    cause : str
        ``route NAME`` or ``job ID``.
    why : mapping
        The explanation of the rule, or the stage that permits it.
    """
    known = session.scalar(
        select(Delivery).where(
            Delivery.destination == destination, Delivery.instance_id == instance_id
        )
    )
    if known is not None:
        return known
    delivery = Delivery(
        id=new_id(),
        destination=destination,
        instance_id=instance_id,
        cause=cause,
        why=dict(why),
        state="queued",
        attempts=0,
        error="",
        created_at=at,
        next_at=None,
        ended_at=None,
    )
    session.add(delivery)
    return delivery


def due(
    session: Session, destination: str, now: datetime, limit: int
) -> Sequence[tuple[Delivery, Instance]]:
    """List deliveries to one destination that may be tried now, the oldest first."""
    query = (
        select(Delivery, Instance)
        .join(Instance, Instance.id == Delivery.instance_id)
        .where(
            Delivery.destination == destination,
            Delivery.state.in_(OPEN),
            or_(Delivery.next_at.is_(None), Delivery.next_at <= now),
        )
        .order_by(Delivery.created_at)
        .limit(limit)
    )
    return [(delivery, instance) for delivery, instance in session.execute(query)]


def of_instances(session: Session, instance_ids: Sequence[int]) -> Sequence[Delivery]:
    """List the deliveries of some instances, the oldest first."""
    return session.scalars(
        select(Delivery)
        .where(Delivery.instance_id.in_(instance_ids))
        .order_by(Delivery.created_at, Delivery.destination)
    ).all()
