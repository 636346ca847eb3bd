"""A reader's edits of segmentations: what one is an edit of, and the versions that there are.

An edit is a result like any other, with an author: a new version beside the model's own, never in
its place. Its job, of origin ``edit``, measures it; until that is done it has no measurements.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset, dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.dicom.codes import Code, Segment
from overread.dicom.edited import check_edited, match, predecessors, referenced
from overread.dicom.seg import segments_of
from overread.dicom.study import Instance as Image
from overread.dicom.study import Series
from overread.errors import Refused
from overread.store import visible
from overread.store.archive import Archive
from overread.store.studies import SHOWN
from overread.store.tables import Exam, Instance, Result
from overread.store.visible import Sight

SEGMENTATION = "segmentation"
"""The kind of result that can be edited."""


@dataclass(frozen=True)
class Base:
    """What an edit is an edit of.

    Attributes
    ----------
    result : Result
        The model's segmentation, the current one.
    root_id : str
        The exam.
    segments : tuple of Segment
        What it holds, numbered as in the object.
    """

    result: Result
    root_id: str
    segments: tuple[Segment, ...]


def segments_in(result: Result) -> tuple[Segment, ...]:
    """Return what a segmentation's segments stand for, as was kept with it."""
    return tuple(_segment(one) for one in result.data.get("segments", ()))


def _segment(said: dict[str, Any]) -> Segment:
    codes = {
        key: Code(**said[key]) if said.get(key) else None
        for key in ("category", "type", "anatomy", "laterality")
    }
    return Segment(**{**said, **codes, "colour": tuple(said["colour"])})


def bases(session: Session, root_ids: Collection[str]) -> list[Base]:
    """List what can be edited of some exams: the current segmentations of models."""
    rows = session.execute(
        select(Result, Exam.root_id)
        .join(Exam, Exam.id == Result.exam_id)
        .where(
            Exam.root_id.in_(root_ids),
            Result.kind == SEGMENTATION,
            Result.author == "",
            Result.superseded_by.is_(None),
            Result.instance_id.is_not(None),
        )
        .order_by(Result.created_at.desc(), Result.name)
    )
    return [Base(result, root_id, segments_in(result)) for result, root_id in rows]


def drawn_on(session: Session, header: Dataset) -> list[str]:
    """List the exams, by root, that have a segmentation made from images that an edit names."""
    named = referenced(header)
    rows = session.execute(
        select(Result.sources, Exam.root_id)
        .join(Exam, Exam.id == Result.exam_id)
        .join(Instance, Instance.id == Result.instance_id)
        .where(
            Instance.study_uid == str(header.get("StudyInstanceUID", "")),
            Result.kind == SEGMENTATION,
            Result.author == "",
            Result.superseded_by.is_(None),
        )
    )
    return list(dict.fromkeys(root_id for sources, root_id in rows if named & {*sources}))


def find_base(session: Session, root_ids: Collection[str], header: Dataset) -> Base:
    """Say which result a stored Segmentation is an edit of.

    It was made from the images that the Segmentation names; of several, the one that the
    Segmentation says it follows, or else the one whose segments it has.

    Raises
    ------
    Refused
        There is none, or it is not clear which.
    """
    named = referenced(header)
    found = [one for one in bases(session, root_ids) if named & {*one.result.sources}]
    if not found:
        raise Refused(
            "the segmentation was not drawn on images that a result of this case was made from; "
            "open the viewer from the case, and edit the segmentation that it shows"
        )
    before = _named(session, predecessors(header))
    followed = [one for one in found if (one.root_id, one.result.name) in before]
    fitting = followed or [one for one in found if _fits(header, one)] or found[:1]
    if len(fitting) > 1:
        names = ", ".join(one.result.name for one in fitting)
        raise Refused(
            f"the segmentation fits several results ({names}); open the one that is meant from its "
            "case, and edit it there"
        )
    return fitting[0]


