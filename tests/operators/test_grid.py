from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from overread.dicom.volume import Mask, Probability, Volume, read_volume
from overread.errors import Refused
from overread.operators.grid import (
    Orientation,
    crop_foreground,
    pad,
    probability_to_source,
    reorient,
    resample,
    resample_mask,
    to_source,
)
from overread.operators.postprocess import threshold
from overread.operators.write import write_seg
from overread.pipelines.ports import Account
from tests.dicom.series import LESION, affine, ball, read
from tests.operators.test_write import CONTEXT

ORIENTATIONS = [
    "".join(letters) for axes in permutations(("LR", "PA", "SI")) for letters in product(*axes)
]


def places(shape: tuple[int, ...], grid: Any) -> Any:
    """LPS mm of each voxel's centre."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return index @ grid[:3, :3].T + grid[:3, 3]


def ramp(shape: tuple[int, int, int], grid: Any, across: Any) -> Volume:
    """A volume whose value is a linear function of the place in the patient."""
    return Volume((places(shape, grid) @ across).astype(np.float32), grid, modality="MR")


@pytest.mark.parametrize("in_plane", [0.6, 0.9, 1.3, 2.0])
def test_resampling_moves_nothing(in_plane: float) -> None:
    grid, across = affine((5, 0.9, 0.9), (20, -10, 30)), np.array([1.0, -2.0, 0.5])
    made = resample(ramp((6, 60, 50), grid, across), Account(), in_plane_mm=in_plane)
    assert made.spacing == pytest.approx((5, in_plane, in_plane))
    assert made.origin.spacing == pytest.approx((5, 0.9, 0.9))
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


@pytest.mark.parametrize("to", ["LPS-axial", "LPS-coronal", "LPS-sagittal", *ORIENTATIONS[::5]])
def test_a_turned_volume_keeps_every_value_in_its_place(to: str) -> None:
    across = np.array([1.0, -20.0, 400.0])
    given_volume = ramp((4, 5, 6), affine((5, 0.9, 0.8), (12, -8, 20)), across)
    made = reorient(given_volume, Account(), to=to)
    np.testing.assert_allclose(
        made.array, places(made.array.shape, made.affine) @ across, rtol=1e-5
    )
    assert made.source is not None
    assert made.source.shape == (4, 5, 6)


@pytest.mark.parametrize(
    ("to", "directions"),
    [
        ("LPS-axial", ([0, 0, 1], [0, 1, 0], [1, 0, 0])),
        ("LPS-coronal", ([0, 1, 0], [0, 0, -1], [1, 0, 0])),
        ("LPS-sagittal", ([1, 0, 0], [0, 0, -1], [0, 1, 0])),
        ("RAS", ([0, 0, 1], [0, -1, 0], [-1, 0, 0])),
        ("SLA", ([0, -1, 0], [1, 0, 0], [0, 0, 1])),
    ],
)
def test_where_to_axes_grow(to: str, directions: Any) -> None:
    made = reorient(Volume(np.zeros((3, 4, 5)), affine((1, 1, 1), (8, -9, 7))), Account(), to=to)
    for axis, wanted in enumerate(directions):
        assert made.affine[:3, axis] @ wanted > 0.9


def test_all_48_orientations_are_known_and_no_others() -> None:
    adapter = TypeAdapter(Orientation)
    assert len({adapter.validate_python(name) for name in ORIENTATIONS}) == 48
    for wrong in ("LPX", "LRS", "lps", "LP", "axial", ""):
        with pytest.raises(ValidationError, match="no orientation"):
            adapter.validate_python(wrong)


def test_a_crop_holds_the_foreground_and_its_margin() -> None:
    array = np.zeros((10, 40, 40), np.float32)
    array[4:6, 10:20, 25:36] = 100
    volume = Volume(array, affine((5, 1, 2), (5, 6, 7)), "1.2")
    account = Account()
    made = crop_foreground(volume, account, margin_mm=4.0, above=50.0)
    assert made.array.shape == (2 + 2, 10 + 8, 11 + 4)
    np.testing.assert_allclose(made.affine[:3, 3], (volume.affine @ [3, 6, 23, 1])[:3])
    assert made.array.sum() == array.sum()
    assert "from 10 × 40 × 40 to 4 × 18 × 15 voxels" in account.notes[0]
    # The volume ends where it ends.
    assert crop_foreground(volume, Account(), margin_mm=1e3).array.shape == array.shape


@pytest.mark.parametrize(("array", "above"), [(np.ones, "otsu"), (np.zeros, 3.0)])
def test_without_foreground_a_crop_is_refused(array: Any, above: Any) -> None:
    with pytest.raises(Refused, match="nothing to crop to"):
        crop_foreground(Volume(array((3, 4, 5)), np.eye(4)), Account(), above=above)


@pytest.mark.parametrize(
    ("settings", "shape", "start"),
    [
        ({"to": (4, 9, 12)}, (4, 9, 12), (0, 2, 1)),
        ({"multiple": 8}, (8, 8, 16), (2, 1, 3)),
        ({"multiple": (1, 4, 10)}, (3, 8, 10), (0, 1, 0)),
        ({"to": (2, 7, 2), "multiple": 4}, (4, 8, 12), (0, 1, 1)),
    ],
)
def test_padding(settings: Any, shape: Any, start: Any) -> None:
    array = np.random.default_rng(0).normal(size=(3, 5, 10)).astype(np.float32)
    volume = Volume(array, affine((5, 1, 2), (5, 6, 7)))
    made = pad(volume, Account(), **settings)
    assert made.array.shape == shape
    inner = tuple(slice(at, at + size) for at, size in zip(start, array.shape, strict=True))
    np.testing.assert_array_equal(made.array[inner], array)
    np.testing.assert_allclose((made.affine @ [*start, 1])[:3], volume.affine[:3, 3])
    outside = np.ones(shape, bool)
    outside[inner] = False
    assert (made.array[outside] == array.min()).all()
    assert (pad(volume, Account(), value=-7, **settings).array[outside] == -7).all()


def test_padding_wants_a_size() -> None:
    with pytest.raises(ValueError, match="to, multiple or both"):
        pad(Volume(np.zeros((3, 3, 3)), np.eye(4)), Account())


STEPS = st.one_of(
    st.tuples(st.just(reorient), st.fixed_dictionaries({"to": st.sampled_from(ORIENTATIONS)})),
    st.tuples(
        st.just(crop_foreground),
        st.fixed_dictionaries({"margin_mm": st.floats(0, 9), "above": st.just(0.5)}),
    ),
    st.tuples(
        st.just(pad),
        st.one_of(
            st.fixed_dictionaries({"to": st.tuples(*[st.integers(1, 20)] * 3)}),
            st.fixed_dictionaries({"multiple": st.integers(1, 9)}),
        ),
    ),
)
ANGLES = st.tuples(*[st.floats(-180, 180)] * 3)


@given(st.lists(STEPS, min_size=1, max_size=6), ANGLES, st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_what_is_found_after_a_lossless_chain_comes_back_voxel_by_voxel(
    chain: list[Any], angles: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros((7, 9, 11), np.uint8)
    labels[1:6, 2:7, 3:10] = rng.integers(0, 4, (5, 5, 7))
    labels[3, 4, 5] = 1
    grid = affine((3.0, 0.9, 0.7), angles, rng.normal(0, 200, 3).tolist())
    volume = Volume(labels.astype(np.float32), grid, "1.2")
    for step, chosen in chain:
        volume = step(volume, Account(), **chosen)
    segments = tuple(replace(LESION, number=number) for number in (1, 2, 3))
    found = Mask(
        np.rint(volume.array).astype(np.uint8),
        volume.affine,
        segments,
        volume.frame_of_reference,
        "a@1.0.0",
        volume.source,
    )
    back = to_source(found, Account())
    np.testing.assert_array_equal(back.array, labels)
    np.testing.assert_array_equal(back.affine, grid)
    assert (back.frame_of_reference, back.model, back.source) == ("1.2", "a@1.0.0", None)
    # Probabilities, too, are moved and not changed.
    probable = rng.random((3, *volume.array.shape), np.float32) * (volume.array > 0)
    came = probability_to_source(
        Probability(probable, volume.affine, segments, source=volume.source), Account()
    )
    assert came.array.sum() == pytest.approx(probable.sum(), rel=1e-5)
    taken = to_source(replace(found, array=(probable[1] > 0.5).astype(np.uint8)), Account())
    np.testing.assert_array_equal(taken.array, came.array[1] > 0.5)


def rescale(volume: Volume, account: Account, *, by: tuple[float, float, float]) -> Volume:
    """Resample to so many times the spacing of each axis, whichever way it lies."""
    slices, rows, columns = (now * part for now, part in zip(volume.spacing, by, strict=True))
    return resample(volume, account, spacing_mm=(slices, rows, columns))


RESAMPLE = st.tuples(
    st.just(rescale), st.fixed_dictionaries({"by": st.tuples(*[st.floats(0.45, 1.0)] * 3)})
)


@given(STEPS, RESAMPLE, st.lists(STEPS, max_size=3), ANGLES)
@settings(max_examples=30, deadline=None)
def test_what_is_found_on_a_resampled_grid_comes_back_to_its_place(
    first: Any, resampled: Any, rest: list[Any], angles: Any
) -> None:
    truth = ball((14, 40, 48), 0.5)
    volume = Volume(truth.astype(np.float32), affine((3.0, 1.0, 0.9), angles), "1.2")
    account = Account()
    for step, chosen in (first, resampled, *rest):
        volume = step(volume, account, **chosen)
    found = Mask(
        (volume.array > 0.5).astype(np.uint8),
        volume.affine,
        (LESION,),
        "1.2",
        source=volume.source,
    )
    back = to_source(found, account).array > 0
    assert back.shape == truth.shape
    assert 2 * (back & truth).sum() / (back.sum() + truth.sum()) > 0.9
    apart = np.argwhere(back).mean(axis=0) - np.argwhere(truth).mean(axis=0)
    assert np.abs(apart).max() < 0.5
    probable = Probability(
        np.clip(volume.array, 0, 1)[None].astype(np.float32),
        volume.affine,
        (LESION,),
        source=volume.source,
    )
    smooth = probability_to_source(probable, account).array[0]
    half = smooth > 0.5
    assert 2 * (half & truth).sum() / (half.sum() + truth.sum()) > 0.9
    assert smooth.sum() == pytest.approx(truth.sum(), rel=0.1)


def test_what_lies_on_its_source_stays() -> None:
    mask = Mask(ball((3, 9, 9)).astype(np.uint8), affine(), (LESION,))
    account = Account()
    assert to_source(mask, account) is mask
    assert account.notes == ["already on the grid of its source"]
    probability = Probability(np.zeros((1, 3, 9, 9), np.float32), affine(), (LESION,))
    assert probability_to_source(probability, Account()) is probability


def test_the_way_back_leads_through_the_registration() -> None:
    """A mask on a grid of another exam's space comes back turned and shifted."""
    truth = ball((12, 40, 40), 0.5)
    grid = affine((3, 1, 1))
    to_mine = np.linalg.inv(affine((1, 1, 1))) @ affine(
        (1, 1, 1), (6, -4, 8), (-96.0, -122.0, 33.0)
    )
    other = np.linalg.inv(to_mine) @ grid
    source = replace(Volume(truth, grid, "1.2").origin, back=to_mine)
    mask = Mask(truth.astype(np.uint8), other, (LESION,), "9.9", source=source)
    back = to_source(mask, Account())
    np.testing.assert_array_equal(back.array, truth)
    assert back.frame_of_reference == "1.2"


def test_a_real_liver_s_segmentation_lies_where_it_was_found(shared_data: Path) -> None:
    """Found on a turned, cropped and padded grid, or on the one that was read: the same object."""
    source = read(shared_data / "ct_liver" / "dicom", "*.dcm")
    volume = read_volume(source)
    account = Account()
    turned = reorient(volume, account, to="SLA")
    padded = pad(crop_foreground(turned, account, above=-300.0, margin_mm=5), account, multiple=32)
    assert padded.array.shape != turned.array.shape
    found = to_source(threshold(padded, account, above=150.0, segment=LESION), account)
    direct = threshold(volume, account, above=150.0, segment=LESION)
    assert direct.array.any()
    np.testing.assert_array_equal(found.array, direct.array)
    one, other = (write_seg(mask, source, CONTEXT, Account()) for mask in (found, direct))
    assert one.encode() == other.encode()
