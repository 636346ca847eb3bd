"""A structured report as a page shows it."""

from __future__ import annotations

from pydicom import Dataset

from overread.portal.objects import DEEPEST, Line, outline


def code(meaning: str, value: str = "1") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "99T", meaning
    return item


def content(kind: str, name: str = "", *children: Dataset, **values: object) -> Dataset:
    item = Dataset()
    item.ValueType = kind
    if name:
        item.ConceptNameCodeSequence = [code(name)]
    for keyword, value in values.items():
        setattr(item, keyword, value)
    if children:
        item.ContentSequence = list(children)
    return item


def measured(value: str, unit: str) -> Dataset:
    item = Dataset()
    item.NumericValue = value
    item.MeasurementUnitsCodeSequence = [code(unit, unit)]
    return item


def test_a_report_is_outlined_as_it_stands() -> None:
    report = content(
        "CONTAINER", "Report",
        content("CODE", "Finding", ConceptCodeSequence=[code("Fracture")]),
        content("TEXT", "Comment", TextValue="left"),
        content("UIDREF", "Tracking", UID="1.2.3"),
        content(
            "CONTAINER", "Group",
            content("NUM", "Volume", MeasuredValueSequence=[measured("12.50", "mL")]),
            content("NUM", "Ratio", MeasuredValueSequence=[measured("0.5", "1")]),
            content("NUM", "Lost", MeasuredValueSequence=[]),
            content("IMAGE"),
        ),
        content("PNAME", "Observer", PersonName="A^B"),
        content("DATETIME", "When", DateTime="20260602"),
    )  # fmt: skip
    assert list(outline(report)) == [
        Line(0, "Report", ""),
        Line(1, "Finding", "Fracture"),
        Line(1, "Comment", "left"),
        Line(1, "Group", ""),
        Line(2, "Volume", "12.5 mL"),
        Line(2, "Ratio", "0.5"),
        Line(2, "Lost", "no value"),
        Line(1, "Observer", "A^B"),
        Line(1, "When", "20260602"),
    ]


def test_a_report_that_is_too_deep_ends() -> None:
    inner = content("TEXT", "Bottom", TextValue="x")
    for _ in range(40):
        inner = content("CONTAINER", "Level", inner)
    lines = list(outline(inner))
    assert len(lines) == DEEPEST + 1
    assert all(line.name == "Level" for line in lines)
