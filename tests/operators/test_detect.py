"""Boxes: where the model saw them, each once, none lost without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from ruamel.yaml import YAML

from overread import examples, runtimes
from overread.dicom.image import Images
from overread.dicom.study import Exam
from overread.errors import Refused, StepFailed
from overread.operators.classify import classify
from overread.operators.detect import detect, overlap, suppress
from overread.operators.image import read_image
from overread.operators.intensity import normalise_image
from overread.pipelines.model import ModelCard
from overread.pipelines.ports import Account, Model
from overread.validation.results import Detections
from tests.dicom.series import read
from tests.operators.looking import BoxFinder, bright, card, constant_model, context


def told(done: int, of: int, what: str) -> None:
    assert 0 <= done < of
    assert what == "images"


def look(model: Model, *images: Any, **settings: Any) -> tuple[Detections, Account]:
    account = Account()
    found = detect(Images(images), context(), account, told, model=model, **settings)
    return found, account


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model that finds what is bright."""
    monkeypatch.setattr(runtimes, "session", lambda *_: BoxFinder())
    return Model(card("detection", ["Thing"]), Path("none"))


@pytest.mark.parametrize("shape", [(64, 64), (300, 200), (128, 512)])
def test_boxes_come_back_to_the_source(finder: Model, shape: tuple[int, int]) -> None:
    box = (shape[1] // 4, shape[0] // 3, shape[1] // 2, shape[0] * 2 // 3)
    found, account = look(finder, bright(shape, box))
    (one,) = found
    pixel = max(shape) / 64
    assert np.abs(np.array(one.box) - box).max() <= pixel
    assert (one.id, one.label, one.image, one.frame) == ("1", "Thing", "1.2.3", 0)
    assert one.score == pytest.approx(0.9, abs=0.02)
    assert one.code is not None
    assert one.code.meaning == "Hip joint structure"
    assert one.site is not None
    assert one.site.meaning == "Right"
    assert account.used == [("1.2.3", "looked at: 1 found")]
    assert found.model == "tiny-detection@1.0.0"


def test_pixels_that_are_not_square_are_seen_as_they_are(finder: Model) -> None:
    found, _ = look(finder, bright((100, 100), (10, 20, 30, 60), aspect=2.0))
    assert np.abs(np.array(next(iter(found)).box) - (10, 20, 30, 60)).max() <= 3.2


def test_every_image_is_listed_and_ids_go_on(finder: Model) -> None:
    images = [
        bright((80, 80), (5, 5, 25, 25), (40, 40, 70, 70), uid="1.1"),
        bright((80, 80), uid="1.2"),
        bright((80, 80), (10, 10, 50, 50), uid="1.3"),
    ]
    found, account = look(finder, *images)
    assert [(one.id, one.image) for one in found] == [("1", "1.1"), ("2", "1.1"), ("3", "1.3")]
    assert found.images == ("1.1", "1.2", "1.3")
    assert account.used[1] == ("1.2", "looked at: 0 found")
    again, _ = look(finder, *images)
    assert again == found


BOXES = np.array([[[4, 4, 36, 36], [6, 6, 38, 38], [40, 40, 60, 60], [70, 70, 90, 90]]])
SCORES = np.array([[[0.7, 0.1], [0.9, 0.6], [0.2, 0.55], [0.95, 0.1]]])


def constant(folder: Path, boxes: Any = BOXES, scores: Any = SCORES, **output: Any) -> Model:
    return constant_model(
        folder, "detection", ["A", "B"], {"boxes": boxes, "scores": scores}, **output
    )


def test_a_real_model_in_a_real_runtime(tmp_path: Path) -> None:
    found, account = look(constant(tmp_path), bright((64, 64)))
    assert [(one.label, round(one.score, 2)) for one in found] == [
        ("A", 0.9), ("A", 0.7), ("B", 0.6), ("B", 0.55)
    ]  # fmt: skip
    assert next(iter(found)).box == pytest.approx((6, 6, 38, 38))
    assert account.unused == [("1.2.3", "1 boxes have no area inside the image")]


def test_what_overlaps_is_said_once_for_each_label(tmp_path: Path) -> None:
    found, _ = look(constant(tmp_path, nms_iou=0.5), bright((64, 64)))
    assert [(one.label, round(one.score, 2)) for one in found] == [
        ("A", 0.9), ("B", 0.6), ("B", 0.55)
    ]  # fmt: skip
    found, _ = look(constant(tmp_path, nms_iou=0.5), bright((64, 64)), at_most_each=1)
    assert [one.label for one in found] == ["A", "B"]


@pytest.mark.parametrize(
    ("boxes", "scores", "words"),
    [
        (BOXES, SCORES * 9, "export it with its sigmoid"),
        (BOXES, SCORES[:, :3], "were expected"),
        (BOXES[:, :, :3], SCORES, "were expected"),
        (np.where(BOXES == 90, np.nan, BOXES), SCORES, "no numbers"),
        (np.concatenate([BOXES, BOXES]), SCORES, "first axis"),
    ],
)
def test_a_model_that_breaks_its_contract_fails(
    tmp_path: Path, boxes: Any, scores: Any, words: str
) -> None:
    with pytest.raises(StepFailed, match=words):
        look(constant(tmp_path, boxes, scores), bright((64, 64)))


def test_other_images_are_refused_and_other_models_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="the images are MG"):
        look(constant(tmp_path), bright((64, 64), modality="MG"))
    values = {"probability": np.array([[0.5, 0.5]])}
    model = constant_model(tmp_path, "classification", ["A", "B"], values)
    with pytest.raises(ValueError, match="does classification"):
        look(model, bright((64, 64)))


