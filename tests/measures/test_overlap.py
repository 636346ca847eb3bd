from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from scipy.spatial.distance import cdist

from overread.measures.overlap import Distances, dice, surface, surface_distances
from tests.dicom.series import affine, ball

GRID = affine((3.0, 0.8, 0.5), (20, -35, 50))
SMALL = arrays(np.bool_, (3, 4, 5))


@given(SMALL, SMALL, st.sampled_from([50.0, 95.0, 100.0]))
@settings(max_examples=40, deadline=None)
def test_distances_are_those_of_brute_force(one: Any, other: Any, percentile: float) -> None:
    found = surface_distances(one, other, GRID, percentile)
    if not one.any() or not other.any():
        assert found == (None if one.any() or other.any() else Distances(0, 0))
        return
    assert found is not None
    (p, a), (q, b) = surface(one, GRID), surface(other, GRID)
    apart = cdist(p, q)
    there, back = apart.min(axis=1), apart.min(axis=0)
    mean = ((there * a).sum() + (back * b).sum()) / (a.sum() + b.sum())
    assert found.mean == pytest.approx(mean)
    worst = max(
        min(x for x in d if w[d <= x + 1e-9].sum() >= percentile / 100 * w.sum() - 1e-9)
        for d, w in ((there, a), (back, b))
    )
    assert found.hausdorff == pytest.approx(worst)


@given(SMALL, SMALL)
@settings(max_examples=40, deadline=None)
def test_agreement_has_no_direction(one: Any, other: Any) -> None:
    assert dice(one, other) == dice(other, one)
    there, back = surface_distances(one, other, GRID), surface_distances(other, one, GRID)
    assert (there is None) == (back is None)
    if there and back:
        assert there.mean == pytest.approx(back.mean)
        assert there.hausdorff == pytest.approx(back.hausdorff)
    assert dice(one, one) == 1
    assert surface_distances(one, one, GRID) == Distances(0, 0)


def test_conventions_for_nothing() -> None:
    empty, full = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)
    assert dice(empty, empty) == 1
    assert dice(empty, full) == 0
    assert surface_distances(empty, full, np.eye(4)) is None
    assert surface_distances(empty, empty, np.eye(4)) == Distances(0, 0)


def test_a_box_has_its_surface_at_the_edge_of_the_array_too() -> None:
    centres, areas = surface(np.ones((2, 3, 4), bool), affine((3, 2, 1)))
    assert areas.sum() == pytest.approx(2 * (6 * 6 + 6 * 4 + 6 * 4))
    middle = affine((3, 2, 1)) @ [0.5, 1, 1.5, 1]
    np.testing.assert_allclose(np.average(centres, axis=0, weights=areas), middle[:3])


def test_a_shift_moves_the_surface_by_its_length() -> None:
    one, other = np.zeros((40, 40, 40), bool), np.zeros((40, 40, 40), bool)
    one[5:25, 5:35, 5:35] = True
    other[8:28, 5:35, 5:35] = True  # by 3 slices of 2 mm
    found = surface_distances(one, other, affine((2, 1, 1)))
    assert found is not None
    assert found.hausdorff == pytest.approx(6)
    assert dice(one, other) == pytest.approx(17 / 20)


def test_concentric_balls_lie_their_radii_apart() -> None:
    inside = np.indices((50, 50, 50)) - 24.5
    radius = np.sqrt((inside**2).sum(axis=0))
    found = surface_distances(radius <= 12, radius <= 16, np.eye(4))
    assert found is not None
    assert found.mean == pytest.approx(4, abs=0.25)
    assert found.hausdorff == pytest.approx(4, abs=0.6)


def test_a_real_tumour_against_itself_eroded(shared_data: Path) -> None:
    image: Any = nibabel.load(shared_data / "brain_tumour" / "01" / "Pre_Mask.nii.gz")
    truth = np.asarray(image.dataobj).transpose(2, 1, 0) > 0
    smaller = ndimage.binary_erosion(truth, np.ones((1, 3, 3), bool))
    found = surface_distances(truth, smaller, affine((6.5, 0.86, 0.86)))
    assert found is not None
    assert 0.3 < found.mean < 2
    both = truth.sum() + smaller.sum()
    assert dice(truth, smaller) == pytest.approx(2 * smaller.sum() / both)


def test_the_region_may_lie_anywhere() -> None:
    inside = ball((20, 30, 30), 0.4)
    moved = np.zeros((40, 50, 60), bool)
    moved[15:35, 12:42, 25:55] = inside
    shifted = affine((2, 1, 1))
    shifted[:3, 3] -= shifted[:3, :3] @ [15, 12, 25]
    for one, other in zip(surface(inside, affine((2, 1, 1))), surface(moved, shifted), strict=True):
        np.testing.assert_allclose(one, other)
