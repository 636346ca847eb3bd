"""A model is pinned by digest: with another file a job does not run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from overread.engine.weights import verify
from overread.errors import StepFailed
from tests.engine.world import THRESHOLD_STEPS, World, exam_images, pipeline

CODE = {"value": "49755003", "scheme": "SCT", "meaning": "Morphologically Abnormal Structure"}


def card(weights: bytes) -> dict[str, Any]:
    return {
        "name": "spots",
        "version": "1.0.0",
        "file": "model.onnx",
        "sha256": hashlib.sha256(weights).hexdigest(),
        "input": {
            "modality": "MR",
            "spacing_mm": {"in_plane": [0.1, 10], "between_slices": [0.1, 10]},
        },
        "output": {"labels": [{"value": 1, "name": "Spot", "category": CODE, "type": CODE}]},
    }


def test_a_changed_model_file_is_not_run(world: World) -> None:
    folder = world.root / "models" / "spots" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(json.dumps(card(b"right")))
    (folder / "model.onnx").write_bytes(b"right")
    steps = dict(THRESHOLD_STEPS)
    steps["mask"] = {"use": "infer", "in": {"volume": "volume"}, "with": {"model": "spots@1.0.0"}}
    world.pipelines = [pipeline(steps)]
    world.build()
    (folder / "model.onnx").write_bytes(b"wrong")
    world.start()
    world.arrive(exam_images())
    job = world.wait_for_job("failed", "done")
    assert job.state == "failed"
    assert "model.onnx has SHA-256" in job.reason and "pinned to" in job.reason
    assert not world.steps(job)  # it did not even begin


def test_a_file_is_read_again_when_it_changed(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    digest = hashlib.sha256(b"one").hexdigest()
    verify(file, digest)
    file.write_bytes(b"other")
    with pytest.raises(StepFailed, match="put back the file"):
        verify(file, digest)
    file.unlink()
    with pytest.raises(StepFailed, match="not there any more"):
        verify(file, digest)
