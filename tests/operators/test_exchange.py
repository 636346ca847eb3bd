"""What a program outside is given, and what of all that it may leave is believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom import DataElement, Dataset, dcmread

from overread.dicom.codes import TISSUE, Segment
from overread.dicom.image import Image, Images
from overread.dicom.provenance import DerivedObject
from overread.dicom.study import Exam, Instance, Series
from overread.dicom.volume import Mask, Probability, Volume, read_volume
from overread.errors import GeometryError, StepFailed
from overread.operators import files
from overread.operators.exchange import IN, OUT, PARAMETERS, Wanted, lay_in, take
from overread.operators.write import write_seg
from overread.pipelines.ports import Account, Context
from overread.validation.results import (
    Classification,
    Detection,
    Detections,
    Measurement,
    Measurements,
)
from tests.dicom.series import affine, ball, images

SPOT = Segment(1, "Spot", TISSUE, TISSUE)
CONTEXT = Context("job", "step", datetime(2026, 7, 15, tzinfo=UTC), "p", "1.0.0")
ARRAY = np.where(ball((5, 6, 8)), 500, 0).astype(np.int16)
SHIFT = np.zeros((4, 4))
SHIFT[0, 3] = 5.0


@pytest.fixture
def series(tmp_path: Path) -> Series:
    """Five slices of one series."""
    return stored(tmp_path / "series", images(ARRAY, affine()))


def stored(folder: Path, datasets: list[Dataset]) -> Series:
    folder.mkdir()
    made = []
    for number, dataset in enumerate(datasets):
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        made.append(Instance(dataset, folder / f"{number}.dcm"))
    return Series(tuple(made))


def segmentation(series: Series) -> DerivedObject:
    volume = read_volume(series)
    mask = Mask((volume.array > 0).astype(np.uint8), volume.affine, (SPOT,))
    return write_seg(mask, series, CONTEXT, Account())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / OUT
    folder.mkdir()
    return folder


def taken(out: Path, kind: type, inputs: dict[str, object], **wanted: Any) -> Any:
    return take(out, Wanted(kind, **wanted), inputs, CONTEXT, model="tool@1")


def nifti(file: Path, array: Any, lps: Any = None) -> None:
    """Write an array of (slice, row, column) as another program would."""
    ras = files.to_ras(affine() if lps is None else lps)
    untyped: Any = nibabel
    untyped.save(untyped.Nifti1Image(array.T, ras), file)


def test_every_input_is_laid_out_as_between_steps(series: Series, tmp_path: Path) -> None:
    folder = tmp_path / "exchange"
    folder.mkdir()
    volume = Volume(ARRAY, affine())
    values = Measurements((Measurement("Spot", "volume", 1.0, "mL", "counted"),))
    inputs = {"ct": series, "exam": Exam(series.instances), "volume": volume, "sizes": values}
    lay_in(inputs, {"level": 3}, folder)
    assert sorted(one.name for one in (folder / IN / "ct").iterdir()) == [
        "00001.dcm", "00002.dcm", "00003.dcm", "00004.dcm", "00005.dcm", "port.json"
    ]  # fmt: skip
    assert json.loads((folder / PARAMETERS).read_text()) == {"level": 3}
    moved = folder.rename(tmp_path / "elsewhere")  # what stands there are no paths of this machine
    again = files.load(moved / IN / "ct")
    assert isinstance(again, Series) and [one.uid for one in again] == [one.uid for one in series]
    assert str(tmp_path) not in (moved / IN / "ct" / "port.json").read_text()
    assert isinstance(files.load(moved / IN / "exam"), Exam)
    assert isinstance(files.load(moved / IN / "volume"), Volume)
    assert files.load(moved / IN / "sizes") == values


def test_a_plain_nifti_file_is_a_volume_on_the_grid_of_its_input(out: Path, series: Series) -> None:
    nifti(out / "denoised.nii.gz", np.flip(ARRAY, 0), flipped())
    for inputs in ({"ct": series}, {"volume": Volume(ARRAY, affine(), "1.2.3", modality="CT")}):
        made = taken(out, Volume, dict(inputs), unit="[hnsf'U]")
        assert isinstance(made, Volume) and made.array.dtype == np.float32
        assert (made.array == ARRAY).all() and made.unit == "[hnsf'U]"
        assert np.allclose(made.affine, affine(), atol=1e-9) and made.frame_of_reference


def flipped() -> Any:
    """The grid with its slices the other way round."""
    turn = np.eye(4)
    turn[0, 0], turn[0, 3] = -1, ARRAY.shape[0] - 1
    return affine() @ turn


def test_a_mask_of_floats_is_a_mask_of_labels(out: Path) -> None:
    nifti(out / "x.nii", (ARRAY > 0).astype(np.float64))
    given = {"volume": Volume(ARRAY, affine())}
    made = taken(out, Mask, dict(given), segments=(SPOT,))
    assert made.array.dtype == np.uint8 and made.model == "tool@1"
    assert (made.array == (ARRAY > 0)).all()


@pytest.mark.parametrize(
    ("array", "lps", "why"),
    [
        (np.full(ARRAY.shape, 0.5), None, "not all of them whole"),
        (np.full(ARRAY.shape, -1.0), None, "values from -1 to -1"),
        (np.full(ARRAY.shape, 70000.0), None, "0 to 65535"),
        (np.full(ARRAY.shape, np.nan), None, "240 values that are none"),
        (np.full(ARRAY.shape, 2.0), None, r"values \[2\] that no segment"),
        (np.zeros((4, 6, 8)), None, r"has \(4, 6, 8\) voxels, as no input has: volume"),
        (np.zeros((5, 6, 8, 3)), None, "a volume has three axes"),
        (np.zeros(ARRAY.shape), affine() + SHIFT, "a corner lies 5.00 mm"),
    ],
)
def test_wrong_values_and_places_are_refused(out: Path, array: Any, lps: Any, why: str) -> None:
    nifti(out / "x.nii", array, lps)
    with pytest.raises(StepFailed, match=why):
        taken(out, Mask, {"volume": Volume(ARRAY, affine())}, segments=(SPOT,))


def test_all_that_overread_itself_writes_is_taken(out: Path, series: Series) -> None:
    given: dict[str, object] = {"volume": Volume(ARRAY, affine()), "ct": series}
    uid = series.instances[0].uid
    chance = np.full((1, *ARRAY.shape), 0.5, np.float32)
    found = Detection("1", "hip", 0.5, uid, 0, (0, 0, 2, 2))
    values: list[Any] = [
        Volume(ARRAY, affine()),
        Mask((ARRAY > 0).astype(np.uint8), affine(), (SPOT,)),
        Probability(chance, affine(), (SPOT,)),
        Images((Image(np.zeros((2, 2), np.float32), uid),)),
        Measurements((Measurement("Spot", "volume", 1.0, "mL", "counted"),)),
        Detections((found,), (uid,), "other@1"),
        Classification((), (uid,)),
    ]
    for number, value in enumerate(values):
        folder = out / str(number)
        files.save(value, folder)
        made = taken(folder, type(value), given)
        assert type(made) is type(value)
        if isinstance(value, Detections):
            assert made == replace(value, model="tool@1")
        if isinstance(value, Measurements):
            assert made == value


@pytest.mark.parametrize(
    ("value", "why"), [(np.nan, "no numbers"), (-4.0, "from -4 to 0"), (1.5, "from 0 to 1.5")]
)
def test_what_is_no_probability_is_not_taken(out: Path, value: float, why: str) -> None:
    chance = np.zeros((1, *ARRAY.shape), np.float32)
    chance[0, 1, 2, 3] = value
    files.save(Probability(chance, affine(), (SPOT,)), out)
    with pytest.raises(StepFailed, match=why):
        taken(out, Probability, {"volume": Volume(ARRAY, affine())})


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda out: (out / name).write_text(text)


FOUND = {"id": "1", "label": "hip", "score": 0.5, "frame": 0, "box": [0, 0, 2, 2]}
MEASURED = {"region": "a", "quantity": "b", "unit": "mL", "method": "c"}


@pytest.mark.parametrize(
    ("kind", "leave", "why"),
    [
        (Measurements, write("x.json", "{}"), r"0 files measurements\.json; .* there is x\.json"),
        (Measurements, write("measurements.json", "{"), "no Measurements that can be read"),
        (Measurements, write("measurements.json", "[" * 100_000), "no Measurements"),
        (Measurements, write("measurements.json", '{"measurements": [{"value": 1}]}'), "region"),
        (
            Measurements,
            write(
                "measurements.json", json.dumps({"measurements": [{**MEASURED, "value": np.nan}]})
            ),
            "b of a is nan",
        ),
        (
            Detections,
            write(
                "detections.json",
                json.dumps({"detections": [{**FOUND, "image": "1.2"}], "images": [], "model": ""}),
            ),
            "said of image 1.2, which the step was not given",
        ),
        (Images, write("x.txt", ""), "is not known without it"),
        (Volume, write("port.json", '{"type": "Exam", "instances": []}'), "says 'Exam'; a Volume"),
        (Volume, write("port.json", '{"type": "Volume"}'), "no Volume that can be read"),
        (Volume, write("port.json", "[]"), "no Volume that can be read"),
        (DerivedObject, write("x.dcm", "nothing"), "no DerivedObject"),
    ],
)
def test_what_is_no_such_thing_is_refused(
    out: Path, series: Series, kind: type, leave: Callable[[Path], object], why: str
) -> None:
    leave(out)
    with pytest.raises(StepFailed, match=why):
        taken(out, kind, {"ct": series})


def test_one_of_several_files_is_named(out: Path) -> None:
    for name in ("a_seg.nii", "a_image.nii"):
        nifti(out / name, (ARRAY > 0).astype(np.uint8))
    given: dict[str, object] = {"volume": Volume(ARRAY, affine())}
    with pytest.raises(StepFailed, match=r"2 files .* there is a_image\.nii, a_seg\.nii"):
        taken(out, Mask, given, segments=(SPOT,))
    assert taken(out, Mask, given, segments=(SPOT,), file="*_seg.nii").array.any()


def test_a_dicom_segmentation_is_a_mask_or_an_object(out: Path, series: Series) -> None:
    made = segmentation(series)
    (out / "deep").mkdir()
    (out / "deep" / "seg.dcm").write_bytes(made.encode())
    mask = taken(out, Mask, {"t1": series})
    assert (mask.array == (ARRAY > 0)).all() and mask.segments[0].label == "Spot"
    first, second = (taken(out, DerivedObject, {"t1": series}) for _ in range(2))
    assert first.kind == "segmentation" and first.segments[0].label == "Spot"
    assert set(first.sources) <= {one.uid for one in series} and first.sources
    assert first.uid == second.uid != made.uid
    assert first.dataset.SeriesInstanceUID != made.dataset.SeriesInstanceUID
    assert first.encode() == second.encode()
    assert dcmread(out / "deep" / "seg.dcm").SOPInstanceUID == made.uid


def test_objects_of_others_are_not_kept(out: Path, series: Series, tmp_path: Path) -> None:
    others = images(ARRAY, affine(), name="other")
    for one in others:
        one.PatientID = "SOMEBODY ELSE"
    made = segmentation(stored(tmp_path / "others", others))
    (out / "seg.dcm").write_bytes(made.encode())
    for kind in (DerivedObject, Mask):
        with pytest.raises(StepFailed, match="of another patient or study"):
            taken(out, kind, {"t1": series})
    (out / "seg.dcm").write_bytes(bytes_of(series))
    with pytest.raises(StepFailed, match="is an image that the step was given"):
        taken(out, DerivedObject, {"t1": series})
    with pytest.raises(StepFailed, match="of another patient or study"):
        taken(out, DerivedObject, {"volume": Volume(ARRAY, affine())})


@pytest.mark.parametrize(
    ("keyword", "value", "kept"),
    [
        ("PatientName", "SOMEBODY^ELSE", False),
        ("PatientName", "", True),
        ("PatientBirthDate", "19000101", False),
        ("IssuerOfPatientID", "ELSEWHERE", False),
        ("AccessionNumber", "OTHER", False),
        ("PatientID", "", False),
        ("StudyInstanceUID", "1.2.3", False),
    ],
)
def test_an_object_names_nobody_else(
    out: Path, series: Series, keyword: str, value: str, *, kept: bool
) -> None:
    made = segmentation(series)
    setattr(made.dataset, keyword, value)
    (out / "seg.dcm").write_bytes(made.encode())
    if kept:
        assert taken(out, DerivedObject, {"t1": series}).kind == "segmentation"
        return
    for kind in (DerivedObject, Mask):
        with pytest.raises(StepFailed, match="of another patient or study"):
            taken(out, kind, {"t1": series})


def test_an_object_refers_to_nothing_else(out: Path, series: Series, tmp_path: Path) -> None:
    """The right patient's name on what was drawn on another one's images."""
    others = images(ARRAY, affine(), name="other")
    for one in others:
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "AccessionNumber"):
            setattr(one, keyword, series.header.get(keyword, ""))
    made = segmentation(stored(tmp_path / "others", others))
    (out / "seg.dcm").write_bytes(made.encode())
    for kind in (DerivedObject, Mask):
        with pytest.raises(StepFailed, match=r"refers to .* was not given"):
            taken(out, kind, {"t1": series})


def test_an_object_may_refer_to_what_its_images_do(out: Path, series: Series) -> None:
    scout = Dataset()
    scout.ReferencedSOPClassUID, scout.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.9"
    made = segmentation(series)
    made.dataset.ReferencedImageSequence = [scout]
    (out / "seg.dcm").write_bytes(made.encode())
    with pytest.raises(StepFailed, match=r"refers to object 1\.9"):
        taken(out, DerivedObject, {"t1": series})
    series.header.ReferencedImageSequence = [scout]
    assert taken(out, DerivedObject, {"t1": series}).kind == "segmentation"


def bytes_of(series: Series) -> bytes:
    file = series.instances[2].file
    assert file is not None
    return file.read_bytes()


def test_what_is_wrong_with_the_exam_itself_stays_a_refusal(out: Path, series: Series) -> None:
    made = segmentation(series)
    gap = Series(series.instances[:2] + series.instances[3:])

    def refer_to_another(_: Dataset, element: DataElement) -> None:
        gone = series.instances[2].uid
        if element.keyword == "ReferencedSOPInstanceUID" and element.value == gone:
            element.value = series.instances[0].uid

    made.dataset.walk(refer_to_another)
    (out / "seg.dcm").write_bytes(made.encode())
    with pytest.raises(GeometryError):
        taken(out, Mask, {"t1": gap})
