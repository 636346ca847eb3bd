"""A child reaches the one server that its step names, while it runs, and nothing else."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from overread.dicom.volume import Volume
from overread.engine.doors import Relays, opened, through
from overread.engine.sandbox import Box, Child
from overread.errors import StepFailed
from overread.operators import files
from tests.dicom.series import affine, ball

KNOCK = '''
import os, socket
from overread.dicom.volume import Volume
from overread.pipelines.ports import Account, Model


def knock(volume: Volume, account: Account, *, model: Model, megabytes: int = 1) -> Volume:
    """Send bytes to the model's server, and note how many come back."""
    host, _, port = model.server.removeprefix("http://").partition(":")
    account.notes.append(host)
    data = os.urandom(megabytes << 20)
    back = bytearray()
    try:
        with socket.create_connection((host, int(port)), timeout=20) as server:
            import threading
            sender = threading.Thread(target=lambda: (server.sendall(data), server.shutdown(1)))
            sender.start()
            while part := server.recv(1 << 16):
                back += part
            sender.join()
    except OSError as error:
        account.notes.append(type(error).__name__)
    account.notes.append("the same" if bytes(back) == data else f"{len(back)} bytes")
    return volume
'''

CODE = {"value": "1", "scheme": "99TEST", "meaning": "Test"}


@contextmanager
def echo(greeting: bytes = b"") -> Iterator[int]:
    """A server that says back what it hears; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    one, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(one,), daemon=True).start()

        def answer(one: socket.socket) -> None:
            with one:
                one.sendall(greeting)
                while data := one.recv(1 << 16):
                    one.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def request(work: Path, source: Path, port: int, servers: dict[str, Any]) -> dict[str, Any]:
    weights = source.parent / "weights"
    weights.write_bytes(b"")
    card = {
        "name": "far",
        "version": "1.0.0",
        "runtime": "kserve",
        "file": "weights",
        "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "server": {"name": "triton", "model": "far", "version": "1"},
        "input": {"modality": "MR"},
        "output": {"labels": [{"value": 1, "name": "A", "category": CODE, "type": CODE}]},
    }
    url = f"http://127.0.0.1:{port}"
    context = {"job": "j", "step": "s", "at": "2026-07-15T10:00:00+00:00", "models": []}
    return {
        "job": "j",
        "step": "s",
        "operator": "knock",
        "source": str(source),
        "inputs": {"volume": "volume"},
        "folders": {"volume": str(work / "volume")},
        "settings": {"model": "far@1.0.0"},
        "models": {"far@1.0.0": {"card": card, "files": [str(weights)], "server": url}},
        "servers": servers,
        "context": {**context, "pipeline": "p", "pipeline_version": "1.0.0"},
        "out": str(work / "out"),
        "log": str(work / "s.log"),
    }


def test_a_boxed_step_talks_to_the_server_it_names_and_to_no_other(tmp_path: Path) -> None:
    # longer than a socket's path may be
    work = tmp_path / ("box" * 40)
    operators = tmp_path / "operators"
    for folder in (work, operators):
        folder.mkdir()
    source = operators / "knock.py"
    source.write_text(KNOCK)
    files.save(Volume(ball((3, 8, 8)).astype("float32"), affine()), work / "volume")
    child = Child(Box("bubblewrap", 2 * 10**9, 1, work, (operators,)))

    def notes(port: int, servers: dict[str, Any], **settings: Any) -> list[str]:
        asked = request(work, source, port, servers)
        asked["settings"].update(settings)
        return list(child.run(asked, 60, lambda: None)["account"]["notes"])

    try:
        with echo() as port:
            there = {"triton": ["127.0.0.1", port]}
            assert notes(port, there, megabytes=8) == ["127.0.0.1", "the same"]
            assert notes(port, there) == ["127.0.0.1", "the same"]
            assert not list(work.glob("*.door"))
            # A step that names no server: the listener outside is not reached, though it is up.
            assert notes(port, {})[1:] == ["ConnectionRefusedError", "0 bytes"]
        # The server is away: the client sees a connection that ends.
        assert notes(port, there)[-1] == "0 bytes"
    finally:
        child.stop()


def test_a_relay_without_an_open_door_ends_the_connection(tmp_path: Path) -> None:
    relays = Relays(tmp_path)
    port = relays.port("triton")
    assert relays.port("triton") == port
    with socket.create_connection(("127.0.0.1", port), timeout=5) as one:
        assert one.recv(1) == b""
    with (
        echo(b"hello") as far,
        opened(tmp_path, {"triton": ("127.0.0.1", far)}),
        socket.create_connection(("127.0.0.1", port), timeout=5) as one,
    ):
        assert one.recv(5) == b"hello"
    assert os.listdir(tmp_path) == []


def test_what_lies_in_the_way_of_a_door_is_named(tmp_path: Path) -> None:
    (tmp_path / "triton.door").mkdir()
    with (
        pytest.raises(StepFailed, match="no door to server triton"),
        opened(tmp_path, {"triton": ("127.0.0.1", 1)}),
    ):
        pass


def test_only_servers_of_this_step_get_a_relay(tmp_path: Path) -> None:
    asked = request(tmp_path, tmp_path / "x.py", 8000, {})
    relays = Relays(tmp_path)
    assert through(asked, relays) == asked
    asked["servers"] = {"triton": ("127.0.0.1", 8000)}
    url = through(asked, relays)["models"]["far@1.0.0"]["server"]
    assert url == f"http://127.0.0.1:{relays.port('triton')}"
