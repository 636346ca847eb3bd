"""The brain-tumour network by every runtime: the same mask as by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overread import runtimes
from overread.dicom.volume import Mask, Volume
from overread.errors import StepFailed
from overread.operators.infer import infer, infer_probability
from overread.operators.intensity import normalise
from overread.pipelines.ports import Account, Model
from tests.dicom.series import affine
from tests.operators.test_write import CONTEXT

pytestmark = pytest.mark.peers
pytest.importorskip("torch", reason="PyTorch is not here; make test-peers sets it up")

from tests.runtimes import brain_tumour  # noqa: E402
from tests.runtimes.triton import Triton, serving  # noqa: E402

SLICES = slice(13, 16)


def told(_done: int, _of: int, _what: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def volume(shared_data: Path) -> Volume:
    """Some slices through a real tumour, normalised, turned as no model wants it."""
    import nibabel

    loaded: Any = nibabel.load(shared_data / "brain_tumour" / "03" / "Pre_Scan_T1.nii.gz")
    grid = affine((6.5, 0.86, 0.86))
    whole = np.asarray(loaded.dataobj).transpose(2, 1, 0).astype(np.float32)
    axial = normalise(Volume(whole, grid), method="foreground").array[SLICES]
    # The same voxels as coronal images, rows from the feet to the head.
    array = np.ascontiguousarray(axial.transpose(1, 0, 2)[:, :, 8:-20])
    turned = grid[:, [1, 0, 2, 3]].copy()
    turned[:3, 3] += grid[:3, 2] * 8
    return Volume(array, turned, "1.2", modality="MR")


def run(volume: Volume, model: Model) -> Mask:
    return infer(volume, CONTEXT, Account(), told, model=model)


def probability(volume: Volume, model: Model, **settings: Any) -> Any:
    return infer_probability(volume, CONTEXT, Account(), told, model=model, **settings).array


@pytest.fixture(scope="module")
def expected(volume: Volume) -> Mask:
    """What ONNX Runtime says."""
    mask = run(volume, brain_tumour.example())
    assert 200 < (mask.array > 0).sum() < 20_000
    return mask


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("torchscript") / "model.ts"
    file.write_bytes(brain_tumour.torchscript())
    return file


def test_torchscript(volume: Volume, expected: Mask, script: Path) -> None:
    model = brain_tumour.as_model(script, "torchscript")
    np.testing.assert_array_equal(run(volume, model).array, expected.array)
    np.testing.assert_allclose(
        probability(volume, model), probability(volume, brain_tumour.example()), atol=1e-3
    )


def test_torchscript_in_half_precision_is_near(volume: Volume, script: Path) -> None:
    model = brain_tumour.as_model(script, "torchscript")
    half = probability(volume, model, precision="half")
    full = probability(volume, model, precision="full")
    assert half.dtype == np.float32
    assert not np.array_equal(half, full)
    assert np.abs(half - full).mean() < 0.01


def test_what_torchscript_cannot_do_is_said(script: Path, tmp_path: Path) -> None:
    model = brain_tumour.as_model(script, "torchscript")
    with pytest.raises(StepFailed, match=r"engine.device is cuda:7, but PyTorch .* sees \d GPUs"):
        runtimes.session(model, "cuda:7")
    with pytest.raises(StepFailed, match=r"cannot run on \{'image': \(1, 1, 5, 7, 9\)\}"):
        runtimes.session(model, "cpu").run({"image": np.zeros((1, 1, 5, 7, 9), np.float32)})
    changed = tmp_path / "model.ts"
    changed.write_bytes(script.read_bytes() + b"\0")
    with pytest.raises(StepFailed, match="a model that is not the one that was approved"):
        runtimes.session(replace(model, file=changed), "auto")
    broken = tmp_path / "broken.ts"
    broken.write_bytes(b"no TorchScript")
    with pytest.raises(StepFailed, match="cannot be loaded"):
        runtimes.session(brain_tumour.as_model(broken, "torchscript"), "cpu")


@pytest.mark.parametrize(("script", "invert"), [(True, True), (False, True), (False, False)])
def test_a_monai_bundle_with_its_own_transforms(
    volume: Volume, expected: Mask, tmp_path: Path, script: bool, invert: bool
) -> None:
    """Turned, padded, run, thresholded and brought back: by the bundle itself, or by its affine."""
    file = brain_tumour.bundle(tmp_path, script=script, invert=invert)
    np.testing.assert_array_equal(
        run(volume, brain_tumour.as_model(file, "monai")).array, expected.array
    )


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    with serving(tmp_path_factory.mktemp("triton"), brain_tumour.ONNX) as server:
        yield server


def served(triton: Triton, url: str, **changes: Any) -> Model:
    server = {"name": "triton", "model": "brain-tumour", "version": "1"}
    model = brain_tumour.as_model(triton.config, "kserve", server=server | changes)
    return replace(model, server=url)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_triton(volume: Volume, expected: Mask, triton: Triton, scheme: str) -> None:
    model = served(triton, triton.url(scheme))
    model = replace(model, card=model.card.model_copy(update={"name": f"by-{scheme}"}))
    np.testing.assert_array_equal(run(volume, model).array, expected.array)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_what_a_server_says_that_the_card_does_not(
    triton: Triton, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from overread.runtimes import kserve

    monkeypatch.setattr(kserve, "PATIENCE", 1.0)
    runtime = kserve.KserveRuntime()
    with pytest.raises(StepFailed, match=r"version 2 of server triton.*overread job retry"):
        runtime.load(served(triton, triton.url(scheme), version="2"), "cpu")
    with pytest.raises(StepFailed, match=r"model other version 1 of server triton"):
        runtime.load(served(triton, triton.url(scheme), model="other"), "cpu")
    model = served(triton, triton.url(scheme))
    named = model.card.input.model_copy(update={"name": "volume"})
    with pytest.raises(StepFailed, match=r"no tensor 'volume'.*\['image', 'probability'\]"):
        runtime.load(replace(model, card=model.card.model_copy(update={"input": named})), "cpu")
    (label,) = model.card.output.labels
    two = (label, label.model_copy(update={"value": 2}))
    output = model.card.output.model_copy(update={"labels": two})
    with pytest.raises(StepFailed, match=r"its probability is FP32 \[1, 1, -1, -1, -1\]"):
        runtime.load(replace(model, card=model.card.model_copy(update={"output": output})), "cpu")


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_is_away(
    triton: Triton, free_port: int, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from overread.runtimes import kserve

    monkeypatch.setattr(kserve, "PATIENCE", 1.0)
    model = served(triton, f"{scheme}://127.0.0.1:{free_port}")
    with pytest.raises(StepFailed, match="see that the server runs and has loaded it"):
        kserve.KserveRuntime().load(model, "cpu")
