from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydicom import Dataset

from overread.dicom.geometry import lay_out, stack
from overread.dicom.stacks import STRICT, Arrangement, Policies, Split, arrange
from overread.dicom.study import Instance, Series
from overread.errors import GeometryError
from tests.dicom.series import affine, images

SHAPE = (6, 8, 10)


def slices(name: str = "one", grid: Any = None, **values: Any) -> list[Dataset]:
    made = images(np.zeros(SHAPE, np.int16), affine() if grid is None else grid, name=name)
    for one in made:
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = "1.2", "1.2.3", "1.4"
        for keyword, value in values.items():
            setattr(one, keyword, value)
    return made


def series(made: Sequence[Dataset]) -> Series:
    return Series(tuple(Instance(one) for one in made))


def echoes(*times: float) -> list[Dataset]:
    return [one for time in times for one in slices(str(time), EchoTime=str(time))]


def at(heights: Sequence[float], *, tilt: float = 0.0) -> Series:
    """Axial slices at heights (mm), each moved back by a part of its height."""
    made = images(np.zeros((len(heights), 8, 10), np.int16), affine())
    for one, height in zip(made, heights, strict=True):
        one.ImagePositionPatient = ["0", f"{tilt * height:.4f}", f"{height:.4f}"]
    return series(made)


def refusal(made: Series, policies: Policies = STRICT) -> GeometryError:
    with pytest.raises(GeometryError) as caught:
        arrange(made, policies)
    return caught.value


@settings(max_examples=30, deadline=None)
@given(turned=st.tuples(*[st.floats(-180, 180)] * 3), order=st.permutations(range(6)))
def test_a_regular_series_is_laid_out_as_it_is(
    turned: tuple[float, float, float], order: list[int]
) -> None:
    made = slices(grid=affine((3, 1, 1), turned))
    found = arrange(
        series([made[index] for index in order]),
        Policies((), "resample", "interpolate", "resample", "largest", "drop"),
    )
    strict = lay_out(series(made))
    np.testing.assert_array_equal(found.affine, strict.affine)
    assert [p.instance.uid for p in found.planes] == [p.instance.uid for p in strict.planes]
    assert (found.left_out, found.notes, found.straighten) == ((), (), False)
    assert found.places.tolist() == list(range(6))


@pytest.mark.parametrize(
    ("keyword", "problem"),
    [
        ("PatientID", "mixed patients"),
        ("StudyInstanceUID", "mixed patients"),
        ("FrameOfReferenceUID", "mixed frame of reference"),
    ],
)
@pytest.mark.parametrize("policies", [STRICT, Policies(mixed_orientation="largest")])
def test_two_patients_or_spaces_make_no_volume(
    keyword: str, problem: str, policies: Policies
) -> None:
    made = slices()
    for one in made[3:]:
        setattr(one, keyword, "9.9")
    with pytest.raises(GeometryError) as caught:
        lay_out(series(made))
    assert caught.value.problem == problem
    expected = problem if policies is STRICT or "patients" in problem else "mixed orientation"
    assert refusal(series(made), policies).problem == expected


# Several volumes ------------------------------------------------------------------------------


def diffusion() -> list[Dataset]:
    made = []
    for index, (b, way) in enumerate([(0, None), (1000, [1, 0, 0]), (1000, [0, 1, 0])]):
        one = slices(f"b{index}", DiffusionBValue=b)
        for each in one if way else ():
            each.DiffusionGradientOrientation = way
        made += one
    return made


def cine() -> list[Dataset]:
    """A trigger time of its own for every image, as two-dimensional cine has it."""
    made = []
    for phase in range(3):
        for index, one in enumerate(slices(f"p{phase}")):
            one.TriggerTime = str(30 * phase + index)
            made.append(one)
    return made


def parts() -> list[Dataset]:
    """Magnitude and phase, of each of two echoes."""
    return [
        one
        for time in (2.5, 5)
        for part in ("M", "P")
        for one in slices(f"{time}{part}", EchoTime=time, ImageType=["ORIGINAL", "PRIMARY", part])
    ]


