from __future__ import annotations

import shutil
import subprocess
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from overread.dicom.codes import Code, Segment
from overread.dicom.derived import Algorithm, Making, check_tags
from overread.dicom.provenance import DerivedObject, derive_uid
from overread.dicom.seg import Compression, Form, read_seg, write_seg
from overread.dicom.study import Series
from overread.dicom.volume import Mask, read_volume
from tests.dicom.series import LESION, affine, ball, images, keep, read

SHAPE = (9, 40, 48)
LABELS = ball(SHAPE).astype(np.uint8)
OTHER = Segment(7, "Oedema", LESION.category, Code("79654002", "SCT", "Edema"))


FACTS = Making(
    made_by=("job-1", "seg"),
    at=datetime(2026, 11, 24, 9, 30, 15, tzinfo=UTC),
    zone="America/Los_Angeles",
    algorithm=Algorithm("brain-tumour", "1.0.0", parameters=(("sha256", "0f"),)),
    device="brain-tumour@1.0.0",
)


def make(
    masks: Any,
    source: Series,
    form: Form = "binary",
    compress: Compression = "none",
    **changes: Any,
) -> DerivedObject:
    return write_seg(masks, source, replace(FACTS, **changes), form=form, compress=compress)


def mask_on(source: Series, labels: NDArray[Any], *segments: Segment) -> Mask:
    volume = read_volume(source)
    return Mask(labels, volume.affine, segments or (LESION,), volume.frame_of_reference)


@pytest.fixture
def source(tmp_path: Path) -> Series:
    array = LABELS.astype(np.int16) * 300 + 20
    return keep(
        images(array, affine(turned=(20, -13, 35))), tmp_path / "in", order=range(8, -1, -1)
    )


