from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from overread.dicom.study import Series
from overread.dicom.volume import Mask
from overread.operators.read import read_volume
from overread.operators.write import write_seg
from overread.pipelines.ports import Account, Context
from tests.dicom.series import LESION, affine, images, keep
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
