"""A Triton server on this machine's CPU, from the environment that ``make test-peers`` sets up.

That package has the server and its Python backend, and no ONNX backend: so the model that it serves
is a few lines of Python that run ONNX Runtime inside the server.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT

ENVIRONMENT = ROOT / "build" / "triton"

CONFIG = """
backend: "python"
max_batch_size: 0
input [{name: "image" data_type: TYPE_FP32 dims: [1, 1, -1, -1, -1]}]
output [{name: "probability" data_type: TYPE_FP32 dims: [1, 1, -1, -1, -1]}]
instance_group [{kind: KIND_CPU count: 1}]
parameters [{key: "file" value: {string_value: "%s"}}]
"""

SERVED = """
import json

import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        file = json.loads(args["model_config"])["parameters"]["file"]["string_value"]
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        answers = []
        for request in requests:
            image = triton.get_input_tensor_by_name(request, "image").as_numpy()
            (found,) = self.session.run(["probability"], {"image": image})
            answers.append(triton.InferenceResponse([triton.Tensor("probability", found)]))
        return answers
"""


@dataclass
class Triton:
    """A server that runs."""

    http: int
    grpc: int
    config: Path

    def url(self, scheme: str) -> str:
        """Where it answers."""
        return f"{scheme}://127.0.0.1:{self.http if scheme == 'http' else self.grpc}"


@contextmanager
def serving(folder: Path, onnx: Path) -> Iterator[Triton]:
    """Serve an ONNX model as ``brain-tumour``, version 1."""
    packages = ENVIRONMENT / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    home = packages / "pytriton" / "tritonserver"
    if not home.is_dir():
        pytest.skip("no Triton in build/triton; make test-peers sets it up")
    folder.mkdir(exist_ok=True)
    backends = folder / "backends"
    shutil.copytree(home / "backends", backends)
    stub = home / "python_backend_stubs" / sysconfig.get_python_version()
    shutil.copy(stub / "triton_python_backend_stub", backends / "python")
    model = folder / "repository" / "brain-tumour"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").write_text(SERVED)
    config = model / "config.pbtxt"
    config.write_text(CONFIG % onnx)
    libraries = (sysconfig.get_config_var("LIBDIR"), packages / "nvidia_pytriton.libs")
    http, grpc = _free_port(), _free_port()
    command = [f"{home}/bin/tritonserver", "--model-repository", f"{folder}/repository"]
    command += ["--backend-directory", f"{backends}", "--allow-metrics", "false"]
    command += ["--exit-timeout-secs", "1"]
    for kind, port in (("http", http), ("grpc", grpc)):
        command += [f"--{kind}-address", "127.0.0.1", f"--{kind}-port", str(port)]
    environment = {
        **os.environ,
        "PATH": f"{ENVIRONMENT / 'bin'}:{os.environ['PATH']}",  # the stub's Python is found by it
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
    }
    environment.pop("PYTHONPATH", None)
    with (folder / "triton.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait(server, http, folder / "triton.log")
            yield Triton(http, grpc, config)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            break
        try:
            if httpx.get(f"http://127.0.0.1:{port}/v2/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"Triton did not come up:\n{log.read_text(errors='replace')[-4000:]}")
