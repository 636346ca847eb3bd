"""What the routes as they are now would do with what came, against what was done when it came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset, dcmread
from sqlalchemy import func as sql
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.dicom.encoded import UNREADABLE
from overread.dicom.study import Origin
from overread.routing.rules import Decision, Route, decide
from overread.store.archive import Archive
from overread.store.tables import Arrival, Association, Delivery, Instance

MOST = 1000
"""Series that one replay looks at; a longer time is looked at in parts."""


@dataclass(frozen=True)
class Replayed:
    """The first image of one series under the present routes.

    Attributes
    ----------
    instance : Instance
        That image.
    would, did : tuple of str
        AE titles that it would be sent to by a route now; that a route has sent it to.
    """

    instance: Instance
    would: tuple[str, ...]
    did: tuple[str, ...]

    @property
    def added(self) -> tuple[str, ...]:
        """Where it would go now and did not."""
        return tuple(one for one in self.would if one not in self.did)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Where it went and would not now."""
        return tuple(one for one in self.did if one not in self.would)


@dataclass(frozen=True)
class Replay:
    """A replay.

    Attributes
    ----------
    series : tuple of Replayed
        The oldest first.
    unread : int
        Series whose first image cannot be read.
    is_cut : bool
        Whether there were more than `MOST`.
    """

    series: tuple[Replayed, ...]
    unread: int
    is_cut: bool


def replay(
    session: Session,
    archive: Archive,
    routes: Sequence[Route],
    since: datetime,
    until: datetime | None = None,
) -> Replay:
    """Decide again on the first image of each series that came over the network.

    Parameters
    ----------
    routes : sequence of Route
        The site's routes, as they are now.
    since, until : datetime
        Received since then, and before then.
    """
    first = (
        select(sql.min(Arrival.id).label("arrival_id"))
        .join(Instance, Instance.id == Arrival.instance_id)
        .where(Arrival.origin == "sent", Arrival.at >= since, Instance.standing != "ours")
        .group_by(Instance.study_uid, Instance.series_uid, Instance.patient_id)
    )
    if until is not None:
        first = first.where(Arrival.at < until)
    chosen = first.order_by(sql.min(Arrival.id)).limit(MOST + 1).subquery()
    rows = session.execute(
        select(Instance, Arrival, Association)
        .join(Arrival, Arrival.instance_id == Instance.id)
        .join(chosen, chosen.c.arrival_id == Arrival.id)
        .outerjoin(Association, Association.id == Arrival.association_id)
        .order_by(Arrival.id)
    ).all()
    done, unread = _done(session, [instance.id for instance, _, _ in rows[:MOST]]), 0
    series = []
    for instance, arrival, came in rows[:MOST]:
        header = header_of(archive, instance)
        if header is None:
            unread += 1
            continue
        origin = (
            Origin(came.calling_ae, came.called_ae, came.peer_address)
            if came is not None
            else Origin("", arrival.ae_title, "")
        )
        would = tuple(one.ae_title for one in decide(routes, header, origin) if one.send)
        series.append(Replayed(instance, would, done.get(instance.id, ())))
    return Replay(tuple(series), unread, len(rows) > MOST)


def _done(session: Session, ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """Return where routes have sent some instances: to pipelines, and to destinations."""
    routed = session.execute(
        select(Arrival.instance_id, Arrival.ae_title)
        .where(Arrival.instance_id.in_(ids), Arrival.origin == "routed")
        .order_by(Arrival.id)
    )
    sent = session.execute(
        select(Delivery.instance_id, Delivery.destination)
        .where(Delivery.instance_id.in_(ids), Delivery.cause.startswith("route "))
        .order_by(Delivery.created_at)
    )
    done: dict[int, tuple[str, ...]] = {}
    for instance_id, ae_title in [*routed, *sent]:
        done[instance_id] = tuple(dict.fromkeys((*done.get(instance_id, ()), ae_title)))
    return done


def header_of(archive: Archive, instance: Instance) -> Dataset | None:
    """Read the header of an instance; none where it cannot be read."""
    try:
        return dcmread(archive.path(instance.key), stop_before_pixels=True, force=True)
    except UNREADABLE:
        return None


@dataclass(frozen=True)
class Tried:
    """What the routes would do with one image.

    Attributes
    ----------
    study, series, modality : str
        StudyDescription, SeriesDescription or the series' number, Modality.
    decisions : tuple of Decision
        For each route and AE title.
    """

    study: str
    series: str
    modality: str
    decisions: tuple[Decision, ...]


def try_exam(
    archive: Archive, routes: Sequence[Route], members: Sequence[tuple[Instance, Origin]]
) -> list[Tried]:
    """Decide on the first image of each series of an exam, by the association that it came by."""
    first: dict[str, tuple[Instance, Origin]] = {}
    for instance, origin in members:
        first.setdefault(instance.series_uid, (instance, origin))
    tried = []
    for instance, origin in first.values():
        header = header_of(archive, instance)
        if header is not None:
            tried.append(try_header(routes, header, origin))
    return tried


def try_header(routes: Sequence[Route], header: Dataset, origin: Origin) -> Tried:
    """Decide on one image."""

    def said(keyword: str) -> str:
        return str(header.get(keyword) or "")

    return Tried(
        said("StudyDescription"),
        said("SeriesDescription") or said("SeriesNumber"),
        said("Modality"),
        tuple(decide(routes, header, origin)),
    )
