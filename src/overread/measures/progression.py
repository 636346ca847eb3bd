"""How a number changes from one exam of a patient to the next, and which changes count.

Numbers are compared along a *line*: one quantity of one region in one unit, by one source. What one
model version measured is never compared with what another did, nor with what a reader edited. Along
a line one exam is the baseline, and every other is compared with it, in the order in which they
were acquired, whenever they came here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal

FIRST, NADIR = "first", "nadir"

Direction = Literal["increase", "decrease", ""]
Gap = Literal["", "baseline", "undated", "no baseline", "zero baseline"]

_EXACT = 1e-9
"""Relative difference that is arithmetic, not change: 3.0 to 3.3 is "at least 10 %"."""


@dataclass(frozen=True, order=True)
class Line:
    """What is compared with itself only.

    Attributes
    ----------
    region, quantity, unit : str
        What was measured, and in what.
    source : str
        Whose numbers these are: a model with its version, or a reader.
    """

    region: str
    quantity: str
    unit: str
    source: str


@dataclass(frozen=True)
class Point:
    """One number of one exam.

    Attributes
    ----------
    exam : str
        Opaque id.
    at : datetime or None
        When it was acquired; none where that is not known.
    how : mapping of str to str
        How it was acquired: ``scanner``, ``sequence``, ``spacing`` and whatever else makes numbers
        differ, in words that are the same where that is; what is not known is left out.
    """

    line: Line
    exam: str
    at: datetime | None
    value: float
    how: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Rule:
    """Which changes count.

    Attributes
    ----------
    increase, decrease : float, optional
        Per cent of the baseline, above 0.
    absolute : float, optional
        Increase in the line's unit, above 0: what is less does not count, whatever its per cent.
        From a baseline of zero, which has no per cent, it decides alone.
    repeatability : float, optional
        Per cent of the baseline by which two measurements of one state differ.
    """

    increase: float | None = None
    decrease: float | None = None
    absolute: float | None = None
    repeatability: float | None = None


@dataclass(frozen=True)
class Row:
    """A number, and how it stands to its line's baseline.

    Attributes
    ----------
    baseline : Point or None
        What it is compared with; none where its line has no value at the chosen baseline.
    gap : str
        Why there is no change in per cent: it is the ``baseline`` itself, it is ``undated``, its
        line has ``no baseline``, or a ``zero baseline``; empty where there is one.
    percent : float or None
        Change in per cent of the baseline's size.
    absolute : float or None
        Change in the line's unit.
    crossed : str
        ``increase`` or ``decrease``, where a threshold is reached by an exam after the baseline.
    is_within_error : bool
        Whether each threshold that it reaches is reached by less than the repeatability, so that
        measuring again could say otherwise.
    differs : tuple of str
        In what its acquisition differs from the baseline's: keys of ``how`` known of both.
    """

    point: Point
    baseline: Point | None = None
    gap: Gap = ""
    percent: float | None = None
    absolute: float | None = None
    crossed: Direction = ""
    is_within_error: bool = False
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Level:
    """A value at which a line reaches a threshold.

    Attributes
    ----------
    low, high : float
        The band of the repeatability around it; the value itself where that is not known.
    percent : float or None
        The change that it stands for; none where the baseline is zero.
    """

    value: float
    low: float
    high: float
    percent: float | None
    direction: Direction


def progression(points: Iterable[Point], rule: Rule | None = None, start: str = FIRST) -> list[Row]:
    """Compare every number with its line's baseline.

    Parameters
    ----------
    points : iterable of Point
        In any order; of a line at most one an exam.
    rule : Rule, optional
        Which changes count; none do where left out.
    start : str
        Which exam is the baseline: the ``first``, the one with the lowest value (``nadir``; the
        earliest of those), or an exam's id. A line without a value there has no baseline.

    Returns
    -------
    list of Row
        By time of acquisition, and what was acquired at one time by exam; undated exams last.
    """
    rule = rule or Rule()
    ordered = sorted(points, key=_place)
    lines: dict[Line, list[Point]] = {}
    for point in ordered:
        lines.setdefault(point.line, []).append(point)
    baselines = {line: baseline(of_line, start) for line, of_line in lines.items()}
    return [_row(point, baselines[point.line], rule) for point in ordered]


def baseline(points: Sequence[Point], start: str = FIRST) -> Point | None:
    """Choose the baseline among the points of one line; an undated exam is none.

    Parameters
    ----------
    start : str
        As of `progression`.
    """
    dated = sorted((point for point in points if point.at is not None), key=_place)
    if not dated:
        return None
    if start == FIRST:
        return dated[0]
    if start == NADIR:
        return min(dated, key=lambda point: point.value)
    return next((point for point in dated if point.exam == start), None)


def levels(base: Point, rule: Rule) -> list[Level]:
    """Return the values at which a line with this baseline reaches a threshold.

    An increase has to reach both what is said in per cent and what is said in the unit.
    """
    size = abs(base.value)
    band = size * (rule.repeatability or 0) / 100
    ups = [size * rule.increase / 100] if rule.increase and size else []
    ups += [rule.absolute] if rule.absolute else []
    found: list[tuple[float, Direction]] = [(base.value + max(ups), "increase")] if ups else []
    if rule.decrease and size:
        found.append((base.value - size * rule.decrease / 100, "decrease"))
    return [
        Level(
            value, value - band, value + band,
            (value - base.value) / size * 100 if size else None, direction,
        )
        for value, direction in found
    ]  # fmt: skip


def _place(point: Point) -> tuple[bool, str, str, Line]:
    at = point.at.isoformat() if point.at is not None else ""
    return point.at is None, at, point.exam, point.line


def _row(point: Point, base: Point | None, rule: Rule) -> Row:
    if base is not None and point is base:
        return Row(point, base, "baseline")
    if point.at is None:
        return Row(point, gap="undated")
    if base is None or base.at is None:
        return Row(point, gap="no baseline")
    change = point.value - base.value
    size = abs(base.value)
    crossed: Direction = ""
    within_error = False
    if (base.at, base.exam) < (point.at, point.exam):
        crossed, within_error = _judge(point, base, rule)
    differs = tuple(
        key for key, words in base.how.items() if key in point.how and point.how[key] != words
    )
    return Row(
        point,
        base,
        "" if size else "zero baseline",
        change / size * 100 if size else None,
        change,
        crossed,
        within_error,
        differs,
    )


def _judge(point: Point, base: Point, rule: Rule) -> tuple[Direction, bool]:
    """Say which threshold a point reaches, and whether only within the measurement's error."""
    for level in levels(base, rule):
        beyond = point.value - level.value
        if level.direction == "decrease":
            beyond = -beyond
        exact = _EXACT * max(abs(level.value), abs(base.value))
        if beyond >= -exact:
            return level.direction, beyond < (level.high - level.value) - exact
    return "", False
