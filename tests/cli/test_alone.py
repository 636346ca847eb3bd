"""``overread pipeline run`` and ``overread operator run``, as they are typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from overread.operators.files import load, to_ras
from overread.validation.results import Measurements
from tests.dicom.series import affine, ball, images, keep
from tests.site.sites import whole

PIPELINE = """\
name: bright-spots
version: 1.0.0
ae_title: SPOTS
steps:
  one: {use: select_series, with: {where: {Modality: MR}}}
  volume: {use: read_volume, in: {series: one}}
  mask: {use: threshold, in: {volume: volume}, with: {above: 500}}
  volumes: {use: measure_volumes, in: {mask: mask}}
  seg: {use: write_seg, in: {mask: mask, source: one}}
results: [volumes, seg]
"""
SHAPE = (6, 24, 20)
TRUTH = int(ball(SHAPE).sum()) * 5 * 0.9 * 0.9 / 1000


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return whole(tmp_path / "site", pipeline=PIPELINE)


@pytest.fixture
def exam(tmp_path: Path) -> Path:
    array = np.where(ball(SHAPE), 1000, 100).astype(np.int16)
    keep(images(array, affine()), tmp_path / "exam")
    (tmp_path / "exam" / "notes.txt").write_text("not an image")
    return tmp_path / "exam"


def overread(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "overread.cli.main", *map(str, words)],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "COLUMNS": "160"},
    )  # fmt: skip


@pytest.mark.parametrize("here", [[], ["--here"]])
def test_a_whole_pipeline_runs_without_a_server(site: Path, exam: Path, here: list[str]) -> None:
    ran = overread(
        "pipeline", "run", "bright-spots", exam, "--site", site, "--json", *here, cwd=site.parent
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert [(step["step"], step["state"], step["made"]) for step in told["steps"]] == [
        ("one", "done", "Series"),
        ("volume", "done", "Volume"),
        ("mask", "done", "Mask"),
        ("volumes", "done", "Measurements"),
        ("seg", "done", "DerivedObject"),
    ]
    assert all(step["seconds"] > 0 for step in told["steps"])
    volumes, seg = told["results"]
    assert volumes["measurements"][0]["value"] == pytest.approx(TRUTH, rel=1e-4)
    out = site.parent / "run"
    assert Path(seg["folder"]) == out / "seg"
    made = dcmread(out / "seg" / "object.dcm")
    assert made.StudyInstanceUID == dcmread(exam / "0000.dcm").StudyInstanceUID
    # nothing of a server: no database, no archive
    kept = {path.name for path in (site / "data").rglob("*") if path.is_file()}
    assert not kept


def test_the_table_shows_each_step_and_the_results(site: Path, exam: Path) -> None:
    ran = overread("pipeline", "run", "bright-spots", exam, "--site", site, cwd=site.parent)
    assert ran.returncode == 0, ran.stderr
    for wanted in ("read_volume", "Volume", "6 slices of 24 × 20", "Bright: volume"):
        assert wanted in ran.stdout, wanted
    assert "notes.txt: not read as DICOM" in ran.stderr


def test_a_refused_exam_says_why(site: Path, exam: Path) -> None:
    (exam / "0003.dcm").unlink()
    ran = overread("pipeline", "run", "bright-spots", exam, "--site", site, cwd=site.parent)
    assert ran.returncode == 1
    assert "volume refused:" in ran.stderr
    assert "missing" in ran.stderr
    again = overread(
        "pipeline", "run", "bright-spots", exam, "--site", site, "--json", cwd=site.parent
    )
    states = [step["state"] for step in json.loads(again.stdout)["steps"]]
    assert states == ["done", "refused", "waiting", "waiting", "waiting"]


def test_what_is_typed_wrong_is_told(site: Path, exam: Path, tmp_path: Path) -> None:
    def fails(*words: str | Path) -> str:
        ran = overread(*words, "--site", site, cwd=tmp_path)
        assert ran.returncode == 2, ran.stdout
        return " ".join(ran.stderr.split())

    assert "perhaps bright-spots" in fails("pipeline", "run", "brightspots", exam)
    assert "there is no file or folder" in fails("pipeline", "run", "bright-spots", "nowhere")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    told = fails("pipeline", "run", "bright-spots", exam, "--out", "mine")
    assert "mine is not empty" in told
    assert (tmp_path / "mine" / "thesis.txt").exists()
    other = images(np.zeros((3, 8, 8), np.int16), affine(), name="two",
                   edit=lambda _index, one: setattr(one, "PatientID", "TEST-2"))  # fmt: skip
    keep(other, tmp_path / "other")
    both = fails("pipeline", "run", "bright-spots", exam, tmp_path / "other")
    assert "of 2 patients" in both
    assert "needs its input volume" in fails("operator", "run", "threshold")
    told = fails("operator", "run", "threshold", "--in", "volumes=x")
    assert "no input 'volumes'; expected an existing input, perhaps volume" in told
    told = fails("operator", "run", "threshold", "--in", "volume=x", "--set", "above=[1")
    assert "--set above=[1 is not valid YAML: expected ',' or ']'" in told


def test_an_operator_of_a_site_needs_its_site(tmp_path: Path) -> None:
    ran = overread("operator", "run", "smooth", cwd=tmp_path)
    assert ran.returncode == 2
    assert "Operators of a site's own need --site" in " ".join(ran.stderr.split())


def test_a_failed_operator_of_ones_own_tells_its_line_and_its_log(
    site: Path, tmp_path: Path
) -> None:
    (site / "operators").mkdir(exist_ok=True)
    (site / "operators" / "own.py").write_text(
        "from overread.dicom.volume import Volume\n\n\n"
        "def broken(volume: Volume) -> Volume:\n"
        "    print('as far as this')\n"
        "    return volume.nothing\n"
    )
    nifti: Any = nibabel
    nifti.save(nifti.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), tmp_path / "t1.nii")
    ran = overread(
        "operator", "run", "broken", "--in", "volume=t1.nii", "--site", site, cwd=tmp_path
    )
    assert ran.returncode == 1
    assert "has no attribute 'nothing' (line 6 of the operator's file)" in ran.stderr
    assert "as far as this" in (tmp_path / "run" / "broken.log").read_text()
    assert str(tmp_path / "run" / "broken.log") in ran.stderr


def test_an_operator_runs_alone_and_its_output_goes_into_the_next(tmp_path: Path) -> None:
    grid = affine((4.0, 0.8, 0.7), (10, 20, 5))
    array = np.where(ball(SHAPE), 1000, 100).astype(np.float32)
    nifti: Any = nibabel
    nifti.save(nifti.Nifti1Image(array.T, to_ras(grid)), tmp_path / "t1.nii.gz")
    first = overread(
        "operator", "run", "threshold", "--in", "volume=t1.nii.gz", "--set", "above=500",
        "--out", "one", "--mhd", cwd=tmp_path,
    )  # fmt: skip
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "one" / "threshold" / "image.mhd").read_text().startswith("ObjectType")
    second = overread(
        "operator", "run", "measure_volumes", "--in", "mask=one/threshold", "--out", "two",
        cwd=tmp_path,
    )  # fmt: skip
    assert second.returncode == 0, second.stderr
    made = load(tmp_path / "two" / "measure_volumes")
    assert isinstance(made, Measurements)
    truth = ball(SHAPE).sum() * 4 * 0.8 * 0.7 / 1000
    assert made.items[0].value == pytest.approx(truth, rel=1e-4)


def test_a_folder_of_images_becomes_what_the_port_takes(exam: Path, tmp_path: Path) -> None:
    ran = overread(
        "operator", "run", "read_volume", "--in", f"series={exam}", "--json", cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["steps"][0]["made"] == "Volume"


def test_an_operator_shows_its_page(tmp_path: Path) -> None:
    ran = overread("operator", "show", "measure_volumes", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("# measure_volumes\n")
    assert "`mask`" in ran.stdout
