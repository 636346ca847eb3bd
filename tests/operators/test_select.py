from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from overread.dicom.match import parse
from overread.dicom.study import Exam, Instance, Origin, Series
from overread.errors import Refused
from overread.operators.select import select_instances, select_series
from overread.pipelines.check import check_value
from overread.pipelines.ports import Account, signature

WHERE = parse({"SeriesDescription": {"like": "T1*POST*"}})


def series(uid: str, count: int = 3, **values: Any) -> list[Instance]:
    made = []
    for index in range(count):
        header = Dataset()
        header.SeriesInstanceUID = uid
        header.SOPInstanceUID = f"{uid}.{index}"
        header.SeriesNumber = int(uid[-1])
        for keyword, value in values.items():
            setattr(header, keyword, value)
        made.append(Instance(header, None, Origin()))
    return made


T1 = series("1.1", SeriesDescription="T1 AX POST", SeriesDate="20260101", SeriesTime="10")
T1_LATER = series("1.2", 5, SeriesDescription="T1 AX POST", SeriesDate="20260101", SeriesTime="11")
T2 = series("1.3", SeriesDescription="T2 AX")


def exam(*groups: list[Instance]) -> Exam:
    return Exam(tuple(one for group in groups for one in group))


def test_the_one_that_fits_is_taken_and_the_others_are_accounted_for() -> None:
    account = Account()
    chosen = select_series(exam(T2, T1), account, where=WHERE)
    assert [one.uid for one in chosen] == [one.uid for one in T1]
    assert account.used == [
        ("1.1", "series 1 “T1 AX POST” (3 images) fits what the pipeline asks for")
    ]
    ((uid, why),) = account.unused
    assert uid == "1.3"
    assert "SeriesDescription" in why
    assert "T2 AX" in why


def test_the_condition_is_asked_of_every_image() -> None:
    mixed = [*T1, *series("1.1", 1, SeriesDescription="LOC")]
    account = Account()
    assert len(select_series(exam(mixed), account, where=WHERE)) == 3
    assert [uid for uid, _ in account.unused] == ["1.1.0"]


def test_none_that_fits_is_refused_with_what_was_there() -> None:
    with pytest.raises(Refused, match=r"no series fits.*series 3 “T2 AX” \(3 images\): "):
        select_series(exam(T2), Account(), where=WHERE)
    with pytest.raises(Refused, match="the exam has no images"):
        select_series(exam(), Account(), where=WHERE)


@pytest.mark.parametrize(
    ("prefer", "uid"),
    [
        (("most_instances",), "1.2"),
        (("fewest_instances",), "1.1"),
        (("latest",), "1.2"),
        (("earliest",), "1.1"),
        ((parse({"SeriesNumber": 2}), "earliest"), "1.2"),
        ((parse({"SeriesNumber": 9}), "earliest"), "1.1"),
    ],
)
def test_preferences_settle_a_tie(prefer: Any, uid: str) -> None:
    account = Account()
    assert select_series(exam(T1, T1_LATER), account, where=WHERE, prefer=prefer).uid == uid
    assert len(account.unused) == 1


def test_a_series_without_a_date_is_not_the_latest() -> None:
    undated = series("1.9", SeriesDescription="T1 AX POST")
    found = select_series(exam(undated, T1), Account(), where=WHERE, prefer=("earliest",))
    assert found.uid == "1.1"


@pytest.mark.parametrize("prefer", [(), ("most_instances",)])
def test_a_tie_that_nothing_settles_is_refused(prefer: Any) -> None:
    twin = series("1.4", SeriesDescription="T1 AX POST")
    with pytest.raises(Refused, match=r"2 series fit .* series 1 .*; series 4"):
        select_series(exam(T1, twin), Account(), where=WHERE, prefer=prefer)


