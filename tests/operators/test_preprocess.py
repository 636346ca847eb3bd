from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from overread.dicom.volume import Mask, Volume
from overread.operators.preprocess import foreground, normalise, otsu, resample, resample_mask
from overread.pipelines.ports import Account
from tests.conftest import ROOT
from tests.dicom.series import LESION, affine, ball


def ramp(shape: tuple[int, int, int], grid: Any, across: Any) -> Volume:
    """A volume whose value is a linear function of the place in the patient."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    places = index @ grid[:3, :3].T + grid[:3, 3]
    return Volume((places @ across).astype(np.float32), grid, modality="MR")


@pytest.mark.parametrize("in_plane", [0.6, 0.9, 1.3, 2.0])
def test_resampling_moves_nothing(in_plane: float) -> None:
    grid, across = affine((5, 0.9, 0.9), (20, -10, 30)), np.array([1.0, -2.0, 0.5])
    made = resample(ramp((6, 60, 50), grid, across), Account(), in_plane_mm=in_plane)
    assert made.spacing == pytest.approx((5, in_plane, in_plane))
    assert made.acquired_spacing == pytest.approx((5, 0.9, 0.9))
    expected = ramp(made.array.shape, made.affine, across).array
    inner = (slice(None), slice(8, -8), slice(8, -8))
    np.testing.assert_allclose(made.array[inner], expected[inner], atol=0.02)
    # The extent is kept within half a voxel.
    before, after = 60 * 0.9, made.array.shape[1] * in_plane
    assert abs(before - after) <= in_plane / 2 + 1e-9


def test_resampling_to_the_same_spacing_changes_no_value() -> None:
    volume = ramp((4, 9, 9), affine(), np.ones(3))
    np.testing.assert_array_equal(resample(volume, Account(), in_plane_mm=0.9).array, volume.array)


def test_shrinking_aliases_nothing() -> None:
    stripes = np.zeros((3, 40, 40), np.float32)
    stripes[:, ::2] = 100.0  # as fine as the grid can hold: gone at a quarter of the resolution
    made = resample(Volume(stripes, affine((1, 1, 1))), Account(), spacing_mm=(1, 4, 1))
    assert np.ptp(made.array[:, 2:-2]) < 5
    assert made.array[:, 2:-2].mean() == pytest.approx(50, abs=3)


def test_in_plane_means_the_axial_plane() -> None:
    sagittal = np.eye(4)
    sagittal[:3, :3] = np.array([[1.2, 0, 0], [0, 0, -1], [0, 1, 0]]).T
    made = resample(
        Volume(np.zeros((10, 20, 30), np.float32), sagittal), Account(), in_plane_mm=2.0
    )
    assert made.spacing == pytest.approx((2, 1, 2))
    assert made.array.shape == (6, 20, 15)


@pytest.mark.parametrize("settings", [{}, {"in_plane_mm": 1.0, "spacing_mm": (1.0, 1.0, 1.0)}])
def test_resampling_wants_one_setting(settings: Any) -> None:
    with pytest.raises(ValueError, match="either in_plane_mm or spacing_mm"):
        resample(Volume(np.zeros((3, 3, 3), np.float32), np.eye(4)), Account(), **settings)


def test_a_mask_comes_back_onto_the_volume_s_grid() -> None:
    shape = (8, 50, 60)
    truth = ball(shape)
    volume = Volume(truth.astype(np.float32), affine((5, 0.9, 0.9), (10, 20, 30)), "1.2")
    fine = resample(volume, Account(), in_plane_mm=0.45)
    mask = Mask((fine.array > 0.5).astype(np.uint8), fine.affine, (LESION,), "1.2", "a@1.0.0")
    back = resample_mask(mask, volume)
    np.testing.assert_array_equal(back.affine, volume.affine)
    assert (back.segments, back.model) == ((LESION,), "a@1.0.0")
    dice = 2 * (back.array & truth).sum() / (back.array.sum() + truth.sum())
    assert dice > 0.97


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_a_turned_grid_takes_the_same_labels(order: list[int], flip: tuple[bool, ...]) -> None:
    shape = (5, 7, 9)
    labels = ball(shape, 0.6).astype(np.uint8)
    grid = affine((3, 1, 1), (5, 6, 7))
    turned, other = labels.transpose(order), grid[:, [*order, 3]].copy()
    for axis, flipped in enumerate(flip):
        if flipped:
            other[:3, 3] += other[:3, axis] * (turned.shape[axis] - 1)
            other[:3, axis] *= -1
            turned = np.flip(turned, axis)
    volume = Volume(np.zeros(turned.shape, np.float32), other)
    found = resample_mask(Mask(labels, grid, (LESION,)), volume)
    np.testing.assert_array_equal(found.array, turned)


def test_a_mask_of_another_frame_of_reference_is_not_moved() -> None:
    mask = Mask(np.zeros((3, 3, 3), np.uint8), np.eye(4), (LESION,), "1.2.3")
    with pytest.raises(ValueError, match=r"different frames of reference \(1.2.3 and 1.2.4\)"):
        resample_mask(mask, Volume(np.zeros((3, 3, 3)), np.eye(4), "1.2.4"))


def scan(scale: float = 1.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Air, brain and a bright rim, with noise."""
    rng = np.random.default_rng(0)
    values = np.abs(rng.normal(0, 5, (6, 40, 40)))
    values[:, 8:32, 8:32] = rng.normal(100, 10, (6, 24, 24))
    values[:, 8:10, 8:32] = 300
    return (values * scale).astype(np.float32)


