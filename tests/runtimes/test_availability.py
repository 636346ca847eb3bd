"""A runtime that cannot run here says what is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from overread import registry, runtimes
from overread.errors import StepFailed
from tests.runtimes.tiny import tiny_model

NEEDS = {
    "torchscript": ("torch", "overread[torch]"),
    "monai": ("monai", "overread[torch]"),
    "kserve": ("tritonclient", "overread[kserve]"),
    "onnx": ("onnxruntime", ""),
}


def test_every_runtime_is_asked() -> None:
    assert set(NEEDS) <= set(registry.names("runtimes"))


@pytest.mark.parametrize("name", NEEDS)
def test_it_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, extra = NEEDS[name]
    find = importlib.util.find_spec
    there = {"torch", "monai", "grpc", "geventhttpclient", "tritonclient", "onnxruntime"}

    def look(wanted: str, *more: object) -> object:
        return (
            object() if wanted in there - {package} else None if wanted == package else find(wanted)
        )

    monkeypatch.setattr(importlib.util, "find_spec", look)
    missing = registry.load("runtimes", name)().available()
    assert f"the package {package} is not installed" in missing
    assert extra in missing


def test_a_model_that_needs_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    model = tiny_model(tmp_path)
    card = model.card.model_copy(update={"runtime": "torchscript"})
    with pytest.raises(StepFailed, match=r"tiny@1\.2\.3 cannot run here: .*overread\[torch\]"):
        runtimes.session(type(model)(card, model.file), "auto")