def placed(
    uid: str, normal: str, count: int = 3, frame: str = "1.7", **values: Any
) -> list[Instance]:
    rows = {
        "axial": [1, 0, 0, 0, 1, 0],
        "coronal": [1, 0, 0, 0, 0, -1],
        "sagittal": [0, 1, 0, 0, 0, -1],
        "tilted": [1, 0, 0, 0, 0.8, 0.6],  # 37° from axial
    }
    made = series(
        uid,
        count,
        ImageOrientationPatient=rows[normal],
        FrameOfReferenceUID=frame,
        PixelSpacing=[1, 1],
        Rows=8,
        Columns=8,
        **values,
    )
    for index, one in enumerate(made):
        one.header.ImagePositionPatient = [0, 5 * index, 5 * index]
    return made


ALWAYS = parse("always")


def test_orientation_chooses_among_planes_within_degrees() -> None:
    planes = exam(placed("1.1", "axial"), placed("1.2", "coronal"), placed("1.3", "tilted"))
    account = Account()
    found = select_series(planes, account, where=ALWAYS, orientation="axial")
    assert found.uid == "1.1"
    assert ("1.2", "it is coronal (0° from coronal); axial was asked for, within 30°") in (
        account.unused
    )
    assert ("1.3", "it is oblique (37° from axial); axial was asked for, within 30°") in (
        account.unused
    )
    assert select_series(planes, Account(), where=ALWAYS, orientation=("oblique",)).uid == "1.3"
    with pytest.raises(Refused, match="2 series fit"):
        select_series(planes, Account(), where=ALWAYS, orientation="axial", within_degrees=40)


def test_a_localiser_in_the_series_is_left_out_image_by_image() -> None:
    mixed = exam([*placed("1.1", "axial", 5), *placed("1.1", "sagittal", 1)])
    account = Account()
    assert len(select_series(mixed, account, where=ALWAYS, orientation="axial")) == 5
    ((uid, why),) = account.unused
    assert uid == "1.1.0"
    assert why.startswith("it is sagittal")


def test_an_image_that_does_not_say_how_it_lies_is_in_no_plane() -> None:
    with pytest.raises(Refused, match="does not say in which plane it lies"):
        select_series(exam(T1), Account(), where=ALWAYS, orientation="axial")


def test_a_series_that_goes_with_another() -> None:
    t1 = placed("1.1", "axial", SeriesDate="20260101", SeriesTime="100000")
    before = placed("1.2", "axial", SeriesDate="20260101", SeriesTime="095000")
    after = placed("1.3", "axial", SeriesDate="20260101", SeriesTime="103000")
    moved = placed("1.4", "axial", frame="1.8", SeriesDate="20260101", SeriesTime="100100")
    everything, reference = exam(t1, before, after, moved), Series(tuple(t1))
    account = Account()
    near = select_series(everything, account, reference, where=ALWAYS, prefer=("nearest_in_time",))
    assert near.uid == "1.4"
    assert ("1.1", "it is the reference itself") in account.unused
    assert any("preferred: nearest in time" in why for _, why in account.unused)
    same = select_series(
        everything,
        Account(),
        reference,
        where=ALWAYS,
        same_frame_of_reference=True,
        prefer=("nearest_in_time",),
    )
    assert same.uid == "1.2"
    preferred = select_series(
        everything,
        Account(),
        Exam(tuple(t1)),
        where=ALWAYS,
        prefer=("same_frame_of_reference", "latest"),
    )
    assert preferred.uid == "1.3"
    alone = exam(t1, moved)
    with pytest.raises(Refused, match=r"its frame of reference \(1.8\) is not the reference's"):
        select_series(alone, Account(), reference, where=ALWAYS, same_frame_of_reference=True)


@pytest.mark.parametrize(
    "settings", [{"prefer": ("nearest_in_time",)}, {"same_frame_of_reference": True}]
)
def test_nothing_is_near_to_nothing(settings: Any) -> None:
    with pytest.raises(ValueError, match=r"in: \{reference: STEP\}"):
        select_series(exam(T1), Account(), where=ALWAYS, **settings)


def test_slices_are_counted_by_position_not_by_image() -> None:
    echoes = [*placed("1.1", "axial", 3), *placed("1.1", "axial", 3), *placed("1.1", "axial", 3)]
    stack = placed("1.2", "axial", 5)
    both = exam(echoes, stack)
    assert select_series(both, Account(), where=ALWAYS, prefer=("most_instances",)).uid == "1.1"
    assert select_series(both, Account(), where=ALWAYS, prefer=("most_slices",)).uid == "1.2"


