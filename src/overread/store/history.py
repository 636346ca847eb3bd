"""A patient's history: the same pipeline's exams over time, and what was measured in each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from pydicom import dcmread
from sqlalchemy import ColumnElement, false, select
from sqlalchemy import func as sql
from sqlalchemy.orm import Session

from overread.dicom.acquisition import KEYWORDS, Acquisition, acquisition, moment
from overread.dicom.encoded import UNREADABLE
from overread.dicom.study import day
from overread.measures.progression import Line, Point
from overread.store import cases, visible
from overread.store.archive import Archive
from overread.store.cases import Case
from overread.store.tables import Enrolment, Exam, ExamInstance, Instance, Result, User
from overread.store.visible import Sight
from overread.validation.results import Measurement, Measurements


@dataclass(frozen=True)
class Source:
    """Whose numbers these are.

    Attributes
    ----------
    key : str
        Of a line: the model with its version, or the reader, whose edits of any version are one
        line.
    name : str
        The model, or of an edit the reader.
    version : str
        The model's, or which version of the reader's this is.
    is_edit : bool
    is_own : bool
        Whether the reader is the one who looks.
    """

    key: str
    name: str
    version: str
    is_edit: bool = False
    is_own: bool = False


@dataclass(frozen=True)
class Number:
    """A measured number, with where it comes from.

    Attributes
    ----------
    point : Point
        As `overread.measures.progression` takes it; its exam is the exam's root id.
    item : Measurement
    result : Result
        What it is kept in.
    """

    point: Point
    item: Measurement
    source: Source
    result: Result


@dataclass(frozen=True)
class Visit:
    """One exam in a patient's history.

    Attributes
    ----------
    link : str
        What addresses name its case by: the enrolment in the same project, else the exam.
    at : datetime or None
        When it was acquired, as written; none where that is not known.
    numbers : tuple of Number
        The model's, then what readers have edited.
    """

    case: Case
    link: str
    at: datetime | None
    numbers: tuple[Number, ...] = ()


def history(
    session: Session, archive: Archive, case: Case, seen: Sight, project: str = ""
) -> list[Visit]:
    """List the same patient's exams for the same pipeline by time of acquisition, oldest first.

    The patient is PatientID with its issuer. An empty PatientID is nobody's, and whose a held exam
    is has to be settled: then the case stands alone. Exams without a date come last.

    Parameters
    ----------
    seen : Sight
        Of the one who looks: other exams and edits are listed only as far as this reaches.
    project : str
        Whose cases links lead to.
    """
    found = _exams(session, case, seen)
    ids = [one.id for one in found]
    edits = cases.edits(session, ids, seen)
    results = {one.id: _measured((*one.results, *edits.get(one.id, ()))) for one in found}
    acquired = _acquisitions(session, archive, found, results)
    names = _names(session, [result.author for of in results.values() for result in of])
    links = {
        one.root_id: one.id
        for one in session.scalars(
            select(Enrolment).where(Enrolment.project == project, Enrolment.root_id.in_(ids))
        )
    }
    visits = [
        Visit(
            one,
            links.get(one.id, one.id),
            acquired[one.id].at,
            tuple(_numbers(one.id, acquired[one.id], results[one.id], names, seen)),
        )
        for one in found
    ]
    return sorted(visits, key=_place)


def _place(visit: Visit) -> tuple[bool, str, str]:
    return visit.at is None, visit.at.isoformat() if visit.at else "", visit.case.id


def before(session: Session, case: Case, seen: Sight) -> Exam | None:
    """Return the exam before this one that is seen: the same patient's, by study date.

    It is for the same pipeline, as all of a history is.
    """
    here = day(case.exam.study_date)
    dated = [
        (when, one)
        for one in session.scalars(
            select(Exam).where(*_others(case.exam), visible.exams(seen.cases))
        )
        if here is not None and (when := day(one.study_date)) is not None and when < here
    ]
    return max(dated, key=lambda pair: (pair[0], pair[1].root_id))[1] if dated else None


def _exams(session: Session, case: Case, seen: Sight) -> list[Case]:
    query = select(Exam).where(*_others(case.exam), visible.exams(seen.cases))
    return [case, *cases.with_jobs(session, session.scalars(query).all())]


def _others(exam: Exam) -> list[ColumnElement[bool]]:
    """Return the conditions that an exam is another one of the same patient and pipeline."""
    if not exam.patient_id or exam.state == "held":
        return [false()]
    return [
        cases.latest(),
        Exam.patient_id == exam.patient_id,
        Exam.issuer == exam.issuer,
        Exam.pipeline == exam.pipeline,
        Exam.state != "held",
        Exam.root_id != exam.root_id,
    ]


def _measured(results: Sequence[Result]) -> list[Result]:
    return [one for one in results if one.kind == "measurements"]


def _names(session: Session, ids: Collection[str]) -> dict[str, str]:
    return {one.id: one.name for one in session.scalars(select(User).where(User.id.in_(set(ids))))}


def _acquisitions(
    session: Session, archive: Archive, found: list[Case], results: dict[str, list[Result]]
) -> dict[str, Acquisition]:
    """Read when and how each exam's images were acquired, off one that its numbers come from."""
    wanted = {results[one.id][0].exam_id if results[one.id] else one.exam.id: one for one in found}
    uids = {of[0].sources[0] for of in results.values() if of and of[0].sources}
    images = _first_images(session, wanted)
    images |= _first_images(session, wanted, Instance.sop_instance_uid.in_(uids))
    told = {}
    for exam_id, one in wanted.items():
        image = images.get(exam_id)
        read = _acquired(archive.path(image.key)) if image else Acquisition()
        clock = image.study_time if image else ""
        told[one.id] = Acquisition(read.at or moment(one.exam.study_date, clock), read.how)
    return told


