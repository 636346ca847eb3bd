from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from overread.dicom.codes import LONG_AXIS, PERPENDICULAR_AXIS
from overread.dicom.volume import Mask, Source, Volume
from overread.operators.diameters import measure_diameters
from overread.operators.grid import pad, reorient
from overread.pipelines.ports import Account
from overread.validation.results import Measurements
from tests.dicom.series import LESION, affine
from tests.operators.test_measure import reference, values

TUMOUR = "Enhancing tumour"


def lesions(spacing: Any = (4.0, 1.0, 1.0), angles: Any = (0.0, 0.0, 0.0)) -> Mask:
    """Three boxes, 24 by 18, 16 by 9 and 10 by 5 voxels in their largest slice."""
    array = np.zeros((8, 60, 60), np.uint8)
    array[1, 2:10, 2:10] = 1
    array[2:4, 2:26, 2:20] = 1
    array[4, 30:46, 30:39] = 1
    array[6, 50:60, 50:55] = 1
    return Mask(array, affine(spacing, angles), (LESION,), "1.2")


def box(rows: float, columns: float) -> float:
    """Longest diameter of a box whose corners are cut off by half a voxel each."""
    return float(max(np.hypot(rows, columns - 1), np.hypot(rows - 1, columns)))


def test_a_segment_s_longest_diameter_and_the_one_across_it() -> None:
    account = Account()
    long, across = measure_diameters(lesions(), account).items
    assert (long.region, long.quantity, long.unit) == (TUMOUR, "long axis", "mm")
    # As one, the segment of slice 2 is what counts: the longest in any slice.
    assert long.value == pytest.approx(box(24, 18), abs=1e-6)
    assert (long.concept, across.concept) == (LONG_AXIS, PERPENDICULAR_AXIS)
    assert (long.finding, long.site, long.segment) == (LESION.type, LESION.anatomy, 1)
    ends = np.array(long.points)
    assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(long.value, abs=1e-6)
    assert across.value == pytest.approx(np.linalg.norm(np.diff(across.points, axis=0)), abs=1e-6)
    assert ends[0][2] == ends[1][2] == affine()[2, 3] + 2 * 4.0
    assert "in slice 3 of 8 from the feet" in account.notes[0]


@pytest.mark.parametrize("to", ["RAS", "SLA", "PIL"])
def test_the_axial_plane_is_found_on_any_grid(to: str) -> None:
    given = lesions(angles=(4, -3, 7))
    turned = reorient(Volume(given.array, given.affine), Account(), to=to)
    expected = values(measure_diameters(given, Account(), per="lesion"))
    found = measure_diameters(Mask(turned.array, turned.affine, (LESION,)), Account(), per="lesion")
    for key, value in values(found).items():
        assert value == pytest.approx(expected[key], abs=1e-5)


def test_lesions_are_measured_one_by_one_the_longest_first() -> None:
    made = measure_diameters(lesions(), Account(), per="lesion")
    found = values(made)
    for number, (rows, columns) in enumerate([(24, 18), (16, 9), (10, 5)], start=1):
        assert found[f"{TUMOUR} {number}", "long axis"] == pytest.approx(box(rows, columns))
    assert len(found) == 6
    second = next(one for one in made.items if one.region == f"{TUMOUR} 2")
    index = np.linalg.inv(affine((4, 1, 1))) @ [*np.mean(second.points, axis=0), 1]
    np.testing.assert_allclose(index[:3], [4, 37.5, 34], atol=0.6)
    assert second.segment == 0  # a lesion is no segment of its own


def test_parts_that_are_measured_as_one_are_told() -> None:
    account = Account()
    measure_diameters(lesions(), account, rule="recist")
    assert account.notes[1].startswith(f"{TUMOUR}: its 3 parts are measured as one")
    account = Account()
    measure_diameters(lesions(), account, rule="recist", per="lesion")
    assert not any("as one" in note for note in account.notes)


