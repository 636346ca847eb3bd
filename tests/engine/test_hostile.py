"""Model code that means harm: with its channel, its doors, and the files that it is lent."""

from __future__ import annotations

import itertools
import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from pydicom import dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian
from sqlalchemy import select

from overread.dicom.provenance import DerivedObject
from overread.engine.doors import opened
from overread.engine.folders import JobFolder, digests, remove
from overread.engine.keeping import _check_whose, _made
from overread.engine.outside import _check
from overread.engine.sandbox import Box, Child, Children
from overread.engine.sources import foreign_code
from overread.errors import StepFailed
from overread.operators import files
from overread.store.tables import Instance, Result
from overread.validation.results import Class, Classification, Detection, Detections
from tests.engine.test_doors import echo
from tests.engine.test_sandbox import Liar, within
from tests.engine.world import THRESHOLD_STEPS, World, exam_images, pipeline

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
        time.sleep(0.5)  # until the child has ended
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
        time.sleep(0.2)  # the door sees that they have gone
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


FORGE = '''
from dataclasses import replace
from overread.dicom.provenance import DerivedObject

def forge(made: DerivedObject, *, keyword: str) -> DerivedObject:
    """Say that it is somebody else's."""
    setattr(made.dataset, keyword, "1.2.3")
    return made
'''


@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID"])
def test_no_result_is_another_patients(world: World, keyword: str) -> None:
    """Whatever an operator makes of it: it is looked at where model code does not run."""
    world.operators = {"forge": FORGE}
    forged = {"use": "forge", "in": {"made": "seg"}, "with": {"keyword": keyword}}
    steps = {**THRESHOLD_STEPS, "forged": forged}
    world.pipelines = [pipeline(steps, results=["volumes", "forged"])]
    world.build()
    world.start()
    world.arrive(exam_images())
    job = world.wait_for_job("done", "failed", "refused")
    assert job.state == "failed"
    assert "step forged made an object of another patient or study than the exam" in job.reason
    assert world.count(Result) == 0
    with world.database.read() as session:
        assert not session.scalars(select(Instance).where(Instance.standing == "ours")).all()


@pytest.mark.parametrize(
    ("made", "wrong"),
    [
        (Detections((), ("1.2", "9.9")), True),
        (Detections((Detection("1", "x", 0.5, "9.9", 0, (0, 0, 1, 1)),), ()), True),
        (Classification((), ("1.2",)), False),
        (Classification((Class("exam", "x", 0.5, {"x": 0.5}),), ()), False),
    ],
)
def test_nothing_is_said_of_other_images(made: Any, wrong: bool) -> None:
    images = [Instance(sop_instance_uid="1.2", patient_id="A", study_uid="1")]
    if not wrong:
        _check_whose("step", made, images)
        return
    with pytest.raises(StepFailed, match=r"image 9\.9, which is none of the exam's"):
        _check_whose("step", made, images)


def an_object() -> DerivedObject:
    image = exam_images()[0]
    return DerivedObject(image, "image")


def deflated(step: Path) -> None:
    image = an_object().dataset
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    image.PixelData = bytes(100 << 20)
    dcmwrite(step / "object.dcm", image, enforce_file_format=True)
    assert (step / "object.dcm").stat().st_size < 1 << 20


def nested(step: Path) -> None:
    """Sequences within sequences, as deep as they are long."""
    with (step / "object.dcm").open("ab") as stream:
        stream.write(
            b"\x11\x00\x00\x00SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000
        )


def sparse(file: str, size: int) -> Callable[[Path], None]:
    return lambda step: os.truncate(step / file, size)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (deflated, "deflated object"),
        (nested, "cannot be read"),
        (sparse("object.dcm", 3 << 30), "too much"),
        (sparse("port.json", 1 << 30), "too much"),
        (sparse("object.dcm", 100), "cannot be read"),
    ],
)
def test_what_would_weigh_on_the_worker_is_not_read(
    tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    """Results are read in its own process, whose memory nothing limits."""
    folder = JobFolder(tmp_path)
    step = folder.step("seg")
    files.save(an_object(), step)
    spoil(step)
    recorded = {one.name: {"size": one.stat().st_size, "sha256": ""} for one in step.iterdir()}
    folder = Mock(wraps=folder)
    folder.whole.return_value = True
    with pytest.raises(StepFailed, match=said):
        _made(folder, "seg", recorded)


def test_code_of_others_leaves_nothing_behind_for_the_next_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that it has started would reach that job's files, and its door to a server."""
    monkeypatch.setattr(Liar, "said", "exec sleep 60")
    children = Children(Liar("none", 10**9, 1, tmp_path), "w", 1)
    seen = []
    for code in ("", "a", "a", "", "", "b", "c"):
        with children.one(code) as child:
            child.start()
            assert child._process is not None
            seen.append(child._process)
    same = [one is other for one, other in itertools.pairwise(seen)]
    assert same == [True, True, False, True, True, False]
    assert [one.poll() is None for one in seen] == [False] * 6 + [True]
    child.stop()


def test_which_code_is_of_others() -> None:
    ours = {"threshold": {"distribution": "overread", "version": "1"}}
    network = {"digest": "d1", "card": {"runtime": "onnx"}}
    assert foreign_code(ours, [network]) == ""
    bundle = {"digest": "d2", "card": {"runtime": "monai"}}
    assert foreign_code({**ours, "own": {"sha256": "d3"}}, [network, bundle]) == "d2 d3"
