from __future__ import annotations

import numpy as np
import pytest

from overread.simulator.fruit import FRUIT, SHAPE, SPACING, fruit


@pytest.mark.parametrize("name", ["kiwi", "pumpkin"])
def test_a_fruit_has_its_size_and_is_the_same_every_time(name: str) -> None:
    scan = fruit(name)
    assert scan.array.shape == SHAPE
    assert scan.array.dtype == np.uint16
    assert scan.spacing == pytest.approx(SPACING)
    middle = scan.array[SHAPE[0] // 2, SHAPE[1] // 2] > 200
    assert middle.sum() * SPACING[2] == pytest.approx(2 * FRUIT[name].half_axes[0], abs=4)
    np.testing.assert_array_equal(scan.array, fruit(name).array)
    assert (scan.array != fruit(name, seed=2).array).any()
