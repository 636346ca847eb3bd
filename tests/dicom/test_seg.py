from __future__ import annotations

import warnings
from copy import deepcopy
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
from pydicom.uid import EnhancedMRImageStorage
from scipy import ndimage

from overread.dicom.codes import LEFT, Code, Segment
from overread.dicom.derived import Algorithm, Making
from overread.dicom.provenance import DerivedObject, derive_uid
from overread.dicom.seg import Compression, Form, read_seg, write_seg
from overread.dicom.stacks import Policies
from overread.dicom.study import Series
from overread.dicom.volume import Mask, Probability, read_volume
from tests.dicom.series import LESION, affine, ball, images, keep, read
from tests.dicom.validity import validate

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
    seg = highdicom.seg.segread(tmp_path / "made.dcm")
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


FORMS: list[tuple[Form, Compression]] = [
    ("binary", "none"),
    ("binary", "jpeg2000"),
    ("fractional", "none"),
    ("fractional", "rle"),
    ("fractional", "jpeg2000"),
    ("labelmap", "none"),
    ("labelmap", "rle"),
    ("labelmap", "jpeg2000"),
]


@pytest.mark.parametrize(("form", "compress"), FORMS)
def test_every_form_reads_back(
    tmp_path: Path, source: Series, form: Form, compress: Compression
) -> None:
    labels = LABELS + ball(SHAPE, 0.15)
    mask = mask_on(source, labels, LESION, replace(OTHER, number=2))
    made = make(mask, source, form, compress)
    if form == "labelmap":  # dicom3tools does not know it
        (tmp_path / "made.dcm").write_bytes(made.encode())
    else:
        validate(made, tmp_path)
    written = dcmread(tmp_path / "made.dcm")
    assert written.SegmentationType == form.upper()
    assert made.encode() == make(mask, source, form, compress).encode()
    back = read_seg(written, source)
    if isinstance(back, Probability):
        assert form == "fractional"
        np.testing.assert_array_equal(back.array, np.stack([labels == 1, labels == 2]))
    else:
        np.testing.assert_array_equal(back.array, labels)
    assert [one.label for one in back.segments] == ["Enhancing tumour", "Oedema"]
    theirs = highdicom.seg.segread(tmp_path / "made.dcm")
    volume = theirs.get_volume(combine_segments=True, skip_overlap_checks=True)
    found = volume.array.astype(bool).sum()
    assert found == (labels > 0).sum()


@pytest.mark.parametrize("compress", ["none", "rle"])
def test_probabilities_are_kept_in_steps_of_a_255th(
    tmp_path: Path, source: Series, compress: Compression
) -> None:
    smooth = ndimage.gaussian_filter(LABELS.astype(np.float32), 2)
    grid = read_volume(source)
    likely = Probability(
        np.stack([smooth, 1 - smooth]), grid.affine, (LESION, OTHER), threshold=0.7
    )
    written = validate(make(likely, source, "fractional", compress), tmp_path)
    assert (written.SegmentationFractionalType, written.MaximumFractionalValue) == (
        "PROBABILITY",
        255,
    )
    back = read_seg(written, source)
    assert isinstance(back, Probability)
    np.testing.assert_allclose(back.array, likely.array, atol=0.5 / 255 + 1e-6)
    binary = read_seg(make(likely, source).dataset, source)
    assert isinstance(binary, Mask)
    np.testing.assert_array_equal(binary.array == 1, smooth >= np.float32(0.7))


def test_segments_may_overlap(tmp_path: Path, source: Series) -> None:
    whole, core = mask_on(source, LABELS), mask_on(source, ball(SHAPE, 0.15).astype(np.uint8))
    other = replace(core, segments=(replace(OTHER, number=1),))
    made = make([whole, other], source)
    assert [one.number for one in made.segments] == [1, 2]
    written = validate(made, tmp_path)
    assert written.SegmentsOverlap == "YES"
    back = read_seg(written, source)
    assert isinstance(back, Probability)
    np.testing.assert_array_equal(back.array[0] > 0, LABELS > 0)
    np.testing.assert_array_equal(back.array[1] > 0, ball(SHAPE, 0.15))
    with pytest.raises(ValueError, match="a label map cannot hold segments that overlap"):
        make([whole, other], source, "labelmap")


def test_masks_that_do_not_overlap_become_one(tmp_path: Path, source: Series) -> None:
    core = ball(SHAPE, 0.15)
    rim = mask_on(source, (LABELS & ~core).astype(np.uint8))
    other = replace(rim, array=core.astype(np.uint8), segments=(replace(OTHER, number=1),))
    written = validate(make([rim, other], source), tmp_path)
    assert written.SegmentsOverlap == "NO"
    back = read_seg(written, source)
    assert isinstance(back, Mask)
    np.testing.assert_array_equal(back.array, LABELS + core)


