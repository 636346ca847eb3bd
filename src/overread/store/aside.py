"""What was set aside, to be seen by a person: quarantined, in conflict, held, turned away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, literal_column, select
from sqlalchemy import func as sql
from sqlalchemy.orm import Session, aliased

from overread.store.tables import Arrival, Association, Exam, Instance, Quarantine, Turned

# Written out as the partial indexes have them, so that the database can use those.
_IN_CONFLICT: ColumnElement[bool] = Instance.standing == literal_column("'conflict'")
_HELD: ColumnElement[bool] = and_(
    sql.substr(Arrival.disposition, literal_column("1"), literal_column("5"))
    == literal_column("'held:'"),
    # Copies in conflict are listed as such.
    Arrival.disposition.not_like("held: conflict%"),
)

_GROUPED = 10_000
"""Held arrivals that are grouped by study at most, the newest ones."""


@dataclass(frozen=True)
class Quarantined:
    """Bytes that could not be taken, and who sent them.

    Attributes
    ----------
    row : Quarantine
        What is known of them.
    came_by : Association or None
        None where they came by STOW-RS.
    """

    row: Quarantine
    came_by: Association | None


@dataclass(frozen=True)
class Conflict:
    """A second object under a SOP Instance UID that was taken.

    Attributes
    ----------
    copy : Instance
        The one that was set aside; its ``standing_reason`` says what differs.
    first : Instance
        The first copy, which stays in use; ``copy`` itself where that is the one that was lost.
    """

    copy: Instance
    first: Instance


@dataclass(frozen=True)
class Held:
    """An exam, or arrivals, with which no job begins.

    Attributes
    ----------
    at : datetime
        When its last image came.
    ae_title : str
        Where it came to.
    accession : str
        Its accession number; empty if it has none.
    images : int
        How many arrivals; 0 for an exam.
    reason : str
        Why it is held.
    case_id : str
        The exam's case; empty for arrivals, which are of none.
    """

    at: datetime
    ae_title: str
    accession: str
    images: int
    reason: str
    case_id: str = ""


def quarantined(session: Session, limit: int = 100) -> list[Quarantined]:
    """List what is in quarantine, the newest first."""
    rows = session.execute(
        select(Quarantine, Association)
        .outerjoin(Association, Association.id == Quarantine.association_id)
        .order_by(Quarantine.at.desc(), Quarantine.id)
        .limit(limit)
    )
    return [Quarantined(*row) for row in rows]


def conflicts(session: Session, limit: int = 100) -> list[Conflict]:
    """List the copies in conflict, the newest first."""
    first, earlier = aliased(Instance), aliased(Instance)
    first_id = (
        select(sql.min(earlier.id))
        .where(earlier.sop_instance_uid == Instance.sop_instance_uid)
        .scalar_subquery()
    )
    rows = session.execute(
        select(Instance, first)
        .join(first, first.id == first_id)
        .where(_IN_CONFLICT)
        .order_by(Instance.id.desc())
        .limit(limit)
    )
    return [Conflict(*row) for row in rows]


def held(session: Session, limit: int = 100) -> list[Held]:
    """List held exams and, by study, AE title and reason, held arrivals; the newest first."""
    exams = session.scalars(
        select(Exam)
        .where(Exam.state == "held")
        .order_by(Exam.last_arrival_at.desc(), Exam.id)
        .limit(limit)
    )
    rows = [
        Held(one.last_arrival_at, one.ae_title, one.accession, 0, one.held_reason, one.root_id)
        for one in exams
    ]
    newest = select(Arrival).where(_HELD).order_by(Arrival.id.desc()).limit(_GROUPED).subquery()
    last = sql.max(newest.c.at)
    by = (newest.c.ae_title, Instance.accession)
    arrivals = session.execute(
        select(last, *by, sql.count(), newest.c.disposition)
        .join(Instance, Instance.id == newest.c.instance_id)
        .group_by(*by, Instance.study_uid, newest.c.disposition)
        .order_by(last.desc())
        .limit(limit)
    )
    rows += [
        Held(at, ae_title, accession, images, disposition.removeprefix("held: "))
        for at, ae_title, accession, images, disposition in arrivals
    ]
    return sorted(rows, key=lambda row: row.at, reverse=True)[:limit]


def turned_away(session: Session, limit: int = 100) -> list[Turned]:
    """List who was turned away, by day and reason, the newest first."""
    query = select(Turned).order_by(Turned.last_at.desc(), Turned.id.desc()).limit(limit)
    return list(session.scalars(query))


def count_since(session: Session, since: datetime) -> int:
    """Count what was set aside since a time: rows as the lists have them, a study as one."""
    studies = (
        select(Instance.study_uid)
        .join(Arrival, Arrival.instance_id == Instance.id)
        .where(_HELD, Arrival.at >= since)
        .distinct()
        .subquery()
    )
    counted = (
        select(sql.count()).select_from(Quarantine).where(Quarantine.at >= since),
        select(sql.count())
        .select_from(Instance)
        .where(_IN_CONFLICT, Instance.received_at >= since),
        select(sql.count())
        .select_from(Exam)
        .where(Exam.state == "held", Exam.last_arrival_at >= since),
        select(sql.count()).select_from(studies),
        select(sql.count()).select_from(Turned).where(Turned.last_at >= since),
    )
    return sum(session.scalar(query) or 0 for query in counted)
