from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from overread.cli.main import app
from overread.errors import SiteError, UsageError
from overread.examples import copy
from overread.measures.appearance import PLANE
from overread.pipelines.model import Envelope
from tests.dicom.radiograph import radiograph
from tests.dicom.series import affine, ball, images, keep

RUN = CliRunner()


@pytest.fixture
def training(tmp_path: Path) -> Path:
    for index, size in enumerate((60, 64, 70)):
        array = np.where(ball((12, size, size)), 300, 10).astype(np.int16)
        file = tmp_path / "nifti" / f"{index}_image.nii.gz"
        file.parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), np.eye(4)), file)  # type: ignore[no-untyped-call]  # YAML and nibabel are untyped
        (file.parent / f"{index}_mask.nii.gz").write_bytes(b"not an image")
        keep(images(array, affine((4, 0.9, 0.9)), name=f"{index}"), tmp_path / f"dicom{index}")
    return tmp_path


def learnt(*arguments: str) -> dict[str, object]:
    done = RUN.invoke(app, ["model", "profile", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    data = YAML(typ="safe").load(done.stdout)
    Envelope.model_validate(data["input"])
    return dict(data["input"])


def test_an_envelope_is_learnt_from_research_files_whose_spacing_was_lost(training: Path) -> None:
    found = learnt(
        str(training / "nifti"), "--pattern", "*_image.nii.gz", "--modality", "MR",
        "--spacing", "4,0.9,0.8", "--margin", "0",
    )  # fmt: skip
    assert found["modality"] == "MR"
    assert found["spacing_mm"] == {"in_plane": [0.715, 0.985], "between_slices": [3.6, 4.4]}
    assert found["slices"] == [10, 14]
    assert "contrast" not in found  # NIfTI says nothing of it
    assert found["statistics"]["smoothness"][1] == 1.0  # type: ignore[index]  # YAML and nibabel are untyped


def test_and_from_dicom_series_with_what_their_headers_say(training: Path) -> None:
    folders = [str(training / f"dicom{index}") for index in range(3)]
    done = RUN.invoke(app, ["model", "profile", *folders, "--json"], catch_exceptions=False)
    data = json.loads(done.stdout)
    assert data["images"] == 3
    assert data["left_out"] == {}
    assert data["input"]["modality"] == "MR"
    assert data["input"]["contrast"] == "post"  # T1 AX POST
    assert data["input"]["planes"] == ["axial"]
    assert set(data["input"]["statistics"]) >= {"width_mm", "solid", "bright"}


def test_what_cannot_be_read_is_named_and_left_out(training: Path) -> None:
    (one, *_) = sorted((training / "dicom1").iterdir())
    folders = [str(training / f"dicom{index}") for index in range(3)]
    (training / "dicom1" / one.name).unlink()
    middle = sorted((training / "dicom1").iterdir())[4]
    middle.unlink()
    done = RUN.invoke(app, ["model", "profile", *folders, "--json"], catch_exceptions=False)
    data = json.loads(done.stdout)
    assert data["images"] == 2
    ((name, why),) = data["left_out"].items()
    assert "dicom1: series 5" in name
    assert "missing slice" in why


def test_projections_are_learnt_as_projections(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for index in range(3):
        pixels = rng.integers(0, 4000, (40, 30 + index)).astype(np.uint16)
        radiograph(
            tmp_path, pixels, f"1.2.3.{index}", ViewPosition="AP", ImagerPixelSpacing=[0.2, 0.2]
        )
    found = learnt(str(tmp_path))
    assert found["views"] == ["AP"]
    assert found["spacing_mm"] == {"in_plane": [0.18, 0.22]}
    assert set(found["statistics"]) == PLANE.keys()  # type: ignore[call-overload]  # YAML and nibabel are untyped


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no file or folder nowhere"),
        (["."], "there is no NIfTI, NRRD or DICOM image"),
        ([".", "--spacing", "1,2"], "three distances in mm"),
        (["nifti"], "does not say its modality; --modality MR"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(training)
    if arguments[0] == ".":
        (training / "empty").mkdir()
        monkeypatch.chdir(training / "empty")
    with pytest.raises(UsageError, match=message):
        RUN.invoke(app, ["model", "profile", *arguments], catch_exceptions=False)


def test_models_are_listed_and_compared_with_their_digests(tmp_path: Path) -> None:
    site = tmp_path / "site"
    copy("bts", site)
    done = RUN.invoke(app, ["model", "list", "--site", str(site), "--json"])
    (row,) = json.loads(done.stdout)
    assert (row["model"], row["task"]) == ("brain-tumour@1.0.0", "segmentation")
    done = RUN.invoke(app, ["model", "verify", "--site", str(site)])
    assert "every file is the one that its card describes" in done.stdout
    (weights,) = site.rglob("*.onnx")
    weights.write_bytes(b"other")
    with pytest.raises(SiteError):
        RUN.invoke(app, ["model", "verify", "--site", str(site)], catch_exceptions=False)
