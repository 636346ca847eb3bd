"""Signs that something has changed: small values, cheap to read, that pages' events compare."""

from __future__ import annotations

from collections.abc import Hashable

from sqlalchemy import func as sql
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.store.tables import Enrolment, Exam, Job, Result, StepRun, Tally

_UNDER_WAY = 100
"""Jobs under way that are looked at; of more than so many a list shows none."""


def of_lists(session: Session, reader_id: str) -> dict[str, Hashable]:
    """Return the sign of every list: a reader's own work, exams that come, jobs that go on."""
    own = session.scalar(select(sql.sum(Tally.changes)).where(Tally.reader_id == reader_id))
    exam = session.scalar(select(sql.max(Exam.opened_at)))
    open_exams = session.scalars(
        select(Exam.id).where(Exam.state == "open").order_by(Exam.opened_at.desc()).limit(20)
    ).all()
    job = session.scalar(select(sql.max(Job.created_at)))
    under_way = session.execute(
        select(Job.id, Job.state)
        .where(Job.state.in_(("queued", "running")))
        .order_by(Job.state.desc(), Job.created_at.desc())
        .limit(_UNDER_WAY)
    ).all()
    running = [row.id for row in under_way if row.state == "running"]
    steps = session.execute(
        select(StepRun.job_id, StepRun.name).where(
            StepRun.job_id.in_(running), StepRun.state == "running"
        )
    ).all()
    ways = tuple(sorted(tuple(row) for row in (*under_way, *steps)))
    return {"list": (own, exam, tuple(open_exams), job, ways)}


def of_case(session: Session, root_id: str) -> dict[str, Hashable]:
    """Return the signs of a case: ``state``, how far it is; ``results``, its patient's results.

    What belongs to no PatientID is a patient of its own.
    """
    exams = session.scalars(
        select(Exam).where(Exam.root_id == root_id).order_by(Exam.revision)
    ).all()
    if not exams:
        return {"state": (), "results": ()}
    last = exams[-1]
    jobs = session.execute(
        select(Job.id, Job.state, Job.attempt)
        .where(Job.exam_id.in_([exam.id for exam in exams]))
        .order_by(Job.created_at, Job.id)
    ).all()
    steps = session.execute(
        select(StepRun.name, StepRun.job_id).where(
            StepRun.job_id.in_([job.id for job in jobs if job.state == "running"]),
            StepRun.state == "running",
        )
    ).all()
    state = (
        tuple((exam.id, exam.state, exam.last_arrival_at) for exam in exams),
        tuple(map(tuple, jobs)),
        tuple(sorted(map(tuple, steps))),
    )
    of_patient = Exam.root_id == root_id
    if last.patient_id:
        of_patient = (
            (Exam.patient_id == last.patient_id)
            & (Exam.issuer == last.issuer)
            & (Exam.pipeline == last.pipeline)
        )
    results = session.execute(
        select(sql.count(), sql.max(Result.created_at), sql.count(Result.superseded_by))
        .join(Exam, Exam.id == Result.exam_id)
        .where(of_patient)
    ).one()
    cases = session.scalars(
        select(Enrolment.id).where(Enrolment.root_id == root_id).order_by(Enrolment.id)
    ).all()
    return {"state": (*state, tuple(cases)), "results": tuple(results)}
