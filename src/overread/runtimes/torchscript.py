"""TorchScript: a network that PyTorch runs without the code that it was trained with."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.errors import StepFailed
from overread.pipelines.ports import Model
from overread.runtimes import Precision, Tensors, read_weights

EXTRA = "pip install 'overread[torch]'"


def choose_device(device: str) -> Any:
    """Return the device of PyTorch that the site's word stands for.

    Raises
    ------
    StepFailed
        PyTorch does not see that GPU.
    """
    import torch

    count = torch.cuda.device_count()
    if device == "auto":
        return torch.device("cuda:0" if count else "cpu")
    chosen = torch.device(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= count:
        raise StepFailed(
            f"the site's engine.device is {device}, but PyTorch {torch.__version__} sees {count} "
            "GPUs here; it needs a build for CUDA and a driver that fits it"
        )
    return chosen


class TorchSession:
    """A network of PyTorch, ready to run.

    Parameters
    ----------
    network : callable
        Takes tensors in the order of the inputs; gives one, several in the order of the card's
        outputs, or a mapping by name.
    model : Model
        Names the outputs.
    device : torch.device
        Where it lies.
    precision : {"auto", "full", "half"}
        ``half`` runs it under autocast: float16 on a GPU, bfloat16 on a CPU.
    """

    def __init__(
        self, network: Callable[..., Any], model: Model, device: Any, precision: Precision
    ) -> None:
        self._network = network
        self._outputs = model.card.output.tensors
        self._reference = model.card.reference
        self.device = device
        self._half = precision == "half" or (precision == "auto" and device.type == "cuda")

    def call(self, *tensors: Any) -> Any:
        """Run the network on tensors of PyTorch."""
        import torch

        kind = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=kind, enabled=self._half),
        ):
            return self._network(*tensors)

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Run the model once; see `overread.runtimes.Session`."""
        import torch

        tensors = [torch.from_numpy(array).to(self.device) for array in inputs.values()]
        try:
            found = self.call(*tensors)
        except RuntimeError as error:
            given = {name: array.shape for name, array in inputs.items()}
            raise StepFailed(f"model {self._reference} cannot run on {given}: {error}") from error
        if isinstance(found, torch.Tensor):
            found = (found,)
        named = (
            found if isinstance(found, Mapping) else dict(zip(self._outputs, found, strict=False))
        )
        if missing := [name for name in self._outputs if name not in named]:
            raise StepFailed(
                f"model {self._reference} gave no {missing}, which its card names; it gave "
                f"{list(named)}"
            )
        return {name: as_array(named[name]) for name in self._outputs}


def as_array(tensor: Any) -> NDArray[Any]:
    """Bring a tensor back; half precision becomes float32."""
    array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return np.ascontiguousarray(array)


class TorchScriptRuntime:
    """The runtime plugin ``torchscript``."""

    def available(self) -> str:
        """Say what is missing to run here; empty when nothing is."""
        if importlib.util.find_spec("torch") is None:
            return f"the package torch is not installed ({EXTRA})"
        return ""

    def load(self, model: Model, device: str, precision: Precision = "auto") -> TorchSession:
        """Load the network from the very bytes whose digest was checked.

        Raises
        ------
        StepFailed
            The file's SHA-256 digest is not the card's, PyTorch cannot read it, or does not see the
            device.
        """
        import torch

        chosen = choose_device(device)
        try:
            network = torch.jit.load(BytesIO(read_weights(model)), map_location=chosen).eval()
        except RuntimeError as error:
            raise StepFailed(f"model {model.card.reference} cannot be loaded: {error}") from error
        return TorchSession(network, model, chosen, precision)
