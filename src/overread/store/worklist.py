"""A reader's worklist: urgent cases first, then the oldest; what is next; how far one is.

A list is put together of streams: all readings of one reader, state, project, pipeline and rank,
which one index holds in order. The tally says which streams there are, so that a page reads its own
rows and no others, however many there are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, select, tuple_, union_all
from sqlalchemy import func as sql
from sqlalchemy.orm import Session

from overread.store.cases import latest
from overread.store.paging import EVER, Days, Page, Place, place
from overread.store.search import Found
from overread.store.tables import Enrolment, Exam, Reading, Tally, User

TO_DO = ("open", "draft")
DONE = ("submitted",)
ROWS = 50


@dataclass(frozen=True)
class Wanted:
    """Which readings of a reader.

    Attributes
    ----------
    project, pipeline : str
        Empty for any.
    state : str
        ``open`` (not begun), ``draft`` (begun), ``submitted``; empty for what is to be done.
    days : Days
        By when the case was ready.
    projects : collection of str, optional
        Only in these: where the reader may read; none for everywhere.
    """

    project: str = ""
    pipeline: str = ""
    state: str = ""
    days: Days = EVER
    projects: Collection[str] | None = None

    @property
    def states(self) -> tuple[str, ...]:
        """The states that are meant."""
        return (self.state,) if self.state else TO_DO


@dataclass(frozen=True)
class ToRead:
    """One row of a worklist.

    Attributes
    ----------
    exam : Exam
        The latest revision of the case's exam.
    """

    reading: Reading
    enrolment: Enrolment
    exam: Exam

    def is_overdue(self, now: datetime) -> bool:
        """Say whether it should have been read by now."""
        due = self.reading.due_at
        return self.reading.state in TO_DO and due is not None and due < now


@dataclass(frozen=True)
class Count:
    """How far a reader is in a project.

    Attributes
    ----------
    to_read : int
        What is to be done, what is begun included.
    """

    project: str
    to_read: int = 0
    begun: int = 0
    urgent: int = 0
    done: int = 0

    @property
    def total(self) -> int:
        """All cases that the reader was given there."""
        return self.to_read + self.done


def counts(
    session: Session, reader_id: str, projects: Collection[str] | None = None
) -> list[Count]:
    """Count a reader's readings by project; projects without any are left out."""
    tallies: dict[str, list[Tally]] = {}
    for row in session.scalars(_tallies(reader_id, projects).order_by(Tally.project)):
        tallies.setdefault(row.project, []).append(row)
    return [_count(project, rows) for project, rows in tallies.items()]


def _count(project: str, rows: Sequence[Tally]) -> Count:
    def number(*states: str, rank: int | None = None) -> int:
        return sum(row.count for row in rows if row.state in states and rank in (None, row.rank))

    return Count(
        project,
        to_read=number(*TO_DO),
        begun=number("draft"),
        urgent=number(*TO_DO, rank=0),
        done=number(*DONE),
    )


def _tallies(reader_id: str, projects: Collection[str] | None) -> Select[Tally]:
    query = select(Tally).where(
        Tally.reader_id == reader_id, Tally.count > 0, Tally.state.in_(TO_DO + DONE)
    )
    return query if projects is None else query.where(Tally.project.in_(sorted(projects)))


def queue(
    session: Session, reader_id: str, wanted: Wanted | None = None, *, after: str = "",
    limit: int = ROWS,
) -> Page[ToRead]:  # fmt: skip
    """List a reader's readings: urgent ones first, then the oldest; done ones the newest first.

    Parameters
    ----------
    after : str
        The place that the page begins after; empty for the first page.
    """
    wanted = wanted or Wanted()
    backwards = wanted.state in DONE
    places = _places(session, reader_id, wanted, place(after), limit + 1, backwards=backwards)
    rows = _rows(session, [one.id for one in places[:limit]])
    return Page(rows, str(places[limit - 1]) if len(places) > limit else "")


