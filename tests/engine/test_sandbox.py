"""What model code can reach, and what stops it."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from overread.dicom.volume import Volume
from overread.engine import worker
from overread.engine.sandbox import Box, Child, Children
from overread.errors import Refused, StepFailed
from overread.operators import files
from tests.dicom.series import affine, ball
from tests.engine.world import World

PROBE = '''
import os, resource, socket, time
from pathlib import Path
import numpy as np
from overread.dicom.volume import Volume
from overread.errors import Refused
from overread.pipelines.ports import Account, Progress

def probe(
    volume: Volume, account: Account, progress: Progress, *, do: str, path: str = "", port: int = 0
) -> Volume:
    """Try something, and say what came of it."""
    if do == "print":
        print("printed"); os.system("echo from a shell; echo to stderr >&2")
    elif do == "read":
        account.notes.append(str(sorted(os.listdir(path))))
    elif do == "write":
        try:
            Path(path).write_text("x")
        except OSError as error:
            account.notes.append(type(error).__name__)
    elif do == "connect":
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2)
            account.notes.append("connected")
        except OSError as error:
            account.notes.append(type(error).__name__)
    elif do == "progress":
        for done in range(5):
            progress(done, 5, "x" * 1000)
            time.sleep(0.3)
    elif do == "environment":
        account.notes += sorted(os.environ)
    elif do == "sleep":
        time.sleep(60)
    elif do == "memory":
        blocks = [np.empty(10**8, dtype=np.uint8) for _ in range(40)]
    elif do == "file limit":
        account.notes.append(str(resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        except (OSError, ValueError) as error:
            account.notes.append(type(error).__name__)
    elif do == "die":
        os.kill(os.getpid(), 11)
    elif do == "exit":
        os._exit(3)
    elif do == "refuse":
        raise Refused("too few slices: 3, expected 5")
    elif do == "raise":
        raise ValueError("wrong")
    return volume
'''


class Probe:
    """A child, a volume for it to read, and a folder that it must not see."""

    def __init__(self, root: Path, isolation: Any = "bubblewrap") -> None:
        self.work = root / "site" / "data" / "work"
        self.secrets = root / "site" / "data" / "archive"
        operators = root / "site" / "data" / "operators"
        for folder in (self.work, self.secrets, operators):
            folder.mkdir(parents=True)
        (self.secrets / "image.dcm").write_text("patient")
        self.source = operators / "probe.py"
        self.source.write_text(PROBE)
        array = ball((4, 8, 8)).astype("int16")
        files.save(Volume(array, affine()), self.work / "volume")
        self.told: list[tuple[int, int, str]] = []
        self.child = Child(Box(isolation, 2 * 10**9, 1, self.work, (operators,)))

    def run(self, timeout: float = 30.0, **settings: Any) -> dict[str, Any]:
        """Run the probe."""
        context = {"job": "j", "step": "s", "at": "2026-07-15T10:00:00+00:00", "models": []}
        return self.child.run(
            {
                "job": "j",
                "step": "s",
                "operator": "probe",
                "source": str(self.source),
                "inputs": {"volume": "volume"},
                "folders": {"volume": str(self.work / "volume")},
                "settings": settings,
                "models": {},
                "context": {**context, "pipeline": "p", "pipeline_version": "1.0.0"},
                "out": str(self.work / "out"),
                "log": str(self.work / "s.log"),
            },
            timeout,
            lambda: None,
            lambda *told: self.told.append(told),
        )

    def notes(self, **settings: Any) -> list[str]:
        """Run the probe and return what it noted."""
        return list(self.run(**settings)["account"]["notes"])


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    made = Probe(tmp_path_factory.mktemp("probe"))
    assert made.child.box.problem() == ""
    yield made
    made.child.stop()


def test_a_step_writes_its_files_and_its_log(probe: Probe) -> None:
    assert probe.run(do="print")["type"] == "Volume"
    assert json.loads((probe.work / "out" / "port.json").read_text())
    log = (probe.work / "s.log").read_text()
    assert all(line in log for line in ("printed", "from a shell", "to stderr"))


def test_it_tells_how_far_it_has_come(probe: Probe) -> None:
    probe.run(do="progress")
    assert [(done, of) for done, of, _ in probe.told] == [(done, 5) for done in range(5)]
    assert {len(what) for _, _, what in probe.told} == {40}


def test_it_sees_nothing_of_the_site_but_its_work(probe: Probe) -> None:
    data = probe.secrets.parent
    assert probe.notes(do="read", path=str(data)) == ["['operators', 'work']"]
    assert probe.notes(do="read", path=str(data.parent)) == ["['data']"]
    with pytest.raises(StepFailed, match="FileNotFoundError"):
        probe.run(do="read", path=str(probe.secrets))
    with pytest.raises(StepFailed, match="FileNotFoundError"):
        probe.run(do="read", path="/etc/ssl")


def test_a_site_within_the_search_path_is_hidden_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One who starts the worker from above the site has it on the interpreter's path."""
    site, work = tmp_path / "site", tmp_path / "site" / "data" / "work"
    work.mkdir(parents=True)
    (site / "data" / "overread.sqlite").write_text("patients")
    monkeypatch.syspath_prepend(str(tmp_path))
    shown = within(Box("bubblewrap", 10**9, 1, work, hidden=(site,)), "find", str(tmp_path))
    assert set(shown.split()) == {str(path) for path in (tmp_path, site, work.parent, work)}