def repeated() -> list[Dataset]:
    return [
        one
        for index in range(2)
        for one in slices(str(index), AcquisitionTime=f"10000{index}", InstanceNumber=1)
    ]


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (echoes(2.3, 4.6, 6.9), r"18 images lie at 6 positions, up to 3 at each; what varies there "
         r"is EchoTime \(2\.3, 4\.6, 6\.9\)\. One volume"),
        (diffusion(), r"DiffusionBValue \(0, 1000\); DiffusionGradientOrientation \(none, "
         r"0\\1\\0, 1\\0\\0\)|DiffusionGradientOrientation .*; DiffusionBValue \(0, 1000\)"),
        (cine(), r"TriggerTime \(0, 30, 60\)"),
        (parts(), r"EchoTime \(2\.5, 5\); ImageType \(ORIGINAL\\PRIMARY\\M, "),
        (repeated(), r"AcquisitionTime \(100000, 100001\)"),
    ],
    ids=["echoes", "diffusion", "cine", "parts", "repeated"],
)  # fmt: skip
def test_several_volumes_are_told_with_what_varies(made: list[Dataset], told: str) -> None:
    with pytest.raises(GeometryError, match=told) as caught:
        arrange(series(made))
    assert caught.value.problem == "several volumes"


@pytest.mark.parametrize(
    ("made", "splits", "kept"),
    [
        (echoes(4.6, 2.3), [Split("EchoTime")], range(6, 12)),
        (echoes(4.6, 2.3), [Split("EchoTime", 2)], range(6)),
        (echoes(4.6, 2.3), [Split("EchoTime", value=4.6)], range(6)),
        (diffusion(), [Split("DiffusionBValue")], range(6)),
        (diffusion(), [Split("DiffusionBValue", value=1000),
                       Split("DiffusionGradientOrientation", 2)], range(6, 12)),
        (cine(), [Split("TriggerTime", 3)], range(12, 18)),
        (parts(), [Split("ImageType", value="P"), Split("EchoTime", 2)], range(18, 24)),
        (repeated(), [Split("AcquisitionTime", 2)], range(6, 12)),
    ],
)  # fmt: skip
def test_a_split_reads_one_of_them(
    made: list[Dataset], splits: list[Split], kept: Sequence[int]
) -> None:
    found = arrange(series(made), Policies(tuple(splits)))
    assert {p.instance.uid for p in found.planes} == {made[i].SOPInstanceUID for i in kept}
    assert len(found.left_out) == len(made) - 6
    assert all(why.startswith("another volume: ") for _, why in found.left_out)


def test_a_split_that_does_not_settle_it_is_told() -> None:
    error = refusal(series(diffusion()), Policies((Split("DiffusionBValue", value=1000),)))
    assert "12 images lie at 6 positions" in str(error)
    assert "DiffusionGradientOrientation" in str(error)


@pytest.mark.parametrize(
    ("split", "told"),
    [
        (Split("EchoTime", 3), "number 3 of EchoTime was asked for; .* there are 2.3, 4.6"),
        (Split("EchoTime", value=9), "EchoTime 9.0 was asked for; the images have 2.3, 4.6"),
        (Split("FlipAngle", value=9), "the images have none"),
    ],
)
def test_a_split_that_fits_nothing_says_what_is_there(split: Split, told: str) -> None:
    with pytest.raises(GeometryError, match=told):
        arrange(series(echoes(2.3, 4.6)), Policies((split,)))


@pytest.mark.parametrize("lost", [0, 2, 5])
def test_a_position_that_lacks_a_volume_does_not_take_it_from_another(lost: int) -> None:
    made = [one for b in (0, 1000) for one in slices(f"b{b}", DiffusionBValue=b)]
    del made[lost]
    error = refusal(series(made), Policies((Split("DiffusionBValue"),)))
    assert error.problem == "several volumes"
    assert "there are 1000, at that of image" in str(error)
    split = Policies((Split("DiffusionBValue", value=1000),))
    assert len(arrange(series(made), split).planes) == 6