def test_boxes_of_several_networks_have_no_mean() -> None:
    said = card("detection", ["Thing"]).model_dump()
    ModelCard.model_validate(said)
    with pytest.raises(ValidationError, match="cannot be averaged"):
        ModelCard.model_validate(said | {"folds": [{"file": "two.onnx", "sha256": "a" * 64}]})


def test_a_mirrored_image_is_refused_by_a_model_that_names_sides(finder: Model) -> None:
    image = bright((64, 64), (10, 20, 30, 40), toward=("R", "F"))
    assert len(look(finder, image)[0].items) == 1
    sided = finder.card.model_copy(
        update={"input": finder.card.input.model_copy(update={"toward": ("L", "F")})}
    )
    model = Model(sided, finder.file)
    with pytest.raises(Refused, match=r"mirrored or turned \(PatientOrientation R\\F\).*L\\F"):
        look(model, image)
    found, account = look(model, bright((64, 64), (10, 20, 30, 40)))
    assert len(found.items) == 1
    assert "does not say its sides" in account.notes[0]
    assert not look(model, bright((64, 64), toward=("L", "F")))[1].notes[0].startswith("image")
    assert example("hip-detector").card.input.toward == ("L", "F")


EXAMPLE = Path(examples.__file__).parent / "hfd" / "models"
"""Models of the hip example, trained on phantoms and on other children's radiographs."""


def example(name: str) -> Model:
    folder = EXAMPLE / name / "1.0.0"
    data = YAML(typ="safe").load(folder / "model.yaml")
    return Model(ModelCard.model_validate(data), folder / "model.onnx")


@pytest.mark.parametrize("number", [107, 138, 139])
def test_hips_of_real_radiographs_are_found_on_their_sides(shared_data: Path, number: int) -> None:
    source = read(shared_data / "hip_xray" / "dicoms" / "xray", f"331_DDH_{number}.dcm")
    account = Account()
    shown = read_image(Exam(source.instances), account, lambda *_: None)
    images = normalise_image(shown, method="percentile", low=1, high=99)
    hips = detect(images, context(), account, told, model=example("hip-detector"), at_most_each=1)
    places = {one.label: one.box for one in hips}
    assert set(places) == {"left hip", "right hip"}
    middle = images.items[0].array.shape[1] / 2
    # The patient's right is at the left of the picture.
    assert places["right hip"][2] < middle + 20
    assert places["left hip"][0] > middle - 20
    # Each holds the landmark at the inner edge of its socket, as published with the images.
    marks = json.loads(
        (shared_data / "hip_xray" / "labels" / "xray" / f"331_DDH_{number}.json").read_text()
    )["landmark_list"][0]
    for box in places.values():
        x0, y0, x1, y1 = box
        assert any(
            x0 - 8 <= marks[name][0] <= x1 + 8 and y0 - 8 <= marks[name][1] <= y1 + 8
            for name in ("fem_l", "fem_r")
        )
    states = classify(images, context(), account, lambda *_: None, hips, model=example("hip-class"))
    assert [one.detection for one in states] == [one.id for one in hips]
    assert all(sum(one.probabilities.values()) == pytest.approx(1, abs=0.01) for one in states)


CORNERS = arrays(
    np.float64, st.tuples(st.integers(1, 12), st.just(4)), elements=st.floats(0, 50, width=32)
)


def as_boxes(corners: Any) -> Any:
    return np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:] + 0.5], axis=1)


@given(corners=CORNERS, most=st.floats(0.05, 1))
def test_nms_keeps_the_best_and_no_two_that_overlap(corners: Any, most: float) -> None:
    boxes = as_boxes(corners)
    kept = suppress(boxes, most)
    assert kept[0] == 0
    assert kept == sorted(set(kept))
    for index in range(len(boxes)):
        better = [other for other in kept if other < index]
        lies_on_one = bool(better) and overlap(boxes[index], boxes[better]).max() > most
        assert (index in kept) is not lies_on_one
    assert suppress(boxes[kept], most) == list(range(len(kept)))


@given(corners=CORNERS)
def test_overlap_is_symmetric_and_whole_with_itself(corners: Any) -> None:
    boxes = as_boxes(corners)
    table = np.array([overlap(box, boxes) for box in boxes])
    assert np.allclose(table, table.T)
    assert np.allclose(np.diag(table), 1)
    assert ((table >= 0) & (table <= 1 + 1e-9)).all()
