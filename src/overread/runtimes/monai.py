"""MONAI bundles: a network with the transforms and windows that belong to it.

A bundle is a ``.zip`` of its folder, pinned as a whole: ``configs/metadata.json``,
``configs/inference.json`` and ``models/model.ts`` or ``models/model.pt``; its own Python, where it
has any, in ``scripts/``. That Python runs as any model code does: in the child, in its box.

Of ``inference.json`` only ``preprocessing``, ``inferer``, ``postprocessing`` and ``network_def``
are used. What reads and writes files is left out: the volume comes from the step before, the result
goes to the step after.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.dicom.geometry import Affine
from overread.errors import StepFailed
from overread.pipelines.model import ModelCard
from overread.pipelines.ports import Model
from overread.runtimes import Precision, Tensors, read_weights
from overread.runtimes.bundle import INFERENCE, Bundle
from overread.runtimes.torchscript import EXTRA, TorchSession, as_array, choose_device

_WEIGHTS = ("models/model.ts", "models/model.pt")

_FILES = ("LoadImage", "SaveImage", "WriteFile")
"""Transforms, by the beginning of their names, that read or write files."""

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class BundleSession:
    """A loaded bundle; see `overread.runtimes.VolumeSession`.

    Parameters
    ----------
    config : monai.bundle.ConfigParser
        Its ``inference.json``.
    network : TorchSession
        Its network.
    card : ModelCard
        For the labels.
    folder : TemporaryDirectory
        Where its files lie, as long as this lives.
    """

    def __init__(
        self,
        config: Any,
        network: TorchSession,
        card: ModelCard,
        folder: tempfile.TemporaryDirectory[str],
    ) -> None:
        self._network = network
        self._card = card
        self._folder = folder
        self._before = config.get_parsed_content("preprocessing")
        self._after = config.get_parsed_content("postprocessing")
        self._inferer = config.get_parsed_content("inferer")

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Run the network alone, without transforms."""
        return self._network.run(inputs)

    def segment(self, array: NDArray[np.float32], affine: Affine) -> NDArray[np.float32]:
        """Run the bundle's transforms, inferer and network; see `overread.runtimes`."""
        import torch
        from monai.data import MetaTensor
        from monai.transforms import SpatialResample

        try:
            given = self._before({"image": as_monai(array, affine)})
            image = given["image"]
            # The inferer stays out of autocast; the network alone is under it.
            with torch.inference_mode():
                seen = image.as_tensor()[None].to(self._network.device)
                found = self._inferer(seen, self._network.call)
            facts = {name: fact for name, fact in image.meta.items() if name != "affine"}
            there = MetaTensor(found[0].float().cpu(), affine=image.affine, meta=facts)
            made = self._after({**given, "pred": there})["pred"]
            shape, wanted = array.shape[::-1], ras(affine)
            if tuple(made.shape[1:]) != shape or not np.allclose(made.affine, wanted, atol=1e-4):
                labels = _is_labels(as_array(made))
                mode = "nearest" if labels else "bilinear"
                made = SpatialResample(mode=mode, padding_mode="zeros")(
                    made, dst_affine=torch.from_numpy(wanted), spatial_size=shape
                )
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            reference = self._card.reference
            raise StepFailed(f"the transforms or network of {reference} failed: {error}") from error
        return channels(as_array(made).transpose(0, 3, 2, 1), self._card)


def ras(affine: Affine) -> Affine:
    """Turn an affine of (slice, row, column) to LPS into one of (column, row, slice) to RAS.

    This is how MONAI, reading a NIfTI file, would see the volume.
    """
    return _TO_RAS @ affine[:, [2, 1, 0, 3]]


def as_monai(array: NDArray[np.float32], affine: Affine) -> Any:
    """Return a volume as MONAI's ``LoadImage`` would have read it: (column, row, slice), RAS."""
    import torch
    from monai.data import MetaTensor

    values = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 1, 0)))
    facts = torch.from_numpy(ras(affine))
    meta = {
        "original_channel_dim": float("nan"),
        "spatial_shape": np.array(values.shape),
        "original_affine": facts.clone(),
        "filename_or_obj": "volume",
    }
    return MetaTensor(values, affine=facts, meta=meta)


