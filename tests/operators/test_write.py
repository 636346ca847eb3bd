from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from overread.dicom.stacks import Policies
from overread.dicom.study import Series
from overread.dicom.volume import Mask, Probability
from overread.dicom.volume import read_volume as read_series
from overread.operators.grid import to_source
from overread.operators.making import making
from overread.operators.read import read_volume
from overread.operators.write import write_derived, write_rtstruct, write_seg
from overread.pipelines.ports import Account, Context
from tests.dicom.series import LESION, affine, images, keep, read
from tests.dicom.validity import validate
from tests.runtimes.tiny import tiny_model

CONTEXT = Context("job", "seg", datetime(2026, 11, 24, tzinfo=UTC), "spots", "2.0.0")


@pytest.fixture
def source(tmp_path: Path) -> Series:
    return keep(images(np.zeros((4, 8, 8), np.int16), affine()), tmp_path)


def mask(source: Series, model: str = "") -> Mask:
    volume = read_volume(source, Account())
    array = np.zeros(volume.array.shape, np.uint8)
    array[1, 2, 3] = 1
    return Mask(array, volume.affine, (LESION,), volume.frame_of_reference, model)


def test_the_model_is_the_algorithm(tmp_path: Path, source: Series) -> None:
    card = tiny_model(tmp_path / "model").card
    context = replace(CONTEXT, models=(card,))
    made = write_seg(mask(source, "tiny@1.2.3"), source, context, Account()).dataset
    (algorithm,) = made.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("tiny", "1.2.3")
    assert f"sha256={card.sha256}" in algorithm.AlgorithmParameters
    assert "pipeline=spots@2.0.0" in algorithm.AlgorithmParameters
    assert made.DeviceSerialNumber == "spots@2.0.0"


def test_a_model_whose_card_is_not_at_hand_is_named_all_the_same(source: Series) -> None:
    made = write_seg(mask(source, "other@3.0.0"), source, CONTEXT, Account()).dataset
    (algorithm,) = made.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("other", "3.0.0")


def test_without_a_model_the_pipeline_is_the_algorithm(source: Series) -> None:
    made = write_seg(mask(source), source, CONTEXT, Account()).dataset
    (algorithm,) = made.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("spots", "2.0.0")
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Histogram Analysis"


def test_the_stage_decides_whether_it_is_investigational(source: Series) -> None:
    for stage, qualification in (("validation", "RESEARCH"), ("clinical", "PRODUCT")):
        context = replace(CONTEXT, stage=stage)
        made = write_seg(mask(source), source, context, Account())
        assert made.dataset.ContentQualification == qualification
        assert ("investigational" in made.dataset.SeriesDescription) == (stage != "clinical")


def test_sources_are_accounted_for_and_nothing_found_is_told(source: Series) -> None:
    account = Account()
    empty = mask(source).with_array(np.zeros((4, 8, 8), np.uint8))
    made = write_seg(empty, source, CONTEXT, account, tags={"SeriesDescription": "AI"})
    assert made.dataset.SeriesDescription == "AI"
    assert {uid for uid, _ in account.used} == {one.uid for one in source}
    assert account.notes == ["nothing was found: the segmentation is empty"]


def test_further_masks_stand_after_the_first(source: Series) -> None:
    first = mask(source, "tiny@1.2.3")
    likely = Probability(
        np.ones((2, *first.array.shape), np.float32), first.affine, (LESION, LESION), threshold=0.6
    )
    for write, sequence in ((write_seg, "SegmentSequence"), (write_rtstruct, "ROIContourSequence")):
        made = write(first, source, CONTEXT, Account(), likely=likely)
        assert [one.number for one in made.segments] == [1, 2, 3]
        assert len(made.dataset[sequence].value) == 3


def test_form_and_compression_are_settings(source: Series) -> None:
    made = write_seg(
        mask(source), source, CONTEXT, Account(), form="fractional", compress="rle"
    ).dataset
    assert made.SegmentationType == "FRACTIONAL"
    assert made.file_meta.TransferSyntaxUID.name == "RLE Lossless"


