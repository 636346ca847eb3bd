from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from overread.dicom.codes import ATTENUATION, MEAN, MR_SIGNAL, TISSUE, VOLUME, Code, Segment
from overread.dicom.study import Series
from overread.dicom.volume import HOUNSFIELD, Mask, Probability, Source, Volume, read_volume
from overread.errors import Refused
from overread.operators.files import LPS_RAS
from overread.operators.grid import resample, resample_mask
from overread.operators.measure import (
    METHOD,
    PARTIAL,
    compare_masks,
    measure_intensity,
    measure_shares,
    measure_volumes,
)
from overread.pipelines.ports import Account
from overread.validation.results import ClinicalValue, ClinicalValues, Measurement, Measurements
from tests.dicom.series import LESION, affine, ball, read
from tests.operators.test_postprocess import SEGMENTS

GRID = np.diag([10.0, 10.0, 5.0, 1.0])
"""A voxel is 0.5 mL."""


def values(made: Measurements) -> dict[tuple[str, str], float]:
    return {(one.region, one.quantity): one.value for one in made.items}


def test_every_segment_has_its_volume_even_none() -> None:
    array = np.zeros((2, 4, 4), np.uint8)
    array[0, 0, :3] = 2
    made = measure_volumes(Mask(array, GRID, SEGMENTS))
    assert made.items == (
        Measurement("One", "volume", 0.0, "mL", METHOD, 1, VOLUME, TISSUE),
        Measurement("Two", "volume", 1.5, "mL", METHOD, 2, VOLUME, TISSUE),
    )


def test_a_segment_s_codes_go_with_its_measurements() -> None:
    (made,) = measure_volumes(Mask(np.ones((2, 4, 4), np.uint8), GRID, (LESION,))).items
    assert (made.segment, made.finding, made.site) == (1, LESION.type, LESION.anatomy)


def test_probabilities_count_in_part() -> None:
    array = np.zeros((2, 1, 1, 4), np.float32)
    array[0, 0, 0] = [1, 0.5, 0.25, 0.01]
    found = Probability(array, GRID, SEGMENTS)
    one, two = measure_volumes(found).items
    assert one.value == pytest.approx(0.88)
    assert (one.unit, one.method) == ("mL", PARTIAL)
    assert two.value == 0
    one, _ = measure_volumes(found, ignore_below=0.1).items
    assert one.value == pytest.approx(0.875)
    assert "below 0.1 left out" in one.method


def test_where_images_were_registered_the_patient_is_measured() -> None:
    """An affine registration changes sizes; volumes are those of the images as acquired."""
    back = np.diag([1.2, 1.1, 0.9, 1.0])
    array = np.zeros((4, 5, 6), np.uint8)
    array[1:3, 1:4, 2:4] = 1
    segments = (LESION,)
    mask = Mask(array, affine(), segments, "1.1", source=Source((4, 5, 6), affine(), "2.2", back))
    each = 5 * 0.9 * 0.9 * 1.2 * 1.1 * 0.9 / 1000
    assert measure_volumes(mask).items[0].value == pytest.approx(12 * each, abs=1e-6)
    probability = Probability((array == 1)[None].astype(np.float32), affine(), segments,
                              source=mask.source)  # fmt: skip
    assert measure_volumes(probability).items[0].value == pytest.approx(12 * each, abs=1e-6)


def test_partial_volumes_are_nearer_the_truth_than_whole_voxels() -> None:
    """A ball on coarse voxels, each as full as it is."""
    truth = ball((40, 80, 80), 0.6)
    fine = Volume(truth.astype(np.float32), affine((1, 0.5, 0.5)))
    full = truth.reshape(10, 4, 10, 8, 10, 8).mean(axis=(1, 3, 5)).astype(np.float32)
    coarse = affine((4, 4, 4))
    exact = truth.sum() * fine.voxel_volume / 1000
    (partial,) = measure_volumes(Probability(full[None], coarse, (LESION,))).items
    (whole,) = measure_volumes(Mask((full >= 0.5).astype(np.uint8), coarse, (LESION,))).items
    assert partial.value == pytest.approx(exact, rel=1e-5)
    assert abs(whole.value - exact) > abs(partial.value - exact)


LIVER = tuple(
    Segment(number, label, TISSUE, TISSUE)
    for number, label in ((1, "Left lobe"), (2, "Right lobe"), (3, "Vessels"))
)
WEIGHT = ClinicalValues((ClinicalValue("recipient_weight", 80.0, "kg", "labs.csv"),))


