"""KServe's protocol, version 2, over HTTP and gRPC: Triton, and servers that speak as it does.

The model runs on a server that the site names. What is compared here is what a server tells of it:
that it has the model in the version on the card, and the names, types and ranks of its tensors. The
digest on the card is that of the file that the server was given; no server of this protocol tells
the digest of what it runs.
"""

from __future__ import annotations

import importlib.util
import time
from typing import Any
from urllib.parse import urlsplit

from numpy.typing import NDArray

from overread.errors import StepFailed
from overread.pipelines.model import ModelCard, Server
from overread.pipelines.ports import Model
from overread.runtimes import Precision, Tensors, read_weights

PATIENCE = 30.0
"""Seconds that a server gets to come up, so that one that is being restarted fails no job."""

_ANSWER_SECONDS = 600.0
"""Limit of one answer of the server; the step's own limit is mostly shorter."""

_BINARY = "binary_tensor_data"
"""Extension of the protocol by which tensors travel over HTTP as bytes instead of as text."""


class KserveSession:
    """A model on a server.

    Parameters
    ----------
    client : KserveClient
        Speaks to the server.
    model : Model
        Its card names the model, its version and its outputs.
    """

    def __init__(self, client: KserveClient, model: Model) -> None:
        self._client = client
        self._outputs = model.card.output.tensors

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Run the model once; see `overread.runtimes.Session`."""
        found = self._client.infer(inputs, self._outputs)
        wanted: dict[str, NDArray[Any]] = {}
        for name in self._outputs:
            array = found.as_numpy(name)
            if array is None:
                raise StepFailed(f"{self._client.name} gave no {name!r}, which the card names")
            wanted[name] = array
        return wanted


class KserveClient:
    """One model on one server, whichever of the two forms of the protocol it speaks.

    Parameters
    ----------
    url : str
        ``http://HOST:PORT`` or ``grpc://HOST:PORT``.
    server : Server
        What the card says of it.
    """

    def __init__(self, url: str, server: Server) -> None:
        import tritonclient.grpc
        import tritonclient.http

        parts = urlsplit(url)
        self._grpc = parts.scheme == "grpc"
        self._kind: Any = tritonclient.grpc if self._grpc else tritonclient.http
        limits = {} if self._grpc else {"network_timeout": _ANSWER_SECONDS}
        self._client = self._kind.InferenceServerClient(parts.netloc, **limits)
        self._server = server
        self._binary = True
        self.name = f"model {server.model} version {server.version} of server {server.name}"

    def infer(self, inputs: Tensors, outputs: tuple[str, ...]) -> Any:
        """Have the server run the model."""
        given = []
        for name, array in inputs.items():
            tensor = self._kind.InferInput(name, array.shape, _datatype(array))
            tensor.set_data_from_numpy(array, **self._as_bytes())
            given.append(tensor)
        wanted = [self._kind.InferRequestedOutput(name, **self._as_bytes()) for name in outputs]
        return self._ask(
            "infer",
            self._server.model,
            given,
            model_version=self._server.version,
            outputs=wanted,
            **({"client_timeout": _ANSWER_SECONDS} if self._grpc else {}),
        )

    def _as_bytes(self) -> dict[str, bool]:
        return {} if self._grpc else {"binary_data": self._binary}

    def wait(self) -> None:
        """Wait until the server has the model ready.

        Raises
        ------
        StepFailed
            It is away, or does not have it.
        """
        ends = time.monotonic() + PATIENCE
        while True:
            try:
                ready = self._ask("is_model_ready", self._server.model, self._server.version)
                problem = f"{self.name} is not ready: the server is up, but says so"
            except StepFailed as error:
                ready, problem = False, str(error)
            if ready:
                return
            if time.monotonic() > ends:
                raise StepFailed(
                    f"{problem}; see that the server runs and has loaded it, then run the job "
                    "again (overread job retry)"
                )
            time.sleep(0.5)  # it loads, or comes back, within PATIENCE or not at all

    def compare(self, card: ModelCard) -> None:
        """Compare what the server tells of the model with its card.

        Raises
        ------
        StepFailed
            A tensor that the card names is not there, or is not float32 of the expected rank.
        """
        told = self._metadata("get_server_metadata")
        self._binary = _BINARY in told.get("extensions", [])
        found = self._metadata("get_model_metadata", self._server.model, self._server.version)
        tensors = {one["name"]: one for one in (*found["inputs"], *found["outputs"])}
        volume = card.task == "segmentation"
        labels = len(card.output.labels)
        expected = {card.input.name: [-1, -1, *[-1] * (3 if volume else 2)]}
        if volume:
            expected[card.output.name] = [-1, labels, -1, -1, -1]
        problems = [
            f"it has no tensor {name!r}, which the card names; it has {sorted(tensors)}"
            for name in (card.input.name, *card.output.tensors)
            if name not in tensors
        ]
        for name, shape in expected.items():
            if name in tensors and not _fits(tensors[name], shape):
                problems.append(
                    f"its {name} is {tensors[name]['datatype']} {_shape(tensors[name])}; "
                    f"float32 {shape} was expected (-1 is any size)"
                )
        if problems:
            raise StepFailed(f"{self.name} is not what its card says: {'; '.join(problems)}")

    def _metadata(self, call: str, *names: str) -> dict[str, Any]:
        told = self._ask(call, *names, **({"as_json": True} if self._grpc else {}))
        return dict(told)

    def _ask(self, call: str, *what: Any, **more: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self._client, call)(*what, **more)
        except InferenceServerException as error:
            raise StepFailed(f"{self.name}: {error.message() or error}") from error
        except (OSError, EOFError) as error:  # HTTP lets the socket's own errors through
            raise StepFailed(f"{self.name}: no answer: {type(error).__name__} {error}") from error


def _datatype(array: NDArray[Any]) -> str:
    from tritonclient.utils import np_to_triton_dtype

    return str(np_to_triton_dtype(array.dtype))


def _shape(tensor: dict[str, Any]) -> list[int]:
    return [int(side) for side in tensor["shape"]]  # by gRPC they come as text


def _fits(tensor: dict[str, Any], expected: list[int]) -> bool:
    shape = _shape(tensor)
    return (
        tensor["datatype"] == "FP32"
        and len(shape) == len(expected)
        and all(
            one == other or -1 in (one, other) for one, other in zip(shape, expected, strict=True)
        )
    )


class KserveRuntime:
    """The runtime plugin ``kserve``."""

    def available(self) -> str:
        """Say what is missing to run here; empty when nothing is."""
        needed = {"tritonclient": "tritonclient", "grpc": "grpcio", "geventhttpclient": ""}
        for module, package in needed.items():
            if importlib.util.find_spec(module) is None:
                return (
                    f"the package {package or module} is not installed "
                    "(pip install 'overread[kserve]')"
                )
        return ""

    def load(self, model: Model, device: str, precision: Precision = "auto") -> KserveSession:  # noqa: ARG002
        """Find the model on its server; device and precision are the server's own.

        Raises
        ------
        StepFailed
            The file's SHA-256 digest is not the card's; the server is away, does not have the
            model, or has one with other tensors.
        """
        server = model.card.server
        if server is None or not model.server:
            raise StepFailed(
                f"model {model.card.reference} runs on a server, and none is named: server in "
                "model.yaml, model_servers in overread.yaml"
            )
        read_weights(model)
        client = KserveClient(model.server, server)
        client.wait()
        client.compare(model.card)
        return KserveSession(client, model)