def test_rle_cannot_hold_bits(source: Series) -> None:
    with pytest.raises(ValueError, match="RLE cannot hold one bit a voxel"):
        make(mask_on(source, LABELS), source, "binary", "rle")


def test_a_side_is_a_modifier_of_type_and_region(tmp_path: Path, source: Series) -> None:
    lung = replace(LESION, laterality=LEFT)
    written = validate(make(mask_on(source, LABELS, lung), source), tmp_path)
    (segment,) = written.SegmentSequence
    (kind,), (region,) = segment.SegmentedPropertyTypeCodeSequence, segment.AnatomicRegionSequence
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert region.AnatomicRegionModifierSequence[0].CodeMeaning == "Left"
    assert read_seg(written, source).segments == (lung,)


def test_a_finding_has_the_same_tracking_uid_in_every_job(source: Series) -> None:
    mask = mask_on(source, LABELS)
    first, later = (
        make(mask, source, made_by=(job, "seg")).dataset.SegmentSequence[0]
        for job in ("job-1", "job-2")
    )
    assert first.TrackingUID == later.TrackingUID
    assert first.TrackingID == "brain-tumour: Enhancing tumour"
    other = make(mask_on(source, LABELS * 7, OTHER), source).dataset.SegmentSequence[0]
    assert other.TrackingUID != first.TrackingUID


def multi_frame(datasets: list[Dataset], name: str) -> Dataset:
    """One enhanced image of single-frame ones, as far as its geometry goes."""
    made = deepcopy(datasets[0])
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    made.SOPInstanceUID = derive_uid(name, "multi-frame")
    made.NumberOfFrames = len(datasets)
    made.PixelData = b"".join(one.PixelData for one in datasets)
    made.PerFrameFunctionalGroupsSequence = []
    for one in datasets:
        frame, place, turn, measures = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = one.ImagePositionPatient
        turn.ImageOrientationPatient = one.ImageOrientationPatient
        measures.PixelSpacing, measures.SliceThickness = one.PixelSpacing, one.SliceThickness
        frame.PlanePositionSequence, frame.PlaneOrientationSequence = [place], [turn]
        frame.PixelMeasuresSequence = [measures]
        made.PerFrameFunctionalGroupsSequence.append(frame)
    del made.ImagePositionPatient, made.ImageOrientationPatient, made.PixelSpacing
    return made


def test_several_multi_frame_images_in_one_series(tmp_path: Path) -> None:
    single = images(LABELS.astype(np.int16) * 300, affine())
    parts = [multi_frame(single[5:][::-1], "upper"), multi_frame(single[:5], "lower")]
    source = keep(parts, tmp_path / "in")
    made = make(mask_on(source, LABELS), source)
    written = validate(made, tmp_path)
    np.testing.assert_array_equal(read_seg(written, source).array, LABELS)
    (series,) = written.ReferencedSeriesSequence
    uids = {one.uid for one in source}
    assert {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence} == uids
    for item in written.PerFrameFunctionalGroupsSequence:
        (image,) = item.DerivationImageSequence[0].SourceImageSequence
        (part,) = (one for one in parts if one.SOPInstanceUID == image.ReferencedSOPInstanceUID)
        frame = part.PerFrameFunctionalGroupsSequence[image.ReferencedFrameNumber - 1]
        np.testing.assert_allclose(
            item.PlanePositionSequence[0].ImagePositionPatient,
            frame.PlanePositionSequence[0].ImagePositionPatient,
            atol=1e-4,
        )
        assert image.ReferencedSOPClassUID == EnhancedMRImageStorage


def test_a_mask_is_written_on_the_images_that_there_are(tmp_path: Path) -> None:
    labels = ball(SHAPE, 0.6).astype(np.uint8)
    datasets = images(LABELS.astype(np.int16), affine())
    del datasets[4]
    source = keep(datasets, tmp_path / "in")
    volume = read_volume(source, Policies(missing_slice="interpolate"))
    mask = Mask(labels, volume.affine, (LESION,), volume.frame_of_reference)
    written = validate(make(mask, source), tmp_path)
    frames = {
        float(item.PlanePositionSequence[0].ImagePositionPatient[2]): frame
        for item, frame in zip(
            written.PerFrameFunctionalGroupsSequence, written.pixel_array, strict=True
        )
    }
    heights = volume.affine[2, 3] + 5 * np.arange(9)
    kept = [index for index in range(9) if index != 4 and labels[index].any()]
    assert sorted(frames) == [heights[index] for index in kept]
    for index in kept:
        np.testing.assert_array_equal(frames[heights[index]], labels[index])


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