def liver() -> Mask:
    array = np.zeros((10, 10, 20), np.uint8)
    array[:, :, :6] = 1
    array[:, :, 6:18] = 2
    array[:, :, 18:19] = 3
    return Mask(array, GRID, LIVER)


def test_shares_remnant_and_graft() -> None:
    account = Account()
    made = measure_shares(
        liver(), account, WEIGHT, total=(1, 2), remaining=("Left lobe",), graft=("Right lobe",)
    )
    assert values(made) == {
        ("Left lobe", "share"): pytest.approx(100 / 3),
        ("Right lobe", "share"): pytest.approx(200 / 3),
        ("Left lobe", "remnant share"): pytest.approx(100 / 3),
        # 1200 voxels of 0.5 mL at 1 g/mL are 0.6 kg, of 80 kg.
        ("Right lobe", "graft-to-recipient weight ratio"): pytest.approx(0.75),
    }
    assert {one.unit for one in made.items} == {"%"}
    assert made.items[-1].method == "graft volume × 1 g/mL / 80 kg (weight from labs.csv)"
    assert account.used == [("recipient_weight", "80 kg, from labs.csv")]


def test_shares_of_all_add_up() -> None:
    made = measure_shares(liver(), Account())
    assert sum(one.value for one in made.items) == pytest.approx(100)
    assert [one.segment for one in made.items] == [1, 2, 3]


def test_a_weight_in_grams_and_a_density() -> None:
    known = ClinicalValues((ClinicalValue("weight", 80000.0, "g", "tag"),))
    made = measure_shares(
        liver(), Account(), known, graft=(2,), weight="weight", density_g_per_ml=1.06
    )
    assert made.items[-1].value == pytest.approx(0.75 * 1.06)


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (None, "is not known"),
        (ClinicalValues(()), "is not known"),
        (ClinicalValue("recipient_weight", "heavy", "kg", "x"), "heavy kg; a weight above 0 in kg"),
        (ClinicalValue("recipient_weight", 80.0, "", "x"), "80.0 without unit"),
        (ClinicalValue("recipient_weight", 0.0, "kg", "x"), "0.0 kg"),
    ],
)
def test_a_graft_is_not_weighed_against_what_is_no_weight(known: Any, message: str) -> None:
    given = ClinicalValues((known,)) if isinstance(known, ClinicalValue) else known
    with pytest.raises(Refused, match=message):
        measure_shares(liver(), Account(), given, graft=(2,))


def test_shares_of_nothing_are_refused() -> None:
    empty = liver().with_array(np.zeros((10, 10, 20), np.uint8))
    with pytest.raises(Refused, match="nothing of Left lobe, Right lobe was found"):
        measure_shares(empty, Account(), total=(1, 2))
    with pytest.raises(ValueError, match="among the segments of total"):
        measure_shares(liver(), Account(), total=(1, 2), remaining=(3,))


def test_intensities_in_the_source_s_unit() -> None:
    array = np.arange(40, dtype=np.float32).reshape(2, 4, 5)
    labels = np.zeros((2, 4, 5), np.uint8)
    labels.ravel()[5:16] = 1
    account = Account()
    made = measure_intensity(
        Mask(labels, GRID, SEGMENTS), Volume(array, GRID, unit=HOUNSFIELD, modality="CT"), account
    )
    assert values(made) == {
        ("One", "mean"): 10,
        ("One", "standard deviation"): pytest.approx(np.sqrt(10), abs=1e-6),
        ("One", "5th percentile"): 5.5,
        ("One", "median"): 10,
        ("One", "95th percentile"): 14.5,
    }
    assert {one.unit for one in made.items} == {HOUNSFIELD}
    assert (made.items[0].concept, made.items[0].derivation) == (ATTENUATION, MEAN)
    assert made.items[2].concept is None  # the Standard has no code for this percentile
    assert account.unused == [("segment Two", "is empty: it has no values")]
    signal = measure_intensity(
        Mask(labels, GRID, SEGMENTS), Volume(array, GRID, modality="MR"), Account(), percentiles=()
    )
    assert [one.concept for one in signal.items] == [MR_SIGNAL] * 2
    other = measure_intensity(Mask(labels, GRID, SEGMENTS), Volume(array, GRID), Account())
    assert {(one.concept, one.derivation) for one in other.items} == {(None, None)}