def _first_images(
    session: Session, exam_ids: Collection[str], *where: ColumnElement[bool]
) -> dict[str, Instance]:
    """Return the first image of each exam that meets a condition."""
    first = (
        select(ExamInstance.exam_id, sql.min(ExamInstance.instance_id).label("instance_id"))
        .join(Instance, Instance.id == ExamInstance.instance_id)
        .where(ExamInstance.exam_id.in_(list(exam_ids)), *where)
        .group_by(ExamInstance.exam_id)
        .subquery()
    )
    rows = session.execute(
        select(first.c.exam_id, Instance).join(Instance, Instance.id == first.c.instance_id)
    )
    return {exam_id: image for exam_id, image in rows}  # noqa: C416 - dict() takes it wrongly


@lru_cache(maxsize=4096)
def _acquired(path: Path) -> Acquisition:
    # What the archive has kept never changes, and a history is looked at more than once.
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(KEYWORDS))
        return acquisition(header)
    except UNREADABLE:  # the exam is listed all the same
        return Acquisition()


def _numbers(
    exam_id: str,
    acquired: Acquisition,
    results: Sequence[Result],
    names: dict[str, str],
    seen: Sight,
) -> Iterator[Number]:
    """Yield an exam's numbers, each on a line of its own."""
    read = [(one, Measurements.from_json(one.data).items) for one in results]
    steps = Counter(
        key
        for result, items in read
        for key in {(item.region, item.quantity, item.unit, result.author) for item in items}
    )
    there: Counter[Line] = Counter()
    for result, items in read:
        source = _source(result, names, seen)
        for item in items:
            region = item.region
            if steps[item.region, item.quantity, item.unit, result.author] > 1:
                region = f"{region} ({result.name})"  # the same is measured by several steps
            line = Line(region, item.quantity, item.unit, source.key)
            there[line] += 1
            if there[line] > 1:
                line = Line(f"{region} #{there[line]}", item.quantity, item.unit, source.key)
            point = Point(line, exam_id, acquired.at, item.value, acquired.how)
            yield Number(point, item, source, result)


def _source(result: Result, names: dict[str, str], seen: Sight) -> Source:
    if result.author:
        name = names.get(result.author, result.author)
        is_own = result.author == seen.user_id
        return Source(f"reader {result.author}", name, f"v{result.version}", True, is_own)
    if result.model:
        return Source(
            f"model {result.model} {result.model_version}", result.model, result.model_version
        )
    return Source(
        f"pipeline {result.pipeline} {result.pipeline_version}",
        result.pipeline,
        result.pipeline_version,
    )
