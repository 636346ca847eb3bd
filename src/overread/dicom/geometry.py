"""From the planes of a series to one regular grid, or a reason why there is none.

Slices are put in order by their position along the normal of their plane, and by nothing else.
`lay_out` is strict. What a pipeline may allow besides stands in `overread.dicom.stacks`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.dicom.planes import Affine, Plane, Vector, group, planes
from overread.dicom.study import Series
from overread.errors import GeometryError

__all__ = [
    "Affine", "Grid", "Plane", "Turn", "Vector", "group", "lay_out", "planes", "stack", "turn_to",
    "turn_to_axial",
]  # fmt: skip

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

SPACING = 0.001
"""Greatest relative difference of pixel spacing within one volume: 0.3 mm over 300 mm."""


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
    check_alike(found)
    ordered = in_order(found)
    check_distinct(ordered)
    check_enough(ordered)
    check_upright(ordered)
    check_even(ordered)
    return Grid(tuple(ordered), make_affine(ordered[0], way(ordered)))


def stack(series: Series, chosen: Sequence[tuple[str, int]] = ()) -> tuple[Plane, ...]:
    """Put the planes that a volume was read from in order, regular or not.

    Parameters
    ----------
    series : Series
        The images that the volume was read from, and perhaps others.
    chosen : sequence of (str, int)
        Which planes, by SOPInstanceUID and frame (`Plane.key`): ``Source.planes``. None: all.

    Returns
    -------
    tuple of Plane
        Ascending along the normal. They may be tilted, uneven or have gaps.

    Raises
    ------
    GeometryError
        A plane does not say where it lies, or they differ in space, orientation, size or spacing.
    ValueError
        A chosen plane is not in the series.
    """
    keys = set(chosen)
    uids = {uid for uid, _ in keys}
    images = tuple(one for one in series if not keys or one.uid in uids)
    found = [one for one in planes(Series(images)) if not keys or one.key in keys] if images else []
    if missing := keys - {one.key for one in found}:
        uid, frame = min(missing)
        raise ValueError(
            f"the mask was made from frame {frame + 1} of image {uid}, which is not in the series; "
            "give the series that the volume was read from"
        )
    check_alike(found)
    return tuple(in_order(found))


def in_order(found: Sequence[Plane]) -> list[Plane]:
    """Sort planes of one orientation, ascending along the normal."""
    along = heights(found)
    return [found[index] for index in np.argsort(along, kind="stable")]


def heights(found: Sequence[Plane]) -> Vector:
    """Return where planes of one orientation lie along their normal, mm."""
    return np.array([plane.position for plane in found]) @ found[0].normal


def way(ordered: Sequence[Plane]) -> Vector:
    """Return the way from slice to slice, mm, if they are evenly spaced."""
    return np.asarray((ordered[-1].position - ordered[0].position) / (len(ordered) - 1))


def make_affine(first: Plane, step: Vector) -> Affine:
    """Return the affine of a grid that begins with a plane and goes on by a step."""
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = first.along_column * first.spacing[0]
    affine[:3, 2] = first.along_row * first.spacing[1]
    affine[:3, 3] = first.position
    return affine


def check_alike(found: Sequence[Plane]) -> None:
    """Raise a GeometryError where planes differ in space, orientation, size or spacing."""
    for plane in found[1:]:
        if error := difference(plane, found[0]):
            raise error


def difference(plane: Plane, first: Plane) -> GeometryError | None:
    """Say in what a plane differs from another, such that both cannot be slices of one volume."""
    spaces = [str(one.instance.header.get("FrameOfReferenceUID") or "") for one in (plane, first)]
    if all(spaces) and spaces[0] != spaces[1]:
        return GeometryError(
            "mixed frame of reference",
            f"{plane.name} lies in frame of reference {spaces[0]}, {first.name} in {spaces[1]}: "
            "their positions have nothing to do with each other; one frame was expected",
        )
    angle = max(
        _between(first.along_row, plane.along_row), _between(first.along_column, plane.along_column)
    )
    if angle > ORIENTATION_DEGREES:
        return GeometryError(
            "mixed orientation",
            f"{plane.name} is turned by {angle:.2f}° against {first.name}, at most "
            f"{ORIENTATION_DEGREES}° was expected",
        )
    if plane.size != first.size:
        return GeometryError(
            "mixed size",
            f"{plane.name} has {plane.size[0]} × {plane.size[1]} pixels, {first.name} has "
            f"{first.size[0]} × {first.size[1]}; one size was expected",
        )
    if any(abs(a - b) > SPACING * b for a, b in zip(plane.spacing, first.spacing, strict=True)):
        return GeometryError(
            "mixed spacing",
            f"{plane.name} has pixels of {_by(plane.spacing)} mm, {first.name} of "
            f"{_by(first.spacing)} mm; one spacing was expected",
        )
    return None


def check_distinct(ordered: Sequence[Plane]) -> None:
    """Raise a GeometryError where two planes lie at one position."""
    along = heights(ordered)
    for (near, far), step in zip(pairwise(ordered), np.diff(along).tolist(), strict=True):
        if step < SAME_POSITION_MM:
            names = [plane.name for plane in (near, far)]
            if names[0] == names[1]:
                names = [f"{plane.name} ({plane.instance.uid})" for plane in (near, far)]
            raise GeometryError(
                "duplicate position",
                f"{' and '.join(names)} both lie at {near.position @ near.normal:.2f} mm "
                f"along the normal (of {len(ordered)} slices); one slice at each position was "
                "expected. A series of several echoes, phases or time points is not one volume",
            )


def check_enough(ordered: Sequence[Plane]) -> None:
    """Raise a GeometryError where there are too few slices to see a gap between them."""
    if len(ordered) < MINIMUM_SLICES:
        raise GeometryError(
            "too few slices",
            f"{len(ordered)} in the series, at least {MINIMUM_SLICES} were expected",
        )


def tilt(ordered: Sequence[Plane]) -> float:
    """Angle between the way from slice to slice and the normal, degrees."""
    step, normal = way(ordered), ordered[0].normal
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(step, normal))), step @ normal))


def check_upright(ordered: Sequence[Plane]) -> None:
    """Raise a GeometryError where slices are stacked askew."""
    angle = tilt(ordered)
    if angle > TILT_DEGREES:
        raise GeometryError(
            "gantry tilt",
            f"the slices are stacked at {angle:.2f}° to the normal of their plane, at most "
            f"{TILT_DEGREES}° was expected ({ordered[0].name} to {ordered[-1].name})",
        )


def check_even(ordered: Sequence[Plane]) -> None:
    """Raise a GeometryError where a slice is missing, or off its place on an even grid."""
    steps = np.diff(heights(ordered))
    usual = float(np.median(steps))
    for (near, far), step in zip(pairwise(ordered), steps.tolist(), strict=True):
        missing = round(step / usual) - 1
        if missing >= 1 and abs(step / usual - missing - 1) <= EVEN * (missing + 1):
            raise GeometryError(
                "missing slice",
                f"{missing} between {near.name} and {far.name}: they lie {step:.2f} mm apart, "
                f"{usual:.2f} mm was expected as between the others",
            )
    check_on(ordered, np.arange(len(ordered)), way(ordered))


def check_on(ordered: Sequence[Plane], index: NDArray[Any], step: Vector) -> None:
    """Raise a GeometryError where a plane is off the place that its index on a grid gives it.

    Parameters
    ----------
    index : ndarray, shape (planes,)
        Slice index of each plane on a grid that begins with the first of them.
    step : ndarray, shape (3,)
        From slice to slice of that grid, mm.
    """
    expected = ordered[0].position + index[:, None] * step
    off = np.linalg.norm(np.array([plane.position for plane in ordered]) - expected, axis=1)
    allowed = EVEN * float(np.linalg.norm(step))
    if off.max() > allowed:
        worst = ordered[int(off.argmax())]
        steps = np.diff(heights(ordered))
        raise GeometryError(
            "uneven increment",
            f"the slices lie {steps.min():.2f} to {steps.max():.2f} mm apart; {worst.name} is "
            f"{off.max():.2f} mm from its place on an even grid, at most "
            f"{allowed:.2f} mm was expected",
        )


def _between(one: Vector, other: Vector) -> float:
    """Angle between two unit vectors, degrees."""
    return math.degrees(2 * math.asin(min(1.0, math.dist(one, other) / 2)))


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

    def affine(self, affine: Affine, shape: tuple[int, ...]) -> Affine:
        """Return the affine of a turned array.

        Parameters
        ----------
        affine : ndarray, shape (4, 4)
            Of the original.
        shape : tuple of int
            Of the original.
        """
        turned = affine.copy()
        for axis, (source, flip) in enumerate(zip(self.order, self.flip, strict=True)):
            step = affine[:3, source]
            turned[:3, axis] = -step if flip else step
            if flip:
                turned[:3, 3] += step * (shape[source] - 1)
        return turned

    def _steps(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else 1) for flip in self.flip)


ANATOMICAL = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
"""Letter to the axis of LPS and the sign along it: left, right, posterior, anterior, superior (to
the head), inferior (to the feet)."""


def turn_to(affine: Affine, orientation: str) -> Turn:
    """Find the turn that brings an array nearest to an orientation.

    An oblique volume is turned to the nearest; nothing is interpolated.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Index to LPS millimetres.
    orientation : str
        Three letters, as other imaging software names orientations: where to the index of the
        column, of the row and of the slice grows. ``LPS``: columns to the patient's left, rows to
        the back, slices to the head.
    """
    linear = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    wanted = [ANATOMICAL[letter] for letter in reversed(orientation)]
    order = max(
        permutations(range(3)),
        key=lambda axes: sum(abs(linear[w, a]) for (w, _), a in zip(wanted, axes, strict=True)),
    )
    flip = [bool(linear[w, a] * sign < 0) for (w, sign), a in zip(wanted, order, strict=True)]
    return Turn((order[0], order[1], order[2]), (flip[0], flip[1], flip[2]))


def turn_to_axial(affine: Affine) -> Turn:
    """Find the turn that brings an array nearest to LPS-axial.

    That is: slices from feet to head, rows from front to back, columns from the patient's right to
    left.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Index to LPS millimetres.
    """
    return turn_to(affine, "LPS")
