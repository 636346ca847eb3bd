"""ONNX Runtime: on a CPU, or on an NVIDIA GPU where its provider is installed."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from overread.errors import StepFailed
from overread.pipelines.ports import Model
from overread.runtimes import Precision, Tensors, read_weights


def _providers(device: str, installed: Sequence[str]) -> list[Any]:
    """List the providers that a device needs; ONNX Runtime takes those left out from the CPU's."""
    there = "CUDAExecutionProvider" in installed
    name, _, number = device.partition(":")
    if name == "cpu" or (name == "auto" and not there):
        return ["CPUExecutionProvider"]
    if not there:
        raise StepFailed(
            f"the site's engine.device is {device}, but ONNX Runtime here has no provider for it "
            "(pip install onnxruntime-gpu); there are " + ", ".join(installed)
        )
    return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]


class OnnxSession:
    """A loaded ONNX model."""

    def __init__(self, session: Any, model: Model) -> None:
        self._session = session
        self._outputs = list(model.card.output.tensors)
        self._reference = model.card.reference

    @property
    def provider(self) -> str:
        """Where it runs."""
        return str(self._session.get_providers()[0])

    def _shapes(self) -> dict[str, Any]:
        return {one.name: one.shape for one in self._session.get_inputs()}

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Run the model once; see `overread.runtimes.Session`."""
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        try:
            found = self._session.run(self._outputs, dict(inputs))
        except (state.InvalidArgument, state.Fail, state.RuntimeException) as error:
            given = {name: array.shape for name, array in inputs.items()}
            raise StepFailed(
                f"model {self._reference} cannot run on {given}, as it takes {self._shapes()}: "
                f"{error}"
            ) from error
        return dict(zip(self._outputs, found, strict=True))


class OnnxRuntime:
    """The runtime plugin ``onnx``."""

    def available(self) -> str:
        """Say what is missing to run here; empty when nothing is."""
        if importlib.util.find_spec("onnxruntime") is None:
            return "the package onnxruntime is not installed"
        return ""

    def load(self, model: Model, device: str, precision: Precision = "auto") -> OnnxSession:  # noqa: ARG002
        """Load the weights from the very bytes whose digest was checked.

        The precision is the model's own: one for half precision is exported so. The number of
        threads is ``OMP_NUM_THREADS`` where the environment says it, else ONNX Runtime's own choice
        (one a core).

        Raises
        ------
        StepFailed
            The file's SHA-256 digest is not the card's, or ONNX Runtime cannot read it.
        """
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        weights = read_weights(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
        options.log_severity_level = 3
        installed = onnxruntime.get_available_providers()
        try:
            session = onnxruntime.InferenceSession(
                weights, options, providers=_providers(device, installed)
            )
        except (
            state.Fail,
            state.InvalidArgument,
            state.InvalidGraph,
            state.InvalidProtobuf,
            state.NotImplemented,
            state.RuntimeException,
        ) as error:
            raise StepFailed(f"model {model.card.reference} cannot be loaded: {error}") from error
        if device.startswith("cuda") and session.get_providers()[0] != "CUDAExecutionProvider":
            raise StepFailed(
                f"the site's engine.device is {device}, but ONNX Runtime could not use it and took "
                "the CPU instead; see the step's log (CUDA and cuDNN must fit onnxruntime-gpu)"
            )
        names = {one.name for one in (*session.get_inputs(), *session.get_outputs())}
        for name in (model.card.input.name, *model.card.output.tensors):
            if name not in names:
                raise StepFailed(
                    f"model {model.card.reference} has no tensor {name!r}, which its card names; "
                    f"it has {sorted(names)}"
                )
        return OnnxSession(session, model)
