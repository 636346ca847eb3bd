from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overread.dicom.derived import Algorithm, Making
from overread.dicom.processed import write_processed
from overread.dicom.study import Instance, Series
from overread.dicom.volume import HOUNSFIELD, Volume, read_volume
from tests.dicom.series import affine, ball, images, keep, read
from tests.dicom.validity import validate

SHAPE = (9, 40, 48)
MAKING = Making(
    made_by=("job-1", "registered"),
    at=datetime(2026, 11, 24, 9, 30, 15, tzinfo=UTC),
    zone="UTC",
    algorithm=Algorithm("brain-tumour", "1.0.0"),
    device="brain-tumour@1.0.0",
)


@pytest.fixture
def source(tmp_path: Path) -> Series:
    array = ball(SHAPE).astype(np.int16) * 300 - 1000
    return keep(images(array, affine(turned=(20, -13, 35)), modality="CT"), tmp_path / "in")


def again(folder: Path) -> Volume:
    file = folder / "made.dcm"
    (one,) = read(folder, file.name)
    return read_volume(Series((Instance(one.header, file),)))


def test_whole_numbers_are_kept_exactly_and_lie_where_they_lay(
    tmp_path: Path, source: Series
) -> None:
    volume = read_volume(source)
    made = write_processed(volume, source, MAKING, description="Registered", window=(40, 400))
    written = validate(made, tmp_path)
    assert (written.Modality, written.RescaleType, written.NumberOfFrames) == ("CT", "HU", 9)
    assert (written.WindowCenter, written.WindowWidth) == (40, 400)
    assert written.SeriesDescription == "Registered (investigational)"
    assert written.FrameOfReferenceUID == source.header.FrameOfReferenceUID
    assert written.StudyInstanceUID == source.header.StudyInstanceUID
    assert {one.ReferencedSOPInstanceUID for one in written.SourceImageSequence} == {
        one.uid for one in source
    }
    assert (
        made.encode()
        == write_processed(
            volume, source, MAKING, description="Registered", window=(40, 400)
        ).encode()
    )
    back = again(tmp_path)
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-5)
    assert back.unit == HOUNSFIELD


def test_other_values_are_kept_in_65536_steps(tmp_path: Path, source: Series) -> None:
    volume = read_volume(source)
    noise = np.random.default_rng(0).normal(size=(5, 30, 20)).astype(np.float32)
    other = replace(volume, array=noise, affine=affine((2, 1, 1)), modality="MR", unit="1")
    written = validate(write_processed(other, source, MAKING), tmp_path)
    assert written.RescaleType == "US"
    back = again(tmp_path)
    np.testing.assert_allclose(back.array, noise, atol=float(np.ptp(noise)) / 65535 / 2 + 1e-6)
    np.testing.assert_allclose(back.affine, other.affine, atol=1e-9)
    low, high = np.percentile(noise, (0.5, 99.5))
    assert float(written.WindowWidth) == pytest.approx(high - low, rel=1e-3)


def test_a_volume_of_one_value_is_written(tmp_path: Path, source: Series) -> None:
    flat = replace(read_volume(source), array=np.full(SHAPE, 0.25, np.float32))
    validate(write_processed(flat, source, MAKING), tmp_path)
    np.testing.assert_array_equal(again(tmp_path).array, flat.array)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_must_be_finite(source: Series, value: float) -> None:
    volume = read_volume(source)
    volume.array[0, 0, 0] = value
    with pytest.raises(ValueError, match="not finite"):
        write_processed(volume, source, MAKING)


def test_a_sheared_volume_is_not_written(source: Series) -> None:
    volume = read_volume(source)
    sheared = volume.affine.copy()
    sheared[:3, 1] += 0.1 * sheared[:3, 2]
    with pytest.raises(ValueError, match="not perpendicular"):
        write_processed(replace(volume, affine=sheared), source, MAKING)


def test_it_is_valid_on_a_real_series(shared_data: Path, tmp_path: Path) -> None:
    source = read(shared_data / "ct_liver" / "dicom", "*.dcm")
    volume = read_volume(source)
    half: Any = volume.array[:, ::4, ::4]
    grid = volume.affine @ np.diag([1, 4, 4, 1.0])
    small = replace(volume, array=np.ascontiguousarray(half), affine=grid)
    validate(write_processed(small, source, MAKING), tmp_path, source)
    np.testing.assert_array_equal(again(tmp_path).array, half)
