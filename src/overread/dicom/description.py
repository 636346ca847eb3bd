"""What an exam holds, in words: each series and image with the attributes that were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overread.dicom.element import Address, unreadable
from overread.dicom.match import text
from overread.dicom.study import Exam, Instance, Series

LONGEST = 256
"""Characters of a value that are kept."""

MOST_VALUES = 64
"""Values of an attribute that are kept; a path through a thousand frames finds a thousand."""

_VIEW = ("ViewPosition", "ViewCodeSequence.CodeMeaning")
_SIDE = ("ImageLaterality", "Laterality")
_REQUIRED = ("SOPInstanceUID", "SeriesInstanceUID", "SOPClassUID", "Modality")

Json = dict[str, Any]


@dataclass(frozen=True)
class Description:
    """An exam described: plain JSON, see `overread.operators.describe.describe_exam`."""

    data: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the description."""
        return self.data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Description:
        """Read what `to_json` wrote."""
        return cls(dict(data))


def describe(exam: Exam, tags: Sequence[Address], at_most: int) -> Description:
    """Describe an exam.

    Parameters
    ----------
    exam : Exam
        Headers are enough; no pixels are read.
    tags : sequence of Address
        What is told of each image, by the address as it was written.
    at_most : int
        Most images that are listed one by one, of each series.

    Returns
    -------
    Description
        As `overread.operators.describe.describe_exam` has it.
    """
    series = [_series(one, tags, at_most) for one in exam.series()]
    return Description(
        {
            "images": len(exam),
            "frames": sum(one["frames"] for one in series),
            "series": series,
            "problems": [problem for one in series for problem in one["problems"]],
        }
    )


def _series(series: Series, tags: Sequence[Address], at_most: int) -> Json:
    problems: list[Json] = []
    rows = []
    for instance in series:
        row, wrong = _image(instance, tags)
        rows.append(row)
        problems += [{"series": series.uid, "image": instance.uid, "what": what} for what in wrong]
    common = {
        tag.written: rows[0]["tags"][tag.written]
        for tag in tags
        if all(row["tags"][tag.written] == rows[0]["tags"][tag.written] for row in rows)
    }
    for row in rows:
        row["tags"] = {name: of for name, of in row["tags"].items() if name not in common}
    return {
        "uid": series.uid,
        "images": len(rows),
        "frames": sum(row["frames"] for row in rows),
        "views": _views(series),
        "tags": common,
        "each": rows[:at_most],
        "not_listed": max(0, len(rows) - at_most),
        "problems": problems,
    }


def _image(instance: Instance, tags: Sequence[Address]) -> tuple[Json, list[str]]:
    header = instance.header
    frames, wrong = _frames(instance)
    wrong += [f"{name} is absent" for name in _REQUIRED if not text(header, name)]
    told: dict[str, list[str]] = {}
    for tag in tags:
        values = [_short(value) for value in tag.read(header, instance.origin).values]
        if len(values) > MOST_VALUES:
            more = f"… and {len(values) - MOST_VALUES} more"
            values = [*values[:MOST_VALUES], more]
        told[tag.written] = values
        if reason := unreadable(header, tag):
            wrong.append(f"{tag.written} cannot be read: {reason}")
    number = text(header, "InstanceNumber")
    row = {
        "uid": instance.uid,
        "number": _short(number[0]) if number else "",
        "frames": frames,
        "tags": told,
    }
    return row, wrong


def _frames(instance: Instance) -> tuple[int, list[str]]:
    """Count the frames of an image: 0 for what is no image."""
    header = instance.header
    if not text(header, "Rows"):
        return 0, []
    said = text(header, "NumberOfFrames")
    groups = text(header, "PerFrameFunctionalGroupsSequence")  # as text, a sequence is "8 items"
    listed = int(groups[0].split()[0]) if groups else 0
    try:
        count = int(said[0]) if said else 1
    except ValueError:
        return listed or 1, [f"NumberOfFrames is {_short(said[0])!r}; a number was expected"]
    if listed and listed != count:
        return count, [
            f"NumberOfFrames is {count}, but PerFrameFunctionalGroupsSequence describes {listed}"
        ]
    return count, []


def _views(series: Series) -> list[str]:
    """List the different views of a series of projections, in order of first appearance."""
    found: dict[str, None] = {}
    for instance in series:
        view = next((v for name in _VIEW for v in text(instance.header, name)), "")
        side = next((v for name in _SIDE for v in text(instance.header, name)), "")
        if view:
            found[_short(f"{view} {side}".strip())] = None
    return list(found)[:MOST_VALUES]


def _short(value: str) -> str:
    return value if len(value) <= LONGEST else value[: LONGEST - 1] + "…"
