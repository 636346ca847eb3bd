"""What makes an image wanted, and one candidate better than another: the law of choosing.

Used by the operators of `overread.operators.select`; pure, and every answer says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np

from overread.dicom.element import text
from overread.dicom.match import Condition
from overread.dicom.moment import acquired
from overread.dicom.orientation import Plane, nearest_plane, normals
from overread.dicom.planes import planes
from overread.dicom.study import Instance, Series
from overread.errors import GeometryError

Preference = (
    Literal[
        "most_instances",
        "fewest_instances",
        "most_slices",
        "largest",
        "latest",
        "earliest",
        "nearest_in_time",
        "same_frame_of_reference",
    ]
    | Condition
)
"""What makes one candidate better than another."""

RELATIVE = ("nearest_in_time", "same_frame_of_reference")
"""Preferences that compare with a reference."""

SAME_POSITION_MM = 0.01
"""Two planes nearer than this lie at one position."""

_LONG_AGO = datetime(1, 1, 1)  # noqa: DTZ001, DICOM's dates and times carry no zone


@dataclass(frozen=True)
class Reference:
    """Images that what is chosen is to go with; none of it is a candidate itself.

    Attributes
    ----------
    uids : frozenset of str
        SOPInstanceUIDs.
    frames : frozenset of str
        FrameOfReferenceUIDs.
    at : datetime, optional
        When the first of them was acquired.
    """

    uids: frozenset[str] = frozenset()
    frames: frozenset[str] = frozenset()
    at: datetime | None = None

    @classmethod
    def of(cls, instances: Iterable[Instance]) -> Reference:
        """Read what the headers of images say."""
        held = tuple(instances)
        times = [when for one in held if (when := acquired(one.header))]
        return cls(frozenset(one.uid for one in held), _frames(held), min(times, default=None))


@dataclass(frozen=True)
class Wanted:
    """What an image must be.

    Attributes
    ----------
    where : Condition
        What its header must say.
    planes : tuple of str
        Planes of the patient it may lie in; empty where any will do.
    within : float
        Greatest angle to the patient's axis that still counts as that plane, degrees.
    same_frame : bool
        Whether it must lie in the reference's frame of reference.
    """

    where: Condition
    planes: tuple[Plane, ...]
    within: float
    same_frame: bool
    reference: Reference

    def why_not(self, instance: Instance) -> str:
        """Say why an image is not wanted; empty where it is."""
        if instance.uid in self.reference.uids:
            return "it is the reference itself"
        explained = self.where.explain(instance.header, instance.origin)
        if not explained.true:
            return ", ".join(f"✗ {words}" for words in explained.deciding())
        frame = str(instance.header.get("FrameOfReferenceUID") or "")
        if self.same_frame and frame not in self.reference.frames:
            return f"its frame of reference ({frame or 'none'}) is not the reference's"
        return self._lies_otherwise(instance) if self.planes else ""

    def _lies_otherwise(self, instance: Instance) -> str:
        for normal in normals(instance):
            if normal is None:
                return "it does not say in which plane it lies"
            nearest, angle = nearest_plane(normal)
            plane = nearest if angle <= self.within else "oblique"
            if plane not in self.planes:
                expected = " or ".join(self.planes)
                return (
                    f"it is {plane} ({angle:.0f}° from {nearest}); {expected} was asked for, "
                    f"within {self.within:g}°"
                )
        return ""


@dataclass(frozen=True)
class Order:
    """The order of candidates: by the first preference, where those are equal by the second.

    Attributes
    ----------
    prefer : tuple of Preference
        First things first.
    """

    prefer: tuple[Preference, ...]
    reference: Reference

    def first(self, candidates: Sequence[Series], count: int) -> tuple[list[Series], list[Series]]:
        """Part candidates into the best ``count`` and the rest, each in the order given.

        Those that equal the last of the best are among them: they are more than ``count`` where
        nothing says which to take.
        """
        keys = [self._key(one) for one in candidates]
        limit = sorted(keys)[min(count, len(candidates)) - 1]
        taken = [one for one, key in zip(candidates, keys, strict=True) if key <= limit]
        return taken, [one for one, key in zip(candidates, keys, strict=True) if key > limit]

    def why(self, left: Series, taken: Series, noun: str) -> str:
        """Say which preference left a candidate behind one that was taken."""
        keys = zip(self.prefer, self._key(left), self._key(taken), strict=True)
        preference = next(preference for preference, mine, other in keys if mine != other)
        if isinstance(preference, Condition):
            return f"another {noun} fulfils a preferred condition"
        return f"another {noun} is preferred: {preference.replace('_', ' ')}"

    def _key(self, series: Series) -> tuple[float, ...]:
        """Return one number for each preference, of which the lower is the better."""
        return tuple(self._rank(series, preference) for preference in self.prefer)

    def _rank(self, series: Series, preference: Preference) -> float:
        if isinstance(preference, Condition):
            return float(not all(preference.holds(one.header, one.origin) for one in series))
        if preference == "same_frame_of_reference":
            return float(not _frames(series) & self.reference.frames)
        if preference in _SIZES:
            return _SIZES[preference](series)
        return self._in_time(series, preference)

    def _in_time(self, series: Series, preference: str) -> float:
        when = acquired(series.header)
        if when is None:
            return math.inf  # what has no date is neither the latest nor the earliest
        if preference == "nearest_in_time":
            at = self.reference.at
            return math.inf if at is None else abs((when - at).total_seconds())
        since = (when - _LONG_AGO).total_seconds()
        return -since if preference == "latest" else since


def slices(series: Series) -> int:
    """Count the different positions of a series' planes; its frames, where they have none."""
    try:
        found = list(planes(series))
    except GeometryError:
        return sum(map(_count, series))
    heights = np.sort([float(plane.position @ found[0].normal) for plane in found])
    return 1 + int((np.diff(heights) > SAME_POSITION_MM).sum())


def name(series: Series) -> str:
    """Name a series as people do: its number, description and count of images."""
    number = series.header.get("SeriesNumber")
    description = series.header.get("SeriesDescription") or "without description"
    return f"series {number if number is not None else '?'} “{description}” ({len(series)} images)"


def image_name(instance: Instance) -> str:
    """Name an image as people do: its number, its series, its view."""
    header = instance.header
    number, series = header.get("InstanceNumber"), header.get("SeriesNumber")
    view = " ".join([*text(header, "ViewPosition"), *text(header, "ImageLaterality")])
    shown = f" ({view})" if view else ""
    return (
        f"image {number if number is not None else '?'} of series "
        f"{series if series is not None else '?'}{shown}"
    )


def _frames(instances: Iterable[Instance]) -> frozenset[str]:
    frames = (str(one.header.get("FrameOfReferenceUID") or "") for one in instances)
    return frozenset(frames) - {""}


def _count(instance: Instance) -> int:
    try:
        return int(instance.header.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        return 1


_SIZES: dict[str, Callable[[Series], float]] = {
    "most_instances": lambda series: -sum(map(_count, series)),
    "fewest_instances": lambda series: sum(map(_count, series)),
    "most_slices": lambda series: -slices(series),
    "largest": lambda series: -_pixels(series),
}


def _pixels(series: Series) -> int:
    header = series.header
    return int(header.get("Rows") or 0) * int(header.get("Columns") or 0)
