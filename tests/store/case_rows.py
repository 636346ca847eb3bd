"""Exams, enrolments and readings as rows, for tests of lists."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from overread.store import enrolments, users
from overread.store.tables import Enrolment, Exam, Job, User

AT = datetime(2026, 6, 2, 9, tzinfo=UTC)


def user(session: Session, name: str, *, role: str = "reader", project: str = "") -> User:
    """Somebody with a role."""
    return users.add_user(session, AT, "test", name=name, secret="", role=role, project=project)


def exam(session: Session, number: int, **changes: Any) -> Exam:
    """A closed exam; the higher the number, the later it came."""
    at = AT + timedelta(minutes=number)
    exam_id = f"exam{number:06}"
    values: dict[str, Any] = {
        "id": exam_id, "root_id": exam_id, "revision": 1, "pipeline": "brain", "ae_title": "BRAIN",
        "group": f"1.2.{number}", "patient_id": f"PH-{number}", "issuer": "",
        "patient_name": f"PHANTOM^N{number}", "study_uid": f"1.2.{number}",
        "accession": f"A-{number}", "study_date": "20260602", "study_description": "MR",
        "modality": "MR", "state": "closed", "held_reason": "", "opened_at": at,
        "last_arrival_at": at, "due_at": at, "closed_at": at, "evidence": {}, "priority": 10,
    }  # fmt: skip
    row = Exam(**values | changes)
    session.add(row)
    session.flush()
    return row


def job(session: Session, of: Exam, state: str = "done", **changes: Any) -> Job:
    """A job on an exam."""
    values: dict[str, Any] = {
        "exam_id": of.id, "pipeline": of.pipeline, "pipeline_version": "1.0.0",
        "pipeline_digest": "", "definition": {}, "models": [], "operators": {},
        "overread_version": "", "stage": "validation", "priority": 10, "origin": "routed",
        "state": state, "reason": "", "attempt": 1, "from_step": "", "worker": "",
        "created_at": of.opened_at, "started_at": None, "ended_at": None,
    }  # fmt: skip
    row = Job(**values | changes)
    session.add(row)
    session.flush()
    return row


def ready_case(
    session: Session, of: Exam, *readers: User, project: str = "glioma", urgent: bool = False
) -> Enrolment:
    """A case that is ready, given to readers."""
    case = enrolments.enrol(session, of.opened_at, project, of.root_id, of.pipeline)
    enrolments.make_ready(session, of.opened_at, case, urgent=urgent)
    enrolments.assign(session, of.opened_at, [case], [one.id for one in readers], None)
    return case
