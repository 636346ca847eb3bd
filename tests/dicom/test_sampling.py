from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overread.dicom.sampling import interpolate_slices, straighten
from tests.dicom.series import affine


def test_slices_are_interpolated_linearly() -> None:
    array = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((4, 2, 3), np.float32) * 10
    made = interpolate_slices(array, np.array([0, 0.5, 1, 2.25, 3]))
    np.testing.assert_allclose(made[:, 0, 0], [0, 5, 10, 22.5, 30])
    assert made.dtype == np.float32


@settings(max_examples=25, deadline=None)
@given(
    turned=st.tuples(*[st.floats(-180, 180)] * 3),
    shear=st.tuples(*[st.floats(-1.5, 1.5)] * 2),
)
def test_what_is_straightened_has_the_same_values_in_the_same_places(
    turned: tuple[float, float, float], shear: tuple[float, float]
) -> None:
    """A linear function of the place in the patient, which linear interpolation keeps exactly."""
    sheared = affine((2.5, 0.8, 0.7), turned)
    sheared[:3, 0] += sheared[:3, 1:3] @ shear
    shape = (5, 20, 24)
    array = linear(sheared, shape)
    made, straight = straighten(array, sheared)
    steps = straight[:3, :3] / np.linalg.norm(straight[:3, :3], axis=0)
    np.testing.assert_allclose(steps.T @ steps, np.eye(3), atol=1e-9)
    assert np.linalg.det(straight[:3, :3]) == pytest.approx(np.linalg.det(sheared[:3, :3]))
    expected = linear(straight, made.shape)
    back = np.linalg.inv(sheared) @ straight
    index = np.moveaxis(np.indices(made.shape), 0, -1) @ back[:3, :3].T + back[:3, 3]
    inside = ((index > -1e-6) & (index < np.array(shape) - 1 + 1e-6)).all(axis=-1)
    np.testing.assert_allclose(made[inside], expected[inside], atol=2e-3)
    assert inside.sum() > 0.8 * 5 * 19 * 23  # no voxel is lost
    assert made.min() == pytest.approx(array.min(), abs=1e-4)


def linear(grid: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    place = np.moveaxis(np.indices(shape), 0, -1) @ grid[:3, :3].T + grid[:3, 3]
    return np.asarray(place @ [1.0, -2.0, 0.5], np.float32)
