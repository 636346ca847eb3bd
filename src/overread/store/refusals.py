"""What was not taken: quarantined, turned away, or withdrawn since its file was lost."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from overread.dicom.study import Origin
from overread.store.database import one_at_a_time
from overread.store.tables import Arrival, Delivery, Instance, Quarantine, Turned, new_id


def quarantine(
    session: Session,
    *,
    at: datetime,
    association_id: str | None,
    key: str,
    size: int,
    status: int,
    reason: str,
    affected_sop_instance_uid: str = "",
) -> str:
    """Record bytes that could not be taken as an instance; return the row's id."""
    row_id = new_id()
    session.execute(
        insert(Quarantine).values(
            id=row_id,
            association_id=association_id,
            at=at,
            key=key,
            size=size,
            status=status,
            reason=reason,
            affected_sop_instance_uid=affected_sop_instance_uid,
        )
    )
    return row_id


def turn_away(session: Session, origin: Origin, reason: str, at: datetime) -> None:
    """Count what was turned away: a stranger, a wrong AE title, an object for a full disk."""
    one_at_a_time(session, "turned")
    who = {
        "day": f"{at.astimezone(UTC):%Y-%m-%d}",
        "calling_ae": origin.calling_ae_title,
        "called_ae": origin.called_ae_title,
        "peer_address": origin.peer_address,
        "reason": reason,
    }
    row = session.execute(select(Turned).filter_by(**who)).scalar_one_or_none()
    if row is None:
        session.add(Turned(**who, count=1, last_at=at))
    else:
        row.count += 1
        row.last_at = at


def withdraw(session: Session, instance_id: int) -> None:
    """Take back an object that was recorded but never acknowledged, since its file is not there.

    It goes with its deliveries, and its arrivals that no exam has taken; where one has, it stays
    as a conflict, and the job that reads it says that its file is missing.
    """
    mine = Arrival.instance_id == instance_id
    session.execute(delete(Arrival).where(mine, Arrival.exam_id.is_(None)))
    if session.scalar(select(Arrival.id).where(mine).limit(1)) is not None:
        session.execute(
            update(Instance)
            .where(Instance.id == instance_id)
            .values(standing="conflict", standing_reason="its file was lost; send it again")
        )
        return
    session.execute(delete(Delivery).where(Delivery.instance_id == instance_id))
    session.execute(delete(Instance).where(Instance.id == instance_id))


def has_key(session: Session, key: str) -> bool:
    """Say whether an instance's file lies under a key of the archive."""
    return session.scalar(select(Instance.id).where(Instance.key == key).limit(1)) is not None
