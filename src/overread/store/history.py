"""A patient's history: the same pipeline's exams over time, and how the volumes change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from sqlalchemy import func as sql
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.dicom.study import day
from overread.store import cases
from overread.store.cases import Case
from overread.store.tables import Exam, ExamInstance, Instance
from overread.validation.results import Measurement


@dataclass(frozen=True)
class Point:
    """One exam in a patient's history.

    Attributes
    ----------
    changes : mapping of str to float or None
        Region to the change of its volume in per cent from the first exam that has the region;
        none at that first exam, where the first volume is 0, and where the exam has no date.
    """

    case: Case
    changes: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def volumes(self) -> dict[str, Measurement]:
        """Region to volume."""
        return {item.region: item for item in self.case.volumes}


def history(session: Session, case: Case) -> list[Point]:
    """List the same patient's exams for the same pipeline, by study date and time, oldest first.

    The patient is PatientID with its issuer. An empty PatientID is nobody's, and whose a held exam
    is has to be settled: then the case stands alone. Exams without a date come last.
    """
    exam = case.exam
    if not exam.patient_id or exam.state == "held":
        return _points([case])
    query = select(Exam).where(
        cases.latest(),
        Exam.patient_id == exam.patient_id,
        Exam.issuer == exam.issuer,
        Exam.pipeline == exam.pipeline,
        Exam.state != "held",
    )
    found = cases.with_jobs(session, session.scalars(query).all())
    times = session.execute(
        select(ExamInstance.exam_id, sql.min(Instance.study_time))
        .join(Instance, Instance.id == ExamInstance.instance_id)
        .where(
            ExamInstance.exam_id.in_([one.exam.id for one in found]),
            Instance.study_uid == Exam.study_uid,
            Exam.id == ExamInstance.exam_id,
        )
        .group_by(ExamInstance.exam_id)
    )
    time_of = {exam_id: time.replace(":", "") for exam_id, time in times}

    def acquired(one: Case) -> tuple[date, str, str]:
        exam = one.exam
        return day(exam.study_date) or date.max, time_of.get(exam.id, ""), exam.id

    return _points(sorted(found, key=acquired))


def _points(exams: Sequence[Case]) -> list[Point]:
    first: dict[str, float] = {}
    points = []
    for case in exams:
        changes: dict[str, float | None] = {}
        for item in case.volumes:
            if day(case.exam.study_date) is None:
                changes[item.region] = None
            elif item.region not in first:
                first[item.region] = item.value
                changes[item.region] = None
            else:
                base = first[item.region]
                changes[item.region] = (item.value / base - 1) * 100 if base else None
        points.append(Point(case, changes))
    return points
