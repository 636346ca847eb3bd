"""Exams as they are kept: to list them, to read one, to tell its members."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from overread.errors import UsageError
from overread.store.tables import Arrival, Exam, ExamInstance, Instance


def exam(session: Session, exam_id: str) -> Exam:
    """Return one exam.

    Parameters
    ----------
    exam_id : str
        Its id, or the beginning of it where that is enough to tell it.

    Raises
    ------
    UsageError
        There is none, or more than one begins so.
    """
    found = session.scalars(
        select(Exam).where(Exam.id.startswith(exam_id, autoescape=True)).limit(2)
    ).all()
    if not exam_id or len(found) != 1:
        raise UsageError(
            f"{'more than one' if len(found) > 1 else 'no'} exam has an id that begins with "
            f"{exam_id!r}; overread exam list shows them"
        )
    return found[0]


def find(
    *,
    state: str = "",
    pipeline: str = "",
    accession: str = "",
    study: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> Select[Exam]:
    """Make the query of exams, unordered; what is left empty narrows nothing.

    Parameters
    ----------
    state : str
        Only those ``open``, ``closed`` or ``held``.
    pipeline : str
        Only those of this pipeline.
    accession, study : str
        Only those of this accession number; of this StudyInstanceUID.
    since, until : datetime
        Only those opened since then; only those opened before then.
    """
    asked = {
        Exam.state: state,
        Exam.pipeline: pipeline,
        Exam.accession: accession,
        Exam.study_uid: study,
    }
    query = select(Exam).where(*(column == value for column, value in asked.items() if value))
    if since is not None:
        query = query.where(Exam.opened_at >= since)
    if until is not None:
        query = query.where(Exam.opened_at < until)
    return query


def exams(
    session: Session,
    *,
    state: str = "",
    pipeline: str = "",
    accession: str = "",
    limit: int = 100,
) -> Sequence[Exam]:
    """List exams, the newest first, at most ``limit``; narrowed as `find` says."""
    query = find(state=state, pipeline=pipeline, accession=accession)
    query = query.order_by(Exam.opened_at.desc(), Exam.revision.desc()).limit(limit)
    return session.scalars(query).all()


def revisions(session: Session, root_id: str) -> Sequence[Exam]:
    """List the revisions of one exam, the first one first."""
    return session.scalars(
        select(Exam).where(Exam.root_id == root_id).order_by(Exam.revision)
    ).all()


def members(session: Session, exam_id: str) -> Sequence[tuple[Instance, Arrival]]:
    """List the instances of an exam, each with the arrival that made it a member.

    Ordered by study, series and coming.
    """
    query = (
        select(Instance, Arrival)
        .join(ExamInstance, ExamInstance.instance_id == Instance.id)
        .join(Arrival, Arrival.id == ExamInstance.arrival_id)
        .where(ExamInstance.exam_id == exam_id)
        .order_by(Instance.study_uid, Instance.series_uid, Instance.id)
    )
    return [(instance, arrival) for instance, arrival in session.execute(query)]


def summary(one: Exam) -> dict[str, Any]:
    """Say what a listing shows of an exam."""
    return {
        "id": one.id,
        "root": one.root_id,
        "revision": one.revision,
        "pipeline": one.pipeline,
        "ae_title": one.ae_title,
        "accession": one.accession,
        "study_uid": one.study_uid,
        "state": one.state,
        "held_reason": one.held_reason,
        "opened_at": one.opened_at,
        "last_arrival_at": one.last_arrival_at,
        "closed_at": one.closed_at,
        "evidence": one.evidence,
    }