def validate(made: DerivedObject, folder: Path) -> Dataset:
    """Write to a file, ask dciodvfy, read back."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (package dicom3tools) is not installed")
    file = folder / "seg.dcm"
    file.write_bytes(made.encode())
    answer = subprocess.run([program, "-new", file], capture_output=True, text=True, check=False)
    lines = (answer.stdout + answer.stderr).splitlines()
    assert [line for line in lines if line.startswith("Error")] == []
    assert "Segmentation" in lines
    return dcmread(file)


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize("jpeg2000", [False, True])
@pytest.mark.parametrize("empty", [False, True])
def test_it_is_valid_and_reads_back(
    tmp_path: Path, modality: str, jpeg2000: bool, empty: bool
) -> None:
    labels = LABELS * (not empty)
    array = LABELS.astype(np.int16) * 300 + 20
    source = keep(images(array, affine(), modality=modality), tmp_path, jpeg2000=jpeg2000)
    dataset = validate(make(mask_on(source, labels), source), tmp_path)
    back = read_seg(dataset, source)
    np.testing.assert_array_equal(back.array, labels)
    assert back.segments == (LESION,)
    slices = int(LABELS.any(axis=(1, 2)).sum())
    assert dataset.NumberOfFrames == (SHAPE[0] if empty else slices)


def test_several_segments_are_numbered_from_one(tmp_path: Path, source: Series) -> None:
    labels = LABELS * 7
    labels[:, :20][LABELS[:, :20] > 0] = 1
    made = make(mask_on(source, labels, OTHER, LESION), source)
    assert [(one.number, one.label) for one in made.segments] == [
        (1, "Enhancing tumour"),
        (2, "Oedema"),
    ]
    back = read_seg(validate(made, tmp_path), source)
    np.testing.assert_array_equal(back.array, np.where(labels == 7, 2, labels))
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert seg.get_segment_description(2).segmented_property_type.value == "79654002"


def test_the_same_facts_give_the_same_bytes(source: Series) -> None:
    mask = mask_on(source, LABELS)
    first = make(mask, source)
    assert first.encode() == make(mask, source).encode() == first.encode()
    other = make(mask, source, made_by=("job-2", "seg"))
    assert first.uid != other.uid
    assert first.dataset.SeriesInstanceUID != other.dataset.SeriesInstanceUID


def test_it_joins_the_study_of_its_source_and_says_who_made_it(source: Series) -> None:
    made = make(mask_on(source, LABELS), source)
    written = dcmread(BytesIO(made.encode()))
    header = source.header
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "AccessionNumber"):
        assert written[keyword].value == header[keyword].value
    assert written.SeriesInstanceUID != header.SeriesInstanceUID
    assert written.SpecificCharacterSet == "ISO_IR 192"
    assert str(written.PatientName) == "Müller^Jane"
    (segment,) = written.SegmentSequence
    assert (segment.SegmentAlgorithmType, segment.SegmentAlgorithmName) == (
        "AUTOMATIC",
        "brain-tumour",
    )
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmVersion == "1.0.0"
    assert algorithm.AlgorithmParameters == "sha256=0f"
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    assert set(made.sources) == {one.uid for one in source}


def test_times_are_the_job_s_in_the_zone_of_the_study(source: Series) -> None:
    written = make(mask_on(source, LABELS), source).dataset
    # A study of July lies in daylight saving time, and one offset holds for the whole object.
    assert written.TimezoneOffsetFromUTC == "-0700"
    assert str(written.ContentDate) == "20261124"
    for keyword in ("ContentTime", "InstanceCreationTime", "SeriesTime"):
        assert str(written[keyword].value).startswith("023015")


def test_the_offset_of_the_source_comes_first(tmp_path: Path) -> None:
    def edit(index: int, one: Dataset) -> None:
        one.TimezoneOffsetFromUTC = "-0330"

    source = keep(images(LABELS.astype(np.int16), affine(), edit=edit), tmp_path)
    written = make(mask_on(source, LABELS), source).dataset
    assert written.TimezoneOffsetFromUTC == "-0330"
    assert str(written.ContentTime).startswith("060015")


def test_it_is_marked_investigational_unless_it_is_not(source: Series) -> None:
    mask = mask_on(source, LABELS)
    written = make(mask, source).dataset
    assert written.SeriesDescription == "Segmentation: Enhancing tumour (investigational)"
    assert written.ContentDescription == "Segmentation: Enhancing tumour (investigational)"
    assert written.ContentQualification == "RESEARCH"
    clinical = make(mask, source, investigational=False).dataset
    assert clinical.SeriesDescription == "Segmentation: Enhancing tumour"
    assert clinical.ContentQualification == "PRODUCT"


def test_tags_of_the_pipeline_are_set(tmp_path: Path, source: Series) -> None:
    tags = {"SeriesDescription": "AI tumour", "ContentDescription": "Ours", "SeriesNumber": 900}
    written = validate(make(mask_on(source, LABELS), source, tags=tags), tmp_path)
    assert written.SeriesDescription == "AI tumour"
    assert written.ContentDescription == "Ours (investigational)"
    assert written.SeriesNumber == 900


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"SeriesDescripton": "x"}, "SeriesDescripton is not the keyword of a DICOM attribute"),
        ({"PatientID": "x"}, "PatientID is set by Overread"),
        ({"Rows": 5}, "Rows is set by Overread"),
        ({"SeriesDate": "yesterday"}, "DA"),
        ({"SeriesDescription": "x" * 65}, "LO"),
        ({"RequestAttributesSequence": "x"}, "cannot be written as text"),
    ],
)
def test_tags_are_checked(tags: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_tags(tags)


def test_a_mask_of_some_slices_or_turned_over_finds_its_place(source: Series) -> None:
    whole = mask_on(source, LABELS)
    over = whole.affine.copy()
    over[:3, 3] += over[:3, 0] * 6
    over[:3, 0] *= -1
    part = Mask(LABELS[2:7][::-1].copy(), over, whole.segments, whole.frame_of_reference)
    back = read_seg(make(part, source).dataset, source)
    expected = LABELS.copy()
    expected[:2] = expected[7:] = 0
    np.testing.assert_array_equal(back.array, expected)


@pytest.mark.parametrize(
    ("shift", "message"), [((0, 0, 2.0), "slice 0 of the mask lies 2.00 mm"), ((0.5, 0, 0), "0.50")]
)
def test_a_mask_elsewhere_is_not_written(source: Series, shift: Any, message: str) -> None:
    mask = mask_on(source, LABELS)
    moved = mask.affine.copy()
    moved[:3, 3] += shift
    with pytest.raises(ValueError, match=message):
        make(replace(mask, affine=moved), source)


def test_a_mask_of_another_size_is_not_written(source: Series) -> None:
    mask = mask_on(source, LABELS)
    with pytest.raises(ValueError, match="slices of 20 × 48, the images 40 × 48"):
        make(replace(mask, array=LABELS[:, :20]), source)


def test_a_source_without_frame_of_reference_gets_one_of_its_own(tmp_path: Path) -> None:
    def edit(index: int, one: Dataset) -> None:
        del one.FrameOfReferenceUID

    source = keep(images(LABELS.astype(np.int16), affine(), edit=edit), tmp_path)
    written = validate(make(mask_on(source, LABELS), source), tmp_path)
    assert written.FrameOfReferenceUID == derive_uid(source.uid, "frame of reference")
    assert "FrameOfReferenceUID" not in source.header


def test_what_is_wrong_in_the_source_is_not_copied(tmp_path: Path) -> None:
    def edit(index: int, one: Dataset) -> None:
        one.PatientAge, one.PatientSex, one.StudyDate = "0Y", "X", "20261399"
        one.PatientBirthDate, one.StudyTime, one.TimezoneOffsetFromUTC = "19701301", "noon", "PST"
        del one.AccessionNumber

    with warnings.catch_warnings(action="ignore"):
        source = keep(images(LABELS.astype(np.int16), affine(), edit=edit), tmp_path)
        written = validate(make(mask_on(source, LABELS), source), tmp_path)
    assert "PatientAge" not in written
    for keyword in ("PatientSex", "StudyDate", "PatientBirthDate", "StudyTime", "AccessionNumber"):
        assert not written[keyword].value
    assert written.PatientID == "TEST-1"


# Real files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder",
    [
        "ct_liver/dicom",
        "dicom_variants/dicom2nifti/anatomical_001",
        "dicom_variants/dicom2nifti/generic_compressed_001",
        "dicom_variants/dicom2nifti/siemens_multiframe_anatomical_001",
        "dicom_variants/dicom2nifti/philips_enhanced_anatomical_001",
    ],
)
def test_it_is_valid_on_real_series(shared_data: Path, tmp_path: Path, folder: str) -> None:
    source = read(shared_data / folder, "*.dcm")
    shape = read_volume(source).array.shape
    labels = ball((shape[0], shape[1], shape[2])).astype(np.uint8)
    made = make(mask_on(source, labels), source)
    np.testing.assert_array_equal(read_seg(validate(made, tmp_path), source).array, labels)


def test_a_segmentation_of_another_maker_reads(shared_data: Path) -> None:
    folder = shared_data / "dicom_variants" / "dcmqi_ct_3slice_seg"
    dataset = dcmread(folder / "liver.dcm")
    mask = read_seg(dataset, read(folder, "0*.dcm"))
    assert mask.array.shape == (3, 512, 512)
    assert int((mask.array > 0).sum()) == int(dataset.pixel_array.sum()) > 0
