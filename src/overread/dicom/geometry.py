"""From the headers of a series to one regular grid, or a reason why there is none.

Slices are put in order by their position along the normal of their plane. SliceThickness,
SpacingBetweenSlices, InstanceNumber and file names are never asked: they describe how an image was
acquired or named, not where it lies.

Both single-frame images and enhanced multi-frame ones are read: what is laid out is a list of
planes, and a plane is one frame of one instance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from overread.dicom.study import Instance, Series
from overread.errors import GeometryError

Affine = NDArray[np.float64]
Vector = NDArray[np.float64]

MINIMUM_SLICES = 3
"""With fewer there is no second increment to compare the first with: a gap could not be seen."""

SAME_POSITION_MM = 0.01
"""Two planes nearer than this lie at one position: far above the rounding of a decimal string, far
below any distance between slices."""

EVEN = 0.05
"""How far, in increments, a plane may lie from its place on the regular grid. Headers round
positions (to 0.1 mm at worst); a missing slice is off by 1, an uneven increment by much more."""

TILT_DEGREES = 0.5
"""Greatest angle between the way from slice to slice and the normal. Rounded positions give up to
some tenths on a short stack; a tilted gantry gives degrees. What is below stays in the affine."""

ORIENTATION_DEGREES = 0.1
"""Greatest angle between the axes of two planes of one volume: 0.4 mm at 250 mm."""

UNIT_VECTOR = 0.001
"""Tolerance on the length of, and on the cosine between, the two direction vectors of a plane."""

SPACING = 0.001
"""Greatest relative difference of pixel spacing within one volume: 0.3 mm over 300 mm."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One frame of one instance, and where it lies.

    Attributes
    ----------
    instance : Instance
        The image that holds it.
    frame : int
        Index of the frame, from 0; 0 for a single-frame image.
    position : ndarray, shape (3,)
        Centre of the first voxel, LPS mm (ImagePositionPatient).
    along_row, along_column : ndarray, shape (3,)
        Unit vectors of increasing column index and of increasing row index
        (ImageOrientationPatient, first and last three values).
    spacing : tuple of float
        Distance between rows and between columns, mm (PixelSpacing).
    size : tuple of int
        Rows and Columns.
    """

    instance: Instance
    frame: int
    position: Vector
    along_row: Vector
    along_column: Vector
    spacing: tuple[float, float]
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """What a person calls it."""
        number = self.instance.header.get("InstanceNumber")
        image = f"image {number}" if number is not None else f"image {self.instance.uid}"
        frames = int(self.instance.header.get("NumberOfFrames") or 1)
        return f"{image} frame {self.frame + 1}" if frames > 1 else image

    @property
    def normal(self) -> Vector:
        """Unit normal of the plane."""
        return np.cross(self.along_row, self.along_column)


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid of voxels and the planes that fill it.

    Attributes
    ----------
    planes : tuple of Plane
        In order of the slice index: ascending along the normal.
    affine : ndarray, shape (4, 4), float64
        Index ``(slice, row, column)`` to LPS millimetres.
    """

    planes: tuple[Plane, ...]
    affine: Affine

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return (len(self.planes), *self.planes[0].size)


def group(item: Dataset, keyword: str, header: Dataset) -> Dataset | None:
    """Return a functional group of a frame: its own, or the one that all frames share."""
    shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    for place in (item, shared[0]):
        if place.get(keyword):
            found: Dataset = place[keyword].value[0]
            return found
    return None


def planes(series: Series) -> Iterator[Plane]:
    """Yield every frame of a series with its place, in the order of the instances.

    Raises
    ------
    GeometryError
        ``no position`` where an image does not say where it lies; ``invalid orientation`` where
        its directions are not two perpendicular unit vectors.
    """
    for instance in series:
        header = instance.header
        frames = header.get("PerFrameFunctionalGroupsSequence")
        if not frames:
            if int(header.get("NumberOfFrames") or 1) > 1:
                raise GeometryError(
                    "no position",
                    f"image {instance.uid} has {header.NumberOfFrames} frames, but no functional "
                    "groups that say where each of them lies",
                )
            yield _plane(instance, 0, header, header, header)
            continue
        for index, item in enumerate(frames):
            yield _plane(
                instance,
                index,
                group(item, "PlanePositionSequence", header),
                group(item, "PlaneOrientationSequence", header),
                group(item, "PixelMeasuresSequence", header),
            )


