from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overread.dicom.volume import Volume
from overread.errors import UsageError
from overread.simulator.images import as_scanned, read_image

NIFTI: Any = nibabel.Nifti1Image  # it has no types
AXES = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def _place(volume: Volume, index: tuple[int, int, int]) -> np.ndarray:
    return (volume.affine @ (*index, 1))[:3]


def test_nifti_is_read_from_ras_to_lps(tmp_path: Path) -> None:
    values = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    affine = np.array([[2.0, 0, 0, 10], [0, 3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]])
    nibabel.save(NIFTI(values, affine), tmp_path / "a.nii.gz")
    volume = read_image(tmp_path / "a.nii.gz")
    assert volume.array.shape == (4, 3, 2)
    assert volume.array.dtype == np.int16
    assert volume.array[3, 2, 1] == values[1, 2, 3]
    assert _place(volume, (3, 2, 1)) == pytest.approx([-12, -26, 42])
    assert volume.spacing == (4, 3, 2)


def test_nifti_in_metres_is_read_as_millimetres(tmp_path: Path) -> None:
    image = NIFTI(np.zeros((2, 2, 2), np.uint8), np.diag([0.002, 0.002, 0.003, 1]))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").spacing == pytest.approx((3, 2, 2))


@pytest.mark.parametrize(
    ("space", "place"),
    [
        ("left-posterior-superior", (12, 26, 42)),
        ("right-anterior-superior", (-12, -26, 42)),
        ("LPS", (12, 26, 42)),
        ("left-anterior-superior", (12, -26, 42)),
    ],
)
def test_nrrd_is_read_from_its_space(
    tmp_path: Path, space: str, place: tuple[int, int, int]
) -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    header = {
        "space": space,
        "space directions": np.diag([2.0, 3, 4]),
        "space origin": np.array([10.0, 20, 30]),
    }
    nrrd.write(str(tmp_path / "a.nrrd"), values, header)
    volume = read_image(tmp_path / "a.nrrd")
    assert volume.array[3, 2, 1] == values[1, 2, 3]
    assert _place(volume, (3, 2, 1)) == pytest.approx(place)


def test_an_image_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    nrrd.write(str(tmp_path / "nowhere.nrrd"), np.zeros((2, 2, 2), np.uint8))
    nibabel.save(NIFTI(np.zeros((2, 2, 2, 3), np.uint8), np.eye(4)), tmp_path / "time.nii")
    (tmp_path / "broken.nii").write_bytes(b"not an image")
    (tmp_path / "a.png").write_bytes(b"")
    for name, why in (
        ("nowhere.nrrd", "does not say where it lies"),
        ("time.nii", "has 4 axes"),
        ("broken.nii", "cannot be read as NIfTI"),
        ("a.png", "neither NIfTI"),
        ("absent.nrrd", "cannot be read as NRRD"),
    ):
        with pytest.raises(UsageError, match=why):
            read_image(tmp_path / name)


@settings(max_examples=60, deadline=None)
@given(
    axes=st.sampled_from(AXES),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    tilt=st.floats(-0.3, 0.3),
)
def test_turning_moves_no_voxel(
    axes: tuple[int, int, int], signs: tuple[int, int, int], tilt: float
) -> None:
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ (np.eye(3)[:, axes] * np.array(signs) * (5, 1, 2))
    affine[:3, 3] = (-11, 7, 3)
    before = Volume(np.arange(24).reshape(2, 3, 4), affine)
    after = as_scanned(before)
    assert {tuple(np.round(_place(before, tuple(i)), 6)): v for i, v in _items(before)} == {
        tuple(np.round(_place(after, tuple(i)), 6)): v for i, v in _items(after)
    }
    row, column = after.affine[:3, 2], after.affine[:3, 1]
    through = int(np.argmax(np.abs(np.cross(row, column))))
    if through == 2:
        assert row[0] > 0 and column[1] > 0
    elif through == 1:
        assert row[0] > 0 and column[2] < 0
    else:
        assert row[1] > 0 and column[2] < 0
    assert np.array_equal(after.affine[:3, 0], before.affine[:3, 0])


def _items(volume: Volume) -> list[tuple[np.ndarray, int]]:
    return [(i, int(volume.array[tuple(i)])) for i in np.argwhere(volume.array >= 0)]
