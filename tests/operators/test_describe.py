from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from overread.dicom.description import Description
from overread.dicom.study import Exam, Instance
from overread.operators import files
from overread.operators.describe import describe_exam
from overread.pipelines.check import check_value
from overread.pipelines.ports import Account, signature
from tests.dicom.test_description import instance


def test_the_account_says_what_is_wrong_with_which_series() -> None:
    account = Account()
    found = describe_exam(Exam((instance("1"), instance(""))), account)
    assert found.data["images"] == 2
    assert [uid for uid, _ in account.used] == ["1.1"]
    assert account.notes == [
        "series ? “without description” (2 images): image ?: SOPInstanceUID is absent"
    ]


def test_a_wrong_tag_is_found_when_the_site_is_loaded() -> None:
    ports = signature("describe_exam", describe_exam)
    (problem,) = check_value(("tags",), ports.settings["tags"], ["Modality", "SliceThicknes"])
    assert problem.path == ("tags", 1)
    assert "SliceThicknes" in problem.what
    assert "SliceThickness" in problem.expected


def test_a_real_series_is_kept_as_a_small_file(shared_data: Path, tmp_path: Path) -> None:
    paths = sorted((shared_data / "brain_t1" / "dicoms").glob("*.dcm"))
    held = tuple(Instance(dcmread(one, stop_before_pixels=True), one) for one in paths)
    found = describe_exam(Exam(held), Account(), tags=("Modality", "SliceLocation"))
    assert found.data["frames"] == len(paths) == 384
    files.save(found, tmp_path)
    assert (tmp_path / "description.json").stat().st_size < 200_000
    again = files.load(tmp_path)
    assert isinstance(again, Description)
    assert again.data == found.data


@pytest.mark.parametrize("at_most", [0, 1])
def test_images_need_not_be_listed(at_most: int) -> None:
    exam = Exam((instance("1"), instance("2")))
    (series,) = describe_exam(exam, Account(), at_most=at_most).data["series"]
    assert len(series["each"]) == at_most
    assert series["not_listed"] == 2 - at_most
