"""A structured report as a page shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import DataElement, Dataset, FileMetaDataset, dcmwrite
from pydicom.datadict import tag_for_keyword
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian

from overread.portal.objects import DEEPEST, MOST_PICTURES, Line, _frames, _lines, outline
from overread.store.archive import Archive
from overread.store.tables import Instance


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


NESTED = bytes.fromhex("4100 30a7 5351 0000 ffffffff feff 00e0 ffffffff")
"""The beginnings of a sequence and of an item in it, of undefined length."""


def spoilt(item: Dataset, keyword: str, kind: str, value: object) -> Dataset:
    """The item with an element that is not what the Standard says that it is."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    item[keyword] = DataElement(tag, kind, value)
    return item


@pytest.mark.parametrize(
    "item",
    [
        content("NUM", "V", MeasuredValueSequence=[Dataset()]),
        content("NUM", "V", MeasuredValueSequence=[measured("", "mL")]),
        spoilt(content("NUM", "V"), "MeasuredValueSequence", "LO", "x"),
        spoilt(content("TEXT", "V"), "ConceptNameCodeSequence", "LO", "x"),
        spoilt(content("TEXT", "V"), "ContentSequence", "OB", b"x"),
        None,  # sequences within sequences, as many as there is room for
    ],
)
def test_a_report_of_any_content_leaves_the_page_standing(
    tmp_path: Path, item: Dataset | None
) -> None:
    parts = [content("TEXT", "First", TextValue="good"), *filter(None, [item])]
    report = content("CONTAINER", "Report", *parts)
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.SOPClassUID, report.SOPInstanceUID = ComprehensiveSRStorage, "1.2.3"
    dcmwrite(tmp_path / "report.dcm", report, enforce_file_format=True)
    if item is None:
        with (tmp_path / "report.dcm").open("ab") as stream:
            stream.write(NESTED * 5000)
    lines = _lines(Archive(tmp_path), Instance(key="report.dcm"))
    if item is not None:
        assert lines[:2] == (Line(0, "Report", ""), Line(1, "First", "good"))
    else:
        assert lines == (Line(0, "", "The rest of this report cannot be shown."),)


def test_a_capture_of_any_number_of_pictures_shows_some(tmp_path: Path) -> None:
    capture = Dataset()
    capture.file_meta = FileMetaDataset()
    capture.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    capture.SOPClassUID, capture.SOPInstanceUID = ComprehensiveSRStorage, "1.2.3"
    dcmwrite(tmp_path / "capture.dcm", capture, enforce_file_format=True)
    instance = Instance(
        key="capture.dcm", frames=2**31 - 1, study_uid="1", series_uid="2", sop_instance_uid="3"
    )
    assert len(_frames(Archive(tmp_path), instance)) == MOST_PICTURES