def test_data_elsewhere_is_hidden_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as below /opt, which is shown; here below a folder of the interpreter's path."""
    site, data = tmp_path / "site", tmp_path / "opt" / "data"
    (data / "work").mkdir(parents=True)
    (data / "models").mkdir()
    (data / "overread.sqlite").write_text("patients")
    site.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "opt"))
    box = Box("bubblewrap", 10**9, 1, data / "work", (data / "models",), (site, data))
    assert within(box, "ls", str(data)).split() == ["models", "work"]
    wrote = f"touch {data}/x /x; touch {data}/work/x && ls {data} {data}/work"
    shown = within(box, "sh", "-c", wrote)
    assert shown.split() == [f"{data}:", "models", "work", f"{data}/work:", "x"]


def test_of_all_jobs_a_child_sees_its_own(world: World) -> None:
    world.build()
    data = world.site.settings.data
    children = Children(worker.box(world.site), "w", 2)
    mine, other = children.boxes
    for folder in (data / "work" / "old", mine / "mine", other / "other"):
        folder.mkdir(parents=True)
    with children.one(), children.one() as child:
        assert child.box.work == mine
        shown = within(child.box, "find", str(data), "-mindepth", "1")
    assert set(shown.split()) == {str(path) for path in (data / "boxes", mine, mine / "mine")}


def test_what_a_child_keeps_in_memory_files_is_limited(tmp_path: Path) -> None:
    for place in ("/tmp", "/dev/shm"):  # noqa: S108, the child's own
        shown = within(Box("bubblewrap", 10**9, 1, tmp_path), "df", "-B1", "--output=size", place)
        assert int(shown.split()[1]) <= 1 << 30


def within(box: Box, *command: str) -> str:
    """Run a command as a child would run, and return what it printed."""
    walls = box.command()[: -len(Box("none", box.memory, 1, box.work).command())]
    ran = subprocess.run([*walls, *command], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_it_has_no_network(probe: Probe) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        notes = probe.notes(do="connect", port=server.getsockname()[1])
    assert notes and notes[0] != "connected"


def test_it_cannot_write_elsewhere(probe: Probe) -> None:
    assert probe.notes(do="write", path=str(probe.source)) == ["OSError"]
    assert probe.notes(do="write", path="/usr/x") == ["OSError"]
    assert probe.notes(do="write", path=str(probe.work / "x")) == []


def test_its_environment_holds_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    probe = Probe(tmp_path)
    try:
        names = probe.notes(do="environment")
    finally:
        probe.child.stop()
    assert "DATABASE_PASSWORD" not in names
    assert {"OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS"} <= set(names)


def test_too_long_is_stopped_and_the_next_step_runs(probe: Probe) -> None:
    with pytest.raises(StepFailed, match=r"longer than its 0\.5 s"):
        probe.run(0.5, do="sleep")
    assert probe.run(do="nothing")["type"] == "Volume"


def test_too_much_memory_fails_with_the_number(probe: Probe) -> None:
    with pytest.raises(StepFailed, match=r"more memory than the 2 GB"):
        probe.run(do="memory")
    assert probe.run(do="nothing")["type"] == "Volume"


def test_a_file_may_not_grow_without_end(probe: Probe) -> None:
    limit, refused = probe.notes(do="file limit")
    assert int(limit) == probe.child.box.disk and refused == "ValueError"


class Liar(Box):
    """A child in whose place a shell says what it likes."""

    said = ""

    def command(self) -> list[str]:
        return ["sh", "-c", self.said]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("echo nonsense", "an answer that is none"),
        ("echo [1]", "an answer that is none"),
        ("yes [ | head -c 200000 | tr -d '\\n'; echo", "an answer that is none"),
        ("cat /dev/zero", "has no end"),
    ],
)
def test_an_answer_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, why: str
) -> None:
    monkeypatch.setattr(Liar, "said", f"{said}; sleep 60")
    child = Child(Liar("none", 10**9, 1, tmp_path))
    with pytest.raises(StepFailed, match=why):
        child.run({}, 30, lambda: None)
    assert child._process is None


@pytest.mark.parametrize(
    ("do", "said"), [("die", "SIGSEGV"), ("exit", "exit code 3"), ("raise", "ValueError: wrong")]
)
def test_how_it_ended_is_said(probe: Probe, do: str, said: str) -> None:
    with pytest.raises(StepFailed, match=said):
        probe.run(do=do)


def test_a_refusal_is_passed_on(probe: Probe) -> None:
    with pytest.raises(Refused, match="3, expected 5"):
        probe.run(do="refuse")


def test_what_the_watch_raises_kills_it(probe: Probe) -> None:
    class Stop(Exception):
        pass

    def watch() -> None:
        raise Stop

    thread = threading.current_thread()
    assert thread is threading.main_thread()
    probe.child.start()
    with pytest.raises(Stop):
        probe.child._answer(30, watch)
    assert probe.child._process is None


def test_without_isolation_the_limits_hold(tmp_path: Path) -> None:
    probe = Probe(tmp_path, "none")
    try:
        assert probe.notes(do="read", path=str(probe.secrets)) == ["['image.dcm']"]
        with pytest.raises(StepFailed, match="more memory"):
            probe.run(do="memory")
    finally:
        probe.child.stop()


def test_a_missing_bubblewrap_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "not installed" in Box("bubblewrap", 10**9, 1, tmp_path).problem()
    assert Box("none", 10**9, 1, tmp_path).problem() == ""
