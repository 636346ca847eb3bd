"""Segmentations as arrays: what pages compare and turn, read from the objects that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from fastapi import HTTPException
from pydicom import dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.dicom.codes import Segment
from overread.dicom.edited import match
from overread.dicom.geometry import Grid, lay_out
from overread.dicom.seg import read_seg
from overread.dicom.study import Instance as Image
from overread.dicom.study import Series
from overread.dicom.volume import Mask
from overread.errors import Refused
from overread.portal.opened import NoSuchCase, Opened
from overread.portal.state import Portal
from overread.store import edits, visible
from overread.store.tables import Exam, Instance, Result


@dataclass(frozen=True, eq=False)
class Drawn:
    """A segmentation on the grid of its images.

    Attributes
    ----------
    mask : Mask
        Its labels are numbered as ``segments`` says.
    grid : Grid
        The images, slice by slice.
    segments : tuple of Segment
        What was kept with the result.
    """

    mask: Mask
    grid: Grid
    segments: tuple[Segment, ...]


def find(portal: Portal, session: Session, case: Opened, result_id: str) -> tuple[Result, Drawn]:
    """Return a segmentation of a case, for who may see it.

    Raises
    ------
    NoSuchCase
        There is none, or it is not for the one who asks.
    HTTPException
        409 where it cannot be read.
    """
    result = session.scalar(
        select(Result)
        .join(Exam, Exam.id == Result.exam_id)
        .where(
            Result.id == result_id,
            Result.kind == edits.SEGMENTATION,
            Result.instance_id.is_not(None),
            Exam.root_id == case.case.id,
            visible.results(case.sight),
        )
    )
    made = session.get(Instance, result.instance_id) if result is not None else None
    if result is None or made is None:
        raise NoSuchCase("There is no such segmentation of this case")
    sources = edits.sources_of(session, result)
    archive = portal.archive
    try:
        drawn = _read(
            archive.path(made.key),
            tuple(archive.path(one.key) for one in sources),
            edits.segments_in(result),
        )
    except Refused as error:
        raise HTTPException(409, str(error)) from error
    return result, drawn


@lru_cache(maxsize=4)
def _read(file: Path, sources: Sequence[Path], segments: tuple[Segment, ...]) -> Drawn:
    """Read one; kept for a while, since a page asks for its slices and surfaces one by one."""
    images = Series(
        tuple(
            Image(dcmread(path, stop_before_pixels=True, defer_size=4096), path) for path in sources
        )
    )
    mask = read_seg(dcmread(file), images)
    if not isinstance(mask, Mask):
        raise Refused("the segmentation's segments overlap, or it holds probabilities")
    meant = match(mask.segments, segments)
    numbers = np.zeros(int(max([*meant, mask.array.max()])) + 1, np.uint16)
    for number, segment in meant.items():
        numbers[number] = segment.number
    renumbered = Mask(numbers[mask.array], mask.affine, segments, mask.frame_of_reference)
    return Drawn(renumbered, lay_out(images), segments)
