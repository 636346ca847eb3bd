"""What a link can lead to: the cases of exams, as those see them who follow it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.store import cases, enrolments
from overread.store.cases import Case
from overread.store.patients import are_one_patient, identity
from overread.store.tables import Enrolment, Exam
from overread.validation.permissions import Reach


@dataclass(frozen=True)
class Choice:
    """A case that somebody may open.

    Attributes
    ----------
    case : Case
        The exam.
    enrolment : Enrolment or None
        Which project's case it is; none for an exam in no project.
    """

    case: Case
    enrolment: Enrolment | None

    @property
    def id(self) -> str:
        """What its address names it by."""
        return self.enrolment.id if self.enrolment is not None else self.case.id

    @property
    def project(self) -> str:
        """The project; empty for none."""
        return self.enrolment.project if self.enrolment is not None else ""


def choices(
    session: Session, found: Sequence[Case], where: Reach, project: str = ""
) -> list[Choice]:
    """List the cases that exams are, of those within reach.

    Parameters
    ----------
    project : str
        Only in this project; empty for all of them, and for exams in none.
    """
    listed = []
    for case in found:
        within = None if where.everywhere else where.projects
        enrolled = enrolments.of_exam(session, case.id, within)
        if enrolled:
            listed += [Choice(case, one) for one in enrolled if project in ("", one.project)]
        elif where.everywhere and not project:
            listed.append(Choice(case, None))
    return listed


def people(listed: Sequence[Choice]) -> set[tuple[str, str]]:
    """Return the patients whose cases these are: identity and issuer."""
    return {
        identity(exam.patient_id, exam.issuer, exam.patient_name, "")
        for exam in (one.case.exam for one in listed)
    }


def is_one_person(listed: Sequence[Choice]) -> bool:
    """Say whether cases can be those of one patient."""
    return are_one_patient(sorted(people(listed)))


def arriving(session: Session, found: Sequence[Case], pipelines: Collection[str]) -> list[Case]:
    """List the exams that still come, for pipelines of whoever asks, and are in no project yet."""
    return [
        case
        for case in found
        if case.exam.state == "open"
        and case.exam.pipeline in pipelines
        and not enrolments.of_exam(session, case.id)
    ]


def of_patients(session: Session, identities: Collection[tuple[str, str]]) -> list[Case]:
    """List the cases of patients, the newest first.

    Parameters
    ----------
    identities : collection of (str, str)
        PatientID and issuer, exactly as images have them.
    """
    roots: set[str] = set()
    for patient_id, issuer in identities:
        query = select(Exam.root_id).where(Exam.patient_id == patient_id, Exam.issuer == issuer)
        roots.update(session.scalars(query.distinct()))
    return cases.list_cases(session, root_ids=roots)
