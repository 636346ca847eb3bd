"""Cases, as a clinician sees them: an exam with its latest job, its results and its history.

An exam is named by the id of its first revision, so that a link to it stays good when images come
late; a project's case of it has an id of its own (`overread.store.tables.Enrolment`).

What is said of a case is the model's. What readers have edited stands beside it (`Shown.edits`),
for those who may see it, and takes no number's place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy import func as sql
from sqlalchemy.orm import Session, aliased

from overread.pipelines.job import JobState
from overread.store import visible
from overread.store.patients import are_one_patient, patients_of_study
from overread.store.studies import SHOWN
from overread.store.tables import (
    Delivery,
    Exam,
    ExamInstance,
    Instance,
    Job,
    Quarantine,
    Result,
    StepRun,
)
from overread.store.visible import Sight
from overread.validation.results import (
    Class,
    Classification,
    Detection,
    Detections,
    Measurement,
    Measurements,
)

NOT_IMAGES = ("SEG", "RTSTRUCT", "SR", "PR", "KO", "DOC", "REG")
"""Modalities of objects that are drawn over images, or are no images."""


class CaseState(StrEnum):
    """Where a case is."""

    ARRIVING = "arriving"
    HELD = "held"
    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    NOTHING_FOUND = "nothing found"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNDER_WAY = frozenset({CaseState.ARRIVING, CaseState.WAITING, CaseState.QUEUED, CaseState.RUNNING})
"""States that pass by themselves."""


@dataclass(frozen=True)
class Case:
    """An exam's latest revision, with its latest job.

    Attributes
    ----------
    exam : Exam
        The latest revision.
    job : Job or None
        The latest job of that revision that ran its model.
    step : str
        The step that runs now.
    measurements : tuple of Measurement
        Of the current results of the latest job that has any, whichever revision it is of.
    result_exam_id : str
        The revision that those are of; empty where there are none.
    detected : tuple of Detections
    classified : tuple of Classification
    results : tuple of Result
        Those results.
    """

    exam: Exam
    job: Job | None
    step: str = ""
    measurements: tuple[Measurement, ...] = ()
    result_exam_id: str = ""
    detected: tuple[Detections, ...] = ()
    classified: tuple[Classification, ...] = ()
    results: tuple[Result, ...] = ()

    @property
    def id(self) -> str:
        """The exam's id: of its first revision."""
        return self.exam.root_id

    @property
    def volumes(self) -> tuple[Measurement, ...]:
        """The volumes among its measurements."""
        return tuple(item for item in self.measurements if item.quantity == "volume")

    @property
    def detections(self) -> tuple[Detection, ...]:
        """Everything that was detected."""
        return tuple(item for found in self.detected for item in found)

    @property
    def classes(self) -> tuple[Class, ...]:
        """Everything that was classified."""
        return tuple(item for said in self.classified for item in said)

    @property
    def is_empty(self) -> bool:
        """Whether its model ran and marked nothing."""
        has_looked = bool(self.volumes or self.detected)
        has_found = any(item.value for item in self.volumes) or self.detections or self.classes
        return has_looked and not has_found

    @property
    def state(self) -> CaseState:
        """Where it is."""
        if self.job is None:
            by_exam = {"open": CaseState.ARRIVING, "held": CaseState.HELD}
            return by_exam.get(self.exam.state, CaseState.WAITING)
        if self.job.state == JobState.DONE:
            return CaseState.NOTHING_FOUND if self.is_empty else CaseState.DONE
        return CaseState(self.job.state)

    @property
    def reason(self) -> str:
        """Why it is held, was refused, failed or cancelled."""
        return self.job.reason if self.job is not None else self.exam.held_reason

    @property
    def is_newer_under_way(self) -> bool:
        """Whether what is shown is of an earlier revision or job than the latest."""
        return bool(self.result_exam_id) and self.state not in (
            CaseState.DONE,
            CaseState.NOTHING_FOUND,
        )


@dataclass(frozen=True)
class Shown:
    """What the viewer and the page show of a case.

    Attributes
    ----------
    results : tuple of Result
        The model's current ones.
    edits : tuple of Result
        What readers have made of them: of each author the current ones.
    job : Job or None
        The job that made them.
    exam : Exam or None
        The revision that they are of.
    segmentation : Instance or None
        The object that is drawn over the images.
    """

    results: tuple[Result, ...] = ()
    job: Job | None = None
    exam: Exam | None = None
    segmentation: Instance | None = None
    edits: tuple[Result, ...] = ()


def latest() -> ColumnElement[bool]:
    """Return the condition that an exam is the latest revision."""
    later = aliased(Exam)
    return ~(
        select(later.id)
        .where(later.root_id == Exam.root_id, later.revision > Exam.revision)
        .exists()
    )


