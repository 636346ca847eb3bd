from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian

from overread.dicom.mosaic import find_mosaic
from overread.dicom.stacks import Policies, Split
from overread.dicom.study import Instance, Series
from overread.dicom.volume import read_volume
from overread.errors import GeometryError
from tests.dicom.series import affine, images

VALUES = np.random.default_rng(3).integers(0, 4000, (7, 10, 12)).astype(np.int16)


def mosaic(
    grid: NDArray[np.float64], file: Path, *, backward: bool = False, name: str = "one"
) -> Instance:
    """Tile seven slices over 3 × 3, as a Siemens scanner does, and say where they were planned."""
    tiled = np.zeros((3, 3, 10, 12), np.int16)
    tiled.reshape(9, 10, 12)[:7] = VALUES
    (one,) = images(tiled.transpose(0, 2, 1, 3).reshape(1, 30, 36), grid, name=name)
    one.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    # Its position is that of a slice as large as the whole mosaic, around the same centre.
    corner = grid @ [0, -(30 - 10) / 2, -(36 - 12) / 2, 1]
    one.ImagePositionPatient = [f"{value:.9f}"[:16] for value in corner[:3]]
    block = one.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0A, "US", 7)
    lines = ["sSliceArray.lSize = 7"]
    for index in range(7):
        at = grid @ [6 - index if backward else index, 4.5, 5.5, 1]
        lines += [
            f"sSliceArray.asSlice[{index}].sPosition.d{axis}\t = {value:.9f}"
            for axis, value in zip(("Sag", "Cor", "Tra"), at, strict=False)
        ]
    text = "binary\0### ASCCONV BEGIN ###\n" + "\n".join(lines) + "\n### ASCCONV END ###"
    one.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x20, "OB", text.encode())
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.save_as(file, enforce_file_format=True)
    return Instance(dcmread(file, stop_before_pixels=True), file)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("turned", [(0, 0, 0), (12, -20, 33), (90, 10, 0)])
def test_its_slices_lie_where_they_were_planned(
    tmp_path: Path, turned: tuple[float, float, float], backward: bool
) -> None:
    """Whether the scanner numbered them along its plan or against it."""
    grid = affine((3.3, 2, 2.1), turned)
    volume = read_volume(Series((mosaic(grid, tmp_path / "a.dcm", backward=backward),)))
    np.testing.assert_allclose(volume.affine, grid, atol=1e-6)
    np.testing.assert_array_equal(volume.array, VALUES)


def test_slices_from_head_to_feet_are_brought_in_order(tmp_path: Path) -> None:
    grid = affine((3.3, 2, 2.1))
    grid[:3, 0] *= -1
    volume = read_volume(Series((mosaic(grid, tmp_path / "a.dcm"),)))
    np.testing.assert_array_equal(volume.array, VALUES[::-1])
    np.testing.assert_allclose(volume.affine[:3, 0], [0, 0, 3.3], atol=1e-9)


def test_a_time_series_is_split(tmp_path: Path) -> None:
    made = []
    for index in range(3):
        one = mosaic(affine(), tmp_path / f"{index}.dcm", name=f"{index}")
        one.header.StudyInstanceUID, one.header.SeriesInstanceUID = "1.1", "1.2"
        one.header.FrameOfReferenceUID = "1.3"
        one.header.AcquisitionNumber = index + 1
        made.append(one)
    with pytest.raises(GeometryError, match=r"AcquisitionNumber \(1, 2, 3\)"):
        read_volume(Series(tuple(made)))
    volume = read_volume(Series(tuple(made)), Policies((Split("AcquisitionNumber", 2),)))
    assert volume.source is not None
    assert set(volume.source.planes) == {(made[1].uid, tile) for tile in range(7)}


@pytest.mark.parametrize(
    "edit",
    [
        lambda one: one.remove_private_tags(),
        lambda one: one.private_block(0x0019, "SIEMENS MR HEADER").__delitem__(0x0A),
        lambda one: setattr(one, "Rows", 31),
    ],
)
def test_without_its_private_elements_it_is_refused(tmp_path: Path, edit: Any) -> None:
    one = mosaic(affine(), tmp_path / "a.dcm")
    edit(one.header)
    with pytest.raises(GeometryError, match="is a Siemens mosaic") as caught:
        read_volume(Series((one,)))
    assert caught.value.problem == "no position"


def test_what_is_no_mosaic_is_none() -> None:
    header = Dataset()
    assert find_mosaic(header) is None
    header.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    assert find_mosaic(header) is None
