from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

from overread.dicom.acquisition import acquisition, moment


def header(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def group(**values: Any) -> list[Dataset]:
    return [header(**values)]


@pytest.mark.parametrize(
    ("date", "clock", "read"),
    [
        ("20260602", "083000", "2026-06-02 08:30:00"),
        ("2026.06.02", "08:30:00", "2026-06-02 08:30:00"),
        ("20260602", "0830", "2026-06-02 08:30:00"),
        ("20260602", "08", "2026-06-02 08:00:00"),
        ("20260602", "083000.25", "2026-06-02 08:30:00.250000"),
        ("20260602", "235960", "2026-06-02 23:59:59"),
        ("20260602", "", "2026-06-02 00:00:00"),
        ("20260602", "993000", "2026-06-02 00:00:00"),
        ("20260602", "soon", "2026-06-02 00:00:00"),
        ("20261340", "083000", "None"),
        ("", "083000", "None"),
    ],
)
def test_moments(date: str, clock: str, read: str) -> None:
    assert f"{moment(date, clock)}" == read


@pytest.mark.parametrize(
    ("values", "at"),
    [
        ({"AcquisitionDateTime": "20260601101112+0200", "StudyDate": "20260101"}, "2026-06-01 10"),
        ({"AcquisitionDate": "20260601", "AcquisitionTime": "10"}, "2026-06-01 10"),
        ({"AcquisitionDate": "20261301", "SeriesDate": "20260601"}, "2026-06-01 00"),
        ({"StudyDate": "20260601", "StudyTime": "10"}, "2026-06-01 10"),
        ({}, "None"),
    ],
)  # fmt: skip
def test_the_acquisitions_own_date_is_taken_before_the_studys(
    values: dict[str, str], at: str
) -> None:
    assert f"{acquisition(header(**values)).at}".startswith(at)


def test_how_an_image_was_acquired() -> None:
    told = acquisition(
        header(
            Modality="CT",
            Manufacturer="Acme",
            ManufacturerModelName="One",
            DeviceSerialNumber="7",
            KVP="120",
            ConvolutionKernel=["B", "30f"],
            ContrastBolusAgent="agent",
            PixelSpacing=[0.703125, 0.703125],
            SliceThickness="1.5",
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )
    )
    assert dict(told.how) == {
        "scanner": "Acme One, 7",
        "sequence": "120 B\\30f contrast",
        "spacing": "0.70 × 0.70 × 1.50",
    }


def test_an_enhanced_image_tells_its_spacing_in_its_groups() -> None:
    measures = group(
        PixelMeasuresSequence=group(
            PixelSpacing=[1.0, 1.0], SliceThickness="2", SpacingBetweenSlices="2.5"
        )
    )
    told = acquisition(header(Modality="MR", SharedFunctionalGroupsSequence=measures))
    assert dict(told.how) == {"spacing": "1.00 × 1.00 × 2.50"}


def test_what_an_image_does_not_tell_is_left_out() -> None:
    assert acquisition(Dataset()).how == {}
    assert dict(acquisition(header(Modality="DX", ViewPosition="AP")).how) == {"sequence": "AP"}