def list_cases(
    session: Session, *, search: str = "", root_ids: Iterable[str] | None = None, limit: int = 200
) -> list[Case]:
    """List cases, the newest first.

    Parameters
    ----------
    search : str
        Only those whose accession number, PatientID or patient's name contains this.
    root_ids : iterable of str, optional
        Only these.
    """
    query = select(Exam).where(latest()).order_by(Exam.opened_at.desc(), Exam.id).limit(limit)
    if search:
        columns = (Exam.accession, Exam.patient_id, Exam.patient_name)
        query = query.where(or_(*(column.icontains(search, autoescape=True) for column in columns)))
    if root_ids is not None:
        query = query.where(Exam.root_id.in_(list(root_ids)))
    return with_jobs(session, session.scalars(query).all())


def find_case(session: Session, root_id: str) -> Case | None:
    """Return one case."""
    return next(iter(list_cases(session, root_ids=[root_id])), None)


def with_jobs(session: Session, exams: Sequence[Exam]) -> list[Case]:
    """Return the case of each exam, the latest revision of its own."""
    jobs = {
        job.exam_id: job
        for job in session.scalars(
            select(Job)
            .where(Job.exam_id.in_([exam.id for exam in exams]), Job.origin != "edit")
            .order_by(Job.created_at, Job.id)
        )
    }
    steps_now = session.execute(
        select(StepRun.job_id, StepRun.name).where(
            StepRun.job_id.in_([job.id for job in jobs.values()]), StepRun.state == "running"
        )
    )
    running = {job_id: name for job_id, name in steps_now}  # noqa: C416 - dict() takes it wrongly
    current: dict[str, list[Result]] = {}
    rows = session.execute(
        select(Exam.root_id, Result)
        .join(Exam, Exam.id == Result.exam_id)
        .join(Job, Job.id == Result.job_id)
        .where(Exam.root_id.in_([exam.root_id for exam in exams]), _current(), Result.author == "")
        .order_by(Job.created_at, Job.id, Result.name)
    )
    for root_id, result in rows:
        of_job = current.get(root_id, [])
        same = bool(of_job) and of_job[-1].job_id == result.job_id
        current[root_id] = [*of_job, result] if same else [result]
    cases = []
    for exam in exams:
        job = jobs.get(exam.id)
        results = current.get(exam.root_id, [])
        by_kind = {
            kind: [one.data for one in results if one.kind == kind]
            for kind in ("measurements", "detections", "classification")
        }
        cases.append(
            Case(
                exam,
                job,
                running.get(job.id, "") if job is not None and job.state == "running" else "",
                tuple(
                    item
                    for data in by_kind["measurements"]
                    for item in Measurements.from_json(data).items
                ),
                results[0].exam_id if results else "",
                tuple(map(Detections.from_json, by_kind["detections"])),
                tuple(map(Classification.from_json, by_kind["classification"])),
                tuple(results),
            )
        )
    return cases


OVERLAYS = ("segmentation", "structure set")
"""Kinds of results that the viewer draws over the images: the first of them that there is."""


def _current() -> ColumnElement[bool]:
    return Result.superseded_by.is_(None)


def shown(session: Session, root_id: str, seen: Sight | None = None) -> Shown:
    """Return the current results of a case, with the job and the object behind them.

    Parameters
    ----------
    seen : Sight, optional
        Of the one who looks, whose own edits and those of others that this sees are among them;
        where left out there are none.
    """
    rows = session.execute(
        select(Result, Job, Exam)
        .join(Job, Job.id == Result.job_id)
        .join(Exam, Exam.id == Result.exam_id)
        .where(Exam.root_id == root_id, _current(), Result.author == "")
        .order_by(Job.created_at.desc(), Result.name)
    ).all()
    edited = edits(session, [root_id], seen).get(root_id, ()) if seen is not None else ()
    if not rows:
        return Shown(edits=edited)
    job, exam = rows[0][1], rows[0][2]
    results = tuple(result for result, made_by, _ in rows if made_by.id == job.id)
    drawn = overlay(Shown(results))
    segmentation = session.get(Instance, drawn.instance_id) if drawn else None
    return Shown(results, job, exam, segmentation, edited)


def edits(session: Session, root_ids: Iterable[str], seen: Sight) -> dict[str, tuple[Result, ...]]:
    """Return what readers have made of the results of some exams, by exam, oldest first.

    Of each author the current ones, and only what ``seen`` sees: one's own, and those of others for
    who may see their readings.
    """
    rows = session.execute(
        select(Exam.root_id, Result)
        .join(Exam, Exam.id == Result.exam_id)
        .where(
            Exam.root_id.in_(list(root_ids)),
            _current(),
            Result.author != "",
            visible.results(seen),
        )
        .order_by(Result.created_at, Result.id)
    )
    found: dict[str, tuple[Result, ...]] = {}
    for root_id, result in rows:
        found[root_id] = (*found.get(root_id, ()), result)
    return found


def overlay(shown: Shown, name: str = "") -> Result | None:
    """Return the result that the viewer draws over the images; none where nothing can be drawn.

    Parameters
    ----------
    name : str
        Of the model's result that is meant, or id of a reader's; where there is no such overlay,
        the model's first in the order of `OVERLAYS` is taken.
    """
    drawn = [
        one
        for kind in OVERLAYS
        for one in shown.results
        if one.kind == kind and one.instance_id is not None
    ]
    for one in shown.edits:
        if one.id == name and one.kind in OVERLAYS and one.instance_id is not None:
            return one
    return next((one for one in drawn if one.name == name), drawn[0] if drawn else None)


