"""ONNX Runtime: on a CPU, or on an NVIDIA GPU where its provider is installed."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.errors import StepFailed
from overread.pipelines.ports import Model

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""In order of preference; those that are not installed are left out."""


class OnnxSession:
    """A loaded ONNX model."""

    def __init__(self, session: Any, model: Model) -> None:
        self._session = session
        self._input = model.card.input.name
        self._output = model.card.output.name

    @property
    def provider(self) -> str:
        """Where it runs."""
        return str(self._session.get_providers()[0])

    def predict(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the model once; see `overread.runtimes.Session`."""
        return np.asarray(
            self._session.run([self._output], {self._input: array})[0], dtype=np.float32
        )


class OnnxRuntime:
    """The runtime plugin ``onnx``."""

    def available(self) -> str:
        """Say what is missing to run here; empty when nothing is."""
        if importlib.util.find_spec("onnxruntime") is None:
            return "the package onnxruntime is not installed"
        return ""

    def load(self, model: Model) -> OnnxSession:
        """Load the weights from the very bytes whose digest was checked.

        The number of threads is ``OMP_NUM_THREADS`` where the environment says it, else ONNX
        Runtime's own choice (one a core).

        Raises
        ------
        StepFailed
            The file's SHA-256 digest is not the card's, or ONNX Runtime cannot read it.
        """
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        weights = model.file.read_bytes()
        digest = hashlib.sha256(weights).hexdigest()
        if digest != model.card.sha256:
            raise StepFailed(
                f"model {model.card.reference}: {model.file.name} has SHA-256 {digest}, its card "
                f"says {model.card.sha256}; a model that is not the one that was approved does "
                "not run"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
        options.log_severity_level = 3
        installed = onnxruntime.get_available_providers()
        try:
            session = onnxruntime.InferenceSession(
                weights, options, providers=[name for name in PROVIDERS if name in installed]
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
        names = {one.name for one in (*session.get_inputs(), *session.get_outputs())}
        for name in (model.card.input.name, model.card.output.name):
            if name not in names:
                raise StepFailed(
                    f"model {model.card.reference} has no tensor {name!r}, which its card names; "
                    f"it has {sorted(names)}"
                )
        return OnnxSession(session, model)