def _plane(
    instance: Instance,
    frame: int,
    position: Dataset | None,
    orientation: Dataset | None,
    measures: Dataset | None,
) -> Plane:
    place = _numbers(instance, frame, position, "ImagePositionPatient", 3)
    direction = _numbers(instance, frame, orientation, "ImageOrientationPatient", 6)
    spacing = _numbers(instance, frame, measures, "PixelSpacing", 2)
    row, column = direction[:3], direction[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if (
        max(abs(length - 1) for length in lengths) > UNIT_VECTOR
        or abs(row @ column) > UNIT_VECTOR
        or not (spacing > 0).all()
    ):
        raise GeometryError(
            "invalid orientation",
            f"image {instance.uid} has ImageOrientationPatient {direction.tolist()} and "
            f"PixelSpacing {spacing.tolist()}; two perpendicular unit vectors and two positive "
            "distances were expected",
        )
    return Plane(
        instance,
        frame,
        place,
        row / lengths[0],
        column / lengths[1],
        (float(spacing[0]), float(spacing[1])),
        (int(instance.header.get("Rows") or 0), int(instance.header.get("Columns") or 0)),
    )


def _numbers(
    instance: Instance, frame: int, place: Dataset | None, keyword: str, count: int
) -> Vector:
    values = place.get(keyword) if place is not None else None
    try:
        numbers = np.array([float(value) for value in values or ()])
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.size != count or not np.isfinite(numbers).all():
        raise GeometryError(
            "no position",
            f"image {instance.uid}, frame {frame + 1}, has no usable {keyword} "
            f"({values!r}), so where it lies in the patient is not known",
        )
    return numbers


def lay_out(series: Series) -> Grid:
    """Lay the slices of a series out on one regular grid.

    Parameters
    ----------
    series : Series
        In any order.

    Returns
    -------
    Grid
        Slices ascending along the normal, row direction × column direction.

    Raises
    ------
    GeometryError
        The slices make no regular grid; `problem` says why, the message where, in mm and degrees.
    """
    found = list(planes(series))
    _same_plane(found)
    normal = found[0].normal
    ordered = sorted(found, key=lambda plane: float(plane.position @ normal))
    heights = np.array([plane.position @ normal for plane in ordered])
    for (near, far), step in zip(pairwise(ordered), np.diff(heights), strict=True):
        if step < SAME_POSITION_MM:
            raise GeometryError(
                "duplicate position",
                f"{near.name} and {far.name} both lie at {near.position @ normal:.2f} mm along the "
                f"normal (of {len(ordered)} slices); one slice at each position was expected. A "
                "series of several echoes, phases or time points is not one volume",
            )
    if len(ordered) < MINIMUM_SLICES:
        raise GeometryError(
            "too few slices",
            f"{len(ordered)} in the series, at least {MINIMUM_SLICES} were expected",
        )
    way = (ordered[-1].position - ordered[0].position) / (len(ordered) - 1)
    tilt = _degrees(way, normal)
    if tilt > TILT_DEGREES:
        raise GeometryError(
            "gantry tilt",
            f"the slices are stacked at {tilt:.2f}° to the normal of their plane, at most "
            f"{TILT_DEGREES}° was expected ({ordered[0].name} to {ordered[-1].name})",
        )
    _evenly_spaced(ordered, np.diff(heights), way)
    first = ordered[0]
    affine = np.eye(4)
    affine[:3, 0] = way
    affine[:3, 1] = first.along_column * first.spacing[0]
    affine[:3, 2] = first.along_row * first.spacing[1]
    affine[:3, 3] = first.position
    return Grid(tuple(ordered), affine)


def _same_plane(found: Sequence[Plane]) -> None:
    first = found[0]
    for plane in found[1:]:
        angle = max(
            _degrees(first.along_row, plane.along_row),
            _degrees(first.along_column, plane.along_column),
        )
        if angle > ORIENTATION_DEGREES:
            raise GeometryError(
                "mixed orientation",
                f"{plane.name} is turned by {angle:.2f}° against {first.name}, at most "
                f"{ORIENTATION_DEGREES}° was expected",
            )
        if plane.size != first.size:
            raise GeometryError(
                "mixed size",
                f"{plane.name} has {plane.size[0]} × {plane.size[1]} pixels, {first.name} has "
                f"{first.size[0]} × {first.size[1]}; one size was expected",
            )
        if not np.allclose(plane.spacing, first.spacing, rtol=SPACING, atol=0):
            raise GeometryError(
                "mixed spacing",
                f"{plane.name} has pixels of {_by(plane.spacing)} mm, {first.name} of "
                f"{_by(first.spacing)} mm; one spacing was expected",
            )


def _evenly_spaced(ordered: Sequence[Plane], steps: Vector, way: Vector) -> None:
    usual = float(np.median(steps))
    for (near, far), step in zip(pairwise(ordered), steps.tolist(), strict=True):
        missing = round(step / usual) - 1
        if missing >= 1 and abs(step / usual - missing - 1) <= EVEN * (missing + 1):
            raise GeometryError(
                "missing slice",
                f"{missing} between {near.name} and {far.name}: they lie {step:.2f} mm apart, "
                f"{usual:.2f} mm was expected as between the others",
            )
    count = np.arange(len(ordered))[:, None]
    off = np.array([plane.position for plane in ordered]) - (ordered[0].position + count * way)
    distance = np.linalg.norm(off, axis=1)
    if distance.max() > EVEN * np.linalg.norm(way):
        worst = ordered[int(distance.argmax())]
        raise GeometryError(
            "uneven increment",
            f"the slices lie {steps.min():.2f} to {steps.max():.2f} mm apart; {worst.name} is "
            f"{distance.max():.2f} mm from its place on an even grid, at most "
            f"{EVEN * np.linalg.norm(way):.2f} mm was expected",
        )


def _degrees(one: Vector, other: Vector) -> float:
    sine = float(np.linalg.norm(np.cross(one, other)))
    return float(np.degrees(np.arctan2(sine, one @ other)))


def _by(spacing: tuple[float, float]) -> str:
    return f"{spacing[0]:.3f} × {spacing[1]:.3f}"


@dataclass(frozen=True)
class Turn:
    """A lossless change of orientation: which axis becomes which, and which are flipped.

    Attributes
    ----------
    order : tuple of int
        For each axis of the turned array, the axis of the original.
    flip : tuple of bool
        For each axis of the turned array, whether it runs the other way.
    """

    order: tuple[int, int, int]
    flip: tuple[bool, bool, bool]

    def turn(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of the array, turned."""
        return array.transpose(self.order)[self._steps()]

    def back(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a turned array, turned back."""
        return array[self._steps()].transpose(np.argsort(self.order).tolist())

    def _steps(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else 1) for flip in self.flip)


def turn_to_axial(affine: Affine) -> Turn:
    """Find the turn that brings an array nearest to LPS-axial.

    That is: slices from feet to head, rows from front to back, columns from the patient's right to
    left. An oblique volume is turned to the nearest; nothing is interpolated.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Index to LPS millimetres.
    """
    linear = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    wanted = (2, 1, 0)
    order = max(
        permutations(range(3)),
        key=lambda axes: sum(abs(linear[w, a]) for w, a in zip(wanted, axes, strict=True)),
    )
    flip = [bool(linear[w, a] < 0) for w, a in zip(wanted, order, strict=True)]
    return Turn((order[0], order[1], order[2]), (flip[0], flip[1], flip[2]))