def test_a_structure_set_names_its_model_and_its_stage(source: Series) -> None:
    account = Account()
    tags = {"StructureSetLabel": "AI spots"}
    made = write_rtstruct(mask(source, "tiny@1.2.3"), source, CONTEXT, account, tags=tags)
    written = made.dataset
    assert (made.kind, written.StructureSetLabel) == ("structure set", "AI spots")
    assert written.StructureSetROISequence[0].ROIGenerationDescription == "tiny@1.2.3"
    assert "investigational" in written.StructureSetDescription
    assert {uid for uid, _ in account.used} == {one.uid for one in source}
    assert account.notes == []
    empty = mask(source).with_array(np.zeros((4, 8, 8), np.uint8))
    write_rtstruct(empty, source, replace(CONTEXT, stage="clinical"), account)
    assert account.notes == ["nothing was found: the structure set has no contours"]


def test_what_lies_on_no_image_is_told(tmp_path: Path) -> None:
    datasets = images(np.zeros((6, 8, 8), np.int16), affine())
    del datasets[3]
    source = keep(datasets, tmp_path)
    volume = read_series(source, Policies(missing_slice="interpolate"))
    everywhere = Mask(np.ones((6, 8, 8), np.uint8), volume.affine, (LESION,))
    for write in (write_seg, write_rtstruct):
        account = Account()
        write(everywhere, source, CONTEXT, account)
        assert account.notes == [
            "left out, since no image lies there: slices 3 of the mask, in which something was "
            "found"
        ]


def test_a_processed_volume_is_written_beside_its_source(source: Series) -> None:
    account = Account()
    volume = read_volume(source, Account())
    made = write_derived(
        volume, source, CONTEXT, account, description="Registered", window=(40, 400)
    )
    assert made.kind == "processed images"
    assert made.dataset.SeriesDescription == "Registered (investigational)"
    assert made.dataset.WindowWidth == 400
    assert {uid for uid, _ in account.used} == {one.uid for one in source}


def test_the_nearest_model_is_the_algorithm_where_the_input_names_none(tmp_path: Path) -> None:
    card = tiny_model(tmp_path / "model").card
    assert making(replace(CONTEXT, models=(card,))).algorithm.name == "tiny"
    assert making(CONTEXT).algorithm.name == "spots"
    assert making(CONTEXT).made_by == ("job", "seg")


@pytest.mark.parametrize(
    ("folder", "policies"),
    [
        ("failing_gantrytilting_001", Policies(gantry_tilt="resample")),
        ("failing_sliceincrement_001", Policies(missing_slice="interpolate")),
    ],
)
def test_what_was_found_in_an_awkward_series_goes_back_to_its_images(
    shared_data: Path, tmp_path: Path, folder: str, policies: Policies
) -> None:
    source = read(shared_data / "dicom_variants" / "dicom2nifti" / folder)
    volume = read_series(source, policies)
    middle = tuple(size // 2 for size in volume.array.shape)
    found = np.zeros(volume.array.shape, np.uint8)
    found[:, middle[1] - 40 : middle[1] + 40, middle[2] - 30 : middle[2] + 30] = 1
    whole = Mask(found, volume.affine, (LESION,), volume.frame_of_reference, source=volume.source)
    back = to_source(whole, Account())
    for write in (write_seg, write_rtstruct):
        written = validate(write(back, source, CONTEXT, Account()), tmp_path, source)
        if write is write_seg:
            assert written.NumberOfFrames == len(source)
            for item, pixels in zip(
                written.PerFrameFunctionalGroupsSequence, written.pixel_array, strict=True
            ):
                (image,) = item.DerivationImageSequence[0].SourceImageSequence
                assert image.ReferencedSOPInstanceUID in {one.uid for one in source}
                assert abs(int(pixels.sum()) - 80 * 60) < 200
        else:
            (roi,) = written.ROIContourSequence
            assert len(roi.ContourSequence) == len(source)