def test_the_foreground_is_brought_to_one_whatever_the_scale() -> None:
    one, other = foreground(scan()), foreground(scan(37.0))
    np.testing.assert_allclose(one, other, rtol=1e-4)
    assert np.median(one[:, 12:30, 12:30]) == pytest.approx(1.07, abs=0.1)
    assert one.min() >= 0
    assert one.max() <= 5


def test_the_formula_is_the_one_that_the_model_was_trained_with() -> None:
    file = ROOT / "training" / "brain_tumour" / "normalise.py"
    if not file.is_file():
        pytest.skip("training/brain_tumour/normalise.py is not here")
    spec = importlib.util.spec_from_file_location("trained_normalise", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rng = np.random.default_rng(1)
    for values in (scan(), scan(0.01), rng.gamma(2, 50, (5, 30, 30)), np.full((3, 4, 4), 7.0)):
        array = np.asarray(values, np.float32)
        np.testing.assert_array_equal(foreground(array), module.normalise_foreground(array))


@given(arrays(np.float32, (2, 3, 4), elements=st.floats(0, 1e4, width=32)))
def test_any_values_normalise_to_finite_ones(array: Any) -> None:
    volume = Volume(array, np.eye(4))
    for method in ("foreground", "zscore"):
        assert np.isfinite(normalise(volume, method=method).array).all()


def test_zscore_and_window() -> None:
    volume = Volume(scan(), np.eye(4), unit="[hnsf'U]")
    found = normalise(volume, method="zscore")
    assert found.unit == "1"
    assert found.array.mean() == pytest.approx(0, abs=1e-3)
    assert found.array.std() == pytest.approx(1, abs=1e-3)
    values = np.array([-200, -160, 40, 240, 300], np.float32).reshape(1, 1, 5)
    found = normalise(Volume(values, np.eye(4)), method="window", level=40, width=400)
    np.testing.assert_allclose(found.array.ravel(), [0, 0, 0.5, 1, 1])


@pytest.mark.parametrize(
    "wrong", [{"method": "window"}, {"method": "zscore", "level": 1, "width": 2}]
)
def test_a_window_needs_its_numbers(wrong: Any) -> None:
    with pytest.raises(ValueError, match="level and width"):
        normalise(Volume(scan(), np.eye(4)), **wrong)


def test_otsu_parts_air_from_tissue() -> None:
    value = otsu(scan())
    assert value is not None
    assert 15 < value < 70
    assert otsu(np.zeros((3, 3, 3), np.float32)) is None
