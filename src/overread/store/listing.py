"""The lists of cases: every exam for who may see the whole site, else what is enrolled in projects.

The newest come first. A list by a state that few jobs are in goes along the jobs of that state, any
other along the exams: so a page reads little more than its own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from overread.store.cases import Case, latest, with_jobs
from overread.store.paging import EVER, Days, Page, Place, place
from overread.store.search import Found
from overread.store.tables import Enrolment, Exam, Job
from overread.validation.permissions import Reach

ROWS = 50
_BY_EXAM = {"arriving": "open", "held": "held"}
_BY_JOB = ("queued", "running", "refused", "failed", "cancelled")
STATES = ("arriving", "held", "queued", "running", "done", "refused", "failed", "cancelled")
"""What a list can be narrowed to; ``done`` holds those in which nothing was found."""

Moment = InstrumentedAttribute[datetime]
Id = InstrumentedAttribute[str]


@dataclass(frozen=True)
class Listing:
    """Which cases.

    Attributes
    ----------
    where : Reach
        Where the caller may see cases.
    project, pipeline : str
        Empty for any.
    state : str
        One of `STATES`; empty for any.
    days : Days
        By when the exam came, or was enrolled.
    """

    where: Reach
    project: str = ""
    pipeline: str = ""
    state: str = ""
    days: Days = EVER

    @property
    def projects(self) -> list[str] | None:
        """The projects whose cases are meant; none for every exam."""
        if self.project:
            may = self.where.everywhere or self.project in self.where.projects
            return [self.project] if may else []
        return None if self.where.everywhere else sorted(self.where.projects)


@dataclass(frozen=True)
class Listed:
    """One row of a list.

    Attributes
    ----------
    enrolments : tuple of Enrolment
        That the caller may see: one where the list is of projects.
    """

    case: Case
    enrolments: tuple[Enrolment, ...] = ()

    @property
    def link(self) -> str:
        """The id that a link to it names."""
        return self.enrolments[0].id if len(self.enrolments) == 1 else self.case.exam.root_id


@dataclass(frozen=True)
class _Row:
    place: Place
    exam: Exam
    enrolment: Enrolment | None = None


def listed(session: Session, what: Listing, *, after: str = "", limit: int = ROWS) -> Page[Listed]:
    """List cases, the newest first.

    Parameters
    ----------
    after : str
        The place that the page begins after; empty for the first page.
    """
    start = place(after)
    if what.projects is None:
        rows = _exams(session, what, start, limit + 1)
    else:
        streams = [_cases(session, what, name, start, limit + 1) for name in what.projects]
        every = [row for stream in streams for row in stream]
        rows = sorted(every, key=lambda row: row.place, reverse=True)
    page = _with_cases(session, what.where, rows[:limit])
    return Page(page, str(rows[limit - 1].place) if len(rows) > limit else "")


def found(session: Session, what: Listing, search: Found) -> list[Listed]:
    """List those cases that a search has found, the newest first."""
    narrowed = select(Exam).where(latest(), Exam.root_id.in_(search.root_ids))
    if what.pipeline:
        narrowed = narrowed.where(Exam.pipeline == what.pipeline)
    narrowed = narrowed.where(*_within(Exam.opened_at, what.days))
    if what.state:
        narrowed = narrowed.where(_is(what.state))
    if what.projects is not None:
        enrolled = select(Enrolment.root_id).where(
            Enrolment.root_id.in_(search.root_ids), Enrolment.project.in_(what.projects)
        )
        narrowed = narrowed.where(Exam.root_id.in_(enrolled))
    exams = session.scalars(narrowed.order_by(Exam.opened_at.desc(), Exam.id.desc()).limit(ROWS))
    rows = [_Row(Place(0, exam.opened_at, exam.id), exam) for exam in exams]
    return _with_cases(session, what.where, rows)


def _exams(session: Session, what: Listing, after: Place | None, limit: int) -> list[_Row]:
    moment, row_id = _key(what, Exam.opened_at, Exam.id)
    query = (
        select(Exam, moment, row_id)
        .where(latest(), *_conditions(what, after, moment, row_id))
        .order_by(moment.desc(), row_id.desc())
        .limit(limit)
    )
    if what.pipeline:
        query = query.where(Exam.pipeline == what.pipeline)
    rows = session.execute(query)
    return [_Row(Place(0, at, one), exam) for exam, at, one in rows]


def _cases(
    session: Session, what: Listing, project: str, after: Place | None, limit: int
) -> list[_Row]:
    moment, row_id = _key(what, Enrolment.enrolled_at, Enrolment.id)
    query = (
        select(Exam, Enrolment, moment, row_id)
        .join(Enrolment, Enrolment.root_id == Exam.root_id)
        .where(latest(), Enrolment.project == project)
        .where(*_conditions(what, after, moment, row_id))
        .order_by(moment.desc(), row_id.desc())
        .limit(limit)
    )
    if what.pipeline:
        query = query.where(Enrolment.pipeline == what.pipeline)
    rows = session.execute(query)
    return [_Row(Place(0, at, one), exam, case) for exam, case, at, one in rows]


def _key(what: Listing, at: Moment, row_id: Id) -> tuple[Moment, Id]:
    """Return what the list is ordered by."""
    return (Job.created_at, Job.id) if what.state in _BY_JOB else (at, row_id)


def _conditions(
    what: Listing, after: Place | None, moment: Moment, row_id: Id
) -> list[ColumnElement[bool]]:
    made = [*_within(moment, what.days)]
    if what.state in _BY_JOB:
        made += [Job.exam_id == Exam.id, Job.state == what.state, _is_latest_job()]
    elif what.state:
        made.append(_is(what.state))
    if after is not None:
        made.append(tuple_(moment, row_id) < (after.at, after.id))
    return made


def _within(moment: Moment, days: Days) -> list[ColumnElement[bool]]:
    since = [] if days.since is None else [moment >= days.since]
    return since if days.until is None else [*since, moment < days.until]


def _is(state: str) -> ColumnElement[bool]:
    """Return the condition that an exam is in a state."""
    if state in _BY_EXAM:
        return Exam.state == _BY_EXAM[state]
    # Not by the state: SQLite would go along all jobs that have it.
    last = (
        select(Job.state)
        .where(Job.exam_id == Exam.id, Job.edits.is_(None))
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(1)
    )
    return last.scalar_subquery() == state


def _is_latest_job() -> ColumnElement[bool]:
    """Return the condition that a job is its exam's latest; what measures an edit is none."""
    later = aliased(Job)
    after = tuple_(later.created_at, later.id) > tuple_(Job.created_at, Job.id)
    return Job.edits.is_(None) & ~(
        select(later.id).where(later.exam_id == Job.exam_id, later.edits.is_(None), after).exists()
    )


