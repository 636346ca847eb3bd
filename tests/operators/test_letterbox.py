"""An image goes into the model's size and comes back exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overread.operators.letterbox import Letterbox

Size = tuple[int, int]

SIDES = st.integers(8, 3000)
SIZES = st.tuples(st.integers(16, 512), st.integers(16, 512))
ASPECTS = st.floats(0.2, 5)
UNIT = st.floats(0, 1)


@given(rows=SIDES, columns=SIDES, size=SIZES, aspect=ASPECTS, ends=st.tuples(*[UNIT] * 4))
def test_there_and_back_is_the_identity_on_boxes(
    rows: int, columns: int, size: Size, aspect: float, ends: tuple[float, ...]
) -> None:
    letterbox = Letterbox.around((0, 0, columns, rows), size, aspect)
    box = np.array(ends) * [columns, rows, columns, rows]
    assert np.allclose(letterbox.back(letterbox.into(box)), box, atol=1e-6 * max(rows, columns))
    inside = letterbox.into(box)
    assert (inside > -1e-6).all()
    assert (inside < np.array([size[1], size[0]] * 2) + 1e-6).all()


@given(rows=SIDES, columns=SIDES, size=SIZES, aspect=ASPECTS)
def test_the_image_fills_one_side_and_lies_in_the_middle(
    rows: int, columns: int, size: Size, aspect: float
) -> None:
    whole = (0.0, 0.0, float(columns), float(rows))
    x0, y0, x1, y1 = Letterbox.around(whole, size, aspect).into([whole])[0]
    assert x0 == pytest.approx(size[1] - x1, abs=1e-6)
    assert y0 == pytest.approx(size[0] - y1, abs=1e-6)
    assert min(x0, y0) == pytest.approx(0, abs=1e-6)
    assert (x1 - x0) / (y1 - y0) == pytest.approx(columns / (rows * aspect), rel=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (200, 120)])
@pytest.mark.parametrize("shape", [(100, 60), (37, 211), (64, 64)])
def test_what_is_drawn_lies_where_boxes_say(size: Size, shape: Size) -> None:
    array = np.zeros(shape, np.float32)
    array[10:30, 20:50] = 1
    letterbox = Letterbox.around((0, 0, shape[1], shape[0]), size)
    drawn = letterbox.draw(array)
    assert drawn.shape == size
    y, x = np.nonzero(drawn > 0.5)
    found = [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert np.abs(found - letterbox.into([(20, 10, 50, 30)])[0]).max() <= 0.75
    # As much brightness as there was, scaled.
    scale = np.diff(letterbox.into([(0, 0, 1, 1)])[0][[0, 2]])[0]
    assert drawn.sum() == pytest.approx(600 * scale**2, rel=0.05)


def test_outside_the_region_is_nothing() -> None:
    letterbox = Letterbox.around((40, 10, 60, 90), (50, 50))
    drawn = letterbox.draw(np.ones((100, 100), np.float32))
    assert (drawn[:, 20:30] > 0.8).all()
    assert drawn[:, :17].max() == 0
    assert drawn[:, 33:].max() == 0


def test_a_region_without_area_is_refused() -> None:
    with pytest.raises(ValueError, match="shows nothing"):
        Letterbox.around((5, 5, 5, 9), (32, 32))