def channels(found: NDArray[Any], card: ModelCard) -> NDArray[np.float32]:
    """Make one channel for each label of what a bundle gives.

    Parameters
    ----------
    found : ndarray, shape (channels, slices, rows, columns)
        A channel for each label; or one more, the first of which is the background; or one alone
        that holds the labels' values.

    Raises
    ------
    StepFailed
        It has another number of channels.
    """
    labels = card.output.labels
    if found.shape[0] == 1 and _is_labels(found):
        parts = [found[0] == label.value for label in labels]
        return np.stack(parts).astype(np.float32)
    if found.shape[0] == len(labels) + 1:
        found = found[1:]
    if found.shape[0] != len(labels):
        raise StepFailed(
            f"bundle {card.reference} gave {found.shape[0]} channels; its card has {len(labels)} "
            "labels (a channel each, the background's before them or not; or one with their values)"
        )
    return np.ascontiguousarray(found, np.float32)


def _is_labels(found: NDArray[Any]) -> bool:
    return bool((found == np.rint(found)).all())


class MonaiRuntime:
    """The runtime plugin ``monai``."""

    def available(self) -> str:
        """Say what is missing to run here; empty when nothing is."""
        for package in ("torch", "monai"):
            if importlib.util.find_spec(package) is None:
                return f"the package {package} is not installed ({EXTRA})"
        return ""

    def load(self, model: Model, device: str, precision: Precision = "auto") -> BundleSession:
        """Load a bundle from the very bytes whose digest was checked.

        Raises
        ------
        StepFailed
            The file's SHA-256 digest is not the card's, or it is no bundle that can run here.
        """
        content = read_weights(model)
        chosen = choose_device(device)
        folder = tempfile.TemporaryDirectory(prefix="bundle-")
        try:
            bundle = Bundle.read(content)
            bundle.unpack(Path(folder.name))
            with _importing(folder.name):
                config = _config(bundle, folder.name, chosen)
                network = TorchSession(_network(bundle, config, chosen), model, chosen, precision)
                return BundleSession(config, network, model.card, folder)
        except (
            ValueError,
            KeyError,
            TypeError,
            ImportError,
            RuntimeError,
            AttributeError,
        ) as error:
            raise StepFailed(f"bundle {model.card.reference} cannot be loaded: {error}") from error


@contextmanager
def _importing(folder: str) -> Iterator[None]:
    """Let a bundle's own Python be imported, and forget its names, as the next one has them too."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(folder):
                del sys.modules[name]


def _config(bundle: Bundle, folder: str, device: Any) -> Any:
    """Read ``inference.json``, without what reads and writes files, for this device."""
    from monai.bundle import ConfigParser

    if not bundle.has(INFERENCE):
        raise ValueError(f"it has no {INFERENCE}")
    told = json.loads(bundle.content(INFERENCE))
    for part in ("preprocessing", "inferer", "postprocessing"):
        if part not in told:
            raise ValueError(f"its {INFERENCE} has no {part}")
    for part in ("preprocessing", "postprocessing"):
        told[part]["transforms"] = [
            one
            for one in told[part]["transforms"]
            if not one["_target_"].split(".")[-1].startswith(_FILES)
        ]
    parser = ConfigParser(told)
    parser["bundle_root"] = folder
    parser["device"] = f"$__import__('torch').device('{device}')"
    return parser


def _network(bundle: Bundle, config: Any, device: Any) -> Any:
    import torch

    name = next((one for one in _WEIGHTS if bundle.has(one)), None)
    if name is None:
        raise ValueError(f"it has neither {' nor '.join(_WEIGHTS)}")
    content = BytesIO(bundle.content(name))
    if name.endswith(".ts"):
        return torch.jit.load(content, map_location=device).eval()
    network = config.get_parsed_content("network_def").to(device)
    state = torch.load(content, map_location=device, weights_only=True)
    network.load_state_dict(state.get("model", state.get("state_dict", state)))
    return network.eval()