def _with_cases(session: Session, where: Reach, rows: Sequence[_Row]) -> list[Listed]:
    cases = with_jobs(session, [row.exam for row in rows])
    given = _enrolments(session, where, [row.exam.root_id for row in rows])
    return [
        Listed(case, (row.enrolment,) if row.enrolment else tuple(given(case.exam.root_id)))
        for row, case in zip(rows, cases, strict=True)
    ]


def _enrolments(
    session: Session, where: Reach, root_ids: Sequence[str]
) -> Callable[[str], list[Enrolment]]:
    query = select(Enrolment).where(Enrolment.root_id.in_(root_ids)).order_by(Enrolment.project)
    if not where.everywhere:
        query = query.where(Enrolment.project.in_(sorted(where.projects)))
    by_root: dict[str, list[Enrolment]] = {}
    for one in session.scalars(query):
        by_root.setdefault(one.root_id, []).append(one)
    return lambda root_id: by_root.get(root_id, [])


def on_their_way(session: Session, projects: Sequence[str], limit: int = 5) -> list[Listed]:
    """List the newest cases of some projects that have no results yet."""
    rows = []
    for project in projects:
        query = (
            select(Exam, Enrolment)
            .join(Enrolment, Enrolment.root_id == Exam.root_id)
            .where(latest(), Enrolment.project == project, Enrolment.ready_at.is_(None))
            .order_by(Enrolment.enrolled_at.desc())
            .limit(limit)
        )
        rows += [
            _Row(Place(0, case.enrolled_at, case.id), exam, case)
            for exam, case in session.execute(query)
        ]
    newest = sorted(rows, key=lambda row: row.place, reverse=True)[:limit]
    return _with_cases(session, Reach(everywhere=False), newest)
