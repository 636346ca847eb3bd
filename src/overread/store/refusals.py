"""What was not taken: bytes that are no instance, kept; what was turned away, counted."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from overread.dicom.study import Origin
from overread.store.database import one_at_a_time
from overread.store.tables import Quarantine, Turned, new_id


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
