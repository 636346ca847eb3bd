"""Enrolment: which exams are cases of which project, and whose readings they wait for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import case, insert, select, update
from sqlalchemy import func as sql
from sqlalchemy.orm import Session

from overread.store.audit import record
from overread.store.database import one_at_a_time
from overread.store.paging import Place
from overread.store.tables import Enrolment, Exam, Reading, Result, Tally, new_id

_TO_DO = ("open", "draft")


def of_exam(
    session: Session, root_id: str, projects: Collection[str] | None = None
) -> list[Enrolment]:
    """List the enrolments of an exam, by project.

    Parameters
    ----------
    root_id : str
        The exam's first revision.
    projects : collection of str, optional
        Only in these.
    """
    query = select(Enrolment).where(Enrolment.root_id == root_id).order_by(Enrolment.project)
    if projects is not None:
        query = query.where(Enrolment.project.in_(list(projects)))
    return list(session.scalars(query))


def enrol(session: Session, at: datetime, project: str, root_id: str, pipeline: str) -> Enrolment:
    """Make an exam a case of a project; the one that there is where it is already."""
    one_at_a_time(session, f"enrol in {project}")
    there = next(iter(of_exam(session, root_id, [project])), None)
    if there is not None:
        return there
    row = Enrolment(
        project=project, root_id=root_id, pipeline=pipeline, enrolled_at=at, ready_at=None
    )
    session.add(row)
    session.flush()
    record(session, at, "overread", "enrol case", f"case {row.id}", {"project": project})
    return row


def make_ready(session: Session, at: datetime, enrolment: Enrolment, *, urgent: bool) -> bool:
    """Note that a case has its results; say whether that is new: its first ones, or urgent ones.

    What was urgent once stays urgent.

    Parameters
    ----------
    at : datetime
        When the results were there.
    """
    is_first = enrolment.ready_at is None
    is_new_urgent = urgent and not enrolment.urgent
    if is_first:
        enrolment.ready_at = at
    if is_new_urgent:
        enrolment.urgent = True
        session.execute(
            update(Reading)
            .where(Reading.enrolment_id == enrolment.id, Reading.state.in_(_TO_DO))
            .values(rank=0)
        )
    return is_first or is_new_urgent


def assign(
    session: Session,
    now: datetime,
    enrolments: Sequence[Enrolment],
    reader_ids: Collection[str],
    due: timedelta | None,
) -> None:
    """Give cases that are ready to readers; nothing for those who have them.

    Parameters
    ----------
    due : timedelta, optional
        How long they have, from now on.
    """
    have = set(
        session.execute(
            select(Reading.enrolment_id, Reading.reader_id).where(
                Reading.enrolment_id.in_([one.id for one in enrolments])
            )
        )
    )
    rows = [
        {
            "id": new_id(),
            "enrolment_id": one.id,
            "project": one.project,
            "pipeline": one.pipeline,
            "reader_id": reader_id,
            "state": "open",
            "rank": 0 if one.urgent else 1,
            "ready_at": one.ready_at,
            "due_at": now + due if due is not None else None,
        }
        for one in enrolments
        for reader_id in sorted(reader_ids)  # one order, so that two writers do not block for good
        if one.ready_at is not None and (one.id, reader_id) not in have
    ]
    if rows:
        session.execute(insert(Reading), rows)


def not_given(session: Session, project: str, reader_id: str, limit: int) -> list[Enrolment]:
    """List ready cases of a project that a reader was never given, the oldest first."""
    given = select(Reading.id).where(
        Reading.enrolment_id == Enrolment.id, Reading.reader_id == reader_id, Reading.amends == ""
    )
    return list(
        session.scalars(
            select(Enrolment)
            .where(Enrolment.project == project, Enrolment.ready_at.is_not(None), ~given.exists())
            .order_by(Enrolment.enrolled_at, Enrolment.id)
            .limit(limit)
        )
    )


def readers_with_work(session: Session) -> set[tuple[str, str]]:
    """Return each project and reader with something to be done."""
    query = select(Tally.project, Tally.reader_id).where(Tally.state.in_(_TO_DO), Tally.count > 0)
    return set(session.execute(query))


def given(session: Session) -> dict[tuple[str, str], int]:
    """Count the cases that each project's readers were ever given."""
    rows = session.execute(
        select(Tally.project, Tally.reader_id, sql.sum(Tally.count)).group_by(
            Tally.project, Tally.reader_id
        )
    )
    return {(project, reader_id): number for project, reader_id, number in rows}


def ready(session: Session) -> dict[str, int]:
    """Count the cases of each project that have their results."""
    rows = session.execute(
        select(Enrolment.project, sql.count())
        .where(Enrolment.ready_at.is_not(None))
        .group_by(Enrolment.project)
    )
    return dict(rows.all())


def withdraw(session: Session, project: str, reader_id: str) -> None:
    """Take back what a reader has not submitted in a project; what is written stays kept."""
    _set_state(session, project, reader_id, _TO_DO, "withdrawn")


def restore(session: Session, project: str, reader_id: str) -> None:
    """Give a reader back what was withdrawn."""
    state = case((Reading.saved_at.is_not(None), "draft"), else_="open")
    _set_state(session, project, reader_id, ("withdrawn",), state)


def _set_state(
    session: Session, project: str, reader_id: str, states: Sequence[str], state: object
) -> None:
    session.execute(
        update(Reading)
        .where(
            Reading.project == project,
            Reading.reader_id == reader_id,
            Reading.state.in_(states),
            Reading.amends == "",
        )
        .values(state=state)
    )


def closed_after(
    session: Session, pipelines: Collection[str], after: Place, limit: int
) -> list[Exam]:
    """List exams that have closed once, by when they were opened: their first revisions."""
    position = (Exam.opened_at > after.at) | ((Exam.opened_at == after.at) & (Exam.id > after.id))
    return list(
        session.scalars(
            select(Exam)
            .where(
                Exam.pipeline.in_(sorted(pipelines)),
                Exam.state == "closed",
                Exam.revision == 1,
                Exam.opened_at >= after.at,
                position,
            )
            .order_by(Exam.opened_at, Exam.id)
            .limit(limit)
        )
    )


def results_of(session: Session, root_id: str) -> list[Result]:
    """List the pipeline's current results on an exam, the oldest first."""
    return list(
        session.scalars(
            select(Result)
            .join(Exam, Exam.id == Result.exam_id)
            .where(Exam.root_id == root_id, Result.superseded_by.is_(None), Result.author == "")
            .order_by(Result.created_at, Result.id)
        )
    )