def view(uid: str, index: int, position: str, side: str, **values: Any) -> Instance:
    (one,) = series(
        uid, 1, ViewPosition=position, ImageLaterality=side, Rows=10, Columns=8, **values
    )
    one.header.SOPInstanceUID = f"{uid}.{index}"
    one.header.InstanceNumber = index
    return one


MAMMOGRAM = exam(
    [
        view("1.1", 1, "CC", "R", AcquisitionDate="20260101", AcquisitionTime="0901"),
        view("1.1", 2, "CC", "L", AcquisitionDate="20260101", AcquisitionTime="0902"),
        view("1.1", 3, "CC", "L", AcquisitionDate="20260101", AcquisitionTime="0905"),
        view("1.1", 4, "MLO", "R", AcquisitionDate="20260101", AcquisitionTime="0906"),
    ],
    [view("1.2", 5, "MLO", "L", AcquisitionDate="20260101", AcquisitionTime="0908")],
    series("1.3", 1, Modality="SR"),
)


def test_one_image_of_each_view_of_several_series() -> None:
    account = Account()
    found = select_instances(
        MAMMOGRAM,
        account,
        where=ALWAYS,
        per=("ViewPosition", "ImageLaterality"),
        at_most=1,
        at_least=4,
        prefer=("latest",),
    )
    assert [one.uid for one in found] == ["1.1.1", "1.1.3", "1.1.4", "1.2.5"]
    assert dict(account.unused) == {
        "1.1.2": "another image is preferred: latest",
        "1.3.0": "it is no image",
    }
    assert ("1.1.1", "image 1 of series 1 (CC R) fits what the pipeline asks for") in account.used


def test_a_repeated_view_that_nothing_settles_is_refused() -> None:
    with pytest.raises(Refused, match=r"2 images of ViewPosition CC, ImageLaterality L fit"):
        select_instances(
            MAMMOGRAM,
            Account(),
            where=ALWAYS,
            per=("ViewPosition", "ImageLaterality"),
            at_most=1,
        )


def test_too_few_images_are_refused_with_what_was_there() -> None:
    lateral = parse({"ViewPosition": "LAT"})
    with pytest.raises(Refused, match=r"0 of the exam's 6 images fit .* at least 1 .*found 'CC'"):
        select_instances(MAMMOGRAM, Account(), where=lateral)
    with pytest.raises(Refused, match="0 of the exam's 0 images"):
        select_instances(exam(), Account(), where=lateral)


def test_without_a_limit_all_that_fit_are_taken() -> None:
    oblique = parse({"ViewPosition": {"regex": "^MLO$"}, "Rows": {"range": [5, 20]}})
    found = select_instances(MAMMOGRAM, Account(), where=oblique)
    assert [one.uid for one in found] == ["1.1.4", "1.2.5"]


@pytest.mark.parametrize(
    "settings",
    [{"per": ["Nonsense"]}, {"within_degrees": 80}, {"orientation": "diagonal"}, {"at_most": 0}],
)
def test_wrong_settings_are_found_when_the_site_is_loaded(settings: Any) -> None:
    ports = signature("select_instances", select_instances)
    (name, value) = next(iter(settings.items()))
    assert list(check_value(("with", name), ports.settings[name], value))


def test_real_radiographs_and_a_real_series(shared_data: Path) -> None:
    files = sorted((shared_data / "hip_xray" / "dicoms").rglob("*.dcm"))
    hips = Exam(tuple(Instance(dcmread(one, stop_before_pixels=True), one) for one in files))
    two = parse({"SeriesDescription": {"regex": "DDH_1[01]?\\.dcm"}})
    assert len(select_instances(hips, Account(), where=two)) == 2
    stack = sorted((shared_data / "brain_t1" / "dicoms").glob("*.dcm"))[:40]
    head = tuple(Instance(dcmread(one, stop_before_pixels=True), one) for one in stack)
    everything = Exam((*hips, *head))
    mr = parse({"Modality": "MR"})
    assert len(select_series(everything, Account(), where=mr, orientation=("axial",))) == 40
