from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from overread.store.archive import Archive, new_key

AT = datetime(2026, 11, 24, 23, 59, tzinfo=timezone(timedelta(hours=2)))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


def test_a_key_tells_what_and_when_and_nothing_else() -> None:
    key = new_key("instances", AT, writer="w1")
    assert key.startswith("instances/2026/11/24/21/w1")
    assert key.endswith(".dcm")
    assert key != new_key("instances", AT, writer="w1")


def test_what_is_put_is_there_for_its_owner_only(archive: Archive) -> None:
    archive.put("a/b/one.dcm", [b"head", memoryview(b"body")])
    path = archive.path("a/b/one.dcm")
    assert path.read_bytes() == b"headbody"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_file_and_folder_entry_are_synced(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{file}")))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    archive.put("a/b/one", b"x")
    assert {"one", "b", "a", "archive"} <= set(synced)  # each new folder's entry too


def test_an_object_is_never_written_over(archive: Archive) -> None:
    archive.put("one", b"first")
    with pytest.raises(FileExistsError):
        archive.put("one", b"second")
    assert archive.path("one").read_bytes() == b"first"


def test_a_write_that_fails_leaves_nothing(archive: Archive) -> None:
    def parts() -> Iterator[bytes]:
        yield b"some"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        archive.put("one", parts())
    assert not archive.path("one").exists()


def test_a_sync_that_fails_leaves_nothing(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_file: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        archive.put("one", b"x")
    assert not archive.path("one").exists()


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "a/../b", "..", "a//b", "a/", ".hidden", "a/.b", "a b", "a\\b", "é"]
)
def test_a_key_cannot_leave_the_folder(archive: Archive, key: str) -> None:
    with pytest.raises(ValueError, match="is no object key"):
        archive.path(key)


def test_removing_twice_is_no_error(archive: Archive) -> None:
    archive.put("one", b"x")
    archive.remove("one")
    archive.remove("one")
    assert not archive.path("one").exists()


def test_syncing_what_is_not_there_fails(archive: Archive) -> None:
    with pytest.raises(FileNotFoundError):
        archive.sync("one")


def test_a_writers_objects_are_found_by_the_hour(archive: Archive) -> None:
    hours = [datetime(2026, 1, 1, 22, 30, tzinfo=UTC) + timedelta(hours=h) for h in range(4)]
    keys = [new_key("instances", hour, writer="me") for hour in hours]
    for key in [*keys, new_key("instances", hours[1], writer="you")]:
        archive.put(key, b"x")
    assert list(archive.written("instances", "me", hours[1], hours[2])) == keys[1:3]


def test_free_space_is_that_of_its_disk(archive: Archive) -> None:
    assert archive.free() > 0
