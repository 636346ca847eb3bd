from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from overread.dicom.geometry import lay_out, turn_to_axial
from overread.dicom.study import Instance, Series
from overread.errors import GeometryError
from tests.dicom.series import affine, images, read

SHAPE = (6, 8, 10)
Edit = Callable[[int, Dataset], object]


def series(
    grid: Any = None, edit: Edit | None = None, keep: Callable[[int], bool] = lambda index: True
) -> Series:
    grid = affine() if grid is None else grid
    made = images(np.zeros(SHAPE, np.int16), grid, edit=edit)
    return Series(tuple(Instance(one) for index, one in enumerate(made) if keep(index)))


def moved(by: Any, only: int | None = None) -> Edit:
    """An edit that adds ``by`` mm (times the index, where no one slice is named) to positions."""

    def edit(index: int, one: Dataset) -> None:
        if only is None or index == only:
            times = 1 if only is not None else index
            place = np.array(one.ImagePositionPatient, float) + np.multiply(by, times)
            one.ImagePositionPatient = [f"{value:.6f}" for value in place]

    return edit


def with_values(only: int, **values: Any) -> Edit:
    def edit(index: int, one: Dataset) -> None:
        if index == only:
            for keyword, value in values.items():
                setattr(one, keyword, value)

    return edit


@pytest.mark.parametrize(
    ("made", "problem", "message"),
    [
        (series(keep=lambda i: i != 3), "missing slice", "1 between image 3 and image 5.*10.00 mm"),
        (series(keep=lambda i: i not in (2, 3)), "missing slice", "2 between image 2 and image 5"),
        (series(edit=moved([0, 0, 2], only=2)), "uneven increment", "3.00 to 7.00 mm.*image 3"),
        (series(edit=moved([0, 0.6, 0])), "gantry tilt", r"6\.84° .*at most 0\.5°"),
        (
            series(edit=with_values(4, ImageOrientationPatient=[1, 0, 0, 0, 0.998, 0.0632])),
            "mixed orientation",
            r"image 5 is turned by 3\.6\d° against image 1",
        ),
        (series(edit=with_values(1, Rows=9)), "mixed size", "image 2 has 9 × 10 pixels"),
        (
            series(edit=with_values(1, PixelSpacing=[0.9, 0.95])),
            "mixed spacing",
            "image 2 has pixels of 0.900 × 0.950 mm, image 1 of 0.900 × 0.900 mm",
        ),
        (series(edit=moved([0, 0, -5], only=2)), "duplicate position", "image [23] and image [23]"),
        (series(keep=lambda i: i < 2), "too few slices", "2 in the series, at least 3"),
        (
            series(edit=lambda i, one: one.pop("ImagePositionPatient", None)),
            "no position",
            "no usable ImagePositionPatient",
        ),
        (
            series(edit=with_values(0, ImageOrientationPatient=[1, 0, 0, 0.5, 0.5, 0])),
            "invalid orientation",
            "two perpendicular unit vectors",
        ),
        (series(edit=with_values(0, PixelSpacing=[0, 1])), "invalid orientation", "PixelSpacing"),
        (series(edit=with_values(0, NumberOfFrames=4)), "no position", "no functional groups"),
    ],
)
def test_what_makes_no_regular_grid_is_refused(made: Series, problem: str, message: str) -> None:
    with pytest.raises(GeometryError, match=message) as caught:
        lay_out(made)
    assert caught.value.problem == problem


@pytest.mark.parametrize("by", [0.004, 0.04])
def test_rounded_positions_are_taken(by: float) -> None:
    rng = np.random.default_rng(1)

    def edit(index: int, one: Dataset) -> None:
        place = np.array(one.ImagePositionPatient, float) + rng.uniform(-by, by, 3) * [0.2, 0.2, 1]
        one.ImagePositionPatient = [f"{value:.4f}" for value in place]

    assert np.abs(lay_out(series(edit=edit)).affine - affine()).max() < 2 * by


def test_thickness_and_instance_number_are_not_asked() -> None:
    def edit(index: int, one: Dataset) -> None:
        one.SliceThickness, one.SpacingBetweenSlices = "9", "7"
        one.InstanceNumber = (index * 5) % 6 + 1

    np.testing.assert_allclose(lay_out(series(edit=edit)).affine, affine(), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    turned=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 8)] * 3),
    origin=st.tuples(*[st.floats(-400, 400)] * 3),
    order=st.permutations(range(SHAPE[0])),
)
def test_any_grid_is_found_again_from_any_order(
    turned: tuple[float, float, float],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    order: list[int],
) -> None:
    grid = affine(spacing, turned, origin)
    made = images(np.zeros(SHAPE, np.int16), grid)
    found = lay_out(Series(tuple(Instance(made[index]) for index in order)))
    assert found.shape == SHAPE
    # The stack runs along the normal (row × column); the helper's stacks do too.
    np.testing.assert_allclose(found.affine, grid, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(turned=st.tuples(*[st.floats(-180, 180)] * 3))
def test_a_turn_to_axial_is_lossless(turned: tuple[float, float, float]) -> None:
    array = np.arange(24).reshape(2, 3, 4)
    turn = turn_to_axial(affine((3, 2, 1), turned))
    np.testing.assert_array_equal(turn.back(turn.turn(array)), array)


def test_a_turn_to_axial_brings_feet_front_and_right_first() -> None:
    sagittal = np.eye(4)  # slices to the left, rows to the feet, columns to the back
    sagittal[:3, :3] = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]).T
    turn = turn_to_axial(sagittal)
    assert turn.order == (1, 2, 0)
    assert turn.flip == (True, False, False)


# Real files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "problem"),
    [
        ("failing_gantrytilting_001", "gantry tilt"),
        ("failing_slicecount_001", "too few slices"),
        ("failing_sliceincrement_001", "missing slice"),  # 5, 5 and 10 mm
        ("failing_sliceorientation_001", "mixed orientation"),
    ],
)
def test_real_series_that_make_no_volume(shared_data: Path, folder: str, problem: str) -> None:
    with pytest.raises(GeometryError) as caught:
        lay_out(read(shared_data / "dicom_variants" / "dicom2nifti" / folder))
    assert caught.value.problem == problem


def test_a_real_ct_takes_its_spacing_from_positions(shared_data: Path) -> None:
    found = read(shared_data / "ct_liver" / "dicom", "*.dcm")
    assert float(found.header.SliceThickness) == 3
    grid = lay_out(found)
    assert np.linalg.norm(grid.affine[:3, 0]) == pytest.approx(2.0, abs=1e-6)
    assert grid.shape[0] == 20


@pytest.mark.parametrize(
    ("folder", "shape", "between"),
    [
        ("philips_enhanced_anatomical_001", (8, 256, 256), 1.2),
        ("siemens_multiframe_anatomical_001", (8, 256, 256), 0.9),
        ("hyperfine_anatomical_001", (8, 138, 112), 5.0),
    ],
)
def test_real_multi_frame_images(
    shared_data: Path, folder: str, shape: tuple[int, int, int], between: float
) -> None:
    grid = lay_out(read(shared_data / "dicom_variants" / "dicom2nifti" / folder))
    assert grid.shape[0] == shape[0]
    assert np.linalg.norm(grid.affine[:3, 0]) == pytest.approx(between, abs=1e-3)
