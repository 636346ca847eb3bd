"""The liver donor example, from a phantom's exam to results, held against the truth.

The phantom is one of those that the model's training never saw. Tolerances are those of the model's
card, with room: they say that the pipeline brings the model's answer to the images and the numbers
unharmed, not that the model is good.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from overread import examples
from overread.dicom.seg import read_seg
from overread.dicom.study import Instance, Series
from overread.dicom.volume import Mask
from overread.operators.files import load as load_port
from overread.simulator.abdomen import NAMES, Abdomen
from overread.simulator.exams import liver_donor
from overread.simulator.instances import write
from overread.site import load

SEED = 3
LOBE, VESSELS, POINTS = 0.06, 0.15, 2.0
"""Relative error of a lobe's and of the vessels' volume; percentage points of a share."""


def run(site: Path, exam: Path, out: Path, pipeline: str) -> tuple[int, dict[str, Any]]:
    """Run a pipeline of an example without a server."""
    ran = subprocess.run(
        [sys.executable, "-m", "overread.cli.main", "pipeline", "run", pipeline, str(exam),
         "--site", str(site), "--out", str(out), "--json"],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert ran.stdout, ran.stderr
    return ran.returncode, json.loads(ran.stdout)


def errors(file: Path) -> list[str]:
    """Ask dciodvfy what is wrong with a file."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (package dicom3tools) is not installed")
    answer = subprocess.run([program, "-new", file], capture_output=True, text=True, check=False)
    lines = (answer.stdout + answer.stderr).splitlines()
    return [line for line in lines if line.startswith("Error")]


def report_of(folder: Path) -> Any:
    """Read the structured report that a step left."""
    return highdicom.sr.srread(folder / "object.dcm").content


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lts") / "site"
    examples.copy("lts", folder)
    return folder


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Abdomen, Path]:
    folder = tmp_path_factory.mktemp("donor")
    truth, made = liver_donor(SEED, shape=(50, 190, 190), spacing=(4.0, 2.1, 2.1))
    write(made, folder)
    return truth, folder


@pytest.fixture(scope="module")
def done(
    site: Path, taken: tuple[Abdomen, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("out") / "run"
    code, told = run(site, taken[1], out, "liver-donor")
    assert code == 0, told
    return out, told


def test_the_site_is_without_a_fault(site: Path) -> None:
    loaded = load(site, os.environ, verify=True)
    assert [one.ae_title for one in loaded.pipelines.values()] == ["CI2_CD_LTS"]
    assert loaded.models["liver@1.0.0"].card.task == "segmentation"


def test_volumes_and_shares_are_the_phantoms(
    taken: tuple[Abdomen, Path], done: tuple[Path, dict[str, Any]]
) -> None:
    truth = taken[0].millilitres
    listed = next(one for one in done[1]["results"] if one["name"] == "measured")["measurements"]
    found = {(one["region"], one["quantity"]): one["value"] for one in listed}
    for name in ("left lobe", "right lobe"):
        assert found[name, "volume"] == pytest.approx(truth[name], rel=LOBE)
    assert found["liver vessels", "volume"] == pytest.approx(truth["liver vessels"], rel=VESSELS)
    both = truth["left lobe"] + truth["right lobe"]
    for name in ("left lobe", "right lobe"):
        assert found[name, "share"] == pytest.approx(100 * truth[name] / both, abs=POINTS)
    assert found["left lobe", "remnant share"] == found["left lobe", "share"]
    ratio = truth["right lobe"] / 1000 / taken[0].weight_kg * 100
    assert found["right lobe", "graft-to-recipient weight ratio"] == pytest.approx(ratio, rel=LOBE)


def test_the_segmentation_lies_on_the_liver(
    taken: tuple[Abdomen, Path], done: tuple[Path, dict[str, Any]]
) -> None:
    truth, folder = taken
    seg = dcmread(done[0] / "seg" / "object.dcm")
    used = [dcmread(file) for file in sorted(folder.iterdir())]
    portal = [
        (dataset, file)
        for dataset, file in zip(used, sorted(folder.iterdir()), strict=True)
        if dataset.SeriesDescription == "PORTAL VENOUS"
    ]
    mask = read_seg(seg, Series(tuple(Instance(dataset, file) for dataset, file in portal)))
    assert np.allclose(mask.affine, truth.image.affine)
    by_name = {segment.label: segment.number for segment in mask.segments}
    for value, name in NAMES.items():
        agreement = dice(mask.array == by_name[name], truth.truth.array == value)
        assert agreement > (0.8 if name == "liver vessels" else 0.94), name


def test_the_objects_are_valid_and_say_what_was_measured(
    done: tuple[Path, dict[str, Any]],
) -> None:
    out, told = done
    contours = dcmread(out / "contours" / "object.dcm")
    assert [roi.ROIName for roi in contours.StructureSetROISequence] == list(NAMES.values())
    assert all(len(roi.ContourSequence) > 10 for roi in contours.ROIContourSequence)
    groups = report_of(out / "report").get_volumetric_roi_measurement_groups()
    volumes = {
        group.tracking_identifier: [m.value for m in group.get_measurements()] for group in groups
    }
    listed = next(one for one in told["results"] if one["name"] == "measured")["measurements"]
    for one in listed:
        if one["quantity"] == "volume":
            assert any(one["value"] in values for values in volumes.values()), one
    for step in ("seg", "contours", "report"):
        assert errors(out / step / "object.dcm") == []


def test_an_exam_without_contrast_medium_is_refused(site: Path, tmp_path: Path) -> None:
    _, made = liver_donor(SEED, shape=(32, 64, 64), spacing=(6.0, 6.4, 6.4))
    for dataset in made:
        dataset.SeriesDescription = "PORTAL VENOUS"
    write([one for one in made if one.SeriesNumber == 2], tmp_path / "exam")
    code, told = run(site, tmp_path / "exam", tmp_path / "run", "liver-donor")
    assert code == 1
    checked = next(step for step in told["steps"] if step["step"] == "checked")
    assert checked["state"] == "refused"


def test_real_slices_give_a_whole_liver(site: Path, shared_data: Path, tmp_path: Path) -> None:
    """The model was trained on these slices: this tests the pipeline on real files, not it."""
    (tmp_path / "exam").mkdir()
    for file in (shared_data / "ct_liver" / "dicom").iterdir():
        dataset = dcmread(file)
        dataset.PatientWeight = "74"
        dataset.save_as(tmp_path / "exam" / file.name)
    out = tmp_path / "run"
    code, told = run(site, tmp_path / "exam", out, "liver-donor")
    assert code == 0, told
    mask = load_port(out / "mask")
    assert isinstance(mask, Mask)
    file = shared_data / "ct_liver" / "totalsegmentator_reference.nii.gz"
    reference: Any = nibabel.load(file)
    liver = reference.get_fdata().transpose(2, 1, 0)[:, ::-1] == 5
    order = np.argsort(mask.affine[2, 0] * np.arange(len(mask.array)))
    assert dice(mask.array[order] > 0, liver) > 0.93
