"""Every runtime where a worker runs it: in the box, without network but for its server's door."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.peers, pytest.mark.timeout(600)]
pytest.importorskip("torch", reason="PyTorch is not here; make test-peers sets it up")

from tests.dicom.series import affine, images  # noqa: E402
from tests.engine.world import World, pipeline, wait  # noqa: E402
from tests.runtimes import brain_tumour  # noqa: E402
from tests.runtimes.triton import serving  # noqa: E402

SLICES = slice(13, 16)


def steps(model: str) -> dict[str, Any]:
    return {
        "t1": {"use": "select_series", "with": {"where": {"Modality": "MR"}}},
        "volume": {"use": "read_volume", "in": {"series": "t1"}},
        "even": {"use": "normalise", "in": {"volume": "volume"}, "with": {"method": "foreground"}},
        "mask": {"use": "infer", "in": {"volume": "even"}, "with": {"model": model}},
        "volumes": {"use": "measure_volumes", "in": {"mask": "mask"}},
    }


def exam(shared_data: Path, name: str) -> list[Any]:
    import nibabel

    loaded: Any = nibabel.load(shared_data / "brain_tumour" / "03" / "Pre_Scan_T1.nii.gz")
    array = np.asarray(loaded.dataobj).transpose(2, 1, 0)[SLICES].astype(np.int16)
    return images(array, affine((6.5, 0.86, 0.86)), name=name)


def test_the_same_mask_by_every_runtime_in_a_worker(
    world: World, tmp_path: Path, shared_data: Path
) -> None:
    script = tmp_path / "model.ts"
    script.write_bytes(brain_tumour.torchscript())
    bundle = brain_tumour.bundle(tmp_path, script=False)
    with serving(tmp_path / "triton", brain_tumour.ONNX) as triton:
        world.settings["engine"] = {"memory": "6GB", "device": "cpu"}
        world.settings["model_servers"] = {
            "by-http": {"url": triton.url("http")},
            "by-grpc": {"url": triton.url("grpc")},
        }
        remote = {"model": "brain-tumour", "version": "1"}
        models = {
            "onnx": brain_tumour.example(),
            "torchscript": brain_tumour.as_model(script, "torchscript"),
            "monai": brain_tumour.as_model(bundle, "monai"),
            "http": brain_tumour.as_model(
                triton.config, "kserve", server={"name": "by-http", **remote}
            ),
            "grpc": brain_tumour.as_model(
                triton.config, "kserve", server={"name": "by-grpc", **remote}
            ),
        }
        world.pipelines = []
        for name, model in models.items():
            card = model.card.model_dump(mode="json") | {"name": name}
            card["input"]["resample_in_plane_mm"] = None
            folder = world.root / "models" / name / "1.0.0"
            folder.mkdir(parents=True)
            shutil.copy(model.file, folder / card["file"])
            (folder / "model.yaml").write_text(json.dumps(card))
            one = pipeline(steps(f"{name}@1.0.0"), name=name, ae_title=name.upper())
            world.pipelines.append(one | {"results": ["volumes"]})
        world.build().start()
        # A second exam by each server: the child is warm, the door is a new one.
        called = [*models, "http", "grpc"]
        for number, name in enumerate(called):
            world.arrive(exam(shared_data, f"exam-{number}"), called=name.upper())

        def ended() -> bool:
            jobs = world.all_jobs()
            return len(jobs) == len(called) and all(one.ended_at for one in jobs)

        wait(ended, 400)
    jobs = world.all_jobs()
    told = [(one.pipeline, one.state, one.reason) for one in jobs]
    assert {state for _, state, _ in told} == {"done"}, told
    files = [world.folder(one) / "mask" / "image.nii" for one in jobs]
    first, *others = (file.read_bytes() for file in files)
    assert np.frombuffer(first[352:], np.uint8).sum() > 200
    assert all(one == first for one in others)
