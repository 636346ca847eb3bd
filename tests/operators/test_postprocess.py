from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from overread.dicom.codes import LEFT, RIGHT, TISSUE, Segment
from overread.dicom.volume import Mask, Probability, Volume
from overread.errors import StepFailed
from overread.operators.grid import reorient
from overread.operators.postprocess import (
    fill_holes,
    keep_components,
    merge_labels,
    remove_small,
    split_left_right,
    threshold,
)
from overread.operators.run import run
from overread.pipelines.ports import Account, signature
from tests.dicom.series import LESION, affine, ball
from tests.operators.test_write import CONTEXT

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


def test_small_parts_are_removed() -> None:
    account = Account()
    kept = remove_small(mask(), account, below_ml=1.5)  # a voxel is 0.5 mL
    assert ((kept.array == 1).sum(), (kept.array == 2).sum()) == (12, 0)
    assert "1 voxels dropped" in account.notes[0]
    assert (remove_small(mask(), Account(), below_voxels=5).array > 0).sum() == 8
    with pytest.raises(ValueError, match="below_ml, below_voxels or both"):
        remove_small(mask(), Account())


@pytest.mark.parametrize("above", [0.5, "otsu"])
def test_a_volume_above_a_threshold(above: Any) -> None:
    bright = ball((6, 20, 20)).astype(np.float32)
    made = threshold(Volume(bright, affine(), "1.2"), Account(), above=above, segment=LESION)
    np.testing.assert_array_equal(made.array, bright)
    assert (made.segments, made.model, made.frame_of_reference) == ((LESION,), "", "1.2")


def test_nothing_lies_above_the_threshold_of_a_constant_volume() -> None:
    flat = Volume(np.ones((3, 4, 4), np.float32), affine())
    assert not threshold(flat, Account(), above="otsu").array.any()
    with pytest.raises(ValueError, match="above: a value, or otsu"):
        threshold(flat, Account())


def test_the_most_probable_segment_is_taken_where_it_is_probable_enough() -> None:
    array = np.zeros((2, 1, 1, 5), np.float32)
    array[0, 0, 0] = [0.6, 0.5, 0.3, 0.45, 0.9]
    array[1, 0, 0] = [0.5, 0.7, 0.4, 0.45, 0.9]
    found = Probability(array, np.eye(4), SEGMENTS, "1.2", "a@1.0.0", threshold=0.5)
    made = threshold(found, Account())
    np.testing.assert_array_equal(made.array[0, 0], [1, 2, 0, 0, 1])
    assert (made.segments, made.model) == (SEGMENTS, "a@1.0.0")
    np.testing.assert_array_equal(
        threshold(found, Account(), above=0.4).array[0, 0], [1, 2, 2, 1, 1]
    )
    with pytest.raises(ValueError, match="not otsu"):
        threshold(found, Account(), above="otsu")


def hollow() -> Mask:
    """Segment 1: a shell around a cavity, a tunnel through the slices, segment 2 in another."""
    array = np.zeros((7, 12, 20), np.uint8)
    array[1:6, 1:6, 1:6] = 1
    array[3, 3, 3] = 0  # a cavity
    array[1:6, 7:11, 7:11] = 1
    array[1:6, 8, 8] = 0  # a tunnel, open at both ends
    array[1:6, 1:6, 12:17] = 1
    array[3, 3, 14] = 2
    return Mask(array, affine((2, 1, 1)), SEGMENTS)


@pytest.mark.parametrize("to", ["LPS", "SLA", "PIR"])
@pytest.mark.parametrize(("by", "tunnel"), [("volume", 0), ("slice", 1)])
def test_holes_are_filled_in_the_volume_or_in_axial_slices(by: Any, tunnel: int, to: str) -> None:
    given, before = hollow(), hollow().array
    turned = reorient(Volume(given.array, given.affine), Account(), to=to)
    account = Account()
    filled = fill_holes(Mask(turned.array, turned.affine, SEGMENTS), account, by=by)
    back = reorient(Volume(filled.array, filled.affine), Account(), to="LPS").array
    assert back[3, 3, 3] == 1
    assert (back[1:6, 8, 8] == tunnel).all()
    assert back[3, 3, 14] == 2  # another segment is no hole
    assert (back > 0).sum() == (given.array > 0).sum() + 1 + 5 * tunnel
    assert f"One: {1 + 5 * tunnel} voxels filled" in account.notes
    np.testing.assert_array_equal(given.array, before)


def test_only_the_segments_named_are_filled() -> None:
    assert (fill_holes(hollow(), Account(), segments=("Two",)).array == hollow().array).all()
    with pytest.raises(ValueError, match=r"no segment 'Three'; it has 1 \(One\), 2 \(Two\)"):
        fill_holes(hollow(), Account(), segments=("Three",))