def _named(session: Session, uids: Collection[str]) -> set[tuple[str, str]]:
    rows = session.execute(
        select(Exam.root_id, Result.name)
        .join(Exam, Exam.id == Result.exam_id)
        .join(Instance, Instance.id == Result.instance_id)
        .where(Instance.sop_instance_uid.in_(uids))
    )
    return {(root_id, name) for root_id, name in rows}


def _fits(header: Dataset, base: Base) -> bool:
    try:
        match(segments_of(header), base.segments)
    except (Refused, AttributeError, LookupError, TypeError, ValueError):  # as a viewer wrote it
        return False
    return True


def check(session: Session, archive: Archive, header: Dataset, base: Base) -> None:
    """Refuse an edit that does not lie on the images that its result was made from.

    Raises
    ------
    Refused
        With what differs.
    """
    named = referenced(header)
    foreign = named - {*base.result.sources}
    if foreign:
        raise Refused(
            f"the segmentation names {len(foreign)} images that the result was not made from; draw "
            "on the images that the case shows"
        )
    one = session.scalars(_images([next(iter(named))])).first()
    if one is None:
        raise Refused("the images that the segmentation was drawn on are not here any more")
    rows = session.scalars(
        _images(base.result.sources).where(Instance.series_uid == one.series_uid)
    ).all()
    headers = [
        dcmread(archive.path(row.key), stop_before_pixels=True, defer_size=4096) for row in rows
    ]
    check_edited(header, Series(tuple(Image(header) for header in headers)), base.segments)


def check_own_series(session: Session, header: Dataset, author: str) -> None:
    """Refuse an edit that would stand in a series of images, of a model's, or of another reader's.

    Raises
    ------
    Refused
        The series is taken.
    """
    own = select(Result.id).where(Result.instance_id == Instance.id, Result.author == author)
    taken = select(Instance.id).where(
        Instance.series_uid == str(header.get("SeriesInstanceUID", "")),
        (Instance.study_uid != str(header.get("StudyInstanceUID", ""))) | ~own.exists(),
    )
    if session.scalar(taken.limit(1)) is not None:
        raise Refused(
            "the segmentation's series is that of other objects; save it again from the viewer, "
            "which gives it a series of its own"
        )


def sources_of(session: Session, result: Result) -> list[Instance]:
    """List the images of the series that a segmentation was made from, most of its sources."""
    rows = session.scalars(_images(result.sources)).all()
    series = [one.series_uid for one in rows]
    most = max(series, key=series.count, default="")
    return [one for one in rows if one.series_uid == most]


def _images(uids: Sequence[str]) -> Any:
    return select(Instance).where(
        Instance.sop_instance_uid.in_(uids),
        Instance.standing.in_(SHOWN),
        Instance.standing != "ours",
    )


def latest(session: Session, base: Result, author: str, project: str = "") -> Result | None:
    """Return an author's current edit of a result in a project, or of one that it superseded."""
    root = select(Exam.root_id).where(Exam.id == base.exam_id).scalar_subquery()
    return session.scalars(
        select(Result)
        .join(Exam, Exam.id == Result.exam_id)
        .where(
            Exam.root_id == root,
            Result.name == base.name,
            Result.author == author,
            Result.project == project,
            Result.superseded_by.is_(None),
        )
        .order_by(Result.version.desc())
        .limit(1)
    ).first()


def versions(session: Session, root_id: str, name: str, seen: Sight) -> list[Result]:
    """List the versions of a segmentation of an exam that somebody sees, as they came."""
    return list(
        session.scalars(
            select(Result)
            .join(Exam, Exam.id == Result.exam_id)
            .where(
                Exam.root_id == root_id,
                Result.name == name,
                Result.kind == SEGMENTATION,
                visible.results(seen),
            )
            .order_by(Result.created_at, Result.id)
        )
    )


def kept_before(session: Session, instance_id: int) -> Result | None:
    """Return the result that an object was kept as."""
    return session.scalars(select(Result).where(Result.instance_id == instance_id).limit(1)).first()
