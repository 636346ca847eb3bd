"""What the plot is drawn from: numbers and words, as JSON in a data block of the page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from overread.portal.measured import Course, Drawn, Entry
from overread.portal.text import amount, change, dicom_date, unit


def plot(course: Course) -> dict[str, Any]:
    """Return what ``static/js/plot.js`` draws of a course.

    Returns
    -------
    dict
        ``title``, ``unit``, and ``lines``: each with its ``look``, ``label``, ``edit``, its
        ``points`` (``at`` in seconds as if it had been UTC, ``value``, ``words`` for the pointer,
        ``href``, whether it is of the exam that is ``now`` open, and whether it was acquired
        ``otherwise``) and its ``levels`` (``value``, ``low``, ``high``, ``words``).
    """
    return {
        "title": course.title,
        "unit": unit(course.unit),
        "lines": [_line(course, line) for line in course.lines if line.entries],
    }


def _line(course: Course, line: Drawn) -> dict[str, Any]:
    band = f", band = repeatability {course.series.repeatability or 0:g} %"
    return {
        "look": line.look,
        "label": line.label,
        "edit": line.entries[0].number.source.is_edit,
        "points": [_point(entry) for entry in line.entries],
        "levels": [
            {
                "value": level.value,
                "low": level.low,
                "high": level.high,
                "words": f"{change(level.percent) or 'threshold'}"
                + (band if level.high > level.low else ""),
            }
            for level in line.levels
        ],
    }


def _point(entry: Entry) -> dict[str, Any]:
    at, item = entry.visit.at, entry.number.item
    assert at is not None  # noqa: S101 - a line has dated entries only
    return {
        "at": at.replace(tzinfo=UTC).timestamp(),
        "value": item.value,
        "words": _words(entry),
        "href": f"/cases/{entry.visit.link}",
        "now": entry.is_current,
        "otherwise": bool(entry.differs),
    }


def _words(entry: Entry) -> Sequence[str]:
    item, row = entry.number.item, entry.row
    value = f"{amount(item.value, item.unit)} {unit(item.unit)}".strip()
    moved = change(row.percent) or ("baseline" if row.gap == "baseline" else "")
    date = f"{entry.visit.at:%Y%m%d}"
    return [part for part in (dicom_date(date), value, moved, entry.mark, entry.differs) if part]
