"""Which exam an instance belongs to, and how an exam gets its next revision."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, literal, select
from sqlalchemy.orm import Session

from overread.pipelines.definition import Pipeline
from overread.pipelines.job import ROUTED
from overread.store.tables import Arrival, Exam, ExamInstance, Instance, new_id


def group_of(pipeline: Pipeline, instance: Instance) -> str:
    """Return what gathers: the StudyInstanceUID, or the patient's identity.

    An empty PatientID identifies nobody: by patient, such images gather by study.
    """
    if pipeline.complete.by == "study" or not instance.patient_id:
        return instance.study_uid
    return f"{instance.issuer}\\{instance.patient_id}"


@dataclass
class Group:
    """The exam that an instance belongs to, in its latest revision.

    Attributes
    ----------
    exam : Exam or None
        None where the instance opens one.
    members : dict
        SOP Instance UID of each member to the id of the instance.
    """

    exam: Exam | None
    members: dict[str, int]

    @classmethod
    def of(cls, session: Session, pipeline: Pipeline, instance: Instance, at: datetime) -> Group:
        """Find it: the exam that has the instance's study already, or whose window is open."""
        exams = session.scalars(
            select(Exam)
            .where(
                Exam.pipeline == pipeline.name,
                Exam.group == group_of(pipeline, instance),
                # By study too, so that whatever else goes wrong no exam ever holds two patients.
                Exam.patient_id == instance.patient_id,
            )
            .order_by(Exam.opened_at, Exam.revision)
        ).all()
        latest = {exam.root_id: exam for exam in exams}
        if pipeline.complete.by == "patient" and instance.patient_id:
            exam = _with_study(session, latest, instance.study_uid) or next(
                (
                    latest[one.root_id]
                    for one in exams
                    if one.revision == 1
                    and one.opened_at <= at <= one.opened_at + pipeline.complete.window
                ),
                None,
            )
        else:
            exam = next(reversed(latest.values()), None)
        if exam is None:
            return cls(None, {})
        members = session.execute(
            select(Instance.sop_instance_uid, Instance.id)
            .join(ExamInstance, ExamInstance.instance_id == Instance.id)
            .where(ExamInstance.exam_id == exam.id)
        )
        return cls(exam, {row.sop_instance_uid: row.id for row in members})


def _with_study(session: Session, latest: dict[str, Exam], study_uid: str) -> Exam | None:
    """Return the exam that has instances of a study."""
    return session.scalar(
        select(Exam)
        .join(ExamInstance, ExamInstance.exam_id == Exam.id)
        .join(Instance, Instance.id == ExamInstance.instance_id)
        .where(Exam.id.in_([exam.id for exam in latest.values()]), Instance.study_uid == study_uid)
        .limit(1)
    )


def new_exam(pipeline: Pipeline, instance: Instance, arrival: Arrival) -> Exam:
    """Open an exam with its first arrival."""
    exam_id = new_id()
    return Exam(
        id=exam_id,
        root_id=exam_id,
        revision=1,
        pipeline=pipeline.name,
        ae_title=pipeline.ae_title,
        group=group_of(pipeline, instance),
        patient_id=instance.patient_id,
        issuer=instance.issuer,
        patient_name=instance.patient_name,
        study_uid=instance.study_uid,
        accession=instance.accession,
        study_date=instance.study_date,
        study_description=instance.study_description,
        modality=instance.modality,
        state="open",
        held_reason="",
        opened_at=arrival.at,
        last_arrival_at=arrival.at,
        due_at=arrival.at + pipeline.complete.quiet,
        closed_at=None,
        evidence={},
        priority=ROUTED,
    )


def next_revision(
    session: Session, exam: Exam, arrival: Arrival, *, without: int | None = None
) -> Exam:
    """Open the next revision of a closed exam, with all its members.

    Parameters
    ----------
    session : Session
        A writing session.
    arrival : Arrival
        What it is opened for; it is not made a member here.
    without : int, optional
        The instance that is left out, since another copy takes its place.
    """
    kept = {
        column.name: getattr(exam, column.key)
        for column in Exam.__table__.columns
        if column.name not in ("id", "closed_at", "evidence")
    }
    revision = Exam(
        **{
            **kept,
            "id": new_id(),
            "revision": exam.revision + 1,
            "state": "open",
            "held_reason": "",
            "opened_at": arrival.at,
            "last_arrival_at": arrival.at,
            "closed_at": None,
            "evidence": {},
            "priority": ROUTED,
        }
    )
    session.add(revision)
    session.flush()
    session.execute(
        insert(ExamInstance).from_select(
            ["exam_id", "instance_id", "arrival_id"],
            select(literal(revision.id), ExamInstance.instance_id, ExamInstance.arrival_id).where(
                ExamInstance.exam_id == exam.id, ExamInstance.instance_id != (without or -1)
            ),
        )
    )
    return revision
