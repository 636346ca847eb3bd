"""The hip fracture example, from a phantom's exam to results, held against the truth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from overread import examples
from overread.dicom.geometry import turn_to_axial
from overread.measures.appearance import PLANE, plane_appearance
from overread.pipelines.envelope import Facts, outside
from overread.simulator import images as research
from overread.simulator.exams import hip_patient
from overread.simulator.fruit import FRUIT, fruit
from overread.simulator.instances import write
from overread.simulator.pelvis import Photometric, Radiograph, State, lateral, pelvis
from overread.site import load
from overread.site.models import read_models
from tests.conftest import ROOT
from tests.test_example_lts import errors, report_of, run

DETECTOR = read_models(ROOT / "src" / "overread" / "examples" / "hfd", verify=False)[0][
    "hip-detector@1.0.0"
]
OVERLAP = 0.6
"""Least intersection over union of a box and the true one."""

PATIENTS: list[tuple[int, tuple[State, State], Photometric, bool]] = [
    (1, ("normal", "fracture"), "MONOCHROME2", True),
    (2, ("hardware", "normal"), "MONOCHROME1", False),
    (4, ("fracture", "hardware"), "MONOCHROME1", True),
]
"""Seed, states of the right and left hip, how pixels are stored, and whether in one series."""


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    a, b = np.array(one), np.array(other)
    both = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return float(both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hfd") / "site"
    examples.copy("hfd", folder)
    return folder


@pytest.fixture(scope="module", params=PATIENTS, ids=lambda patient: f"patient {patient[0]}")
def done(
    request: pytest.FixtureRequest, site: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Radiograph, Path, dict[str, Any]]:
    seed, states, photometric, together = request.param
    folder = tmp_path_factory.mktemp("hip")
    truth, made = hip_patient(
        seed, states=states, photometric=photometric, one_series=together, spacing=0.2
    )
    write(made, folder / "exam")
    code, told = run(site, folder / "exam", folder / "run", "hip-fracture")
    assert code == 0, told
    return truth, folder, told


def test_the_site_is_without_a_fault(site: Path) -> None:
    loaded = load(site, os.environ, verify=True)
    tasks = {name: model.card.task for name, model in loaded.models.items()}
    assert tasks == {"hip-detector@1.0.0": "detection", "hip-class@1.0.0": "classification"}


def test_each_hip_is_found_where_it_is_and_called_what_it_is(
    done: tuple[Radiograph, Path, dict[str, Any]],
) -> None:
    truth, folder, told = done
    results = {one["name"]: one for one in told["results"]}
    boxes = {one["label"]: one for one in results["hips"]["detections"]}
    assert set(boxes) == {"right hip", "left hip"}
    states = {one["region"]: one for one in results["states"]["classes"]}
    views = [dcmread(file) for file in sorted((folder / "exam").iterdir())]
    front = next(view for view in views if view.ViewPosition == "AP")
    for hip in truth.hips:
        found = boxes[f"{hip.side} hip"]
        assert found["image"] == front.SOPInstanceUID  # not the lateral view
        assert overlap(tuple(found["box"]), hip.box) > OVERLAP
        assert states[f"{hip.side} hip"]["label"] == hip.state


def test_report_and_picture_are_valid_and_say_so(
    done: tuple[Radiograph, Path, dict[str, Any]],
) -> None:
    truth, folder, _ = done
    out = folder / "run"
    groups = report_of(out / "report").get_planar_roi_measurement_groups()
    assert len(groups) == 4  # two boxes, and two classes of them
    said = [
        evaluation.value.meaning for group in groups
        for evaluation in group.get_qualitative_evaluations()
        if evaluation.name.meaning == "Clinical finding"
    ]  # fmt: skip
    words = {"normal": "Normal", "fracture": "Fracture of neck of femur", "hardware": "Implant"}
    assert sorted(said) == sorted(words[hip.state] for hip in truth.hips)
    picture = dcmread(out / "capture" / "object.dcm")
    assert (picture.SamplesPerPixel, picture.Modality) == (3, "OT")
    # Boxes are drawn in colour; a radiograph has none.
    pixels = picture.pixel_array.reshape(-1, 3).astype(int)
    assert (np.ptp(pixels, axis=1) > 60).sum() > 500
    for step in ("report", "capture"):
        assert errors(out / step / "object.dcm") == []


def test_the_exam_itself_is_valid(done: tuple[Radiograph, Path, dict[str, Any]]) -> None:
    for file in (done[1] / "exam").iterdir():
        assert errors(file) == []


def test_a_real_picture_has_two_hips(site: Path, shared_data: Path, tmp_path: Path) -> None:
    """A child's, held out from training; its header says nothing of the view."""
    (tmp_path / "exam").mkdir()
    picture = dcmread(shared_data / "hip_xray" / "dicoms" / "xray" / "331_DDH_107.dcm")
    picture.ViewPosition, picture.BodyPartExamined = "AP", "PELVIS"
    picture.save_as(tmp_path / "exam" / "1.dcm")
    code, told = run(site, tmp_path / "exam", tmp_path / "run", "hip-fracture")
    assert code == 0, told
    results = {one["name"]: one for one in told["results"]}
    boxes = {one["label"]: one["box"] for one in results["hips"]["detections"]}
    # Half-way between the software's landmarks of each socket.
    for name, x in (("right hip", 66), ("left hip", 255)):
        x0, y0, x1, y1 = boxes[name]
        assert x0 < x < x1
        assert y0 < 150 < y1
    assert {one["label"] for one in results["states"]["classes"]} == {"normal"}


