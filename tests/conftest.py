"""What every test may ask for."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images beside the project; tests that need it skip, saying so, without it."""
    folder = ROOT.parent / "shared" / "data"
    if not (folder / "README.md").is_file():
        pytest.skip("the real test images (../shared/data) are not here")
    return folder


@pytest.fixture
def free_port() -> int:
    """Return a TCP port on loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(autouse=True)
def _allow_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services refuse to run as root; tests and continuous integration may."""
    monkeypatch.setenv("OVERREAD_ALLOW_ROOT", "1")
