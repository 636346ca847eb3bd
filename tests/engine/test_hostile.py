"""Model code that means harm: what it tries with the channel, the doors and the files it is lent."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from overread.engine.doors import opened
from overread.engine.folders import JobFolder, digests, remove
from overread.engine.outside import _check
from overread.engine.sandbox import Box, Child
from overread.errors import StepFailed
from tests.engine.test_doors import echo
from tests.engine.test_sandbox import Liar, within

ASKS = """echo '{"ready": true}'; while sleep 0.2; do echo '{"outside": true}'; done"""


@pytest.mark.parametrize("runs_one", [False, True])
def test_asking_for_a_program_buys_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs_one: bool
) -> None:
    monkeypatch.setattr(Liar, "said", ASKS)
    child, runs = Child(Liar("none", 10**9, 1, tmp_path)), []

    def program(_seconds: float, _look: Any) -> dict[str, Any]:
        runs.append(1)
        return {"failed": "no", "log": ""}

    began = time.monotonic()
    with pytest.raises(StepFailed, match="asked for a program"):
        child.run({}, 1, lambda: None, None, program if runs_one else None)
    assert time.monotonic() - began < 10
    assert len(runs) == runs_one
    assert child._process is None


def test_a_child_that_does_not_read_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Liar, "said", """echo '{"ready": true}'; exec sleep 30""")
    child = Child(Liar("none", 10**9, 1, tmp_path))
    began = time.monotonic()
    with pytest.raises(StepFailed, match="longer than its 1 s"):
        child.run({"settings": "x" * 10**6}, 1, lambda: None)
    assert time.monotonic() - began < 10
    assert child._process is None


def test_a_child_that_is_gone_when_its_program_ends_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = """echo '{"ready": true}'; echo '{"outside": true}'; exit 3"""
    monkeypatch.setattr(Liar, "said", said)
    child = Child(Liar("none", 10**9, 1, tmp_path))

    def program(_seconds: float, _look: Any) -> dict[str, Any]:
        time.sleep(0.5)
        return {"notes": [], "log": "x" * 10**6}

    with pytest.raises(StepFailed, match="exit code 3"):
        child.run({}, 5, lambda: None, None, program)


def test_nothing_is_kept_among_the_devices(tmp_path: Path) -> None:
    """They lie in a tmpfs: what could be written there would be memory that nothing counts."""
    script = "head -c 1000 /dev/zero > /dev/x; mkdir /dev/y; echo x > /dev/null; ls /dev /dev/shm"
    shown = within(Box("bubblewrap", 10**9, 1, tmp_path), "sh", "-c", script)
    assert not {"x", "y"} & set(shown.split())


def test_a_door_lets_few_through_at_once(tmp_path: Path) -> None:
    """Each takes two of the worker's files, of which other jobs need some."""
    with echo(b"hello") as port, opened(tmp_path, {"far": ("127.0.0.1", port)}):
        knocking = []
        for _ in range(100):
            one = socket.socket(socket.AF_UNIX)
            one.settimeout(2)
            handle = os.open(tmp_path, os.O_PATH)
            one.connect(f"/proc/self/fd/{handle}/far.door")
            os.close(handle)
            knocking.append(one)
        heard = []
        for one in knocking:
            with suppress(OSError):
                heard.append(one.recv(5))
        assert 1 <= heard.count(b"hello") <= 32
        for one in knocking:
            one.close()
        time.sleep(0.2)
        again = socket.socket(socket.AF_UNIX)
        again.settimeout(5)
        again.connect(str(tmp_path / "far.door"))
        assert again.recv(5) == b"hello"
        again.close()


def test_a_door_that_was_replaced_ends_nothing_else(tmp_path: Path) -> None:
    with opened(tmp_path, {"far": ("127.0.0.1", 1)}):
        (tmp_path / "far.door").unlink()
        (tmp_path / "far.door").mkdir()
    assert (tmp_path / "far.door").is_dir()  # the box is emptied with the job


def test_links_that_are_put_in_while_files_are_looked_at_are_not_followed(tmp_path: Path) -> None:
    """A child still holds the folder that was taken from it."""
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "key").touch(mode=0o600)
    place = tmp_path / "place"
    (place / "in" / "a").mkdir(parents=True)
    (place / "in" / "a" / "key").touch()
    over = threading.Event()

    def swap() -> None:
        link, folder, aside = place / "link", place / "in" / "a", tmp_path / "aside"
        while not over.is_set():
            link.symlink_to(secret)
            folder.rename(aside)
            link.rename(folder)
            folder.unlink()
            aside.rename(folder)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(1500):
            with suppress(StepFailed, OSError):
                _check(place)
    finally:
        over.set()
        swapping.join()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o700
    assert stat.S_IMODE((secret / "key").stat().st_mode) == 0o600


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder with more folders within folders than Python can go down."""
    place = tmp_path / "deep"
    place.mkdir()
    handle = os.open(place, os.O_PATH)
    for _ in range(1200):
        os.mkdir("d", dir_fd=handle)
        inner = os.open("d", os.O_PATH | os.O_DIRECTORY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)
    yield place
    subprocess.run(["rm", "-rf", str(place)], check=True)


def test_folders_without_end_are_no_output(deep: Path) -> None:
    with pytest.raises(StepFailed, match="deeper than 64 folders"):
        _check(deep)
    with pytest.raises(StepFailed, match="without end"):
        digests(deep)


def test_folders_without_end_can_be_removed(deep: Path) -> None:
    """Else the janitor would fail at them for ever, and never come to those of other jobs."""
    folder = JobFolder(deep.parent)
    deep.rename(folder.unfinished("seg"))
    folder.fresh("seg")
    assert list(folder.unfinished("seg").iterdir()) == []


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o500)
    (tmp_path / "link").symlink_to(kept)
    remove(tmp_path / "link")
    assert os.listdir(tmp_path) == ["kept"] and stat.S_IMODE(kept.stat().st_mode) == 0o500
