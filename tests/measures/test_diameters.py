from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from overread.measures.diameters import diameters
from tests.dicom.series import affine

GRID = affine((5.0, 0.9, 0.6), (20, -35, 50))


def brute_force(inside: Any, grid: Any) -> tuple[float, float]:
    """The longest of all pairs of outline points in a slice; the longest chord across it."""
    longest, answer = 0.0, (0.0, 0.0)
    for index in np.flatnonzero(inside.any(axis=(1, 2))):
        steps = [(0, 0.5, 0), (0, -0.5, 0), (0, 0, 0.5), (0, 0, -0.5)]
        voxels = [(index, *place) for place in np.argwhere(inside[index])]
        points = np.array([np.add(voxel, step) for voxel in voxels for step in steps])
        points = points @ grid[:3, :3].T
        pairs = list(combinations(points, 2))
        one, other = max(pairs, key=lambda pair: round(float(np.linalg.norm(pair[0] - pair[1])), 9))
        length = float(np.linalg.norm(one - other))
        if length <= longest + 1e-9:
            continue
        longest = length
        along = (other - one) / length
        normal = np.cross(grid[:3, 1], grid[:3, 2])
        off = np.cross(normal / np.linalg.norm(normal), along)
        t, s = points @ along, points @ off
        widest = 0.0
        for place in t:  # the hull's edge lies on the highest of all lines between two points
            reach = []
            for (t1, s1), (t2, s2) in combinations(zip(t, s, strict=True), 2):
                if min(t1, t2) - 1e-9 <= place <= max(t1, t2) + 1e-9:
                    part = 0.0 if abs(t2 - t1) < 1e-9 else (place - t1) / (t2 - t1)
                    reach += [s1 + part * (s2 - s1)] + ([s2] if abs(t2 - t1) < 1e-9 else [])
            widest = max(widest, max(reach) - min(reach))
        answer = (length, widest)
    return answer


@given(arrays(np.bool_, (2, 4, 4), elements=st.integers(0, 3).map(lambda one: one == 0)))
@settings(max_examples=25, deadline=None)
def test_diameters_are_those_of_brute_force(inside: Any) -> None:
    found = diameters(inside, GRID)
    if not inside.any():
        assert found is None
        return
    assert found is not None
    long, across = brute_force(inside, GRID)
    assert found.long == pytest.approx(long, abs=1e-6)
    # Of several equally long diameters, brute force may take another one.
    lengths = sorted(_all_lengths(inside[found.slice]))
    if len(lengths) < 2 or lengths[-1] - lengths[-2] > 1e-6:
        assert found.across == pytest.approx(across, abs=1e-6)


def _all_lengths(inside: Any) -> list[float]:
    steps = [(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)]
    points = np.unique([np.add(one, step) for one in np.argwhere(inside) for step in steps], axis=0)
    points = points @ GRID[:3, 1:3].T
    return [float(np.linalg.norm(one - other)) for one, other in combinations(points, 2)]


@given(st.tuples(*[st.floats(-180, 180)] * 3))
@settings(max_examples=15, deadline=None)
def test_ends_lie_in_the_slice_and_stand_square(angles: Any) -> None:
    grid = affine((4.0, 1.1, 0.7), angles)
    inside = np.zeros((6, 40, 40), bool)
    inside[3, 8:30, 12:20] = True
    inside[3, 10:14, 10:28] = True
    found = diameters(inside, grid)
    assert found is not None
    assert found.slice == 3
    long, across = found.long_ends[1] - found.long_ends[0], np.diff(found.across_ends, axis=0)[0]
    assert np.linalg.norm(long) == pytest.approx(found.long)
    assert np.linalg.norm(across) == pytest.approx(found.across)
    assert long @ across == pytest.approx(0, abs=1e-6)
    for point in (*found.long_ends, *found.across_ends):
        index = np.linalg.inv(grid) @ [*point, 1]
        assert index[0] == pytest.approx(3, abs=1e-9)
        assert (index[1:3] > 7).all()


def test_a_disc_has_its_diameter_on_unequal_voxels() -> None:
    rows, columns = np.meshgrid(np.arange(80) * 0.5, np.arange(60) * 0.8, indexing="ij")
    inside = np.zeros((3, 80, 60), bool)
    inside[1] = (rows - 20) ** 2 + (columns - 24) ** 2 <= 15**2
    found = diameters(inside, affine((5, 0.5, 0.8), (3, 4, 5)))
    assert found is not None
    assert found.long == pytest.approx(30, abs=0.9)
    assert found.across == pytest.approx(30, abs=0.9)


def test_a_box_measures_from_edge_to_edge() -> None:
    inside = np.zeros((1, 12, 30), bool)
    inside[0, 5, 3:23] = True
    found = diameters(inside, affine((5, 1.0, 1.5)))
    assert found is not None
    assert found.long == pytest.approx(30)
    assert found.across == pytest.approx(1)


def test_a_sheared_grid_counts_as_it_lies() -> None:
    grid = affine((5, 1, 1))
    grid[:3, 0] += [1.5, 0.5, 0]  # slices stacked askew: their planes are the same
    inside = np.zeros((4, 30, 30), bool)
    inside[2, 4:20, 7:12] = True
    found, straight = diameters(inside, grid), diameters(inside, affine((5, 1, 1)))
    assert found is not None
    assert straight is not None
    assert (found.long, found.across) == pytest.approx((straight.long, straight.across))
    np.testing.assert_allclose(found.long_ends - straight.long_ends, [[3, 1, 0]] * 2)


@pytest.mark.parametrize("patient", ["01", "07"])
def test_a_real_tumour(shared_data: Path, patient: str) -> None:
    file = shared_data / "brain_tumour" / patient / "Pre_Mask.nii.gz"
    image: Any = nibabel.load(file)
    inside = np.asarray(image.dataobj).transpose(2, 1, 0) > 0
    found = diameters(inside, GRID)
    assert found is not None
    # Each slice by all pairs of its voxels' outline points: the same longest one.
    longest = 0.0
    for index in np.flatnonzero(inside.any(axis=(1, 2))):
        places = np.argwhere(inside[index] & ~_surrounded(inside[index]))
        steps = np.array([(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)])
        points = (places[:, None] + steps).reshape(-1, 2) @ GRID[:3, 1:3].T
        for point in points:
            longest = max(longest, float(np.linalg.norm(points - point, axis=1).max()))
    assert found.long == pytest.approx(longest, abs=1e-6)
    assert 0 < found.across <= found.long


def _surrounded(inside: Any) -> Any:
    padded = np.pad(inside, 1)
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
