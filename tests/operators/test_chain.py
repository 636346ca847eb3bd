"""A pipeline from images to results in one process, without engine, archive or database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pytest
from ruamel.yaml import YAML

from overread.dicom.provenance import DerivedObject
from overread.dicom.study import Exam
from overread.dicom.volume import Mask
from overread.operators import files
from overread.operators.run import run
from overread.pipelines.check import order
from overread.pipelines.definition import Pipeline
from overread.pipelines.model import ModelCard
from overread.pipelines.ports import Account, Model, signature
from overread.registry import load
from overread.validation.results import Measurements
from tests.conftest import ROOT
from tests.dicom.series import affine, ball, images, keep
from tests.operators.test_write import CONTEXT
from tests.runtimes.tiny import tiny_model

EXAMPLE = ROOT / "src" / "overread" / "examples" / "bts"

TINY = """
name: tiny
version: 1.0.0
ae_title: TINY
steps:
  seg: {use: write_seg, in: {mask: mask, source: t1c}, with: {tags: {SeriesDescription: AI}}}
  t1c: {use: select_series, with: {where: {SeriesDescription: {like: "T1*POST"}}}}
  volume: {use: read_volume, in: {series: t1c}}
  fine: {use: resample, in: {volume: volume}, with: {in_plane_mm: 0.6}}
  norm: {use: normalise, in: {volume: fine}, with: {method: window, level: 200, width: 400}}
  raw: {use: infer, in: {volume: norm}, with: {model: tiny@1.2.3}}
  onto: {use: resample_mask, in: {mask: raw, volume: volume}}
  mask: {use: keep_components, in: {mask: onto}, with: {largest: 1, at_least_ml: 0.1}}
  volumes: {use: measure_volumes, in: {mask: mask}}
results: [volumes, seg]
"""


def run_pipeline(
    pipeline: Pipeline, exam: Exam, model: Model, folder: Path
) -> tuple[dict[str, object], dict[str, Account]]:
    """Run every step in order; each output also goes through its file."""
    made: dict[str, object] = {"exam": exam}
    accounts = {}
    for name in order(pipeline):
        step = pipeline.steps[name]
        function = load("operators", step.use)
        ports = signature(step.use, function)
        inputs = {port: made[source] for port, source in step.in_.items()}
        inputs |= {port: exam for port, kind in ports.inputs.items() if kind is Exam}
        context = replace(CONTEXT, step=name, models=(model.card,))
        output, accounts[name] = run(
            function, ports, inputs, step.with_, context, {model.card.reference: model}
        )
        files.save(output, folder / name)
        made[name] = files.load(folder / name)
    return made, accounts


def test_a_tiny_model_all_the_way(tmp_path: Path) -> None:
    shape = (12, 60, 52)
    truth = ball(shape)
    array = np.where(truth, 380, 20).astype(np.int16)
    source = keep(
        images(array, affine((4.4, 0.9, 0.8), (12, -8, 20))),
        tmp_path / "in",
        order=range(11, -1, -1),
    )
    other = keep(
        images(
            array, affine(), name="two", edit=lambda i, one: setattr(one, "SeriesDescription", "T2")
        ),
        tmp_path / "other",
    )
    exam = Exam((*other.instances, *source.instances))
    pipeline = Pipeline.model_validate(YAML(typ="safe").load(TINY))
    model = tiny_model(tmp_path / "model", resample_in_plane_mm=0.6)
    made, accounts = run_pipeline(pipeline, exam, model, tmp_path / "steps")

    mask, volumes, seg = made["mask"], made["volumes"], made["seg"]
    assert isinstance(mask, Mask)
    assert isinstance(volumes, Measurements)
    assert isinstance(seg, DerivedObject)
    dice = 2 * ((mask.array > 0) & truth).sum() / ((mask.array > 0).sum() + truth.sum())
    assert dice > 0.97  # only what resampling there and back costs
    (volume,) = volumes.items
    assert volume.value == pytest.approx(truth.sum() * 4.4 * 0.9 * 0.8 / 1000, rel=0.03)
    found = highdicom.seg.segread(tmp_path / "steps" / "seg" / "object.dcm")
    assert int(found.pixel_array.sum()) == int((mask.array > 0).sum())
    assert found.SeriesDescription == "AI"
    assert found.SegmentSequence[0].SegmentAlgorithmName == "tiny"
    assert [uid for uid, _ in accounts["t1c"].unused] == [other.uid]


def test_the_example_s_model_finds_a_real_tumour(shared_data: Path, tmp_path: Path) -> None:
    """The example pipeline as it stands, on a patient whom the model was not trained on."""
    card_file = EXAMPLE / "models" / "brain-tumour" / "1.0.0" / "model.yaml"
    if not (card_file.parent / "model.onnx").is_file():
        pytest.skip("the example's model is not here")
    card = ModelCard.model_validate(YAML(typ="safe").load(card_file))
    definition = YAML(typ="safe").load(EXAMPLE / "pipelines" / "brain-tumour.yaml")
    patient = shared_data / "brain_tumour" / "03"
    array, truth = _axial(patient, "Pre")
    source = keep(images(array, affine((6.5, 0.86, 0.86))), tmp_path / "in")
    made, _ = run_pipeline(
        Pipeline.model_validate(definition),
        Exam(source.instances),
        Model(card, card_file.parent / card.file),
        tmp_path / "steps",
    )
    mask: Any = made["mask"]
    found = mask.array > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.6


def _axial(patient: Path, time: str) -> tuple[Any, Any]:
    """Return an image and its reference as (slice, row, column), without the blank padding."""
    scan: Any = nibabel.load(patient / f"{time}_Scan_T1.nii.gz")
    mask: Any = nibabel.load(patient / f"{time}_Mask.nii.gz")
    array = np.asarray(scan.dataobj).transpose(2, 1, 0)
    filled = np.flatnonzero(np.ptp(array, axis=(1, 2)))
    inside = slice(filled[0], filled[-1] + 1)
    return array[inside].astype(np.int16), np.asarray(mask.dataobj).transpose(2, 1, 0)[inside] > 0
