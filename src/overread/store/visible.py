"""What an actor may see of what is kept: conditions for queries.

A project's people see the project's cases: the exams that are enrolled in it, with the images of
their studies. What is in no project is for those who hold their role for the whole site. What a
reader has edited is for that reader, and for those who see the readings of others in the project
that it was edited in: else one reader would be led by another. Who has to read the same case sees
neither before the own reading of it is submitted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, or_, select, true
from sqlalchemy.orm import Session, aliased

from overread.store.tables import Enrolment, Exam, ExamInstance, Instance, Job, Reading, Result
from overread.validation.permissions import ACTIONS, Actor, Reach, reach
from overread.validation.reading import TO_DO

_READS = ACTIONS["reading.give"]


@dataclass(frozen=True)
class Sight:
    """How far somebody sees.

    Attributes
    ----------
    user_id : str
        Whose own edits are seen; empty for nobody's.
    cases : Reach
        Where cases and their images are seen.
    edits : Reach
        Where what others have edited is seen, too.
    reads : bool
        Whether this may be somebody who has cases to read.
    project : str or None
        As whose case an exam is looked at: of the edits only those of that project are seen, and
        those that were made outside of any. None for all.
    """

    user_id: str
    cases: Reach
    edits: Reach
    reads: bool = False
    project: str | None = None


def sight(actor: Actor | None) -> Sight:
    """Say how far an actor sees; nowhere, where nobody has signed in."""
    user_id = actor.id if actor is not None else ""
    gives = actor is not None and any(one.role in _READS.roles for one in actor.grants)
    return Sight(user_id, reach(actor, "image.see"), reach(actor, "reading.see"), gives)


def exams(where: Reach) -> ColumnElement[bool]:
    """Return the condition that an exam revision is within reach."""
    if where.everywhere:
        return true()
    return Exam.root_id.in_(
        select(Enrolment.root_id).where(Enrolment.project.in_(sorted(where.projects)))
    )


def results(seen: Sight) -> ColumnElement[bool]:
    """Return the condition that a result is seen: its exam is, and it is no edit of another's."""
    shown = _of_model_or(seen) | _of_others(seen)
    if seen.project is not None:
        shown &= Result.project.in_(["", seen.project])
    return _of_exam(seen.cases) & shown


def jobs(seen: Sight) -> ColumnElement[bool]:
    """Return the condition that what a job has made is seen: it measures no edit that is not."""
    return Job.edits.is_(None) | Job.edits.in_(select(Result.id).where(results(seen)))


def instances(seen: Sight) -> ColumnElement[bool]:
    """Return the condition that an instance is seen.

    An image is, where its study, of its patient, has an exam that is. What was made of images is,
    where it is the result of such an exam. Neither is, where it is another's edit.
    """
    within = (
        true() if seen.cases.everywhere else or_(_is_of_study(exams(seen.cases)), _is_made(seen))
    )
    if seen.edits.everywhere and not seen.reads:
        return within
    of_another = (
        select(Result.id)
        .where(
            Result.instance_id == Instance.id,
            ~_of_model_or(seen),
            ~_of_others(seen),
        )
        .exists()
    )
    return and_(within, ~of_another)


def of_exams(root_ids: Collection[str]) -> ColumnElement[bool]:
    """Return the condition that an instance is shown with some exams.

    It is an image of their studies, of their patient, or a current result.
    """
    these = Exam.root_id.in_(list(root_ids))
    current = (
        select(Result.id)
        .join(Exam, Exam.id == Result.exam_id)
        .where(Result.instance_id == Instance.id, Result.superseded_by.is_(None), these)
        .exists()
    )
    return or_(_is_of_study(these), current)


def _is_of_study(within: ColumnElement[bool]) -> ColumnElement[bool]:
    member = aliased(Instance)
    return (Instance.standing != "ours") & (
        select(member.id)
        .join(ExamInstance, ExamInstance.instance_id == member.id)
        .join(Exam, Exam.id == ExamInstance.exam_id)
        .where(
            member.study_uid == Instance.study_uid,
            member.patient_id == Instance.patient_id,
            within,
        )
        .exists()
    )


def _is_made(seen: Sight) -> ColumnElement[bool]:
    return select(Result.id).where(Result.instance_id == Instance.id, results(seen)).exists()


def _of_model_or(seen: Sight) -> ColumnElement[bool]:
    return Result.author.in_(["", seen.user_id])


def _of_others(seen: Sight) -> ColumnElement[bool]:
    """Return the condition that a result was edited where others' edits are seen."""
    where = true() if seen.edits.everywhere else Result.project.in_(sorted(seen.edits.projects))
    if not seen.reads:
        return where
    to_read = (
        select(Reading.id)
        .join(Enrolment, Enrolment.id == Reading.enrolment_id)
        .join(Exam, Exam.root_id == Enrolment.root_id)
        .where(
            Exam.id == Result.exam_id,
            Enrolment.project == Result.project,
            Reading.reader_id == seen.user_id,
            Reading.state.in_(TO_DO),
        )
        .exists()
    )
    return where & ~to_read


def _of_exam(where: Reach) -> ColumnElement[bool]:
    if where.everywhere:
        return true()
    return Result.exam_id.in_(select(Exam.id).where(exams(where)))


def projects_of(session: Session, root_id: str) -> frozenset[str]:
    """Return the projects that an exam is a case of."""
    rows = session.scalars(select(Enrolment.project).where(Enrolment.root_id == root_id))
    return frozenset(rows)
