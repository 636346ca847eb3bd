"""What an audit row's subject is, as long as it is there: rows hold no more than a reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.store.tables import Enrolment, Exam, Instance, Job, Reading, Result


@dataclass(frozen=True)
class Behind:
    """The exam or images that a subject is of.

    Attributes
    ----------
    study_uid, patient_id : str
        Of the study; empty for what was erased.
    case_id : str
        The exam's first revision; empty for images that are in no exam.
    """

    study_uid: str
    patient_id: str
    case_id: str = ""


def behind(session: Session, subject: str) -> Behind | None:
    """Return what a subject is of; none where it is of no patient, or no longer there."""
    kind, _, name = subject.partition(" ")
    look = _LOOK.get(kind)
    return look(session, name) if look is not None and name else None


def _of_root(session: Session, root_id: str) -> Behind | None:
    exam = session.scalar(
        select(Exam).where(Exam.root_id == root_id).order_by(Exam.revision.desc()).limit(1)
    )
    return None if exam is None else _of_exam(exam)


def _of_exam(exam: Exam) -> Behind:
    return Behind(exam.study_uid, exam.patient_id, exam.root_id)


def _case(session: Session, name: str) -> Behind | None:
    enrolment = session.get(Enrolment, name)
    return _of_root(session, enrolment.root_id if enrolment is not None else name)


def _exam(session: Session, name: str) -> Behind | None:
    exam = session.get(Exam, name)
    return None if exam is None else _of_exam(exam)


def _job(session: Session, name: str) -> Behind | None:
    job = session.get(Job, name)
    return None if job is None else _exam(session, job.exam_id)


def _result(session: Session, name: str) -> Behind | None:
    result = session.get(Result, name)
    return None if result is None else _exam(session, result.exam_id)


def _reading(session: Session, name: str) -> Behind | None:
    reading = session.get(Reading, name)
    return None if reading is None else _case(session, reading.enrolment_id)


def _instance(session: Session, name: str) -> Behind | None:
    one = session.get(Instance, int(name)) if name.isdecimal() else None
    if one is None:
        return None
    exam = session.scalar(
        select(Exam)
        .where(Exam.study_uid == one.study_uid, Exam.patient_id == one.patient_id)
        .order_by(Exam.opened_at.desc(), Exam.id)
        .limit(1)
    )
    case_id = "" if exam is None else exam.root_id
    return Behind(one.study_uid, one.patient_id, case_id)


_LOOK: dict[str, Callable[[Session, str], Behind | None]] = {
    "case": _case,
    "exam": _exam,
    "job": _job,
    "result": _result,
    "reading": _reading,
    "instance": _instance,
    "series": _instance,
}