def test_what_lies_on_another_grid_is_not_measured() -> None:
    mask = Mask(np.ones((4, 8, 8), np.uint8), affine(), (LESION,))
    volume = Volume(np.ones((4, 8, 8), np.float32), affine())
    fine = resample(volume, Account(), in_plane_mm=0.45)
    moved = replace(volume, affine=affine(origin=(-100, -119, 30)))
    for other in (fine, moved):
        with pytest.raises(ValueError, match=r"different grids: .* to_source or resample_mask"):
            measure_intensity(mask, other, Account())
    with pytest.raises(ValueError, match="mask and reference lie on different grids"):
        compare_masks(mask, replace(mask, affine=moved.affine), Account())
    of_two = replace(mask, frame_of_reference="1.1"), replace(volume, frame_of_reference="2.2")
    with pytest.raises(ValueError, match=r"different frames of reference \(1\.1 and 2\.2\)"):
        measure_intensity(*of_two, Account())
    # What a file rounds away makes no other grid.
    rounded = replace(volume, affine=affine().astype(np.float32).astype(float))
    assert measure_intensity(mask, rounded, Account()).items


def test_masks_are_compared_segment_by_segment() -> None:
    one, other = np.zeros((6, 20, 20), np.uint8), np.zeros((6, 20, 20), np.uint8)
    one[1:5, 2:12, 2:12] = 1
    other[1:5, 2:12, 4:14] = 1
    one[0, 19, :3] = 2
    three = Segment(3, "Three", TISSUE, TISSUE)
    account = Account()
    made = compare_masks(
        Mask(one, affine((3, 1, 1)), SEGMENTS),
        Mask(other, affine((3, 1, 1)), (*SEGMENTS, three)),
        account,
    )
    found = values(made)
    assert found["One", "Dice"] == pytest.approx(0.8)
    assert found["One", "HD95"] == pytest.approx(2)
    assert 0 < found["One", "mean surface distance"] < 2
    assert found["Two", "Dice"] == 0
    assert ("Two", "HD95") not in found
    assert account.notes == ["Two: not in the reference, so there is no distance"]
    assert found["Three", "Dice"] == 1  # in neither
    assert found["Three", "HD95"] == 0
    only = compare_masks(
        Mask(one, affine((3, 1, 1)), SEGMENTS),
        Mask(other, affine((3, 1, 1)), SEGMENTS),
        Account(),
        percentile=100,
        segments=("One",),
    )
    assert [item.quantity for item in only.items] == ["Dice", "mean surface distance", "HD100"]


NAMES = {5: "liver", 52: "aorta", 63: "inferior vena cava", 64: "portal and splenic vein"}


def reference(shared_data: Path) -> tuple[Series, Volume, Mask]:
    """Real contrast CT, and a published model's output on it, whose rows run the other way."""
    series = read(shared_data / "ct_liver" / "dicom", "*.dcm")
    volume = read_volume(series)
    image: Any = nibabel.load(shared_data / "ct_liver" / "totalsegmentator_reference.nii.gz")
    labels = np.asarray(image.dataobj).astype(np.uint8).transpose(2, 1, 0)
    grid: NDArray[np.float64] = LPS_RAS @ image.affine[:, [2, 1, 0, 3]]
    kept = np.where(np.isin(labels, list(NAMES)), labels, 0).astype(np.uint8)
    organ = Code("123037004", "SCT", "Anatomical Structure")
    segments = tuple(Segment(number, name, organ, organ) for number, name in NAMES.items())
    mask = Mask(kept, grid, segments, volume.frame_of_reference)
    placed = resample_mask(mask, volume)
    assert np.bincount(placed.array.ravel()).tolist() == np.bincount(kept.ravel()).tolist()
    return series, volume, placed


def test_a_real_liver(shared_data: Path) -> None:
    _, volume, mask = reference(shared_data)
    found = values(measure_volumes(mask))
    for number, name in NAMES.items():
        count = int((mask.array == number).sum())
        each = abs(np.linalg.det(mask.affine[:3, :3])) / 1000
        assert found[name, "volume"] == pytest.approx(count * each, abs=1e-5)
    assert found["liver", "volume"] > 100
    intensity = values(measure_intensity(mask, volume, Account()))
    assert 60 < intensity["liver", "median"] < 180  # contrast CT: HU of an enhanced liver
    assert intensity["aorta", "mean"] > intensity["liver", "mean"]
    shares = values(measure_shares(mask, Account(), total=("liver", 64)))
    assert shares["liver", "share"] > 90
    same = values(compare_masks(mask, mask, Account()))
    assert {value for (_, what), value in same.items() if what == "Dice"} == {1.0}
    assert {value for (_, what), value in same.items() if what != "Dice"} == {0.0}