def _places(
    session: Session,
    reader_id: str,
    wanted: Wanted,
    after: Place | None,
    limit: int,
    *,
    backwards: bool = False,
    by_rank: bool | None = None,
) -> list[Place]:
    """List places in order; those of done readings are not by rank."""
    by_rank = not backwards if by_rank is None else by_rank
    streams = [
        _stream(row, wanted.days, after, limit, backwards=backwards, by_rank=by_rank)
        for row in session.scalars(_tallies(reader_id, wanted.projects))
        if row.state in wanted.states
        and wanted.project in ("", row.project)
        and wanted.pipeline in ("", row.pipeline)
    ]
    if not streams:
        return []
    every = union_all(*(select(one.subquery()) for one in streams)).subquery()
    order: list[ColumnElement[object]] = [every.c.ready_at, every.c.id]
    if by_rank:
        order.insert(0, every.c.rank)
    if backwards:
        order = [column.desc() for column in order]
    rows = session.execute(select(every).order_by(*order).limit(limit))
    return [Place(row.rank if by_rank else 0, row.ready_at, row.id) for row in rows]


def _stream(
    of: Tally, days: Days, after: Place | None, limit: int, *, backwards: bool, by_rank: bool
) -> Select[str, int, datetime]:
    """Read one stream in the index's order, from a place on."""
    query = select(Reading.id, Reading.rank, Reading.ready_at).where(
        Reading.reader_id == of.reader_id,
        Reading.state == of.state,
        Reading.project == of.project,
        Reading.pipeline == of.pipeline,
        Reading.rank == of.rank,
        Reading.amends == "",
    )
    order = tuple_(Reading.ready_at, Reading.id)
    if after is not None:
        here = (after.at, after.id)
        apart = (of.rank > after.rank) - (of.rank < after.rank) if by_rank else 0
        if apart == (1 if backwards else -1):
            query = query.where(Reading.id.is_(None))  # the whole stream lies behind
        elif apart == 0:
            query = query.where(order < here if backwards else order > here)
    if days.since is not None:
        query = query.where(Reading.ready_at >= days.since)
    if days.until is not None:
        query = query.where(Reading.ready_at < days.until)
    if backwards:
        return query.order_by(Reading.ready_at.desc(), Reading.id.desc()).limit(limit)
    return query.order_by(Reading.ready_at, Reading.id).limit(limit)


def _rows(session: Session, reading_ids: Sequence[str]) -> list[ToRead]:
    found = session.execute(
        select(Reading, Enrolment, Exam)
        .join(Enrolment, Enrolment.id == Reading.enrolment_id)
        .join(Exam, Exam.root_id == Enrolment.root_id)
        .where(Reading.id.in_(reading_ids), latest())
    )
    by_id = {reading.id: ToRead(reading, enrolment, exam) for reading, enrolment, exam in found}
    return [by_id[one] for one in reading_ids if one in by_id]


def search(
    session: Session, reader_id: str, found: Found, wanted: Wanted | None = None
) -> list[ToRead]:
    """List those of a reader's readings whose exam was found, in the list's order.

    Done ones too, unless a state is asked for: who searches wants to find.
    """
    wanted = wanted or Wanted()
    cases = session.scalars(select(Enrolment.id).where(Enrolment.root_id.in_(found.root_ids)))
    rows = session.scalars(
        select(Reading).where(Reading.enrolment_id.in_(cases.all()), Reading.reader_id == reader_id)
    )
    places = sorted(
        Place(row.rank, row.ready_at, row.id) for row in rows if _is_wanted(row, wanted)
    )
    return _rows(session, [one.id for one in places[:ROWS]])


def _is_wanted(row: Reading, wanted: Wanted) -> bool:
    states, days = (wanted.state,) if wanted.state else TO_DO + DONE, wanted.days
    return (
        row.amends == ""
        and row.state in states
        and wanted.project in ("", row.project)
        and wanted.pipeline in ("", row.pipeline)
        and (wanted.projects is None or row.project in wanted.projects)
        and (days.since is None or row.ready_at >= days.since)
        and (days.until is None or row.ready_at < days.until)
    )


