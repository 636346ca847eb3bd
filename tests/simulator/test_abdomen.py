"""The phantom liver donor: exact, plausible, and the same every time."""

from pathlib import Path
from typing import TypedDict

import numpy as np
import pytest
from scipy import ndimage

from overread.dicom.study import Exam, Instance
from overread.dicom.volume import read_volume
from overread.simulator.abdomen import LEFT, NAMES, RIGHT, VESSELS, Abdomen, abdomen
from overread.simulator.exams import liver_donor
from overread.simulator.instances import write


class Grid(TypedDict):
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]


SMALL: Grid = {"shape": (42, 128, 128), "spacing": (4.5, 3.2, 3.2)}


@pytest.fixture(scope="module")
def donor() -> Abdomen:
    return abdomen(1)


def test_the_same_seed_gives_the_same_donor_and_another_one_another() -> None:
    one, same, other = abdomen(5, **SMALL), abdomen(5, **SMALL), abdomen(6, **SMALL)
    assert np.array_equal(one.image.array, same.image.array)
    assert np.array_equal(one.truth.array, same.truth.array)
    assert one.millilitres == same.millilitres
    assert not np.array_equal(one.truth.array, other.truth.array)


def test_finer_division_of_voxels_converges_on_the_volumes() -> None:
    coarse, fine = (abdomen(2, **SMALL, divided=by).millilitres for by in (2, 4))
    for name in NAMES.values():
        assert coarse[name] == pytest.approx(
            fine[name], rel=0.01 if name.endswith("lobe") else 0.05
        )


def test_volumes_do_not_depend_on_the_grid(donor: Abdomen) -> None:
    coarse = abdomen(1, **SMALL, divided=4).millilitres
    for name in ("left lobe", "right lobe"):
        assert coarse[name] == pytest.approx(donor.millilitres[name], rel=0.01)


@pytest.mark.parametrize("seed", range(20))
def test_livers_are_of_human_size(seed: int) -> None:
    taken = abdomen(seed, **SMALL)
    left, right, vessels = (taken.millilitres[name] for name in NAMES.values())
    assert 900 < left + right + vessels < 2500
    assert 0.15 < left / (left + right) < 0.5
    assert 10 < vessels < 90
    assert 45 < taken.weight_kg < 115
    # Nothing is cut off by the ends of the scan, and each lobe is one piece.
    assert not taken.truth.array[[0, -1]].any()
    for value in (LEFT, RIGHT):
        parts, _ = ndimage.label(taken.truth.array == value, np.ones((3, 3, 3)))
        assert np.bincount(parts.ravel())[1:].max() > 0.97 * (parts > 0).sum()


def test_the_truth_lies_where_the_image_shows_it(donor: Abdomen) -> None:
    assert donor.image.unit == "[hnsf'U]"
    hounsfield = {value: donor.image.array[donor.truth.array == value].mean() for value in NAMES}
    assert 80 < hounsfield[LEFT] < 130
    assert hounsfield[RIGHT] == pytest.approx(hounsfield[LEFT], abs=4)
    assert hounsfield[VESSELS] > hounsfield[LEFT] + 20
    assert donor.image.array.min() < -950
    places = {
        value: (donor.image.affine @ [*ndimage.center_of_mass(donor.truth.array == value), 1])[:3]
        for value in NAMES
    }
    assert places[LEFT][0] > 0 > places[RIGHT][0]  # LPS: x grows to the patient's left
    assert places[LEFT][1] < places[RIGHT][1]  # and the left lobe lies further to the front


def test_an_exam_is_read_back_as_the_volume_that_was_drawn(tmp_path: Path) -> None:
    taken, made = liver_donor(3, **SMALL)
    files = zip(made, write(made, tmp_path), strict=True)
    exam = Exam(tuple(Instance(dataset, file) for dataset, file in files))
    native, portal = sorted(exam.series(), key=len)
    assert (len(native), len(portal)) == (8, SMALL["shape"][0])
    volume = read_volume(portal)
    assert np.allclose(volume.affine, taken.image.affine)
    assert np.array_equal(volume.array, taken.image.array)
    assert float(portal.header.PatientWeight) == pytest.approx(taken.weight_kg)
    assert portal.header.SeriesDescription == "PORTAL VENOUS"
    assert {one.header.StudyInstanceUID for one in exam} == {portal.header.StudyInstanceUID}
    assert native.header.FrameOfReferenceUID == portal.header.FrameOfReferenceUID
