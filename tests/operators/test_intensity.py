from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from overread.dicom.image import Image, Images
from overread.dicom.volume import Volume
from overread.operators.intensity import foreground, normalise, normalise_image, otsu
from tests.conftest import ROOT


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
    for method in ("foreground", "zscore", "zscore_foreground", "percentile"):
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


@pytest.mark.parametrize("clip", [True, False])
def test_percentiles_become_zero_and_one(clip: bool) -> None:
    values = np.arange(101, dtype=np.float32).reshape(1, 1, 101)
    found = normalise(Volume(values, np.eye(4)), method="percentile", low=10, high=90, clip=clip)
    assert found.array.dtype == np.float32
    expected = (np.arange(101) - 10) / 80
    np.testing.assert_allclose(
        found.array.ravel(), np.clip(expected, 0, 1) if clip else expected, atol=1e-6
    )


def test_a_zscore_of_the_foreground_does_not_see_how_much_air_there_is() -> None:
    tight = scan()[:, 8:32, 8:32]
    found = normalise(Volume(scan(), np.eye(4)), method="zscore_foreground").array
    inside = scan() > (otsu(scan()) or 0)
    assert found[inside].mean() == pytest.approx(0, abs=1e-4)
    assert found[inside].std() == pytest.approx(1, abs=1e-4)
    alone = (tight - tight.mean()) / tight.std()
    np.testing.assert_allclose(found[:, 8:32, 8:32], alone, atol=0.05)


def test_each_image_is_normalised_by_itself() -> None:
    dark = np.linspace(0, 10, 400, dtype=np.float32).reshape(20, 20)
    images = Images((Image(dark, "1.2", unit="a"), Image(dark * 50 + 7, "1.3", spacing=(1.0, 2.0))))
    found = normalise_image(images, method="percentile")
    np.testing.assert_allclose(found.items[0].array, found.items[1].array, atol=1e-5)
    assert [one.uid for one in found] == ["1.2", "1.3"]
    assert found.items[1].spacing == (1.0, 2.0)
    assert [one.unit for one in found] == ["1", "1"]
    with pytest.raises(ValueError, match="level and width"):
        normalise_image(images, method="window")


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "window"},
        {"method": "window", "level": 3},
        {"method": "percentile", "width": 3},
        {"method": "zscore", "level": 1, "width": 2},
    ],
)
def test_a_window_needs_its_numbers(wrong: Any) -> None:
    with pytest.raises(ValueError, match="level and width"):
        normalise(Volume(scan(), np.eye(4)), **wrong)


def test_otsu_parts_air_from_tissue() -> None:
    value = otsu(scan())
    assert value is not None
    assert 15 < value < 70
    assert otsu(np.zeros((3, 3, 3), np.float32)) is None


def test_percentiles_stand_in_order() -> None:
    with pytest.raises(ValueError, match=r"low \(90\) must be below high \(10\)"):
        normalise(Volume(scan(), np.eye(4)), method="percentile", low=90, high=10)
