from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overread.measures.appearance import PLANE, VOLUME, plane_appearance, volume_appearance
from overread.operators.intensity import otsu
from overread.simulator.fruit import fruit
from overread.simulator.phantoms import phantom


def layers(*, spacing: tuple[float, float, float] = (2.0, 2.0, 2.0)) -> tuple[Any, Any]:
    """A ball of 80 mm: fat of 9 mm that is twice as bright as the inside, then bone of 8 mm."""
    shape = tuple(round(200 / step) for step in spacing)
    places = np.meshgrid(
        *[
            (np.arange(size) - (size - 1) / 2) * step
            for size, step in zip(shape, spacing, strict=True)
        ],
        indexing="ij",
    )
    depth = 80 - np.sqrt(sum(axis**2 for axis in places))
    image = np.select([depth < 0, depth < 9, depth < 17], [0.0, 200.0, 20.0], 100.0)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, spacing[2]], [0, spacing[1], 0], [spacing[0], 0, 0]])
    return image.astype(np.float32), affine


def test_what_is_told_of_a_ball_in_layers() -> None:
    found = volume_appearance(*layers(), otsu)
    assert list(found) == [name for name in VOLUME if name != "inside"]
    for side in ("width_mm", "depth_mm", "height_mm"):
        assert found[side] == pytest.approx(160, abs=2)
    assert found["rind"] == 2
    assert found["under_rind"] == pytest.approx(0.2)
    assert found["dark"] == pytest.approx(0.2)
    assert found["bright"] == 2
    bone = (71**3 - 63**3) / 80**3
    assert found["solid"] == pytest.approx(1 - bone, abs=0.02)
    assert found["smoothness"] > 0.8


def test_values_with_a_unit_are_told_in_it() -> None:
    array, affine = layers()
    found = volume_appearance(array - 1000, affine, otsu, has_unit=True)
    assert found["inside"] == -900
    assert found["rind"] == -800


@settings(max_examples=15, deadline=None)
@given(
    scale=st.floats(1e-3, 1e4),
    axes=st.permutations(range(3)),
    flips=st.tuples(*[st.booleans()] * 3),
)
def test_scale_and_order_of_axes_change_nothing(scale: float, axes: Any, flips: Any) -> None:
    """The same voxels in the same place, stored in another way."""
    array, affine = layers(spacing=(4.0, 5.0, 4.0))
    expected = volume_appearance(array, affine, otsu)
    stored = (array * np.float32(scale)).transpose(axes)
    other = affine[:, [*axes, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            stored = np.flip(stored, axis)
            other[:3, 3] += other[:3, axis] * (stored.shape[axis] - 1)
            other[:3, axis] *= -1
    assert volume_appearance(stored, other, otsu) == pytest.approx(expected, rel=1e-4)


def test_resolution_changes_little() -> None:
    coarse = volume_appearance(*layers(spacing=(2.0, 2.0, 2.0)), otsu)
    fine = volume_appearance(*layers(spacing=(2.0, 1.0, 1.0)), otsu)
    for name in ("width_mm", "height_mm", "rind", "under_rind", "solid", "dark", "bright"):
        assert fine[name] == pytest.approx(coarse[name], rel=0.1), name


def test_a_stack_that_ends_inside_the_body_has_no_surface_there() -> None:
    array, affine = layers()
    found = volume_appearance(array[35:65], affine, otsu)
    assert found["rind"] == 2
    assert found["height_mm"] == pytest.approx(60)


def test_a_head_has_fat_below_its_skin_and_then_bone_and_a_fruit_has_not() -> None:
    head, melon = (
        volume_appearance(one.array, one.affine, otsu)
        for one in (phantom(0).image, fruit("watermelon"))
    )
    assert head["rind"] > 2
    assert head["under_rind"] < 0.6
    assert melon["rind"] < 1
    assert melon["under_rind"] == pytest.approx(melon["rind"], rel=0.1)


def test_noise_is_not_smooth_and_nothing_is_nothing() -> None:
    noise = np.random.default_rng(1).normal(100, 30, (20, 64, 64)).astype(np.float32)
    assert abs(volume_appearance(noise, np.eye(4), otsu)["smoothness"]) < 0.05
    assert volume_appearance(np.zeros((5, 9, 9), np.float32), np.eye(4), otsu) == {}


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 4), (3, 2, 500), (2, 700, 3)])
def test_any_size_is_measured_or_left_out(shape: tuple[int, int, int]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found = volume_appearance(array, np.eye(4), otsu)
    assert all(np.isfinite(list(found.values())))


def test_projections() -> None:
    row = np.abs(np.linspace(-1, 1, 301)) ** 2
    image = np.outer(np.linspace(1, 2, 401), row).astype(np.float32)
    found = plane_appearance(image, (0.2, 0.1))
    assert list(found) == list(PLANE)
    assert found["shape"] == pytest.approx(401 * 0.2 / (301 * 0.1))
    assert found["symmetry"] > 0.99
    assert found["smoothness"] > 0.99
    assert 0 < found["middle"] < 0.5
    turned = plane_appearance(np.cumsum(image, axis=1))
    assert turned["symmetry"] < 0
    noise = np.random.default_rng(1).normal(size=(200, 300))
    assert abs(plane_appearance(noise)["smoothness"]) < 0.05
    assert set(plane_appearance(np.ones((3, 4)))) == {"shape"}
    assert plane_appearance(np.ones((1, 1)))["shape"] == 1


def test_what_a_scanner_writes_around_its_round_field_of_view_is_air() -> None:
    y, x = np.ogrid[-200:200:100j, -200:200:100j]
    plane = np.where((x / 150) ** 2 + (y / 100) ** 2 < 1, 40.0, -1000.0)
    padded = np.where(np.hypot(x, y) < 198, plane, -3024.0)
    grid = np.diag([4.0, 4.0, 4.0, 1.0])[[2, 1, 0, 3]]
    bare, around = (
        volume_appearance(np.repeat(one[None], 20, 0), grid, otsu, has_unit=True, lowest=-1000.0)
        for one in (plane, padded)
    )
    assert around == pytest.approx(bare)
    assert bare["inside"] == 40
    assert bare["width_mm"] == pytest.approx(300, abs=8)


def test_a_projection_tells_where_it_is_bright() -> None:
    rows, columns = np.mgrid[-1:1:200j, -1:1:200j]
    trunk = np.where(np.abs(columns) < 0.9, 1.0, 0.0)
    lungs = np.where((np.abs(np.abs(columns) - 0.45) < 0.3) & (np.abs(rows) < 0.7), 0.3, trunk)
    ball = np.where(np.hypot(rows, columns) < 0.5, 1.0, 0.0)
    found = [plane_appearance(one) for one in (trunk, lungs, ball)]
    assert [one["top"] for one in found] == pytest.approx([1, 1, 0])
    assert [one["sides"] for one in found] == pytest.approx([1, 0.3, 0], abs=0.01)
    assert [one["background"] for one in found] == pytest.approx([0.1, 0.1, 0.8], abs=0.03)
