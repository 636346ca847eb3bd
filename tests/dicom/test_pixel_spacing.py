from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread

from overread.dicom.pixel_spacing import pixel_spacing


def header(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def region(delta: float = 0.02, **values: Any) -> Dataset:
    return header(
        RegionSpatialFormat=1,
        PhysicalUnitsXDirection=3,
        PhysicalUnitsYDirection=3,
        PhysicalDeltaX=delta,
        PhysicalDeltaY=delta * 1.5,
        **values,
    )


MOTION = header(
    RegionSpatialFormat=2,
    PhysicalUnitsXDirection=4,
    PhysicalUnitsYDirection=3,
    PhysicalDeltaX=0.01,
    PhysicalDeltaY=0.09,
)


@pytest.mark.parametrize(
    ("values", "mm", "says"),
    [
        (
            {"PixelSpacing": [0.14, 0.14], "PixelSpacingCalibrationType": "FIDUCIAL"},
            (0.14, 0.14),
            "PixelSpacing (calibrated: FIDUCIAL)",
        ),
        (
            {"PixelSpacing": [0.12, 0.12], "ImagerPixelSpacing": [0.15, 0.15]},
            (0.12, 0.12),
            "PixelSpacing (calibrated: it differs from ImagerPixelSpacing)",
        ),
        (
            {"PixelSpacing": [0.15, 0.15], "ImagerPixelSpacing": ["0.150", "0.150"]},
            (0.15, 0.15),
            "ImagerPixelSpacing (at the detector)",
        ),
        (
            {
                "ImagerPixelSpacing": [0.15, 0.15],
                "EstimatedRadiographicMagnificationFactor": "1.25",
            },
            (0.12, 0.12),
            "ImagerPixelSpacing / 1.25 (in the patient, at the estimated magnification)",
        ),
        (
            {
                "PixelSpacing": [0.15, 0.15],
                "ImagerPixelSpacing": [0.15, 0.15],
                "EstimatedRadiographicMagnificationFactor": "1.25",
            },
            (0.12, 0.12),
            "ImagerPixelSpacing / 1.25 (in the patient, at the estimated magnification)",
        ),
        (
            {"PixelSpacing": [0.2, 0.1]},
            (0.2, 0.1),
            "PixelSpacing (it is not said what it refers to)",
        ),
        (
            {"PixelSpacing": [0.2, 0.1], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
            (0.2, 0.1),
            "PixelSpacing",
        ),
        (
            {"NominalScannedPixelSpacing": [0.1, 0.1]},
            (0.1, 0.1),
            "NominalScannedPixelSpacing (of the digitised film)",
        ),
        ({}, None, "the image does not say how far apart its pixels lie"),
        ({"PixelSpacing": [0, 0]}, None, "the image does not say how far apart its pixels lie"),
        (
            {"SequenceOfUltrasoundRegions": [MOTION, region()], "PixelSpacing": [9, 9]},
            (0.3, 0.2),
            "SequenceOfUltrasoundRegions (of the two-dimensional region)",
        ),
        (
            {"SequenceOfUltrasoundRegions": [region(), region(0.03)]},
            None,
            "the regions of the image have different scales",
        ),
        (
            {"SequenceOfUltrasoundRegions": [MOTION]},
            None,
            "no two-dimensional region of the image is in centimetres",
        ),
    ],
)
def test_the_attribute_that_says_it(values: dict[str, Any], mm: Any, says: str) -> None:
    found = pixel_spacing(header(**values))
    assert found.mm == (None if mm is None else pytest.approx(mm))
    assert found.says == says
    assert found.aspect == pytest.approx(mm[0] / mm[1] if mm else 1)


def test_the_aspect_of_pixels_whose_distance_is_not_known() -> None:
    assert pixel_spacing(header(PixelAspectRatio=[4, 3])).aspect == pytest.approx(4 / 3)
    regions = header(PixelAspectRatio=[2, 1], SequenceOfUltrasoundRegions=[MOTION])
    assert pixel_spacing(regions).aspect == 2
    assert pixel_spacing(header(PixelAspectRatio=[0, 1])).aspect == 1


def test_frames_of_an_enhanced_image_have_their_own() -> None:
    frames = [
        header(PixelMeasuresSequence=[header(PixelSpacing=[size, size])]) for size in (0.5, 0.7)
    ]
    enhanced = header(
        PerFrameFunctionalGroupsSequence=frames, SharedFunctionalGroupsSequence=[Dataset()]
    )
    assert pixel_spacing(enhanced, 1).mm == (0.7, 0.7)
    angiogram = header(
        SharedFunctionalGroupsSequence=[
            header(
                FramePixelDataPropertiesSequence=[header(ImagerPixelSpacing=[0.2, 0.2])],
            )
        ],
        PerFrameFunctionalGroupsSequence=[Dataset()],
    )
    assert pixel_spacing(angiogram).says == "ImagerPixelSpacing (at the detector)"


@given(st.floats(1.0, 3.0), st.floats(0.05, 1.0))
def test_magnification_makes_smaller(factor: float, size: float) -> None:
    magnified = header(
        ImagerPixelSpacing=[size, size], EstimatedRadiographicMagnificationFactor=f"{factor:.6f}"
    )
    found = pixel_spacing(magnified).mm
    assert found is not None
    assert found[0] * factor == pytest.approx(size, rel=1e-4)


def test_real_radiographs_do_not_say_what_theirs_refers_to(shared_data: Path) -> None:
    file = sorted((shared_data / "hip_xray" / "dicoms").rglob("*.dcm"))[0]
    found = pixel_spacing(dcmread(file, stop_before_pixels=True))
    assert found.mm == (1.0, 1.0)
    assert "not said" in found.says
