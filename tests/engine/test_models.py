"""A model is pinned by digest: with another file a job does not run."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import SegmentationStorage
from sqlalchemy import select

import overread.examples
from overread.engine.weights import verify
from overread.errors import StepFailed
from overread.simulator.phantoms import phantom
from overread.site import load
from overread.store.tables import Instance, Job, Result, Worker
from tests.dicom.series import images
from tests.engine.world import THRESHOLD_STEPS, World, exam_images, pipeline, wait

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
    world.start()
    wait(lambda: world.count(Worker) == 1)  # it has compared the digests, and would not have begun
    (folder / "model.onnx").write_bytes(b"wrong")
    world.arrive(exam_images())
    job = world.wait_for_job("failed", "done")
    assert job.state == "failed"
    assert "model.onnx has SHA-256" in job.reason and "pinned to" in job.reason
    assert not world.steps(job)  # it did not even begin


def test_killed_in_the_middle_of_infer_nothing_is_run_or_kept_twice(world: World) -> None:
    """The example's pipeline and model, on an image so large that inference takes a while."""
    example = Path(overread.examples.__file__).parent / "bts"
    if not list((example / "models").rglob("*.onnx")):
        pytest.skip("the example's model is not here")
    shutil.copytree(example / "models", world.root / "models")
    definition = load(example, {}).pipelines["brain-tumour"]
    world.pipelines = [
        definition.model_dump(mode="json", by_alias=True)
        | {"ae_title": "BRIGHT", "complete": pipeline()["complete"], "send": {}}
    ]
    world.build()
    world.start()
    scan = phantom(1).image
    world.arrive(images(scan.array.astype(np.int16), scan.affine))
    job = world.wait_for_step("raw")
    before = world.steps(job)
    assert before["raw"].operator == "infer"
    world.kill()
    assert world.steps(job)["raw"].state == "running"
    world.start()
    job = world.wait_for_job("done", "failed", "refused", seconds=180)
    assert job.state == "done", job.reason
    after = world.steps(job)
    assert {name: run.runs for name, run in after.items() if run.runs != 1} == {"raw": 2}
    assert set(after) == set(definition.steps)
    earlier = before.keys() - {"raw"}
    assert earlier >= {"t1c", "volume", "checked", "fine", "norm"}
    for name in earlier:
        assert after[name].started_at == before[name].started_at
        assert after[name].outputs == before[name].outputs
    with world.database.read() as session:
        assert sorted(session.scalars(select(Result.name))) == ["seg", "volumes"]
        made = session.scalars(select(Instance).where(Instance.standing == "ours")).all()
    assert [one.sop_class_uid for one in made] == [SegmentationStorage]
    assert world.count(Job) == 1


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
