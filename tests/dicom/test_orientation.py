from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from scipy.spatial.transform import Rotation

from overread.dicom.orientation import nearest_plane, normals, plane_of
from overread.dicom.study import Instance


@pytest.mark.parametrize(
    ("normal", "within", "plane"),
    [
        ((0, 0, 1), 0, "axial"),
        ((0, 0, -2), 1, "axial"),
        ((0, 1, 0), 1, "coronal"),
        ((-1, 0, 0), 1, "sagittal"),
        ((0, 0.5, 0.866), 31, "axial"),
        ((0, 0.5, 0.866), 29, "oblique"),
        ((1, 1, 1), 54, "oblique"),
    ],
)
def test_planes(normal: Any, within: float, plane: str) -> None:
    assert plane_of(np.array(normal, float), within) == plane


@given(st.floats(0, 44.9), st.sampled_from([("axial", 2), ("coronal", 1), ("sagittal", 0)]))
def test_the_angle_is_that_by_which_it_was_turned(degrees: float, plane: tuple[str, int]) -> None:
    name, axis = plane
    about = np.zeros(3)
    about[(axis + 1) % 3] = 1
    turned = Rotation.from_rotvec(np.radians(degrees) * about).apply(np.eye(3)[axis])
    found, angle = nearest_plane(turned)
    assert found == name
    assert angle == pytest.approx(degrees, abs=1e-4)


def test_what_says_nothing_or_nonsense_has_no_normal() -> None:
    header = Dataset()
    assert list(normals(Instance(header))) == [None]
    header.ImageOrientationPatient = [1, 0, 0, 1, 0, 0]
    assert list(normals(Instance(header))) == [None]


def test_each_frame_of_a_real_enhanced_image_has_one(shared_data: Path) -> None:
    folder = shared_data / "dicom_variants" / "dicom2nifti" / "philips_enhanced_anatomical_001"
    (file,) = [one for one in folder.rglob("*") if one.is_file()]
    found = list(normals(Instance(dcmread(file, stop_before_pixels=True), file)))
    assert len(found) == 8
    assert all(normal is not None for normal in found)
