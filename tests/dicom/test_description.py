from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from overread.dicom.description import Description, describe
from overread.dicom.element import parse_address
from overread.dicom.study import Exam, Instance


def instance(uid: str, series: str = "1.1", **values: Any) -> Instance:
    header = Dataset()
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    header.SOPInstanceUID, header.SeriesInstanceUID, header.Modality = uid, series, "DX"
    header.Rows = 8
    for keyword, value in values.items():
        setattr(header, keyword, value)
    return Instance(header)


def told(*instances: Instance, tags: tuple[str, ...] = (), at_most: int = 100) -> dict[str, Any]:
    found = describe(Exam(instances), [parse_address(tag) for tag in tags], at_most).to_json()
    assert json.loads(json.dumps(found)) == found
    assert Description.from_json(found).to_json() == found
    return found


def test_what_is_shared_stands_once_and_what_differs_with_each() -> None:
    found = told(
        instance("1", ViewPosition="AP", ImageLaterality="R", InstanceNumber=1),
        instance("2", ViewPosition="LL", ImageLaterality="R", InstanceNumber=2),
        instance("3", "1.2", Modality="SR", Rows=None),
        tags=("Modality", "ViewPosition", "PatientName"),
    )
    assert (found["images"], found["frames"], found["problems"]) == (3, 2, [])
    first, second = found["series"]
    assert first["tags"] == {"Modality": ["DX"], "PatientName": []}
    assert first["views"] == ["AP R", "LL R"]
    assert [row["tags"] for row in first["each"]] == [
        {"ViewPosition": ["AP"]},
        {"ViewPosition": ["LL"]},
    ]
    assert [row["number"] for row in first["each"]] == ["1", "2"]
    assert (second["tags"]["Modality"], second["frames"]) == (["SR"], 0)


def test_nested_and_private_elements() -> None:
    inner, one = Dataset(), instance("1")
    inner.CodeMeaning = "Hip joint"
    one.header.AnatomicRegionSequence = [inner]
    block = one.header.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", "1000")
    tags = ("AnatomicRegionSequence.CodeMeaning", "(0019,xx0C)@SIEMENS MR HEADER")
    assert told(one, tags=tags)["series"][0]["tags"] == {
        tags[0]: ["Hip joint"],
        tags[1]: ["1000"],
    }


def test_it_is_bounded() -> None:
    many = [instance(str(index), InstanceNumber=index) for index in range(30)]
    many[0].header.StudyDescription = "x" * 1000
    many[0].header.OtherPatientNames = [f"NAME^{index}" for index in range(300)]
    (series,) = told(*many, tags=("StudyDescription", "OtherPatientNames"), at_most=5)["series"]
    assert (len(series["each"]), series["not_listed"], series["images"]) == (5, 25, 30)
    assert len(series["each"][0]["tags"]["StudyDescription"][0]) == 256
    names = series["each"][0]["tags"]["OtherPatientNames"]
    assert (len(names), names[-1]) == (65, "… and 236 more")


def test_what_cannot_be_read_is_named_and_the_rest_is_told() -> None:
    bad = instance("2")
    bad.header[Tag("SliceThickness")] = RawDataElement(
        Tag("SliceThickness"), "DS", 4, b"thin", 0, False, True
    )
    bad.header[Tag("Columns")] = RawDataElement(Tag("Columns"), "US", 3, b"abc", 0, False, True)
    nameless = instance("")
    count = instance("4", NumberOfFrames="3", PerFrameFunctionalGroupsSequence=[Dataset()])
    found = told(
        instance("1"), bad, nameless, count, tags=("SliceThickness", "Columns", "Modality")
    )
    assert found["images"] == 4
    by_image = {problem["image"]: problem["what"] for problem in found["problems"]}
    of_2 = [problem["what"] for problem in found["problems"] if problem["image"] == "2"]
    assert of_2[0] == "SliceThickness cannot be read: it is 'thin'; a number was expected"
    assert of_2[1].startswith("Columns cannot be read: BytesLengthException: Expected total bytes")
    assert by_image[""] == "SOPInstanceUID is absent"
    assert by_image["4"] == "NumberOfFrames is 3, but PerFrameFunctionalGroupsSequence describes 1"
    assert found["series"][0]["tags"] == {"Modality": ["DX"]}
    assert found["series"][0]["each"][1]["tags"] == {
        "SliceThickness": ["thin"],
        "Columns": ["abc"],
    }


@pytest.mark.parametrize(
    ("folder", "frames"),
    [
        ("dicom2nifti/philips_enhanced_anatomical_001", 8),
        ("dicom2nifti/siemens_multiframe_anatomical_001", 8),
        ("dicom2nifti/anatomical_001", 4),
        ("pydicom", 5),
        ("transfer_syntaxes", 9),
        ("dcmqi_ct_3slice_seg", 6),
    ],
)
def test_every_real_file_is_told_of(folder: str, frames: int, shared_data: Path) -> None:
    """Broken, odd, enhanced: each is described, and it is said what is wrong with it."""
    paths = sorted(
        one for one in (shared_data / "dicom_variants" / folder).rglob("*") if one.is_file()
    )
    held = tuple(Instance(dcmread(one, stop_before_pixels=True, force=True), one) for one in paths)
    position = "PerFrameFunctionalGroupsSequence.PlanePositionSequence.ImagePositionPatient"
    found = told(*held, tags=("Modality", "StudyDescription", position))
    assert found["images"] == len(paths)
    assert found["frames"] == frames
    if "enhanced" in folder:
        assert len(found["series"][0]["tags"][position]) == 3 * frames
