"""The phantom hip patient: boxes and states that are true, in every size and way of storing."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from overread.simulator.exams import hip_patient, main
from overread.simulator.pelvis import STATES, Radiograph, State, lateral, pelvis


def bright(taken: Radiograph) -> np.ndarray:
    """Return pixels as they are shown: bone bright."""
    image = taken.image.astype(float)
    return image if taken.photometric == "MONOCHROME2" else image.max() - image


def test_the_same_seed_gives_the_same_picture() -> None:
    one, same, other = (pelvis(seed, spacing=1.0) for seed in (4, 4, 5))
    assert np.array_equal(one.image, same.image)
    assert one.hips == same.hips
    assert one.image.shape != other.image.shape


@pytest.mark.parametrize("seed", range(12))
def test_the_left_hip_lies_on_the_pictures_right_and_both_are_in_it(seed: int) -> None:
    taken = pelvis(seed, spacing=0.8)
    right, left = taken.hips
    assert (right.side, left.side) == ("right", "left")
    rows, columns = taken.image.shape
    for hip in taken.hips:
        x0, y0, x1, y1 = hip.box
        assert 0 <= x0 < x1 <= columns
        assert 0 <= y0 < y1 <= rows
        assert 60 < (x1 - x0) * taken.spacing < 140
        assert 70 < (y1 - y0) * taken.spacing < 150
    assert right.box[2] < columns / 2 + 20 < left.box[0] + 40


def test_boxes_are_in_pixels_of_the_spacing_that_was_asked_for() -> None:
    fine, coarse = pelvis(7, spacing=0.7), pelvis(7, spacing=1.4)
    for one, other in zip(fine.hips, coarse.hips, strict=True):
        assert one.box == pytest.approx([2 * edge for edge in other.box], abs=2)


def test_monochrome1_is_stored_the_other_way_round() -> None:
    plain = pelvis(3, spacing=1.0, photometric="MONOCHROME2")
    inverse = pelvis(3, spacing=1.0, photometric="MONOCHROME1")
    assert np.abs(plain.image + inverse.image.astype(int) - 4000).max() <= 1
    assert plain.hips == inverse.hips


@pytest.mark.parametrize(("right", "left"), list(product(STATES, repeat=2)))
def test_states_are_those_that_were_asked_for(right: State, left: State) -> None:
    taken = pelvis(9, states=(right, left), spacing=1.0)
    assert [hip.state for hip in taken.hips] == [right, left]
    # Metal is brighter than any bone; where one hip has some, it is the brightest there is.
    image = bright(taken)
    metal = []
    for hip in taken.hips:
        x0, y0, x1, y1 = (round(edge) for edge in hip.box)
        metal.append(float(np.percentile(image[y0:y1, x0:x1], 99.5)))
    if (right == "hardware") != (left == "hardware"):
        assert (metal[0] > metal[1]) == (right == "hardware")


def test_a_fracture_shortens_the_hip() -> None:
    for seed in range(6):
        whole = pelvis(seed, states=("normal", "normal"), spacing=1.0).hips[1].box
        broken = pelvis(seed, states=("normal", "fracture"), spacing=1.0).hips[1].box
        assert broken[3] < whole[3]  # what lies below the fracture has moved up


def test_a_child_is_drawn_normal_only() -> None:
    assert [hip.state for hip in pelvis(1, spacing=0.5, child=True).hips] == ["normal", "normal"]
    with pytest.raises(ValueError, match="normal only"):
        pelvis(1, child=True, states=("normal", "fracture"))


def test_a_lateral_view_shows_no_pair_of_hips() -> None:
    assert lateral(1, spacing=0.5).hips == ()


@pytest.mark.parametrize("one_series", [True, False])
def test_an_exam_has_two_views_in_one_series_or_in_two(one_series: bool) -> None:
    taken, made = hip_patient(2, spacing=0.6, photometric="MONOCHROME1", one_series=one_series)
    assert [view.ViewPosition for view in made] == ["LL", "AP"]
    assert len({view.SeriesInstanceUID for view in made}) == (1 if one_series else 2)
    assert len({view.SOPInstanceUID for view in made}) == 2
    front = made[1]
    assert np.array_equal(front.pixel_array, taken.image)
    assert (front.Modality, front.PhotometricInterpretation) == ("DX", "MONOCHROME1")
    assert front.PresentationLUTShape == "INVERSE"
    assert [float(value) for value in front.ImagerPixelSpacing] == [0.6, 0.6]


def test_exams_are_written_as_files(tmp_path: Path) -> None:
    main(["hip", str(tmp_path / "hip"), "--seed", "5"])
    files = sorted((tmp_path / "hip").iterdir())
    assert [dcmread(file).BodyPartExamined for file in files] == ["HIP", "PELVIS"]
