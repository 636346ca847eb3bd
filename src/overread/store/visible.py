"""What an actor may see of what is kept: conditions for queries.

A project's people see the project's cases: the exams that are enrolled in it, with the images of
their studies. What is in no project is for those who hold their role for the whole site.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, or_, select, true
from sqlalchemy.orm import Session, aliased

from overread.store.tables import Enrolment, Exam, ExamInstance, Instance, Result
from overread.validation.permissions import Reach


def exams(where: Reach) -> ColumnElement[bool]:
    """Return the condition that an exam revision is within reach."""
    if where.everywhere:
        return true()
    return Exam.root_id.in_(
        select(Enrolment.root_id).where(Enrolment.project.in_(sorted(where.projects)))
    )


def instances(where: Reach) -> ColumnElement[bool]:
    """Return the condition that an instance is within reach.

    An image is, where its study, of its patient, has an exam that is. What was made of images is,
    where it is the result of such an exam.
    """
    if where.everywhere:
        return true()
    member = aliased(Instance)
    in_study = (
        select(member.id)
        .join(ExamInstance, ExamInstance.instance_id == member.id)
        .join(Exam, Exam.id == ExamInstance.exam_id)
        .where(
            member.study_uid == Instance.study_uid,
            member.patient_id == Instance.patient_id,
            exams(where),
        )
        .exists()
    )
    made = (
        select(Result.instance_id)
        .join(Exam, Exam.id == Result.exam_id)
        .where(exams(where), Result.instance_id.is_not(None))
    )
    return or_((Instance.standing != "ours") & in_study, Instance.id.in_(made))


def projects_of(session: Session, root_id: str) -> frozenset[str]:
    """Return the projects that an exam is a case of."""
    rows = session.scalars(select(Enrolment.project).where(Enrolment.root_id == root_id))
    return frozenset(rows)