def resume(
    session: Session, reader_id: str, projects: Collection[str] | None = None
) -> ToRead | None:
    """Return the reading that a reader begun last and has not submitted; none where there is none.

    An old one that lies behind many others may be left out.
    """
    wanted = Wanted(state="draft", projects=projects)
    begun = _rows(session, [one.id for one in _places(session, reader_id, wanted, None, ROWS)])
    return max(begun, key=_touched, default=None)


def _touched(row: ToRead) -> datetime:
    return row.reading.saved_at or row.reading.opened_at or row.reading.ready_at


def next_reading(
    session: Session,
    reader_id: str,
    project: str | None = None,
    after: str | None = None,
    *,
    projects: Collection[str] | None = None,
) -> str | None:
    """Return the case (an enrolment's id) that a reader reads next; none where all is done.

    Parameters
    ----------
    project : str, optional
        Only in this one.
    after : str, optional
        The case that one is at, whose own reading may be done by now: the one after it; after the
        last one the first again, but never that case itself.
    projects : collection of str, optional
        Only in these: where the reader may read.
    """
    return _neighbour(session, reader_id, project, after, projects, backwards=False)


def previous_reading(
    session: Session,
    reader_id: str,
    project: str | None = None,
    before: str | None = None,
    *,
    projects: Collection[str] | None = None,
) -> str | None:
    """Return the case that comes before one in the list; none where it is the first."""
    return _neighbour(session, reader_id, project, before, projects, backwards=True)


def _neighbour(
    session: Session,
    reader_id: str,
    project: str | None,
    at: str | None,
    projects: Collection[str] | None,
    *,
    backwards: bool,
) -> str | None:
    wanted = Wanted(project or "", projects=projects)
    here = _first_reading(session, reader_id, at) if at else None
    stands = Place(here.rank, here.ready_at, here.id) if here else None
    if backwards and stands is None:
        return None
    starts = (stands,) if backwards or stands is None else (stands, None)
    for start in starts:
        found = _places(session, reader_id, wanted, start, 2, backwards=backwards, by_rank=True)
        for one in found:
            if here is None or one.id != here.id:
                return session.get_one(Reading, one.id).enrolment_id
    return None


def _first_reading(session: Session, reader_id: str, enrolment_id: str) -> Reading | None:
    return session.scalar(
        select(Reading).where(
            Reading.enrolment_id == enrolment_id,
            Reading.reader_id == reader_id,
            Reading.amends == "",
        )
    )


def position(session: Session, reader_id: str, project: str | None = None) -> tuple[int, int]:
    """Say how many cases a reader has read, and of how many: in a project, or in all."""
    every = [one for one in counts(session, reader_id) if project in (None, one.project)]
    return sum(one.done for one in every), sum(one.total for one in every)


@dataclass(frozen=True)
class Progress:
    """How far one reader of a project is."""

    name: str
    count: Count


def progress(session: Session, project: str) -> list[Progress]:
    """Say how far each reader of a project is, by name; counts, and nothing of any case."""
    rows: dict[str, list[Tally]] = {}
    found = session.execute(
        select(User.name, Tally)
        .join(User, User.id == Tally.reader_id)
        .where(Tally.project == project, Tally.state.in_(TO_DO + DONE))
        .order_by(User.name)
    )
    for name, tally in found:
        rows.setdefault(name, []).append(tally)
    return [Progress(name, _count(project, tallies)) for name, tallies in rows.items()]


@dataclass(frozen=True)
class Enrolled:
    """How many cases a project has, and how many of them have their results."""

    cases: int
    ready: int


def enrolled(session: Session, project: str) -> Enrolled:
    """Count a project's cases."""
    of_project = select(sql.count()).where(Enrolment.project == project)
    every = session.scalar(of_project) or 0
    return Enrolled(
        every, every - (session.scalar(of_project.where(Enrolment.ready_at.is_(None))) or 0)
    )
