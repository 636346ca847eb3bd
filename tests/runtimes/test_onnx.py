from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from overread import registry, runtimes
from overread.errors import StepFailed
from overread.runtimes.onnx import OnnxRuntime, _providers
from tests.runtimes.tiny import tiny_model


def test_it_is_registered_and_can_run_here() -> None:
    runtime = registry.load("runtimes", "onnx")()
    assert isinstance(runtime, OnnxRuntime)
    assert runtime.available() == ""


def test_it_runs_a_model(tmp_path: Path) -> None:
    session = OnnxRuntime().load(tiny_model(tmp_path), "cpu")
    array = np.random.default_rng(0).random((1, 1, 3, 8, 16), dtype=np.float32)
    found = session.run({"image": array})["probability"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, array)
    assert session.provider == "CPUExecutionProvider"


def test_weights_that_are_not_the_card_s_do_not_run(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    model.file.write_bytes(model.file.read_bytes() + b"\0")
    with pytest.raises(StepFailed, match=f"card says {model.card.sha256}"):
        OnnxRuntime().load(model, "cpu")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    import hashlib

    model = tiny_model(tmp_path)
    model.file.write_bytes(b"not a model")
    digest = hashlib.sha256(b"not a model").hexdigest()
    model = replace(model, card=model.card.model_copy(update={"sha256": digest}))
    with pytest.raises(StepFailed, match=r"tiny@1\.2\.3 cannot be loaded"):
        OnnxRuntime().load(model, "cpu")


def test_a_tensor_that_the_model_does_not_have_is_named(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, name="volume")
    with pytest.raises(StepFailed, match=r"no tensor 'volume'.*\['image', 'probability'\]"):
        OnnxRuntime().load(model, "cpu")


def test_what_a_model_does_not_take_is_said_with_its_shapes(tmp_path: Path) -> None:
    session = OnnxRuntime().load(tiny_model(tmp_path), "cpu")
    with pytest.raises(StepFailed, match=r"\(2, 1, 3, 8, 16\).*it takes .*\[1, 1, 'Z', 'Y', 'X'\]"):
        session.run({"image": np.zeros((2, 1, 3, 8, 16), np.float32)})


@pytest.mark.parametrize(
    ("device", "installed", "expected"),
    [
        ("cpu", ["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]),
        ("auto", ["CPUExecutionProvider"], ["CPUExecutionProvider"]),
        (
            "auto",
            ["CUDAExecutionProvider", "CPUExecutionProvider"],
            [("CUDAExecutionProvider", {"device_id": 0}), "CPUExecutionProvider"],
        ),
        (
            "cuda:1",
            ["CUDAExecutionProvider", "CPUExecutionProvider"],
            [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"],
        ),
    ],
)
def test_the_site_chooses_the_device(device: str, installed: list[str], expected: object) -> None:
    assert _providers(device, installed) == expected


def test_a_gpu_that_is_not_there_is_no_cpu(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"engine\.device is cuda:0"):
        _providers("cuda:0", ["CPUExecutionProvider"])


def test_a_model_is_loaded_once_for_each_device_and_precision(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    first = runtimes.session(model, "cpu")
    assert runtimes.session(model, "cpu") is first
    assert runtimes.session(model, "auto") is not first
    assert runtimes.session(model, "cpu", "half") is not first
