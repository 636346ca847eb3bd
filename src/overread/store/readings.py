"""Readings: opened, saved as one types, submitted once, amended by new ones.

The database itself refuses to change or delete a submitted one. Who may do what is asked by the
caller; `of_case` alone says whose answers somebody may see.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from overread.errors import UsageError
from overread.store.tables import Exam, ExamInstance, Instance, Reading, User
from overread.validation.answers import Size
from overread.validation.forms import Form
from overread.validation.reading import (
    TO_DO,
    Outcome,
    ReadingState,
    is_reason,
    saving,
    submitting,
)


def mine(session: Session, enrolment_id: str, reader_id: str) -> Reading | None:
    """Return a reader's reading of a case: the latest amendment, where there are any.

    None where the case is not given to that reader, or is withdrawn from them.
    """
    later = aliased(Reading)
    replaced = (
        select(later.id)
        .where(later.amends == Reading.id, later.state != ReadingState.WITHDRAWN)
        .exists()
    )
    return session.scalar(
        select(Reading)
        .where(
            Reading.enrolment_id == enrolment_id,
            Reading.reader_id == reader_id,
            Reading.state != ReadingState.WITHDRAWN,
            ~replaced,
        )
        .order_by(Reading.amends.desc())
        .limit(1)
    )


def of_case(
    session: Session, enrolment_id: str, reader_id: str, *, others: bool
) -> list[tuple[Reading, str]]:
    """List the readings of a case that somebody may see, with their readers' names.

    Parameters
    ----------
    reader_id : str
        Who asks: sees the own ones, drafts too.
    others : bool
        Whether that person may see the readings of others (``reading.see``): the submitted ones,
        and not before the own reading of this case is submitted, where there is one to do.
    """
    query = (
        select(Reading, User.name)
        .join(User, User.id == Reading.reader_id)
        .where(Reading.enrolment_id == enrolment_id)
        .order_by(Reading.submitted_at, Reading.id)
    )
    rows = [(row, name) for row, name in session.execute(query)]
    is_blind = not others or any(
        row.reader_id == reader_id and row.state in TO_DO for row, _ in rows
    )
    return [
        (row, name)
        for row, name in rows
        if row.reader_id == reader_id or (not is_blind and row.state == ReadingState.SUBMITTED)
    ]


def opened(session: Session, at: datetime, reading: Reading, shown: Collection[str]) -> bool:
    """Note that its reader sees the case, and which results; say whether for the first time.

    Parameters
    ----------
    session : Session
        A writing session.
    shown : collection of str
        Ids of the results on the page; added to those of earlier visits.
    """
    row = _locked(session, reading.id)
    if row.state not in TO_DO:
        return False
    known = [*dict.fromkeys([*row.shown, *shown])]
    if known != row.shown:
        row.shown = known
    if row.opened_at is not None:
        return False
    row.opened_at = at
    return True


def save(
    session: Session,
    at: datetime,
    reading_id: str,
    answers: Mapping[str, Any],
    *,
    revision: int,
    form: Form,
) -> tuple[Outcome, Reading]:
    """Keep a draft, where the page that sends it has seen the one that is kept.

    Parameters
    ----------
    session : Session
        A writing session.
    answers : mapping
        Plain JSON as typed so far; whether it fits the form is asked when it is submitted.
    revision : int
        The one that the page was loaded with.
    form : Form
        That the answers are to.

    Returns
    -------
    Outcome
        ``KEPT``, ``STALE``, ``CLOSED`` or ``WITHDRAWN``; changed is only what is kept.
    Reading
        As it is now.
    """
    row = _locked(session, reading_id)
    outcome = saving(row.state, row.revision, revision)
    if outcome is Outcome.KEPT:
        _write(row, at, answers, form)
        row.state = ReadingState.DRAFT
    return outcome, row


def submit(
    session: Session,
    at: datetime,
    reading_id: str,
    answers: Mapping[str, Any],
    *,
    revision: int,
    form: Form,
) -> tuple[Outcome, Reading]:
    """Submit a reading: from now on it never changes.

    The same answers again are ``REPEATED``, and change nothing; the caller has checked that they
    fit the form. Parameters and what is returned are as of `save`.
    """
    row = _locked(session, reading_id)
    outcome = submitting(row.state, (row.revision, revision), row.answers, answers)
    if outcome is Outcome.KEPT:
        _write(row, at, answers, form)
        row.state, row.submitted_at = ReadingState.SUBMITTED, at
        row.opened_at = row.opened_at or at
    return outcome, row


def amend(session: Session, at: datetime, reading: Reading, reason: str) -> Reading:
    """Begin the correction of a submitted reading: a new one, with the old one's answers.

    The one that was begun already, where there is one.

    Raises
    ------
    UsageError
        It is not submitted, or the reason says nothing.
    """
    reading = _locked(session, reading.id)
    if reading.state != ReadingState.SUBMITTED:
        raise UsageError("this reading is not submitted yet; change its answers, then submit it")
    if not is_reason(reason):
        raise UsageError("an amendment needs its reason: 3 to 500 characters")
    row = session.scalar(select(Reading).where(Reading.amends == reading.id))
    if row is None:
        row = Reading(
            enrolment_id=reading.enrolment_id,
            project=reading.project,
            pipeline=reading.pipeline,
            reader_id=reading.reader_id,
            ready_at=reading.ready_at,
            rank=reading.rank,
            due_at=None,
            amends=reading.id,
        )
        session.add(row)
    elif row.state != ReadingState.WITHDRAWN:
        return row
    row.state, row.reason, row.opened_at = ReadingState.DRAFT, reason.strip(), at
    row.answers, row.shown = dict(reading.answers), list(reading.shown)
    row.form, row.form_digest = reading.form, reading.form_digest
    row.revision, row.saved_at = (row.revision or 0) + 1, at
    session.flush()
    return row


def discard(session: Session, reading_id: str) -> Outcome:
    """Give an amendment up before it is submitted: the reading stays as it was.

    Raises
    ------
    UsageError
        It amends nothing: a first reading is not given up by its reader.
    """
    row = _locked(session, reading_id)
    if not row.amends:
        raise UsageError("this is no amendment; submit it, or leave it")
    if row.state not in TO_DO:
        return Outcome.CLOSED
    row.state = ReadingState.WITHDRAWN
    return Outcome.KEPT


def image_sizes(session: Session, root_id: str, uids: Collection[str]) -> dict[str, Size]:
    """Return how large those images are, of these, that are of an exam: what can be marked."""
    rows = session.scalars(
        select(Instance)
        .join(ExamInstance, ExamInstance.instance_id == Instance.id)
        .join(Exam, Exam.id == ExamInstance.exam_id)
        .where(Exam.root_id == root_id, Instance.sop_instance_uid.in_(list(uids)))
    )
    return {
        row.sop_instance_uid: Size(row.columns, row.rows, row.frames)
        for row in rows
        if row.columns and row.rows
    }


def to_json(reading: Reading, *, reader: str = "") -> dict[str, Any]:
    """Write a reading as plain JSON, for the API: only for those who may see its answers.

    Parameters
    ----------
    reader : str
        The reader's name, where it may be told.
    """
    return {
        "id": reading.id,
        "case": reading.enrolment_id,
        "project": reading.project,
        "reader": reader,
        "state": reading.state,
        "urgent": reading.rank == 0,
        "form": reading.form,
        "form_digest": reading.form_digest,
        "answers": reading.answers,
        "revision": reading.revision,
        "results_shown": reading.shown,
        "amends": reading.amends or None,
        "reason": reading.reason or None,
        **{
            name: moment.isoformat() if moment else None
            for name, moment in (
                ("ready_at", reading.ready_at),
                ("due_at", reading.due_at),
                ("opened_at", reading.opened_at),
                ("saved_at", reading.saved_at),
                ("submitted_at", reading.submitted_at),
            )
        },
    }


def _locked(session: Session, reading_id: str) -> Reading:
    query = select(Reading).where(Reading.id == reading_id).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).one()


def _write(row: Reading, at: datetime, answers: Mapping[str, Any], form: Form) -> None:
    row.answers, row.revision, row.saved_at = dict(answers), row.revision + 1, at
    row.form, row.form_digest = form.name, form.digest
