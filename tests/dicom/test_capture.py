"""The object around the pictures."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from overread.dicom.capture import Picture, encode_capture
from overread.dicom.derived import Algorithm, Making
from overread.dicom.study import Instance, Series
from tests.dicom.series import affine, images, keep, read
from tests.dicom.validity import validate

MAKING = Making(
    made_by=("job", "capture"),
    at=datetime(2026, 6, 2, 9, 30, tzinfo=UTC),
    zone="Europe/Berlin",
    algorithm=Algorithm("liver", "1.2.0", parameters=(("sha256", "ab" * 32),)),
    device="liver-donor@1.0.0",
)


@pytest.fixture
def source(tmp_path: Path) -> Series:
    return keep(images(np.zeros((3, 8, 8), np.int16), affine()), tmp_path / "source")


def picture(
    instance: Instance, frame: int = 0, shape: Any = (40, 31, 3), label: str = ""
) -> Picture:
    pixels = np.random.default_rng(frame).integers(0, 255, shape).astype(np.uint8)
    return Picture(pixels, label, ((instance, frame),))


@pytest.mark.parametrize("count", [1, 3])
def test_pictures_come_back_as_they_were(tmp_path: Path, source: Series, count: int) -> None:
    pictures = [
        picture(one, label=f"slice {number} of many more") for number, one in enumerate(source)
    ][:count]
    made = validate(encode_capture(pictures, MAKING, description="Capture"), tmp_path)
    pixels = made.pixel_array.reshape(count, 40, 31, 3)
    assert all((given.pixels == kept).all() for given, kept in zip(pictures, pixels, strict=True))
    assert made.get("NumberOfFrames", 1) == count
    if count > 1:
        assert made.FrameLabelVector[1] == "slice 1 of many"
    assert made.PatientID == source.header.PatientID
    assert made.SeriesInstanceUID != source.uid
    assert made.SeriesDescription == "Capture (investigational)"
    assert made.TimezoneOffsetFromUTC == "+0200"
    assert made.ContentTime == "113000"
    (equipment,) = made.ContributingEquipmentSequence
    assert (equipment.ManufacturerModelName, equipment.SoftwareVersions) == ("liver", "1.2.0")
    assert "sha256=abab" in equipment.ContributionDescription


def test_frames_of_a_source_are_named(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "dicom_variants"
    file = next(
        path
        for path in sorted(folder.rglob("*.dcm"))
        if int(dcmread(path, stop_before_pixels=True, force=True).get("NumberOfFrames") or 1) > 5
    )
    (instance,) = read(file.parent, file.name)
    pictures = [picture(instance, frame) for frame in (4, 2)]
    made = encode_capture(pictures, MAKING, description="Capture").dataset
    (reference,) = made.SourceImageSequence
    assert list(reference.ReferencedFrameNumber) == [3, 5]
    (series,) = made.ReferencedSeriesSequence
    assert len(series.ReferencedInstanceSequence) == 1


@pytest.mark.parametrize(
    ("said", "modality", "expected"),
    [
        (None, "MR", "NO"),
        ("NO", "MR", "NO"),
        ("YES", "MR", "YES"),
        (None, "US", "YES"),
        ("NO", "US", "NO"),
    ],
)
def test_words_in_the_sources_pixels_are_told_of(
    source: Series, said: str | None, modality: str, expected: str
) -> None:
    header = source.header
    header.Modality = modality
    if said:
        header.BurnedInAnnotation = said
    made = encode_capture([picture(source.instances[0])], MAKING, description="Capture")
    assert made.dataset.BurnedInAnnotation == expected


def test_what_makes_no_object_is_refused(source: Series) -> None:
    one, other, _ = source.instances
    with pytest.raises(ValueError, match="at least one picture"):
        encode_capture([], MAKING, description="Capture")
    with pytest.raises(ValueError, match="one size"):
        encode_capture(
            [picture(one), picture(other, shape=(41, 31, 3))], MAKING, description="Capture"
        )
    with pytest.raises(ValueError, match="one size in colour"):
        encode_capture([picture(one, shape=(40, 31))], MAKING, description="Capture")