def test_a_volume_that_was_broken_off_does_not_matter_to_those_before() -> None:
    made = [one for time in (1, 2) for one in slices(f"t{time}", TemporalPositionIdentifier=time)]
    found = arrange(series(made[:9]), Policies((Split("TemporalPositionIdentifier"),)))
    assert [plane.instance.uid for plane in found.planes] == [
        one.SOPInstanceUID for one in made[:6]
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"by": "EchoTyme"},
        {"by": "EchoTime", "number": 0},
        {"by": "EchoTime", "number": 2, "value": 3},
        {"by": "EchoTime", "take": 3},
        {},
    ],
)
def test_a_wrong_split_is_refused_when_the_site_is_loaded(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Split).validate_python(wrong)


def test_frames_of_one_image_are_parted_by_their_groups() -> None:
    found = arrange(Series((Instance(enhanced()),)), Policies((Split("EchoTime", 2),)))
    assert [plane.frame for plane in found.planes] == [1, 3, 5, 7]
    assert found.planes[0].values("EchoTime") == ("4.6",)
    with pytest.raises(GeometryError, match=r"EchoTime \(2\.3, 4\.6\)"):
        arrange(Series((Instance(enhanced()),)))


def enhanced() -> Dataset:
    """A multi-frame image: four positions, two echoes at each."""
    one = slices()[0]
    one.NumberOfFrames = 8
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = one.pop("ImageOrientationPatient").value
    measures.PixelSpacing = one.pop("PixelSpacing").value
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    one.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for frame in range(8):
        item, place, echo = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, 2 * (frame // 2)]
        echo.EffectiveEchoTime = [2.3, 4.6][frame % 2]
        item.PlanePositionSequence, item.MREchoSequence = [place], [echo]
        frames.append(item)
    one.PerFrameFunctionalGroupsSequence = frames
    return one


def test_one_slice_sent_twice_is_no_second_volume() -> None:
    made = slices()
    again = slices("again")[2]
    assert refusal(series([*made, again])).problem == "duplicate position"


# What is in the way of one ---------------------------------------------------------------------


def scouts() -> list[Dataset]:
    upright = affine((5, 1, 1), (90, 0, 0))
    return [
        *slices("scout", upright, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])[:2],
        *slices(),
    ]


def test_a_localiser_is_named_or_dropped() -> None:
    error = refusal(series(scouts()))
    assert error.problem == "localiser"
    assert "2 of the 8 images are localisers (ImageType LOCALIZER; image 1, image 2)" in str(error)
    found = arrange(series(scouts()), Policies(localiser="drop"))
    assert len(found.planes) == 6
    assert [why for _, why in found.left_out] == ["a localiser (ImageType LOCALIZER)"] * 2