@pytest.mark.parametrize(
    ("rule", "spacing", "quantity", "lesions_counted", "least"),
    [
        ("recist", (4, 1, 1), "sum of longest diameters", 3, 10),
        ("recist", (7, 1, 1), "sum of longest diameters", 2, 14),  # slices too far apart for 10 mm
        ("recist_node", (4, 1, 1), "sum of short axes", 1, 15),
        ("rano", (4, 1, 1), "sum of products of diameters", 2, 10),
    ],
)
def test_rules_sum_what_they_call_measurable(
    rule: Any, spacing: Any, quantity: str, lesions_counted: int, least: int
) -> None:
    account = Account()
    made = measure_diameters(lesions(spacing), account, rule=rule, per="lesion")
    found = values(made)
    names = [f"{TUMOUR} {number}" for number in (1, 2, 3)][:lesions_counted]
    expected = {
        "recist": sum(found[name, "long axis"] for name in names),
        "recist_node": sum(found[name, "perpendicular axis"] for name in names),
        "rano": sum(found[name, "long axis"] * found[name, "perpendicular axis"] for name in names),
    }[rule]
    assert found[TUMOUR, quantity] == pytest.approx(expected, abs=1e-4)
    last = made.items[-1]
    assert last.unit == ("mm2" if rule == "rano" else "mm")
    assert f"{lesions_counted} lesions of at least {least} mm" in last.method
    assert sum("not summed" in note for note in account.notes) == 3 - lesions_counted
    if rule == "rano":
        assert (f"{TUMOUR} 3", "product of diameters") in found


def test_a_site_s_own_minimum_and_number_of_targets() -> None:
    made = measure_diameters(
        lesions(), Account(), rule="recist", per="lesion", minimum_mm=0, targets=2
    )
    found = values(made)
    assert found[TUMOUR, "sum of longest diameters"] == pytest.approx(box(24, 18) + box(16, 9))


def test_what_is_not_there_has_no_diameter() -> None:
    empty = lesions().with_array(np.zeros((8, 60, 60), np.uint8))
    made = measure_diameters(empty, Account(), rule="recist", per="lesion")
    assert [(one.value, one.points) for one in made.items] == [(0, ()), (0, ()), (0, ())]


def test_ends_are_given_in_the_source_s_space() -> None:
    given = lesions()
    back = np.eye(4)
    back[:3, 3] = (5, -7, 9)
    source = Source((8, 60, 60), affine(), "3.4", back)
    plain = measure_diameters(given, Account()).items[0]
    moved = measure_diameters(replace(given, source=source), Account()).items[0]
    np.testing.assert_allclose(np.subtract(moved.points, plain.points), [[5, -7, 9]] * 2)
    assert moved.value == pytest.approx(plain.value)
    assert (moved.frame_of_reference, plain.frame_of_reference) == ("3.4", "1.2")


def test_padding_changes_no_measurement() -> None:
    given = lesions(angles=(10, 20, 30))
    padded = pad(Volume(given.array, given.affine), Account(), multiple=16)
    mask = Mask(padded.array, padded.affine, (LESION,), source=padded.source)
    expected: Measurements = measure_diameters(given, Account(), per="lesion")
    found = measure_diameters(mask, Account(), per="lesion")
    for one, other in zip(found.items, expected.items, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-5)
        np.testing.assert_allclose(one.points, other.points, atol=1e-6)


@pytest.mark.parametrize("patient", ["01", "03", "07"])
def test_real_tumours(shared_data: Path, patient: str) -> None:
    image: Any = nibabel.load(shared_data / "brain_tumour" / patient / "Pre_Mask.nii.gz")
    array = (np.asarray(image.dataobj).transpose(2, 1, 0) > 0).astype(np.uint8)
    mask = Mask(array, affine((6.5, 0.86, 0.86)), (LESION,))
    found = values(measure_diameters(mask, Account(), rule="rano", per="lesion"))
    whole = values(measure_diameters(mask, Account()))
    assert found[f"{TUMOUR} 1", "long axis"] <= whole[TUMOUR, "long axis"]
    assert found[TUMOUR, "sum of products of diameters"] >= 0
    # No diameter is longer than the box of the segment's voxels is wide.
    edges = np.ptp(np.argwhere(array), axis=0)[1:] + 1
    assert whole[TUMOUR, "long axis"] <= np.hypot(*edges) * 0.86


def test_a_real_liver_s_vessels(shared_data: Path) -> None:
    _, volume, mask = reference(shared_data)
    found = values(measure_diameters(mask, Account(), segments=("aorta", "liver")))
    assert 12 < found["aorta", "perpendicular axis"] < 40
    assert 80 < found["liver", "long axis"] < 350
    assert set(mask.array.shape) == set(volume.array.shape)