def test_an_exam_without_a_front_view_is_refused(site: Path, tmp_path: Path) -> None:
    _, made = hip_patient(3, spacing=0.6)
    write(made[:1], tmp_path / "exam")
    code, told = run(site, tmp_path / "exam", tmp_path / "run", "hip-fracture")
    assert code == 1
    front = told["steps"][0]
    assert front["state"] == "refused"
    assert "ViewPosition" in front["reason"]


def test_a_view_that_only_claims_to_be_of_the_pelvis_is_refused(site: Path, tmp_path: Path) -> None:
    _, made = hip_patient(3, spacing=0.6)
    side = made[0]
    side.ViewPosition, side.BodyPartExamined = "AP", "PELVIS"
    side.PatientOrientation = ["L", "F"]
    write([side], tmp_path / "exam")
    code, told = run(site, tmp_path / "exam", tmp_path / "run", "hip-fracture")
    assert code == 1
    checked = next(step for step in told["steps"] if step["step"] == "checked")
    assert checked["state"] == "refused"
    assert "brightness along the upper edge (top) is 0.0" in checked["reason"]
    assert "made for 0.15 to 1" in checked["reason"]


def why_not(image: np.ndarray) -> list[str]:
    """In what numbers a picture lies outside the detector's envelope."""
    facts = Facts(modality="DX", statistics=plane_appearance(image))
    return [misfit.found for misfit in outside(DETECTOR.card.input, facts, PLANE)]


@pytest.mark.parametrize("seed", range(1, 13))
def test_phantoms_that_nothing_was_learnt_from_are_within_the_envelope(seed: int) -> None:
    child = seed % 4 == 3
    drawn = pelvis(seed, spacing=0.9, photometric="MONOCHROME2", child=child)
    assert why_not(drawn.image) == []


@pytest.mark.parametrize("number", ["107", "138", "139"])
def test_real_pictures_that_nothing_was_learnt_from_are_within_the_envelope(
    number: str, shared_data: Path
) -> None:
    picture = dcmread(shared_data / "hip_xray" / "dicoms" / "xray" / f"331_DDH_{number}.dcm")
    assert why_not(picture.pixel_array[..., 0]) == []


def test_a_real_adult_projected_from_a_ct_is_within_the_envelope(shared_data: Path) -> None:
    """From chest to hips, one of them with a prosthesis: no radiograph, but a real person."""
    scan = research.read_image(shared_data / "ct_liver" / "example_ct.nii.gz")
    beam = np.clip(turn_to_axial(scan.affine).turn(scan.array) + 1000, 0, 2500)[::-1]
    assert why_not(beam.sum(axis=1) ** 0.7) == []


def chest() -> np.ndarray:
    """Draw a chest: two lungs beside a heart and a spine."""
    y, x = np.ogrid[-1:1:400j, -1:1:380j]
    image = 0.8 * np.sqrt(np.clip(1 - (x / 0.95) ** 2, 0, 1)) * np.ones_like(y)
    for place, wide in ((-0.45, 0.36), (0.45, 0.32)):
        level = 1 - ((x - place) / wide) ** 2 - ((y + 0.1) / 0.65) ** 2
        image -= 0.45 * np.sqrt(np.clip(level, 0, 1))
    heart = ((x - 0.12) / 0.3) ** 2 + ((y - 0.25) / 0.3) ** 2 < 1
    image += 0.25 * heart + 0.15 * (np.abs(x) < 0.07)
    return image + np.random.default_rng(1).normal(0, 0.01, image.shape)


def test_other_pictures_are_refused_with_numbers() -> None:
    assert why_not(chest()) == ["brightness beside the middle, over the middle's (sides) is 0.341"]
    for name in FRUIT:
        found = " ".join(why_not(fruit(name).array.sum(axis=0)))
        assert "(top) is 0.0" in found
        assert "part of the image that is dark (background) is" in found
    noise = np.random.default_rng(1).normal(size=(300, 400))
    assert "likeness of neighbouring pixels (smoothness)" in " ".join(why_not(noise))
    # Most lateral views, not all: where the thigh lies high it reaches the upper edge as well.
    refused = sum(bool(why_not(lateral(seed, spacing=0.8).image)) for seed in range(1, 31))
    assert refused >= 24
