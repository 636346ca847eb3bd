"""A step that goes wrong in any way ends its job with a reason, and the worker goes on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from overread.store.tables import Job
from tests.engine.world import THRESHOLD_STEPS, World, exam_images, pipeline, wait

TROUBLE = '''
import ctypes, os, time
from pathlib import Path
import numpy as np
from overread.dicom.volume import Volume

def _forked(count, do):
    """Start that many processes, each of which does it and stays."""
    for number in range(count):
        if os.fork() == 0:
            try:
                kept = do(number)
                time.sleep(60)
            finally:
                os._exit(1)
    time.sleep(60)

def trouble(volume: Volume, *, do: str) -> Volume:
    """Do something bad."""
    print("trouble begins", flush=True)
    here = next(Path.cwd().glob("*/.trouble.unfinished"))
    if do == "leak":
        kept = []
        while True:
            kept.append(np.ones(1 << 24, dtype=np.uint8))
    elif do == "leak in children":
        _forked(4, lambda number: np.ones(4 * 10**8, dtype=np.uint8))
    elif do == "hang":
        while True:
            pass
    elif do == "segfault":
        ctypes.string_at(0)
    elif do == "one large file":
        with (here / "large").open("wb") as file:
            while True:
                file.write(bytes(1 << 20))
    elif do == "many files":
        for number in range(1000):
            (here / str(number)).write_bytes(os.urandom(1 << 20))
            time.sleep(0.005)
    elif do == "files without a name":
        kept = [(here / str(number)).open("wb") for number in range(8)]
        for file in kept:
            Path(file.name).unlink()
            for _ in range(40):
                file.write(bytes(1 << 20))
            file.flush()
        time.sleep(60)
    elif do == "fork":
        _forked(1000, lambda number: None)
    elif do == "speak out of turn":
        for number in range(3, 64):
            try:
                os.write(number, b"nonsense" + bytes([10]))
            except OSError:
                pass
        time.sleep(60)
    elif do == "end itself":
        os._exit(0)
    elif do == "link":
        (here / "link").symlink_to("/etc/passwd")
    elif do == "raise":
        raise RuntimeError("wrong")
    return volume
'''

REASONS = {
    "leak": "it asked for more memory than the 1 GB of engine.memory",
    "leak in children": "processes took .* GB of memory, more than the 1 GB of engine.memory",
    "hang": "it ran longer than its 2 s and was stopped",
    "segfault": "its process died of SIGSEGV",
    "one large file": r"File too large|more than the 0\.2 GB of engine.disk",
    "many files": r"the job's files take 0\.2.* GB, more than the 0\.2 GB of engine.disk",
    "files without a name": r"the job's files take .* GB, more than the 0\.2 GB of engine.disk",
    "fork": "it started more than 150 processes and threads|Resource temporarily unavailable",
    "speak out of turn": "its process gave an answer that is none",
    "end itself": "its process ended by itself with exit code 0",
    "link": "link is no plain file",
    "raise": "RuntimeError: wrong",
}


def troubled(do: str) -> dict[str, Any]:
    """A pipeline whose step does that."""
    steps = {
        **THRESHOLD_STEPS,
        "trouble": {"use": "trouble", "in": {"volume": "volume"}, "with": {"do": do}},
        "mask": {**THRESHOLD_STEPS["mask"], "in": {"volume": "trouble"}},
    }
    if REASONS[do].startswith("it ran longer"):
        steps["trouble"]["timeout"] = "2s"
    number = list(REASONS).index(do)
    return pipeline(steps, name=f"trouble-{number}", ae_title=f"TROUBLE{number}")


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One worker for all of them: each finds it as the one before has left it."""
    os.environ["OVERREAD_ALLOW_ROOT"] = "1"
    world = World(tmp_path_factory.mktemp("trouble") / "site")
    world.settings["engine"] = {"memory": "1GB", "disk": "200MB", "tasks": 150}
    world.operators = {"trouble": TROUBLE}
    world.pipelines = [pipeline(), *(troubled(do) for do in REASONS)]
    world.build()
    world.start()
    yield world
    world.close()


def last(world: World, number: int) -> Job:
    """Wait for a pipeline's job to end."""

    def ended() -> Job | None:
        return next(
            (
                job
                for job in world.all_jobs()
                if job.pipeline == f"trouble-{number}" and job.ended_at is not None
            ),
            None,
        )

    return wait(ended, 60)


@pytest.mark.parametrize("do", list(REASONS))
def test_it_ends_with_a_reason(busy: World, do: str) -> None:
    number = list(REASONS).index(do)
    busy.arrive(exam_images(f"trouble {number}"), called=f"TROUBLE{number}")
    job = last(busy, number)
    assert job.state == "failed"
    assert job.reason.startswith("step trouble: ") and re.search(REASONS[do], job.reason)
    run = busy.steps(job)["trouble"]
    assert run.state == "failed" and "trouble begins" in run.log
    assert busy.worker is not None and busy.worker.poll() is None


def test_after_all_that_the_next_exam_is_read(busy: World) -> None:
    busy.arrive(exam_images("good"))
    job = wait(
        lambda: next((one for one in busy.all_jobs() if one.pipeline == "bright-spots"), None)
    )
    assert job is not None
    done = wait(
        lambda: next((one for one in busy.all_jobs() if one.id == job.id and one.ended_at), None)
    )
    assert done is not None and done.state == "done", done.reason
    data = busy.root / "data"
    left = [path for path in data.glob("boxes/*/*") if path.suffix != ".door"]
    assert left == []
