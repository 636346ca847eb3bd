from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from overread.dicom.stacks import Policies
from overread.dicom.study import Series
from overread.dicom.volume import HOUNSFIELD, read_volume
from overread.errors import Refused
from tests.dicom.series import affine, images, keep, read

SHAPE = (5, 40, 48)
VALUES = np.random.default_rng(0).integers(-1000, 2000, SHAPE).astype(np.int16)


@pytest.mark.parametrize("jpeg2000", [False, True])
def test_values_are_rescaled_slice_by_slice(tmp_path: Path, jpeg2000: bool) -> None:
    def edit(index: int, one: Dataset) -> None:
        one.RescaleSlope, one.RescaleIntercept = str(index + 1), "-10"

    series = keep(images(VALUES, affine(), edit=edit), tmp_path, order=[3, 1, 4, 0, 2],
                  jpeg2000=jpeg2000)  # fmt: skip
    volume = read_volume(series)
    assert volume.array.dtype == np.float32
    expected = VALUES * np.arange(1, 6)[:, None, None] - 10.0
    np.testing.assert_array_equal(volume.array, expected)
    assert (volume.unit, volume.modality) == ("1", "MR")
    assert volume.frame_of_reference == series.header.FrameOfReferenceUID


def test_unsigned_values_and_monochrome1_stay_what_they_are(tmp_path: Path) -> None:
    values = VALUES.view(np.uint16)

    def edit(index: int, one: Dataset) -> None:
        one.PixelRepresentation, one.PhotometricInterpretation = 0, "MONOCHROME1"

    volume = read_volume(keep(images(VALUES, affine(), edit=edit), tmp_path))
    np.testing.assert_array_equal(volume.array, values)


@pytest.mark.parametrize(("kind", "unit"), [("HU", HOUNSFIELD), (None, HOUNSFIELD), ("US", "1")])
def test_a_ct_is_in_hounsfield_units_unless_it_says_otherwise(
    tmp_path: Path, kind: str | None, unit: str
) -> None:
    def edit(index: int, one: Dataset) -> None:
        one.RescaleType = kind

    assert (
        read_volume(keep(images(VALUES, affine(), modality="CT", edit=edit), tmp_path)).unit == unit
    )


def test_values_of_two_kinds_make_no_volume(tmp_path: Path) -> None:
    def edit(index: int, one: Dataset) -> None:
        one.RescaleType = "HU" if index < 3 else "US"

    series = keep(images(VALUES, affine(), modality="CT", edit=edit), tmp_path)
    with pytest.raises(Refused, match=r"of different kinds: \[hnsf'U\] in image 3, 1 in image 5"):
        read_volume(series)


def test_truncated_pixels_are_refused(tmp_path: Path) -> None:
    series = keep(images(VALUES, affine()), tmp_path)
    whole = dcmread(tmp_path / "0002.dcm")
    whole.PixelData = whole.PixelData[:20]
    whole.save_as(tmp_path / "0002.dcm")
    with pytest.raises(Refused, match=f"{series.instances[2].uid}: its pixels cannot be read"):
        read_volume(series)


def test_an_image_without_pixels_is_refused(tmp_path: Path) -> None:
    series = keep(images(VALUES, affine(), edit=lambda i, one: one.pop("PixelData")), tmp_path)
    with pytest.raises(Refused, match="its pixels cannot be read"):
        read_volume(series)


def test_a_pet_is_in_the_unit_that_it_says(tmp_path: Path) -> None:
    def edit(index: int, one: Dataset) -> None:
        one.Modality, one.Units = "PT", "BQML"

    assert read_volume(keep(images(VALUES, affine(), edit=edit), tmp_path)).unit == "Bq/mL"


def test_a_tilted_series_is_straightened_and_remembers_how_it_was(tmp_path: Path) -> None:
    """A line along the table stays a line along the table."""
    grid = affine((3, 1, 1))
    grid[:3, 0] += [0, 0.5, 0]
    values = np.zeros((5, 20, 8), np.int16)
    for index in range(5):
        # One row of the table, 0.5 mm further up each image: half of it in each of two rows.
        at = 12 - 0.5 * index
        values[index, int(np.floor(at))] += 100 if at % 1 == 0 else 50
        values[index, int(np.ceil(at))] += 0 if at % 1 == 0 else 50
    volume = read_volume(keep(images(values, grid), tmp_path), Policies(gantry_tilt="resample"))
    assert volume.array.shape == (5, 22, 8)
    np.testing.assert_allclose(volume.affine, affine((3, 1, 1)), atol=1e-6)
    centre = (volume.array.mean(axis=2) @ np.arange(22)) / volume.array.mean(axis=2).sum(axis=1)
    np.testing.assert_allclose(centre, 12)
    assert volume.source is not None
    assert volume.source.shape == values.shape
    np.testing.assert_allclose(volume.source.affine, grid, atol=1e-6)


def test_memory_stays_below_two_and_a_half_volumes(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 4000, (40, 128, 128)).astype(np.int16)
    grid = affine((3, 1, 1))
    grid[:3, 0] += [0, 0.3, 0]
    made = images(values, grid)
    series = keep([one for index, one in enumerate(made) if index != 7], tmp_path)
    policies = Policies(gantry_tilt="resample", missing_slice="interpolate")
    tracemalloc.start()
    volume = read_volume(series, policies)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert volume.array.shape[0] == 40
    assert peak < 2.5 * volume.array.nbytes


# Real files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["_jpeg", "_rle"])
def test_compressed_series_read_as_each_other(shared_data: Path, codec: str) -> None:
    folder = shared_data / "dicom_variants" / "dicom2nifti"
    jpeg2000 = read_volume(read(folder / "generic_compressed_001"))
    other = read_volume(read(folder / f"generic_compressed{codec}_001"))
    np.testing.assert_array_equal(jpeg2000.array, other.array)
    np.testing.assert_array_equal(jpeg2000.affine, other.affine)
    assert jpeg2000.array.std() > 0


def test_one_image_in_its_transfer_syntaxes(shared_data: Path) -> None:
    """Implicit, explicit, big endian, RLE, JPEG lossless, JPEG-LS, JPEG 2000: one image."""
    series = read(shared_data / "dicom_variants" / "transfer_syntaxes", "*.dcm")
    assert len({one.header.file_meta.TransferSyntaxUID for one in series}) == 7
    first, *others = [one.dataset().pixel_array for one in series]
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_a_real_multi_frame_image_has_its_frames_rescaled(shared_data: Path) -> None:
    series = read(
        shared_data / "dicom_variants" / "dicom2nifti" / "philips_enhanced_anatomical_001"
    )
    volume = read_volume(series)
    raw = series.instances[0].dataset().pixel_array.astype(np.float32)
    # The frames run to the patient's right, and so does the normal of their plane.
    np.testing.assert_allclose(volume.array, raw * np.float32(4.25885225885225), rtol=1e-6)
    assert volume.affine[:3, 0] == pytest.approx([-1.2, 0, 0], abs=1e-4)


def test_a_series_is_read_the_same_from_any_order(shared_data: Path) -> None:
    series = read(shared_data / "ct_liver" / "dicom", "*.dcm")
    volume = read_volume(Series(series.instances[4:9]))
    backward = read_volume(Series(tuple(reversed(series.instances[4:9]))))
    np.testing.assert_array_equal(volume.array, backward.array)
    assert volume.unit == HOUNSFIELD