def test_segments_are_merged_as_a_pipeline_says_it() -> None:
    three = replace(SEGMENTS[0], number=3, label="Three")
    given = replace(mask(), segments=(*SEGMENTS, three))
    given.array[0, 0, 11] = 3
    coded = asdict(TISSUE)
    whole = {"number": 5, "label": "Whole", "category": coded, "type": coded, "of": [1, "Two"]}
    made, account = run(
        merge_labels,
        signature("merge_labels", merge_labels),
        {"mask": given},
        {"segments": [whole]},
        CONTEXT,
        {},
    )
    assert isinstance(made, Mask)
    np.testing.assert_array_equal(made.array == 5, (given.array == 1) | (given.array == 2))
    assert made.segments == (Segment(5, "Whole", TISSUE, TISSUE),)
    assert [what for what, _ in account.used] == ["segment One", "segment Two"]
    assert account.unused == [("segment Three", "part of no new segment")]


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ([{"of": [1]}, {"number": 2, "of": [1, 2]}], "One is named twice"),
        ([{"of": [1]}, {"of": [2]}], "the same number"),
        ([{"of": ["Lobe"]}], "no segment 'Lobe'"),
    ],
)
def test_what_cannot_be_merged(new: Any, message: str) -> None:
    coded = asdict(TISSUE)
    shared = {"number": 1, "label": "New", "category": coded, "type": coded}
    ports = signature("merge_labels", merge_labels)
    settings = {"segments": [shared | one for one in new]}
    with pytest.raises(ValueError, match=message):
        run(merge_labels, ports, {"mask": mask()}, settings, CONTEXT, {})
    with pytest.raises(StepFailed, match="at least 1 item"):
        run(merge_labels, ports, {"mask": mask()}, {"segments": [shared | {"of": []}]}, CONTEXT, {})


def kidneys() -> Mask:
    """Two boxes, the patient's left one larger, on an oblique grid whose columns run left."""
    array = np.zeros((10, 30, 60), np.uint8)
    array[3:7, 10:20, 8:16] = 1
    array[2:8, 8:22, 40:54] = 1
    array[0, 0, 0] = 2
    return Mask(array, affine((4, 1, 1), (3, -2, 8), (-30, -15, 0)), SEGMENTS)


@pytest.mark.parametrize("to", ["LPS", "RAS", "SPR"])
def test_left_is_the_patient_s_left_however_the_grid_lies(to: str) -> None:
    given = kidneys()
    turned = reorient(Volume(given.array, given.affine), Account(), to=to)
    account = Account()
    made = split_left_right(Mask(turned.array, turned.affine, SEGMENTS), account, segments=("One",))
    assert [(one.number, one.label, one.laterality) for one in made.segments] == [
        (1, "One, right", RIGHT),
        (2, "Two", None),
        (3, "One, left", LEFT),
    ]
    assert [int((made.array == number).sum()) for number in (1, 2, 3)] == [320, 1, 1176]
    place = np.argwhere(made.array == 3).mean(axis=0)
    other = np.argwhere(made.array == 1).mean(axis=0)
    assert (made.affine @ [*place, 1])[0] > (made.affine @ [*other, 1])[0] + 20
    assert "right 320 and left 1176 voxels" in account.notes[0]


def test_what_is_on_one_side_only_needs_the_body_s_plane() -> None:
    given = kidneys()
    given.array[:, :, :30] = 0
    body = np.zeros(given.array.shape, np.float32)
    body[:, 3:27, 2:58] = 100
    volume = Volume(body + np.random.default_rng(0).normal(0, 3, body.shape), given.affine)
    alone = split_left_right(given, Account())
    assert (alone.array == 1).any()  # the middle of the one kidney
    made = split_left_right(given, Account(), volume, segments=(1,))
    assert not (made.array == 1).any()
    assert (made.array == 3).sum() == 1176


def test_whole_parts_go_to_the_side_where_most_of_them_lies() -> None:
    array = np.zeros((3, 9, 40), np.uint8)
    array[1, 4, 2:24] = 1  # reaches over the middle, at 20
    array[1, 7, 30:38] = 1
    given = Mask(array, affine((2, 1, 1)), SEGMENTS[:1])
    made = split_left_right(given, Account(), whole_parts=True)
    assert [(made.array == number).sum() for number in (1, 2)] == [22, 8]
    assert [(split_left_right(given, Account()).array == n).sum() for n in (1, 2)] == [18, 12]


def test_of_nothing_both_sides_are_empty() -> None:
    empty = mask().with_array(np.zeros((6, 12, 12), np.uint8))
    made = split_left_right(empty, Account())
    assert not made.array.any()
    assert len(made.segments) == 4