def test_a_series_of_localisers_is_one_series() -> None:
    made = slices(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert len(arrange(series(made), Policies(localiser="drop")).planes) == 6


def test_the_largest_stack_is_taken() -> None:
    made = [*slices("other", affine((5, 1, 1), (0, 40, 0)))[:4], *slices()]
    assert refusal(series(made)).problem == "mixed orientation"
    found = arrange(series(made), Policies(mixed_orientation="largest"))
    assert len(found.planes) == 6
    assert {why for _, why in found.left_out} == {"not of the largest stack (6 of 10 images)"}


def test_of_equal_stacks_none_is_the_largest() -> None:
    made = [*slices("other", affine((5, 1, 1), (0, 40, 0))), *slices()]
    error = refusal(series(made), Policies(mixed_orientation="largest"))
    assert "6 and 6 images" in str(error)


# An irregular stack ------------------------------------------------------------------------------


def test_a_missing_slice_is_filled_in() -> None:
    made = at([0, 3, 9, 12, 15])
    assert refusal(made).problem == "missing slice"
    assert refusal(made, Policies(uneven_increment="resample")).problem == "missing slice"
    found = arrange(made, Policies(missing_slice="interpolate"))
    assert found.places.tolist() == [0, 1, 1.5, 2, 3, 4]
    np.testing.assert_allclose(found.affine[:3, 0], [0, 0, 3])
    assert found.notes == (
        "missing slice: 1 between image 2 and image 3: they lie 6.00 mm apart, 3.00 mm was "
        "expected as between the others; 1 interpolated from the neighbours",
    )


def test_no_wide_gap_is_filled_in() -> None:
    made = at([0, 3, 6, 18, 21, 24])
    policies = Policies(missing_slice="interpolate", uneven_increment="resample")
    assert "3 between image 3 and image 4" in str(refusal(made, policies))


def test_an_uneven_increment_is_made_even() -> None:
    made = at([0, 3, 6, 8, 12])
    assert refusal(made).problem == "uneven increment"
    assert refusal(made, Policies(missing_slice="interpolate")).problem == "uneven increment"
    found = arrange(made, Policies(uneven_increment="resample"))
    np.testing.assert_allclose(found.affine[:3, 0], [0, 0, 3])
    np.testing.assert_allclose(found.places, [0, 1, 2, 3.25, 4])


def test_a_gap_among_uneven_slices_needs_both_policies() -> None:
    made = at([0, 3, 6, 8, 12, 18])
    only = refusal(made, Policies(missing_slice="interpolate"))
    assert only.problem == "uneven increment"
    both = Policies(missing_slice="interpolate", uneven_increment="resample")
    assert len(arrange(made, both).places) == 7


def test_slices_moved_sideways_are_never_taken() -> None:
    made = at([0, 3, 6, 8, 12])
    made.instances[2].header.ImagePositionPatient = ["0", "5", "6"]
    error = refusal(made, Policies(gantry_tilt="resample", uneven_increment="resample"))
    assert error.problem == "uneven increment"


def test_a_tilt_is_to_be_straightened() -> None:
    made = at([0, 3, 6, 9], tilt=0.25)
    assert refusal(made).problem == "gantry tilt"
    found = arrange(made, Policies(gantry_tilt="resample"))
    assert found.straighten
    np.testing.assert_allclose(found.affine[:3, 0], [0, 0.75, 3])
    assert found.notes[0].startswith("gantry tilt of 14.04° taken out")


def test_a_tilted_stack_with_a_gap() -> None:
    policies = Policies(gantry_tilt="resample", missing_slice="interpolate")
    found: Arrangement = arrange(at([0, 3, 9, 12], tilt=0.25), policies)
    assert found.places.tolist() == [0, 1, 1.5, 2, 3]
    np.testing.assert_allclose(found.affine[:3, 0], [0, 0.75, 3])


# The planes, for what is written about them ---------------------------------------------------


def test_the_chosen_planes_are_found_again() -> None:
    made = series(echoes(4.6, 2.3))
    found = arrange(made, Policies((Split("EchoTime"),)))
    again = stack(made, [plane.key for plane in found.planes])
    assert [plane.key for plane in again] == [plane.key for plane in found.planes]
    with pytest.raises(ValueError, match=r"made from frame 1 of image 1\.9, which is not in"):
        stack(made, [("1.9", 0)])


@pytest.mark.parametrize("heights", [[0, 3, 9, 12, 15], [0, 3, 6, 8, 12]])
def test_every_plane_lies_within_half_a_slice_of_the_grid(heights: list[float]) -> None:
    made = at(heights)
    found = arrange(made, Policies(missing_slice="interpolate", uneven_increment="resample"))
    for plane, height in zip(stack(made), heights, strict=True):
        index = plane.index_in(found.affine)
        np.testing.assert_allclose(index[:, 0], height / 3, atol=1e-6)
        np.testing.assert_allclose(index[:, 1:], [[0, 0], [7, 0], [0, 9]], atol=1e-6)
