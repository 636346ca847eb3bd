"""The DICOM objects that a job made, as a page shows them: captures, reports, documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from pydicom import Dataset, dcmread
from sqlalchemy.orm import Session

from overread.dicom.encoded import UNREADABLE
from overread.portal.findings import rendered
from overread.portal.text import unit
from overread.store.archive import Archive
from overread.store.cases import Shown
from overread.store.tables import Instance, Result

MOST_PICTURES = 200
"""Of a capture, that a page shows."""

MOST_LINES = 400
"""Lines of a report that a page shows; a report may have any number."""

DEEPEST = 12
"""Levels of a report that a page shows."""

TEXTS = {
    "TEXT": "TextValue",
    "PNAME": "PersonName",
    "DATE": "Date",
    "TIME": "Time",
    "DATETIME": "DateTime",
}
"""Kinds of content items (PS3.3 table C.17.3-7) that are plain text, and where it stands."""

NAMES = {
    "segmentation": "Segmentation",
    "structure set": "Structure set",
    "report": "Structured report",
    "capture": "Capture",
    "document": "PDF document",
}
"""What a kind of object is called; another by its own name."""


@dataclass(frozen=True)
class Frame:
    """One picture of a capture."""

    url: str
    words: str


@dataclass(frozen=True)
class Line:
    """A line of a structured report: how deep it stands, its concept, and its value."""

    depth: int
    name: str
    value: str


@dataclass(frozen=True)
class Made:
    """A DICOM object among the results.

    Attributes
    ----------
    result : Result
    name : str
        What kind of object it is.
    title : str
        SeriesDescription.
    frames : tuple of Frame
        Of a capture.
    columns, rows : int
        Size of a capture's pictures.
    lines : tuple of Line
        Of a report.
    is_cut : bool
        Whether the report has more lines.
    url : str
        Of a document: where it opens.
    """

    result: Result
    name: str
    title: str
    frames: tuple[Frame, ...] = ()
    columns: int = 0
    rows: int = 0
    lines: tuple[Line, ...] = ()
    is_cut: bool = False
    url: str = ""


def objects(session: Session, archive: Archive, shown: Shown) -> list[Made]:
    """List the objects among the current results of a case, in the order of `NAMES`."""
    made = []
    kinds = list(NAMES)
    for result in sorted(shown.results, key=lambda one: _place(kinds, one.kind)):
        instance = session.get(Instance, result.instance_id) if result.instance_id else None
        if instance is not None:
            made.append(_made(archive, result, instance))
    return made


def _place(kinds: Sequence[str], kind: str) -> int:
    return kinds.index(kind) if kind in kinds else len(kinds)


def _made(archive: Archive, result: Result, instance: Instance) -> Made:
    name = NAMES.get(result.kind, result.kind.capitalize())
    title = instance.series_description
    if result.kind == "capture":
        return Made(
            result, name, title, _frames(archive, instance),
            instance.columns or 0, instance.rows or 0,
        )  # fmt: skip
    if result.kind == "report":
        lines = _lines(archive, instance)
        return Made(result, name, title, lines=lines[:MOST_LINES], is_cut=len(lines) > MOST_LINES)
    if result.kind == "document":
        return Made(result, name, title, url=rendered(instance))
    return Made(result, name, title)


def _frames(archive: Archive, instance: Instance) -> tuple[Frame, ...]:
    header = dcmread(
        archive.path(instance.key), stop_before_pixels=True, specific_tags=["FrameLabelVector"]
    )
    value = header.get("FrameLabelVector") or []
    labels = [value] if isinstance(value, str) else list(value)
    return tuple(
        Frame(
            rendered(instance, number),
            str(labels[number - 1]) if number <= len(labels) else f"picture {number}",
        )
        for number in range(1, min(instance.frames, MOST_PICTURES) + 1)
    )


def _lines(archive: Archive, instance: Instance) -> tuple[Line, ...]:
    lines: list[Line] = []
    try:
        header = dcmread(archive.path(instance.key), stop_before_pixels=True)
        lines.extend(islice(outline(header), MOST_LINES + 1))
    except UNREADABLE:  # a program from outside wrote it, and may have written anything
        lines.append(Line(0, "", "The rest of this report cannot be shown."))
    return tuple(lines)


def outline(item: Dataset, depth: int = 0) -> Iterator[Line]:
    """Yield the content items of a structured report (PS3.3 C.17.3), as they stand.

    References to images and UIDs are left out: they say something to machines only.
    """
    value = _value(item)
    name = _meaning(item.get("ConceptNameCodeSequence"))
    if value is not None and (name or value):
        yield Line(depth, name, value)
        depth += 1
    if depth > DEEPEST:
        return
    for child in item.get("ContentSequence") or ():
        yield from outline(child, depth)


def _value(item: Dataset) -> str | None:
    """Return the value of a content item as text; none for what is not shown."""
    kind = str(item.get("ValueType", ""))
    if kind == "CONTAINER":
        return ""
    if kind == "CODE":
        return _meaning(item.get("ConceptCodeSequence"))
    if kind == "NUM":
        return _number(item)
    return str(item.get(TEXTS[kind], "")) if kind in TEXTS else None


def _number(item: Dataset) -> str:
    measured = item.get("MeasuredValueSequence")
    if not measured:
        return _meaning(item.get("NumericValueQualifierCodeSequence")) or "no value"
    units = measured[0].get("MeasurementUnitsCodeSequence")
    code = str(units[0].get("CodeValue", "")) if units else ""
    return f"{float(measured[0].NumericValue):g} {unit(code)}".strip()


def _meaning(sequence: Sequence[Dataset] | None) -> str:
    return str(sequence[0].get("CodeMeaning", "")) if sequence else ""
