"""A world for each test, ended with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A site that is not built yet, so that a test can change it."""
    made = World(tmp_path / "site")
    yield made
    made.close()
