"""Which planes of a series make the one volume that is read, and where its slices lie.

A series may hold more than a volume, or less: several echoes, a localiser, a gap, a tilted gantry.
Each of these is a named problem, and refused unless the pipeline says what to do about it: the
policies here bear the names of the problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as validated

from overread.dicom.element import parse_address
from overread.dicom.geometry import (
    EVEN,
    MINIMUM_SLICES,
    SAME_POSITION_MM,
    TILT_DEGREES,
    Affine,
    Plane,
    check_alike,
    check_distinct,
    check_enough,
    check_even,
    check_on,
    check_upright,
    difference,
    heights,
    in_order,
    make_affine,
    planes,
    tilt,
    way,
)
from overread.dicom.study import Series
from overread.errors import GeometryError

VARIES = (
    "EchoTime", "DiffusionBValue", "DiffusionGradientOrientation", "InversionTime", "FlipAngle",
    "TemporalPositionIdentifier", "TriggerTime", "NominalPercentageOfCardiacPhase", "ImageType",
    "ComplexImageComponent", "KVP", "ConvolutionKernel", "StackID", "AcquisitionNumber",
)  # fmt: skip
"""What tells the volumes of one series apart, in the order in which it is named."""

INCIDENTAL = ("AcquisitionTime", "ContentTime", "InstanceNumber")
"""What differs from image to image anyway: named only where nothing else varies."""

WIDEST = 3
"""A gap of more than so many usual increments is never filled: that would be inventing images."""

SAME_VALUE = 1e-3
"""Relative difference below which two numbers are one value."""


@validated(frozen=True, config=ConfigDict(extra="forbid"))
class Split:
    """Which one of the volumes of a series is read.

    Attributes
    ----------
    by : str
        What varies: an attribute, as in conditions (``EchoTime``).
    number : int
        Of the different values at each position, in ascending order, which: from 1. Where that
        gives different values, every position must have as many: else one that lacks the first
        would give its second.
    value : float or str, optional
        Instead of ``number``: the value itself. A text may be any one of several values
        (``ImageType``).
    """

    by: str
    number: int = 1
    value: float | str | None = None

    def __post_init__(self) -> None:
        parse_address(self.by)
        if self.number < 1:
            raise ValueError(f"number {self.number} of {self.by}: 1 is the first")
        if self.value is not None and self.number != 1:
            raise ValueError("a split takes either a number or a value; write one of them")


@dataclass(frozen=True)
class Policies:
    """What a pipeline allows; nothing unless it says so.

    Attributes
    ----------
    split : tuple of Split
        Applied one after the other.
    gantry_tilt, missing_slice, uneven_increment, mixed_orientation, localiser : str
        What to do about the problem of that name.
    """

    split: tuple[Split, ...] = ()
    gantry_tilt: Literal["refuse", "resample"] = "refuse"
    missing_slice: Literal["refuse", "interpolate"] = "refuse"
    uneven_increment: Literal["refuse", "resample"] = "refuse"
    mixed_orientation: Literal["refuse", "largest"] = "refuse"
    localiser: Literal["refuse", "drop"] = "refuse"


STRICT = Policies()


@dataclass(frozen=True, eq=False)
class Arrangement:
    """The planes that make a volume, and the regular grid that its slices lie on.

    Attributes
    ----------
    planes : tuple of Plane
        Ascending along the normal.
    affine : ndarray, shape (4, 4), float64
        Of the grid: ``(slice, row, column)`` to LPS mm. Sheared where the gantry was tilted.
    places : ndarray, shape (slices,), float64
        Where each slice of the grid lies among the planes: 2 is plane 2, 2.5 halfway to plane 3.
    straighten : bool
        The shear is to be taken out.
    left_out : tuple of (Plane, str)
        Planes of the series that are not in it, and why.
    notes : tuple of str
        What else was done.
    """

    planes: tuple[Plane, ...]
    affine: Affine
    places: NDArray[np.float64]
    straighten: bool = False
    left_out: tuple[tuple[Plane, str], ...] = ()
    notes: tuple[str, ...] = ()


Parted = tuple[list[Plane], list[tuple[Plane, str]]]
"""Planes that stay, and those that do not, with the reason."""


def arrange(series: Series, policies: Policies = STRICT) -> Arrangement:
    """Find the planes that make one volume, as far as the policies allow.

    Parameters
    ----------
    series : Series
        In any order.
    policies : Policies
        By default everything that is not a plain regular volume is refused.

    Raises
    ------
    GeometryError
        `problem` is one of those of `Policies`, ``several volumes``, or one that no policy can
        help: ``duplicate position``, ``mixed patients``, ``too few slices``, ``no position``,
        ``invalid orientation``.
    """
    found, left_out = _without_localisers(list(planes(series)), policies)
    found, others = _largest(found, policies)
    left_out += others
    check_alike(found)
    for split in policies.split:
        found, others = _take(found, split)
        left_out += others
    ordered = in_order(found)
    _check_one_volume(ordered)
    check_enough(ordered)
    if policies.gantry_tilt == "refuse":
        check_upright(ordered)
    places, step, notes = _regular(ordered, policies)
    angle = tilt(ordered)
    if angle > TILT_DEGREES:
        notes.append(
            f"gantry tilt of {angle:.2f}° taken out: each slice was shifted within its plane"
        )
    return Arrangement(
        tuple(ordered),
        make_affine(ordered[0], step),
        places,
        angle > TILT_DEGREES,
        tuple(left_out),
        tuple(notes),
    )


def _without_localisers(found: list[Plane], policies: Policies) -> Parted:
    scouts: list[Plane] = []
    rest: list[Plane] = []
    for plane in found:
        kind = plane.instance.header.get("ImageType") or ()
        (scouts if "LOCALIZER" in kind else rest).append(plane)
    if not scouts or not rest:
        return found, []
    if policies.localiser == "drop":
        return rest, [(plane, "a localiser (ImageType LOCALIZER)") for plane in scouts]
    if not any(difference(plane, rest[0]) for plane in scouts):
        return found, []
    raise GeometryError(
        "localiser",
        f"{len(scouts)} of the {len(found)} images are localisers (ImageType LOCALIZER; "
        f"{_some(scouts)}) and lie otherwise than the others; a series without them was expected",
    )


def _largest(found: list[Plane], policies: Policies) -> Parted:
    """Keep the largest group of planes of one orientation, size and spacing."""
    if policies.mixed_orientation == "refuse":
        return found, []
    groups: list[list[Plane]] = []
    for plane in found:
        for group in groups:
            if not difference(plane, group[0]):
                group.append(plane)
                break
        else:
            groups.append([plane])
    groups.sort(key=len, reverse=True)
    largest, *others = groups
    if others and len(others[0]) == len(largest):
        raise GeometryError(
            "mixed orientation",
            f"the series holds {' and '.join(str(len(group)) for group in groups)} images of "
            f"different orientation or size ({', '.join(group[0].name for group in groups)}, …), "
            "so that none is the largest stack",
        )
    return largest, [
        (plane, f"not of the largest stack ({len(largest)} of {len(found)} images)")
        for group in others
        for plane in group
    ]


def _positions(found: Sequence[Plane]) -> list[list[Plane]]:
    """Group planes of one orientation by position, ascending."""
    ordered = in_order(found)
    starts = np.flatnonzero(np.diff(heights(ordered)) >= SAME_POSITION_MM) + 1
    bounds = [0, *starts.tolist(), len(ordered)]
    return [ordered[a:b] for a, b in pairwise(bounds)]


Value = tuple[float | str, ...]


def _value(plane: Plane, address: str) -> Value:
    """Read a value, as numbers where it is."""
    texts = plane.values(address)
    try:
        return tuple(float(text) for text in texts)
    except ValueError:
        return texts


def _sorting(value: Value) -> tuple[Any, ...]:
    """Sort absent before numbers before text."""
    return len(value) > 0, isinstance(value[0], str) if value else False, value


def _take(found: list[Plane], split: Split) -> Parted:
    """Keep the planes of one of the volumes."""
    if split.value is None:
        kept = _numbered(found, split.by, split.number)
    else:
        kept = [plane for plane in found if _matches(_value(plane, split.by), split.value)]
    if not kept:
        there = sorted({_value(plane, split.by) for plane in found}, key=_sorting)
        raise GeometryError(
            "several volumes",
            f"{split.by} {split.value} was asked for; the images have {_listed(there)}",
        )
    chosen = set(kept)
    return kept, [
        (plane, f"another volume: {split.by} {_shown(_value(plane, split.by))}")
        for plane in found
        if plane not in chosen
    ]


def _numbered(found: Sequence[Plane], by: str, number: int) -> list[Plane]:
    """Keep, of the different values at each position, the planes that have the n-th."""
    kept: list[Plane] = []
    wanted: set[Value] = set()
    counts: dict[int, tuple[Plane, list[Value]]] = {}
    for place in _positions(found):
        values = [_value(plane, by) for plane in place]
        different = sorted(set(values), key=_sorting)
        if len(different) < number:
            raise GeometryError(
                "several volumes",
                f"number {number} of {by} was asked for; at the position of {place[0].name} there "
                f"are {_listed(different)}",
            )
        chosen = different[number - 1]
        kept += [plane for plane, value in zip(place, values, strict=True) if value == chosen]
        wanted.add(chosen)
        counts.setdefault(len(different), (place[0], different))
    if len(counts) > 1 and len(wanted) > 1:
        few, many = counts[min(counts)], counts[max(counts)]
        raise GeometryError(
            "several volumes",
            f"number {number} of {by} was asked for; at the position of {few[0].name} there are "
            f"{_listed(few[1])}, at that of {many[0].name} {_listed(many[1])}, so that it is not "
            "the same volume at both: an image is missing, or the pipeline must name the value",
        )
    return kept


def _matches(value: Value, wanted: float | str) -> bool:
    if isinstance(wanted, str):
        return wanted in value or wanted == _shown(value)
    return (
        len(value) == 1
        and not isinstance(value[0], str)
        and abs(value[0] - wanted) <= SAME_VALUE * abs(wanted)
    )


def _check_one_volume(ordered: Sequence[Plane]) -> None:
    """Raise where planes share positions: say what tells the volumes apart, if anything does."""
    try:
        check_distinct(ordered)
    except GeometryError:
        places = _positions(ordered)
        several = [place for place in places if len(place) > 1]
        varying = _varying(several, VARIES)
        if not varying and len({len(place) for place in places}) > 1:
            raise
        varying = varying or _varying(several, INCIDENTAL)
        if not varying:
            raise
        most = max(len(place) for place in places)
        raise GeometryError(
            "several volumes",
            f"{len(ordered)} images lie at {len(places)} positions, up to {most} at each; what "
            f"varies there is {'; '.join(varying[:3])}. One volume was expected: the pipeline must "
            "say which of them is read (split)",
        ) from None


def _varying(several: Sequence[Sequence[Plane]], addresses: Sequence[str]) -> list[str]:
    """Say what takes different values at one position, and which; what tells all apart, first."""
    apart: list[str] = []
    partly: list[str] = []
    for address in addresses:
        values = [[_value(plane, address) for plane in place] for place in several]
        counts = [(len(set(place)), len(place)) for place in values]
        if all(different == 1 for different, _ in counts):
            continue
        first = sorted(set(values[0]), key=_sorting)
        everywhere = sorted({value for place in values for value in place}, key=_sorting)
        told = f"{address} ({_listed(everywhere if len(everywhere) <= 16 else first)})"
        (apart if all(a == b for a, b in counts) else partly).append(told)
    return apart + partly


def _listed(values: Sequence[Value]) -> str:
    shown = [_shown(value) for value in values[:8]]
    return ", ".join(shown) + (f" … {_shown(values[-1])}" if len(values) > 8 else "")


def _shown(value: Value) -> str:
    parts = [part if isinstance(part, str) else f"{part:g}" for part in value]
    return "\\".join(parts) or "none"


def _some(found: Sequence[Plane]) -> str:
    names = [plane.name for plane in found]
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _regular(
    ordered: list[Plane], policies: Policies
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Find the regular grid: the place of each slice among the planes, its step, and notes."""
    try:
        check_even(ordered)
    except GeometryError as error:
        if error.problem == "missing slice" and policies.missing_slice == "refuse":
            raise
        if error.problem == "uneven increment" and policies.uneven_increment == "refuse":
            raise
        return _evened(ordered, policies, error)
    return np.arange(len(ordered), dtype=np.float64), way(ordered), []


def _evened(
    ordered: list[Plane], policies: Policies, problem: GeometryError
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    along = heights(ordered)
    steps = np.diff(along)
    usual = float(np.median(steps))
    if steps.max() > (WIDEST + EVEN) * usual:
        raise problem
    count = max(MINIMUM_SLICES, round((along[-1] - along[0]) / usual) + 1)
    step = (ordered[-1].position - ordered[0].position) / (count - 1)
    index = (along - along[0]) / (along[-1] - along[0]) * (count - 1)
    on_grid = np.abs(index - index.round()).max() <= EVEN
    if policies.uneven_increment == "refuse":
        check_on(ordered, index.round(), step)
    if on_grid:
        index = index.round()
        note = f"{problem}; {count - len(ordered)} interpolated from the neighbours"
    else:
        note = f"{problem}; interpolated to {count} slices {np.linalg.norm(step):.2f} mm apart"
    check_on(ordered, index, step)  # none is moved sideways
    return np.interp(np.arange(count), index, np.arange(len(ordered))), step, [note]
