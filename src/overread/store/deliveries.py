"""Deliveries as they are kept: one instance on its way to one destination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, or_, select
from sqlalchemy import func as sql
from sqlalchemy.orm import Session

from overread.errors import UsageError
from overread.store.audit import record
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


def find(*, destination: str = "", state: str = "", cause: str = "") -> Select[Delivery]:
    """Make the query of deliveries, unordered; what is left empty narrows nothing."""
    asked = {Delivery.destination: destination, Delivery.state: state, Delivery.cause: cause}
    return select(Delivery).where(*(column == value for column, value in asked.items() if value))


def delivery(session: Session, delivery_id: str) -> Delivery:
    """Return one delivery, by its id or the beginning of it where that is enough to tell it.

    Raises
    ------
    UsageError
        There is none, or more than one begins so.
    """
    query = select(Delivery).where(Delivery.id.startswith(delivery_id, autoescape=True)).limit(2)
    found = session.scalars(query).all()
    if not delivery_id or len(found) != 1:
        raise UsageError(
            f"{'more than one' if len(found) > 1 else 'no'} delivery has an id that begins with "
            f"{delivery_id!r}; overread delivery list shows them"
        )
    return found[0]


def count_states(session: Session) -> dict[tuple[str, str], int]:
    """Count deliveries by destination and state."""
    rows = session.execute(
        select(Delivery.destination, Delivery.state, sql.count())
        .group_by(Delivery.destination, Delivery.state)
        .order_by(Delivery.destination, Delivery.state)
    )
    return {(destination, state): number for destination, state, number in rows}


def may_retry(one: Delivery) -> bool:
    """Say whether a delivery can be put into its queue again by a person."""
    return one.state in ("failed", "waiting") or is_held_by_hand(one)


def may_hold(one: Delivery) -> bool:
    """Say whether a person can hold a delivery back."""
    return one.state in (*OPEN, "failed")


def is_held_by_hand(one: Delivery) -> bool:
    """Say whether a person holds it, and not a contradiction between two copies."""
    return one.state == "held" and one.error.startswith(_HELD_BY)


_HELD_BY = "held by "


def retry(
    session: Session,
    delivery_id: str,
    *,
    at: datetime,
    actor: str,
    address: str = "",
    sign_in: str = "",
) -> Delivery:
    """Put a delivery into its queue again, to be tried now, with all its attempts before it.

    Parameters
    ----------
    session : Session
        A writing session.
    actor, address, sign_in : str
        Who asks, as of `overread.store.audit.record`.

    Raises
    ------
    UsageError
        It is delivered or queued; or a contradiction holds it, which a person has to decide first.
    """
    one = delivery(session, delivery_id)
    if not may_retry(one):
        because = (
            "its object waits for a decision between two copies; see what was set aside"
            if one.state == "held"
            else "there is nothing to try again"
        )
        raise UsageError(f"delivery {one.id} is {one.state}: {because}")
    one.state, one.attempts, one.error = "queued", 0, ""
    one.next_at = one.ended_at = None
    subject = f"delivery {one.id}"
    record(session, at, actor, "retry delivery", subject, address=address, sign_in=sign_in)
    return one


def hold(
    session: Session,
    delivery_id: str,
    *,
    at: datetime,
    actor: str,
    address: str = "",
    sign_in: str = "",
) -> Delivery:
    """Hold a delivery back until a person has it tried again.

    One that is on its way just now may still arrive; then it is delivered. Parameters are as of
    `retry`.

    Raises
    ------
    UsageError
        It is delivered, or held already.
    """
    one = delivery(session, delivery_id)
    if not may_hold(one):
        raise UsageError(f"delivery {one.id} is {one.state}; only one on its way can be held")
    one.state, one.error = "held", f"{_HELD_BY}{actor}"
    one.next_at, one.ended_at = None, None
    subject = f"delivery {one.id}"
    record(session, at, actor, "hold delivery", subject, address=address, sign_in=sign_in)
    return one


def summary(one: Delivery) -> dict[str, Any]:
    """Say what a listing shows of a delivery."""
    return {
        "id": one.id,
        "destination": one.destination,
        "instance": one.instance_id,
        "cause": one.cause,
        "state": one.state,
        "attempts": one.attempts,
        "error": one.error,
        "created_at": one.created_at,
        "next_at": one.next_at,
        "ended_at": one.ended_at,
    }
