from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from overread.dicom.codes import TISSUE, Segment
from overread.dicom.volume import Mask
from overread.operators.postprocess import keep_components
from overread.pipelines.ports import Account

SEGMENTS = (Segment(1, "One", TISSUE, TISSUE), Segment(2, "Two", TISSUE, TISSUE))


def mask() -> Mask:
    """Parts of 8, 4 (joined at a corner) and 1 voxels of segment 1; one of 2 of segment 2."""
    array = np.zeros((6, 12, 12), np.uint8)
    array[:2, :2, :2] = 1
    array[3, 5, 5:7] = 1
    array[4, 6, 7:9] = 1
    array[5, 11, 11] = 1
    array[0, 11, :2] = 2
    return Mask(array, np.diag([10.0, 10.0, 5.0, 1.0]), SEGMENTS, "1.2", "a@1.0.0")


@pytest.mark.parametrize(
    ("settings", "ones", "twos"),
    [
        ({}, 13, 2),
        ({"largest": 1}, 8, 2),
        ({"largest": 2}, 12, 2),
        ({"at_least_voxels": 2}, 12, 2),
        ({"at_least_voxels": 3}, 12, 0),
        ({"at_least_ml": 1.0}, 12, 2),  # a voxel is 0.5 mL
        ({"at_least_ml": 1.1}, 12, 0),
        ({"largest": 2, "at_least_voxels": 5}, 8, 0),
        ({"largest": 9, "at_least_voxels": 100}, 0, 0),
    ],
)
def test_which_parts_are_kept(settings: Any, ones: int, twos: int) -> None:
    given = mask()
    kept = keep_components(given, Account(), **settings)
    assert ((kept.array == 1).sum(), (kept.array == 2).sum()) == (ones, twos)
    assert ((kept.array == 0) | (kept.array == given.array)).all()
    assert (kept.segments, kept.model) == (given.segments, given.model)


def test_what_is_dropped_is_told() -> None:
    account = Account()
    keep_components(mask(), account, at_least_voxels=3)
    assert account.notes == [
        "One: 2 of 3 parts kept; 1 voxels dropped",
        "Two: 0 of 1 parts kept; 2 voxels dropped",
    ]


def test_an_empty_mask_stays_empty() -> None:
    empty = mask().with_array(np.zeros((6, 12, 12), np.uint8))
    assert not keep_components(empty, Account(), largest=1).array.any()
