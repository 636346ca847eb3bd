from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from overread.measures.volumetry import volumes, voxel_volume


@given(st.tuples(*[st.floats(0.1, 10)] * 3), st.tuples(*[st.floats(-180, 180)] * 3))
def test_turning_changes_no_volume(
    spacing: tuple[float, float, float], angles: tuple[float, float, float]
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    assert voxel_volume(affine) == pytest.approx(np.prod(spacing))


def test_shear_counts() -> None:
    affine = np.diag([2.0, 1.0, 1.0, 1.0])
    affine[1, 0] = 5.0  # slices are 2 mm apart along the normal, whatever the way between them
    assert voxel_volume(affine) == pytest.approx(2.0)


def test_volumes_are_counts_times_a_voxel() -> None:
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[:5] = 3
    labels[9, 9, :4] = 1
    found = volumes(labels, np.diag([2.0, 1.0, 1.0, 1.0]), [1, 2, 3])
    assert found == {1: 0.008, 2: 0.0, 3: 1.0}


def test_nothing_to_measure() -> None:
    assert volumes(np.zeros((2, 2, 2), np.uint8), np.eye(4), []) == {}
