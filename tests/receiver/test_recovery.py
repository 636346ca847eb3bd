"""What a dead receiver left. A killed one is in test_server; here the power failed as well."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from overread.dicom.encoded import file_meta
from overread.dicom.study import Origin
from overread.receiver.recovery import Presence, recover
from overread.receiver.storage import Peer, Received, Storage
from overread.store.tables import Arrival, Association, Instance
from tests.receiver.world import World
from tests.store.objects import as_file, fresh

ORIGIN = Origin("SCANNER", "OVERREAD", "127.0.0.1")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "site", 11112).build()


def receive(world: World, writer: str, count: int) -> str:
    """Receive as a process named ``writer`` would that then dies; return the association."""
    storage = Storage(world.site, world.database, world.archive, writer)
    association = storage.opened(ORIGIN)
    for _ in range(count):
        one = fresh()
        file = as_file(one)
        received = Received(
            str(one.SOPClassUID),
            str(one.SOPInstanceUID),
            "1.2.840.10008.1.2.1",
            memoryview(file)[file_meta(file)[1] :],
        )
        assert storage.store(received, Peer(ORIGIN, association, "")).status == 0
    return association


def recovered(world: World, folder: Path) -> list[str]:
    return recover(world.database, world.archive, folder, datetime.now(UTC))


def die(folder: Path, name: str) -> None:
    """Leave what a killed process leaves: its file, without its lock."""
    folder.mkdir(exist_ok=True)
    (folder / name).touch()


def test_the_dead_are_cleared_up_once_and_the_living_left_alone(
    world: World, tmp_path: Path
) -> None:
    folder = tmp_path / "receivers"
    associations = {name: receive(world, name, 2) for name in ("dead", "alive")}
    die(folder, "dead")
    alive = Presence(folder, "alive")
    assert recovered(world, folder) == ["dead"]
    assert recovered(world, folder) == []
    rows = {row.id: row for row in world.rows(Association)}
    assert rows[associations["dead"]].ended == "lost"
    assert rows[associations["dead"]].closed_at is not None
    assert rows[associations["alive"]].closed_at is None
    assert len(world.kept()) == 4
    alive.end()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("left", [0, 100, -1, None])
def test_a_file_that_did_not_reach_the_disk_takes_its_row_along(
    world: World, tmp_path: Path, left: int | None
) -> None:
    """Row and file are synced at the same time; the last one may have only its row."""
    receive(world, "dead", 3)
    last = world.rows(Instance)[-1]
    path = world.archive.path(last.key)
    if left is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:left])
    die(tmp_path / "receivers", "dead")
    recovered(world, tmp_path / "receivers")
    assert len(world.rows(Instance)) == len(world.rows(Arrival)) == 2
    assert len(world.files()) == 2
    assert last.id not in {row.id for row in world.rows(Instance)}


def test_a_file_without_a_row_goes(world: World, tmp_path: Path) -> None:
    receive(world, "dead", 1)
    key = world.rows(Instance)[0].key
    stray = key.replace(key.rpartition("/")[2], "dead00.dcm")
    other = key.replace(key.rpartition("/")[2], "alive00.dcm")
    for one in (stray, other):
        world.archive.put(one, b"half")
    die(tmp_path / "receivers", "dead")
    recovered(world, tmp_path / "receivers")
    assert world.files() == sorted([key, other])


def test_nothing_to_recover_where_nobody_was(world: World, tmp_path: Path) -> None:
    assert recovered(world, tmp_path / "receivers") == []
