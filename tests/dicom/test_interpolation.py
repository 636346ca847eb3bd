from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from overread.dicom.interpolation import bring
from tests.dicom.series import affine

SHAPE = (5, 7, 9)
STEP = st.floats(0.3, 2.5) | st.floats(-2.5, -0.3)


def across(order: Any, steps: Any, shift: Any) -> Any:
    made = np.eye(4)
    made[:3, :3] = 0
    for axis, along in enumerate(order):
        made[axis, along] = steps[axis]
    made[:3, 3] = shift
    return made


@given(
    st.permutations(range(3)),
    st.tuples(*[STEP] * 3),
    st.tuples(*[st.floats(-4, 9)] * 3),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_looking_up_each_axis_is_what_the_general_way_does(
    order: Any, steps: Any, shift: Any, linear: bool
) -> None:
    array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    matrix = across(order, steps, shift)
    shape = (6, 8, 4)
    found = bring(array, matrix, shape, linear=linear, outside=-3)
    turned = matrix.copy()
    turned[0, order[1]] += 1e-2 / 8  # strays enough to go the general way, by a hundredth
    general = bring(array, turned, shape, linear=linear, outside=-3)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    at = index @ matrix[:3, :3].T + matrix[:3, 3]
    clear = (np.abs(at - np.floor(at) - 0.5) > 0.02).all(axis=-1)  # of a border between voxels
    np.testing.assert_allclose(found[clear], general[clear], atol=0.1 if linear else 0)


def test_between_two_voxels_the_higher_is_nearest_everywhere() -> None:
    array = np.arange(8.0).reshape(1, 1, 8)
    halves = across((0, 1, 2), (1, 1, 1), (0, 0, 0.5))
    np.testing.assert_array_equal(bring(array, halves, (1, 1, 8)).ravel(), [1, 2, 3, 4, 5, 6, 7, 0])
    noisy = across((0, 1, 2), (1, 1, 1), (0, 0, 0.5 - 1e-12))
    np.testing.assert_array_equal(bring(array, noisy, (1, 1, 8)), bring(array, halves, (1, 1, 8)))


def test_an_outermost_voxel_reaches_half_a_step() -> None:
    array = np.array([10.0, 20.0]).reshape(1, 1, 2)
    quarters = across((0, 1, 2), (1, 1, 0.25), (0, 0, -0.75))
    found = bring(array, quarters, (1, 1, 12), linear=True, outside=-1).ravel()
    np.testing.assert_allclose(found, [-1, 10, 10, 10, 12.5, 15, 17.5, 20, 20, -1, -1, -1])


@pytest.mark.parametrize("linear", [False, True])
def test_a_turned_grid_finds_what_lies_there(linear: bool) -> None:
    smooth = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(20, 24, 28)), 3)
    grid = affine((2, 1, 1), origin=(-14, -12, -20))
    there = affine((2, 1, 1), (9, -7, 12), (-10, -8, -16))
    matrix = np.linalg.inv(grid) @ there
    found = bring(smooth, matrix, (14, 16, 18), linear=linear, outside=np.nan)
    index = np.stack(np.meshgrid(*map(np.arange, found.shape), indexing="ij"), axis=-1)
    at = (index @ matrix[:3, :3].T + matrix[:3, 3]).transpose(3, 0, 1, 2)
    exact = ndimage.map_coordinates(smooth, at, order=3)
    reached = np.isfinite(found)
    assert reached.mean() > 0.5
    size = np.array(smooth.shape)[:, None, None, None]
    within = ((at >= 0) & (at <= size - 1)).all(axis=0)
    assert reached[within].all()
    limit = 0.02 if linear else 0.15  # of one step, by the slope of what is smoothed
    assert np.abs(found - exact)[within].max() < limit * np.ptp(smooth)
    outside = ((at < -0.51) | (at > size - 0.49)).any(axis=0)
    assert not reached[outside].any()
