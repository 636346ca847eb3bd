"""How the images of a study came: to which AE titles, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func as sql
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.store.tables import Arrival, Association, Instance


@dataclass(frozen=True)
class Comings:
    """How the images of a study came.

    Attributes
    ----------
    ae_title : str
        Where to.
    disposition : str
        What became of them.
    arrivals : int
        How many.
    """

    ae_title: str
    disposition: str
    arrivals: int


def comings(session: Session, study_uid: str, patient_id: str) -> list[Comings]:
    """Say to which AE titles the images of a study came, and what became of them."""
    rows = session.execute(
        select(Arrival.ae_title, Arrival.disposition, sql.count())
        .join(Instance, Instance.id == Arrival.instance_id)
        .where(Instance.study_uid == study_uid, Instance.patient_id == patient_id)
        .group_by(Arrival.ae_title, Arrival.disposition)
        .order_by(Arrival.ae_title)
    )
    return [Comings(*row) for row in rows]


def association(session: Session, instance_id: int) -> Association | None:
    """Return the association that an instance first came by; none where it came another way."""
    return session.scalar(
        select(Association)
        .join(Arrival, Arrival.association_id == Association.id)
        .where(Arrival.instance_id == instance_id)
        .order_by(Arrival.id)
        .limit(1)
    )
