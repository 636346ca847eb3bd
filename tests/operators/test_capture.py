"""Captures: the right slices, the right words, valid objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom import dcmread

from overread.dicom.image import Image, Images
from overread.dicom.study import Exam, Instance
from overread.dicom.volume import Mask, read_volume
from overread.operators.capture import key_slices, write_capture
from overread.pipelines.ports import Account
from overread.validation.results import (
    Class,
    Classification,
    Detection,
    Detections,
    Measurement,
    Measurements,
)
from tests.dicom.series import LESION, affine, images, keep, read
from tests.dicom.validity import validate
from tests.operators.looking import context

RED = (255, 122, 122)


def test_of_a_volume_the_telling_slices_with_their_values(tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 800, (12, 40, 50)).astype(np.int16)
    series = keep(images(array, affine()), tmp_path / "series")
    volume = read_volume(series)
    labels = np.zeros(array.shape, np.uint8)
    labels[4:7, 10:20, 10:20] = 1
    labels[5, 8:24, 8:24] = 1
    mask = Mask(labels, volume.affine, (LESION,), volume.frame_of_reference, "lesion@1.0.0")
    values = Measurements((Measurement("Enhancing tumour", "volume", 12.34, "mL", "counted"),))
    account = Account()
    made = write_capture(
        series, context(), account, volume, mask, measurements=values, at_most=2, size=256
    )
    read_back = validate(made, tmp_path)
    assert made.kind == "capture"
    assert read_back.NumberOfFrames == 2
    assert "slice 6/12" in read_back.FrameLabelVector
    assert read_back.PageNumberVector == [1, 2]
    assert read_back.StudyInstanceUID == series.header.StudyInstanceUID
    assert read_back.BurnedInAnnotation == "NO"
    assert read_back.ContributingEquipmentSequence[0].ManufacturerModelName == "lesion"
    sources = [item.ReferencedSOPInstanceUID for item in read_back.SourceImageSequence]
    assert series.instances[5].uid in sources
    assert len(sources) == 2
    assert [uid for uid, _ in account.used] == sources
    pixels = read_back.pixel_array
    assert (pixels == LESION.colour).all(axis=-1).any(axis=(1, 2)).all()
    again = write_capture(
        series, context(), Account(), volume, mask, measurements=values, at_most=2, size=256
    )
    assert again.encode() == made.encode()


def test_nothing_found_is_drawn_too(tmp_path: Path) -> None:
    series = keep(images(np.zeros((5, 16, 16), np.int16), affine()), tmp_path)
    volume = read_volume(series)
    empty = Mask(np.zeros((5, 16, 16), np.uint8), volume.affine, (LESION,))
    made = write_capture(series, context(), Account(), volume, empty, at_most=3, size=256)
    assert made.dataset.NumberOfFrames == 3


def test_a_mask_of_another_grid_is_a_fault_of_the_pipeline(tmp_path: Path) -> None:
    series = keep(images(np.zeros((5, 16, 16), np.int16), affine()), tmp_path)
    volume = read_volume(series)
    other = Mask(np.zeros((5, 16, 16), np.uint8), affine((5, 1.1, 1.1)), (LESION,))
    with pytest.raises(ValueError, match="resample_mask"):
        write_capture(series, context(), Account(), volume, other)
    with pytest.raises(ValueError, match="bind one of the two"):
        write_capture(series, context(), Account())


LABELS = arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.just(4), st.just(4)), elements=st.integers(0, 3)
)


@given(labels=LABELS, at_most=st.integers(1, 12))
def test_key_slices_are_few_telling_and_in_order(labels: np.ndarray, at_most: int) -> None:
    chosen = key_slices(labels, at_most)
    assert chosen == sorted(set(chosen))
    held = set(np.flatnonzero(labels.any(axis=(1, 2))).tolist()) or set(range(len(labels)))
    assert len(chosen) == min(at_most, len(held))
    assert set(chosen) <= held
    numbers = [number for number in np.unique(labels) if number]
    if len(numbers) <= at_most:
        for number in numbers:
            areas = (labels == number).sum(axis=(1, 2))
            assert int(areas.argmax()) in chosen


def radiographs(folder: Path) -> list[Instance]:
    return list(read(folder / "hip_xray" / "dicoms" / "xray", "*.dcm"))[:2]


def hip(image: Image) -> tuple[Detections, Classification]:
    box = (180.0, 140.0, 290.0, 250.0)
    found = Detection("1", "left hip", 0.98, image.uid, 0, box)
    values = {"normal": 0.1, "fracture": 0.85, "hardware": 0.05}
    said = Class("left hip", "fracture", 0.85, values, image.uid, 0, box, "1", colour=RED)
    return (
        Detections((found,), (image.uid,), "hips@1.0.0"),
        Classification((said,), (image.uid,), "states@1.0.0"),
    )


def test_real_radiographs_with_boxes_and_classes(shared_data: Path, tmp_path: Path) -> None:
    sources = radiographs(shared_data)
    shown = [
        Image(one.dataset().pixel_array.mean(axis=-1).astype(np.float32), one.uid, modality="DX")
        for one in sources
    ]
    found, said = hip(shown[0])
    account = Account()
    made = write_capture(
        Exam(tuple(sources)), context(), account, images=Images(tuple(shown)),
        detections=found, classification=said, size=512,
    )  # fmt: skip
    object_ = validate(made, tmp_path)
    first, second = object_.pixel_array
    assert (first == RED).all(axis=-1).sum() > 1000
    assert not (second == RED).all(axis=-1).any()
    # The box's left edge: 180 of 331 columns.
    column = round(180 * 512 / 331)
    assert (first[300, column - 1 : column + 3] == RED).all(axis=-1).any()
    assert "without the patient's sides: an image does not say them" in account.notes
    assert len(object_.SourceImageSequence) == 2


def test_one_image_makes_a_single_frame(shared_data: Path, tmp_path: Path) -> None:
    source = radiographs(shared_data)[0]
    shown = Image(source.dataset().pixel_array.mean(axis=-1).astype(np.float32), source.uid)
    account = Account()
    made = write_capture(
        Exam((source,)), context(stage="clinical"), account, images=Images((shown,)),
        detections=Detections((), (source.uid,), "hips@1.0.0"), size=300,
    )  # fmt: skip
    object_ = validate(made, tmp_path)
    assert object_.SOPClassUID.name == "Secondary Capture Image Storage"
    assert "investigational" not in object_.SeriesDescription
    with pytest.raises(ValueError, match="not of the source"):
        write_capture(
            Exam((source,)), context(), account, images=Images((Image(shown.array, "9.9"),))
        )


def test_the_patients_side_is_written_where_the_image_says_it(
    shared_data: Path, tmp_path: Path
) -> None:
    source = radiographs(shared_data)[0]
    header = dcmread(source.file, stop_before_pixels=True)  # type: ignore[arg-type]  # kept instances have a file
    header.PatientOrientation = ["L", "F"]
    shown = Image(np.zeros((64, 64), np.float32), source.uid)
    account = Account()
    made = write_capture(
        Exam((Instance(header, source.file),)), context(), account, images=Images((shown,)),
        size=256,
    )  # fmt: skip
    pixels = made.dataset.pixel_array
    corners = pixels[18:40]  # below the band with the words
    assert (corners[:, :24] > 200).any()
    assert (corners[:, -24:] > 200).any()
    assert not (corners[:, 60:-60] > 200).any()
    assert account.notes == []


def test_a_source_with_burned_in_words_says_so_in_the_capture(
    shared_data: Path, tmp_path: Path
) -> None:
    source = radiographs(shared_data)[0]
    source.header.BurnedInAnnotation = "YES"
    source.header.LossyImageCompression = "01"
    source.header.LossyImageCompressionRatio = "12.5"
    shown = Image(np.zeros((64, 64), np.float32), source.uid)
    made = write_capture(
        Exam((source,)), context(), Account(), images=Images((shown,)), size=256
    ).dataset
    assert made.BurnedInAnnotation == "YES"
    assert made.LossyImageCompression == "01"
    assert made.LossyImageCompressionRatio == 12.5


def test_a_real_ct_with_its_reference_segmentation(shared_data: Path, tmp_path: Path) -> None:
    series = read(shared_data / "ct_liver" / "dicom", "*.dcm")
    volume = read_volume(series)
    labels = (volume.array > 180).astype(np.uint8)
    bone = Mask(labels, volume.affine, (LESION,), volume.frame_of_reference)
    made = write_capture(series, context(), Account(), volume, bone, at_most=4, size=512)
    object_ = validate(made, tmp_path, series)
    assert object_.NumberOfFrames == 4
    assert len(object_.SourceImageSequence) == 4
    frames = object_.pixel_array
    # The scanner's table and the body are there: greys between black and white on each slice.
    middle = frames[:, 150:400, 100:400]
    assert (middle.std(axis=(1, 2, 3)) > 30).all()
