"""A patient's volumes over time, as the points of a small SVG plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from overread.dicom.study import day
from overread.portal.text import dicom_date, volume
from overread.store.history import Point

WIDTH, HEIGHT = 408, 132
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 398, 12, 104


@dataclass(frozen=True)
class Dot:
    """One exam's volume of one region.

    Attributes
    ----------
    x, y : float
        In the plot's own units.
    title : str
        What it says when pointed at.
    current : bool
        Whether it is the case that is open.
    """

    x: float
    y: float
    title: str
    current: bool


@dataclass(frozen=True)
class Plot:
    """Everything that is drawn.

    Attributes
    ----------
    lines : list of (region, dots)
        One a region.
    levels : list of (y, text)
        Grid lines of the volume axis, in mL.
    dates : list of (x, text)
        Labels of the time axis.
    """

    lines: list[tuple[str, list[Dot]]]
    levels: list[tuple[float, str]]
    dates: list[tuple[float, str]]


def plot(points: Sequence[Point], current_id: str) -> Plot | None:
    """Lay out the plot; none where there are not two exams with a date and a volume."""
    dated = [
        (acquired, point)
        for point in points
        if (acquired := day(point.case.exam.study_date)) and point.volumes
    ]
    if len({acquired for acquired, _ in dated}) < 2:
        return None
    first, last = dated[0][0], dated[-1][0]
    days = (last - first).days
    step = _step(max(item.value for _, point in dated for item in point.volumes.values()))
    top = step * 3

    def x(acquired: date) -> float:
        return _LEFT + 8 + (_RIGHT - _LEFT - 16) * (acquired - first).days / days

    def y(value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * value / top

    lines: dict[str, list[Dot]] = {}
    for acquired, point in dated:
        for region, item in point.volumes.items():
            title = f"{dicom_date(point.case.exam.study_date)}: {volume(item.value)} {item.unit}"
            dot = Dot(x(acquired), y(item.value), title, point.case.id == current_id)
            lines.setdefault(region, []).append(dot)
    levels = [(y(step * n), f"{step * n:g}") for n in range(4)]
    return Plot(list(lines.items()), levels, _labels([acquired for acquired, _ in dated], x))


def _step(highest: float) -> float:
    """Return a round third of the axis: 1, 2, 2.5 or 5 times a power of ten."""
    if highest <= 0:
        return 1.0
    raw = highest / 3
    power = 10.0 ** math.floor(math.log10(raw))
    return next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= raw * 0.999)


def _labels(days: Sequence[date], x: Callable[[date], float]) -> list[tuple[float, str]]:
    labels: list[tuple[float, str]] = []
    for acquired in dict.fromkeys(days):
        place = x(acquired)
        if not labels or place - labels[-1][0] >= 56:
            labels.append((place, f"{acquired:%b} {acquired:%y}"))
    return labels