def steps(session: Session, job_id: str) -> list[StepRun]:
    """List the steps of a job as they stand: of each one its latest attempt, in order."""
    rows = session.scalars(
        select(StepRun).where(StepRun.job_id == job_id).order_by(StepRun.attempt, StepRun.position)
    )
    latest = {row.name: row for row in rows}
    return sorted(latest.values(), key=lambda row: row.position)


@dataclass(frozen=True)
class SeriesOfCase:
    """A series that the viewer is given.

    Attributes
    ----------
    instances : int
        How many of its instances are shown.
    """

    uid: str
    study_uid: str
    modality: str
    description: str
    instances: int


def images(session: Session, exam: Exam, study_uid: str = "") -> list[SeriesOfCase]:
    """List the image series of a case's study, of its patient and no other.

    Parameters
    ----------
    study_uid : str
        Of an exam by patient the study that is meant; empty for the exam's first.
    """
    study_uid = study_uid or exam.study_uid
    issuers = [exam.issuer]
    if are_one_patient(patients_of_study(session, study_uid)):
        issuers.append("")
    # Without an ID the name stands for the patient.
    named = [] if exam.patient_id else [Instance.patient_name == exam.patient_name]
    rows = session.execute(
        select(
            Instance.series_uid,
            Instance.study_uid,
            sql.max(Instance.modality),
            sql.max(Instance.series_description),
            sql.count(),
        )
        .where(
            Instance.study_uid == study_uid,
            Instance.patient_id == exam.patient_id,
            Instance.issuer.in_(issuers),
            Instance.standing.in_(SHOWN),
            Instance.standing != "ours",
            Instance.modality.not_in(NOT_IMAGES),
            *named,
        )
        .group_by(Instance.series_uid, Instance.study_uid)
        .order_by(sql.min(Instance.id))
    )
    return [SeriesOfCase(*row) for row in rows]


def patient(session: Session, exam: Exam) -> Instance | None:
    """Return one of the exam's instances, for what its header says of the patient."""
    return session.scalar(
        select(Instance)
        .join(ExamInstance, ExamInstance.instance_id == Instance.id)
        .where(ExamInstance.exam_id == exam.id)
        .order_by(Instance.id)
        .limit(1)
    )


def count_instances(session: Session, exam_id: str) -> int:
    """Count the instances of an exam revision."""
    query = select(sql.count()).select_from(ExamInstance).where(ExamInstance.exam_id == exam_id)
    return session.scalar(query) or 0


def under_accession(
    session: Session, accession: str, pipeline: str = "", patient_id: str = ""
) -> list[Case]:
    """List the cases that hold images with an accession number.

    Parameters
    ----------
    pipeline, patient_id : str
        Only those of this pipeline or patient; empty for any.
    """
    holds = (
        select(ExamInstance.exam_id)
        .join(Instance, Instance.id == ExamInstance.instance_id)
        .where(Instance.accession == accession)
    )
    query = select(Exam.root_id).where(or_(Exam.accession == accession, Exam.id.in_(holds)))
    if pipeline:
        query = query.where(Exam.pipeline == pipeline)
    if patient_id:
        query = query.where(Exam.patient_id == patient_id)
    return list_cases(session, root_ids=session.scalars(query.distinct()).all())


def studies_of(session: Session, exam_ids: Sequence[str]) -> set[tuple[str, str]]:
    """List the studies that some exams hold images of: StudyInstanceUID and PatientID."""
    rows = session.execute(
        select(Instance.study_uid, Instance.patient_id)
        .join(ExamInstance, ExamInstance.instance_id == Instance.id)
        .where(ExamInstance.exam_id.in_(exam_ids))
        .distinct()
    )
    return {(study_uid, patient_id) for study_uid, patient_id in rows}


def siblings(session: Session, case: Case) -> list[Case]:
    """List the cases of the same study for other pipelines."""
    query = (
        select(Exam.root_id)
        .where(
            Exam.study_uid == case.exam.study_uid,
            Exam.patient_id == case.exam.patient_id,
            Exam.issuer == case.exam.issuer,
            Exam.root_id != case.id,
        )
        .distinct()
    )
    return list_cases(session, root_ids=session.scalars(query).all())


def count_states(session: Session) -> Counter[tuple[str, str]]:
    """Count exams, jobs, deliveries, instances and what is in quarantine, by state."""
    counted: Counter[tuple[str, str]] = Counter()
    columns = {
        "exam": Exam.state,
        "job": Job.state,
        "delivery": Delivery.state,
        "instance": Instance.standing,
    }
    for kind, column in columns.items():
        for state, number in session.execute(select(column, sql.count()).group_by(column)):
            counted[(kind, state)] = number
    held = session.scalar(select(sql.count()).select_from(Quarantine)) or 0
    counted[("quarantine", "kept")] = held
    return counted
