"""What a program made is put on the voxels of its input by turning axes, or not at all."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overread.dicom.codes import TISSUE, Segment
from overread.dicom.volume import Mask, Probability, Source, Volume
from overread.errors import StepFailed
from overread.operators.exchange_grids import Grid, grids, onto, place
from tests.dicom.series import affine

SHAPE = (3, 4, 5)
ARRAY = np.arange(60, dtype=np.int16).reshape(SHAPE)
HERE = Grid("volume", SHAPE, affine(), "1.2.3", None, "MR")


def turned(axes: tuple[int, ...], flips: tuple[bool, ...]) -> tuple[Any, Any]:
    """The same voxels in another order: array and affine as another program would write them."""
    array = ARRAY.transpose(axes)
    index = np.eye(4)
    index[:3, :3] = np.eye(3)[:, axes]
    for axis, flip in enumerate(flips):
        if flip:
            array = np.flip(array, axis)
            back = np.eye(4)
            back[axis, axis], back[axis, 3] = -1, array.shape[axis] - 1
            index = index @ back
    return array, HERE.affine @ index


@given(
    axes=st.sampled_from(list(permutations(range(3)))),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_any_order_of_the_axes_comes_back(axes: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    array, there = turned(axes, flips)
    found, miss = onto(array, there.astype(np.float32).astype(float), HERE)
    assert miss == "" and found is not None
    assert (found == ARRAY).all() and found.dtype == ARRAY.dtype


def test_leading_axes_stay_as_they_are() -> None:
    array, there = turned((2, 0, 1), (True, False, True))
    found, _ = onto(np.stack([array, array + 100]), there, HERE)
    assert found is not None and (found == np.stack([ARRAY, ARRAY + 100])).all()


def moved(by: float) -> Any:
    there = affine().copy()
    there[0, 3] += by
    return there


def scaled(by: float) -> Any:
    there = affine().copy()
    there[:3, :3] *= by
    return there


def oblique() -> Any:
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.8), -np.sin(0.8)], [np.sin(0.8), np.cos(0.8)]]
    return turn @ affine()


@pytest.mark.parametrize(
    ("array", "there", "miss"),
    [
        (ARRAY, moved(0.5), "a corner lies 0.50 mm from that of volume"),
        (ARRAY, scaled(1.1), r"a corner lies \d+\.\d\d mm from that of volume"),
        (ARRAY, scaled(2.0), "another size or direction"),
        (ARRAY, oblique(), r"another size or direction|its shape|a corner lies"),
        (ARRAY[1:], affine(), r"its shape \(2, 4, 5\) is not the \(3, 4, 5\) of volume"),
    ],
)
def test_what_does_not_lie_there_is_refused_with_numbers(array: Any, there: Any, miss: str) -> None:
    with pytest.raises(StepFailed, match=miss):
        place(Volume(array, there), [HERE])


def test_it_may_have_a_grid_of_its_own_where_the_pipeline_says_so() -> None:
    made = place(Volume(ARRAY, scaled(2.0)), [HERE], own_grid=True)
    assert np.array_equal(made.affine, scaled(2.0)) and made.frame_of_reference == "1.2.3"
    assert made.source is not None and made.source.shape == SHAPE
    assert np.array_equal(made.source.affine, affine())
    assert place(Volume(ARRAY, scaled(2.0)), [], own_grid=True).source is None


def test_it_takes_the_place_of_the_input_that_it_lies_on() -> None:
    other = Grid("other", (9, 9, 9), affine(), "4.5.6")
    source = Source((8, 8, 8), scaled(2.0), "1.2.3")
    cropped = Grid("cropped", SHAPE, affine(), "1.2.3", source, "CT")
    made = place(Volume(ARRAY, moved(0.00001)), [other, cropped])
    assert isinstance(made, Volume) and made.modality == "CT" and made.source is source
    assert np.array_equal(made.affine, affine()) and made.frame_of_reference == "1.2.3"


def test_the_grids_of_all_kinds_of_inputs_are_known() -> None:
    segment = Segment(1, "x", TISSUE, TISSUE)
    labels = np.zeros(SHAPE, np.uint8)
    inputs = {
        "volume": Volume(ARRAY, affine(), "1.2", modality="CT"),
        "mask": Mask(labels, affine(), (segment,), "1.3"),
        "probability": Probability(np.zeros((1, *SHAPE), np.float32), affine(), (segment,), "1.4"),
        "other": "something",
    }
    found = grids(inputs)
    assert [(one.port, one.shape, one.frame_of_reference) for one in found] == [
        ("volume", SHAPE, "1.2"), ("mask", SHAPE, "1.3"), ("probability", SHAPE, "1.4")
    ]  # fmt: skip
    assert found[0].modality == "CT"
