from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from overread.dicom.moment import acquired, moment


def at(*when: int) -> datetime:
    return datetime(*when)  # type: ignore[arg-type]  # noqa: DTZ001, as DICOM writes it; the counts are the test's


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("20310214", "093015.25", at(2031, 2, 14, 9, 30, 15, 250000)),
        ("20310214", "0930", at(2031, 2, 14, 9, 30)),
        ("2031.02.14", "09:30:15", at(2031, 2, 14, 9, 30, 15)),
        ("20310214", "", at(2031, 2, 14)),
        ("20310214", "late", at(2031, 2, 14)),
        ("20310214", "259999", at(2031, 2, 14)),
        ("20310214", "235960", at(2031, 2, 14, 23, 59, 59)),
        ("", "0930", None),
        ("20310231", "0930", None),
    ],
)
def test_dates_and_times(date: str, time: str, expected: datetime | None) -> None:
    assert moment(date, time) == expected


@given(st.text(), st.text())
def test_any_text_is_a_moment_or_none(date: str, time: str) -> None:
    assert moment(date, time) is None or isinstance(moment(date, time), datetime)


def test_the_acquisition_counts_first_and_enhanced_images_have_their_own() -> None:
    header = Dataset()
    assert acquired(header) is None
    header.AcquisitionDateTime = "20310214093015.5+0100"
    assert acquired(header) == at(2031, 2, 14, 9, 30, 15, 500000)
    header.ContentDate = "20310301"
    assert acquired(header) == at(2031, 3, 1)
    header.SeriesDate, header.SeriesTime = "20310210", "08"
    assert acquired(header) == at(2031, 2, 10, 8)
    header.AcquisitionDate = "20310209"
    assert acquired(header) == at(2031, 2, 9)
