"""The example's brain-tumour network in the other forms that a runtime takes. Needs PyTorch."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from ruamel.yaml import YAML
from torch import Tensor, nn
from training.brain_tumour import network
from training.brain_tumour.network import UNet, VolumeModel

from overread.pipelines.model import ModelCard
from overread.pipelines.ports import Model
from tests.conftest import ROOT

FOLDER = ROOT / "src" / "overread" / "examples" / "bts" / "models" / "brain-tumour" / "1.0.0"
ONNX = FOLDER / "model.onnx"


def example() -> Model:
    """The model as it stands in the example."""
    return Model(ModelCard.model_validate(YAML(typ="safe").load(FOLDER / "model.yaml")), ONNX)


def as_model(file: Path, runtime: str, **changes: Any) -> Model:
    """The example's card for another file and runtime."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    data = example().card.model_dump() | {"runtime": runtime, "file": file.name, "sha256": digest}
    return Model(ModelCard.model_validate(data | changes), file)


def rebuilt() -> VolumeModel:
    """The network in PyTorch, with the weights of the ONNX file, which keep their names there."""
    weights = {
        one.name: torch.from_numpy(numpy_helper.to_array(one).copy())
        for one in onnx.load(ONNX).graph.initializer
        if one.name.startswith("members.")
    }
    members = 1 + max(int(name.split(".")[1]) for name in weights)
    model = VolumeModel([UNet() for _ in range(members)])
    model.load_state_dict(weights)
    return model.eval()


class _OneSlice(nn.Module):
    def __init__(self, model: VolumeModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, stack: Tensor) -> Tensor:
        return self.model.label_slice(stack)


class _Slices(nn.Module):
    """`VolumeModel.forward` in words that TorchScript knows."""

    def __init__(self, one: Any) -> None:
        super().__init__()
        self.one = one

    def forward(self, image: Tensor) -> Tensor:
        volume = image[0, 0]
        first, last = volume[:1], volume[-1:]
        padded = torch.cat([first, first, volume, last, last])
        labelled = [self.one(padded[k : k + 5]) for k in range(volume.shape[0])]
        return torch.stack(labelled)[None, None]


def torchscript() -> bytes:
    """The network as TorchScript."""
    with torch.inference_mode():
        traced = torch.jit.trace(_OneSlice(rebuilt()), torch.rand(5, 64, 96))
        scripted = torch.jit.script(_Slices(traced))
    content = io.BytesIO()
    torch.jit.save(scripted, content)
    return content.getvalue()


# S, P, L: slices to the head, rows to the back, columns to the left, as the network wants them.
PREPROCESSING = [
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "Orientationd", "keys": "image", "axcodes": "SPL", "labels": None},
    {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [-1, 256, 256]},
]
POSTPROCESSING = [
    {
        "_target_": "Invertd",
        "keys": "pred",
        "transform": "@preprocessing",
        "orig_keys": "image",
        "nearest_interp": False,
    },
    {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.7},
    {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
]
METADATA = {
    "version": "1.0.0",
    "task": "Brain tumour segmentation",
    "network_data_format": {
        "inputs": {
            "image": {
                "type": "image",
                "format": "magnitude",
                "modality": "MR",
                "num_channels": 1,
                "spatial_shape": ["*", 256, 256],
                "dtype": "float32",
                "is_patch_data": False,
                "channel_def": {"0": "image"},
            }
        },
        "outputs": {
            "pred": {
                "type": "image",
                "format": "segmentation",
                "num_channels": 1,
                "channel_def": {"0": "background", "1": "enhancing tumour"},
            }
        },
    },
}


def bundle(folder: Path, *, script: bool, invert: bool = True) -> Path:
    """The network as a MONAI bundle: as TorchScript, or as weights and its own Python.

    With ``invert`` it brings its result back to the image's grid itself.
    """
    inference: dict[str, Any] = {
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "preprocessing": {"_target_": "Compose", "transforms": PREPROCESSING},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": POSTPROCESSING[0 if invert else 1 :],
        },
    }
    place = folder / "brain-tumour"
    shutil.rmtree(place, ignore_errors=True)
    for name in ("configs", "models", "scripts"):
        (place / name).mkdir(parents=True)
    if script:
        (place / "models" / "model.ts").write_bytes(torchscript())
    else:
        model = rebuilt()
        torch.save({"model": model.state_dict()}, place / "models" / "model.pt")
        source = Path(network.__file__).read_text()
        constants = "NEIGHBOURS = 2\nSTACK = 2 * NEIGHBOURS + 1"
        source = source.replace(
            "from training.brain_tumour.data import NEIGHBOURS, STACK", constants
        )
        (place / "scripts" / "__init__.py").touch()
        (place / "scripts" / "network.py").write_text(source)
        member = {"_target_": "scripts.network.UNet"}
        inference["network_def"] = {
            "_target_": "scripts.network.VolumeModel",
            "members": [member] * len(model.members),
        }
    (place / "configs" / "metadata.json").write_text(json.dumps(METADATA))
    (place / "configs" / "inference.json").write_text(json.dumps(inference))
    made = folder / f"bundle-{'ts' if script else 'pt'}.zip"
    with zipfile.ZipFile(made, "w") as files:
        for file in sorted(one for one in place.rglob("*") if one.is_file()):
            files.write(file, file.relative_to(folder))
    return made
