"""Classes: of whole images and of regions, with every probability."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overread import runtimes
from overread.dicom.image import Images
from overread.errors import StepFailed
from overread.operators.classify import classify, enlarge
from overread.pipelines.ports import Account, Model
from overread.validation.results import Classification, Detection, Detections
from tests.operators.looking import bright, card, constant_model, context


class Brightness:
    """A session that really looks: how bright the middle is, and how bright the rest."""

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        picture = inputs["image"][0, 0]
        middle = float(picture[24:40, 24:40].mean())
        return {"probability": np.array([[middle, 1 - middle]], np.float32)}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setattr(runtimes, "session", lambda *_: Brightness())
    return Model(card("classification", ["Bright", "Dark"], margin=0.25), Path("none"))


def ask(
    model: Model, *images: Any, regions: Detections | None = None
) -> tuple[Classification, Account]:
    account = Account()
    said = classify(
        Images(images), context(), account, lambda *_: None, regions=regions, model=model
    )
    return said, account


def hip(number: int, box: Any, image: str = "1.2.3") -> Detection:
    return Detection(str(number), f"Hip {number}", 0.9, image, 0, box)


def test_a_whole_image(model: Model) -> None:
    said, account = ask(model, bright((64, 64), (20, 20, 44, 44)))
    (one,) = said
    assert (one.region, one.label, one.detection, one.box) == ("image", "Bright", "", None)
    assert one.probability == pytest.approx(1)
    assert one.probabilities == pytest.approx({"Bright": 1, "Dark": 0})
    assert one.image == "1.2.3"
    assert account.used == [("1.2.3", "looked at")]


def test_each_region_is_looked_at_by_itself(model: Model) -> None:
    image = bright((200, 300), (40, 80, 80, 120))
    regions = Detections(
        (hip(1, (40.0, 80.0, 80.0, 120.0)), hip(2, (200.0, 80.0, 240.0, 120.0))), ("1.2.3",)
    )
    said, _ = ask(model, image, regions=regions)
    assert [(one.region, one.label, one.detection) for one in said] == [
        ("Hip 1", "Bright", "1"), ("Hip 2", "Dark", "2")
    ]  # fmt: skip
    assert [one.box for one in said] == [one.box for one in regions]


def test_no_region_no_class(model: Model) -> None:
    said, account = ask(model, bright((64, 64)), regions=Detections((), ("1.2.3",)))
    assert said.items == ()
    assert said.images == ("1.2.3",)
    assert "no region was found, so nothing was classified" in account.notes


def test_a_class_below_the_threshold_is_noted(tmp_path: Path) -> None:
    values = {"probability": np.array([[0.3, 0.45, 0.25]])}
    weak = constant_model(tmp_path, "classification", ["A", "B", "C"], values)
    said, account = ask(weak, bright((64, 64)))
    assert next(iter(said)).label == "B"
    assert account.notes[0] == "image: no class reaches 0.5; B is the most probable, with 0.45"


@pytest.mark.parametrize(
    ("values", "words"),
    [([[0.5, 3.0]], "export it with its sigmoid"), ([[0.2, 0.3, 0.5]], "was expected")],
)
def test_a_model_that_breaks_its_contract_fails(tmp_path: Path, values: Any, words: str) -> None:
    bad = constant_model(tmp_path, "classification", ["A", "B"], {"probability": np.array(values)})
    with pytest.raises(StepFailed, match=words):
        ask(bad, bright((64, 64)))


def test_a_region_of_another_image_is_a_fault_of_the_pipeline(model: Model) -> None:
    with pytest.raises(ValueError, match="take the same images"):
        ask(model, bright((64, 64)), regions=Detections((hip(1, (0, 0, 9, 9), "9.9"),)))


def test_a_region_is_enlarged_and_cut_at_the_edge() -> None:
    assert enlarge((10, 20, 30, 60), 0.5, (100, 100)) == (0, 0, 40, 80)
    assert enlarge((80, 80, 100, 100), 0.1, (100, 100)) == (78, 78, 100, 100)
    assert enlarge((10, 20, 30, 60), 0, (100, 100)) == (10, 20, 30, 60)
