"""The process tree, and the commands that tell of what it did, with everything real."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from overread.cli import serve
from overread.cli.main import app
from overread.errors import SiteError, UsageError
from overread.store.tables import Instance, Job
from overread.store.tables import Result as StoredResult
from tests.engine.world import (
    OVERREAD,
    World,
    exam_images,
    pipeline,
    slow_steps,
    wait,
)
from tests.site.sites import whole


class Tree:
    """A site that ``overread serve`` serves."""

    def __init__(self, world: World, port: int) -> None:
        world.pipelines = [pipeline(slow_steps(1.0))]
        self.world = world
        self.port = port
        world.settings["dicom"] = {"port": port}
        world.settings["portal"] = {"port": port + 1}
        world.build()
        self.start()

    def start(self) -> None:
        """Start ``overread serve``."""
        self.log = self.world.root.with_suffix(".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*OVERREAD, "serve", "--site", str(self.world.root)],
                env={**os.environ, "OVERREAD_ALLOW_ROOT": "1"},
                stderr=log,
            )

    def told(self, event: str) -> dict[str, Any]:
        """Return what the log says of an event; nothing if it does not yet."""
        for line in self.log.read_text().splitlines():
            if f'"event": "{event}"' in line:
                found: dict[str, Any] = json.loads(line)
                return found
        return {}

    def command(self, *words: str) -> Result:
        """Run a command on the site, in this process."""
        return CliRunner().invoke(app, [*words, "--site", str(self.world.root)])

    def json(self, *words: str) -> Any:
        """Run a command with ``--json`` and read its answer."""
        done = self.command(*words, "--json")
        assert done.exit_code == 0, done.exception
        return json.loads(done.stdout)

    def services(self) -> dict[str, int]:
        """Process ids of the services, by name."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = {}
        for pid in children.read_text().split():
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            if "overread.cli.main" in words:  # a dead one has no words any more
                found[words[words.index("overread.cli.main") + 1]] = int(pid)
        return found

    def all_services(self) -> dict[str, int] | None:
        """Return the services once all three run."""
        found = self.services()
        return found if len(found) == 3 else None


@pytest.fixture
def tree(tmp_path: Path, free_port: int) -> Iterator[Tree]:
    made = Tree(World(tmp_path / "site"), free_port)
    yield made
    if made.process.poll() is None:
        made.process.kill()
    made.world.close()


def alive(pid: int) -> bool:
    """Say whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def send(tree: Tree, folder: Path) -> None:
    """Send an exam with DCMTK's storescu, as soon as the receiver listens."""
    for number, image in enumerate(exam_images()):
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    command = ["storescu", "-aet", "SCANNER", "-aec", "BRIGHT", "127.0.0.1", str(tree.port)]
    files = [str(file) for file in folder.glob("*.dcm")]
    wait(lambda: subprocess.run([*command, *files], check=False).returncode == 0)


needs_storescu = pytest.mark.skipif(
    shutil.which("storescu") is None, reason="DCMTK's storescu is not installed"
)


@needs_storescu
def test_everything_is_killed_in_a_step_and_goes_on(tree: Tree, tmp_path: Path) -> None:
    send(tree, tmp_path)
    job = tree.world.wait_for_step("slow")
    for pid in (tree.process.pid, *tree.services().values()):
        os.kill(pid, signal.SIGKILL)
    tree.process.wait()
    tree.start()
    job = tree.world.wait_for_job("done", "failed")
    assert job.state == "done", job.reason
    steps = tree.world.steps(job)
    assert (steps["t1"].runs, steps["volume"].runs, steps["slow"].runs) == (1, 1, 2)
    assert tree.world.count(StoredResult) == 2 and tree.world.count(Job) == 1
    assert tree.world.count(Instance) == 7  # six that were acknowledged, and the segmentation


@needs_storescu
def test_from_the_scanner_to_the_result_and_what_the_commands_tell(
    tree: Tree, tmp_path: Path
) -> None:
    send(tree, tmp_path)
    job = tree.world.wait_for_job("done", "failed")
    assert job.state == "done", job.reason

    told = tree.json("why", "A1")
    assert told["verdict"] == "its results are there"
    assert [result["name"] for result in told["exams"][0]["jobs"][0]["results"]] == [
        "seg",
        "volumes",
    ]
    words = tree.command("why", "A1").stdout
    assert "SCANNER (127.0.0.1) → BRIGHT" in words and "write_seg" in words

    [exam] = tree.json("exam", "list")
    assert (exam["accession"], exam["state"], exam["instances"]) == ("A1", "closed", 6)
    [listed] = tree.json("job", "list", "--state", "done")
    shown = tree.json("job", "show", listed["id"][:8])
    assert [step["state"] for step in shown["steps"]] == ["done"] * 6
    assert "t1" in tree.command("job", "logs", listed["id"]).stdout
    wrong = (["job", "show", "nothing"], ["job", "retry", listed["id"]], ["why", "nobody"])
    for command in wrong:
        assert isinstance(tree.command(*command).exception, UsageError)

    checks = {row["check"]: row for row in json.loads(tree.command("doctor", "--json").stdout)}
    assert checks["receiver"]["well"] and checks["worker"]["well"], checks
    assert checks["isolation of model code"]["well"] and checks["database"]["well"]


def test_a_service_that_dies_is_started_again_and_sigterm_ends_all(tree: Tree) -> None:
    first = wait(tree.all_services)
    os.kill(first["worker"], signal.SIGKILL)
    wait(lambda: tree.services().get("worker", first["worker"]) != first["worker"])
    time.sleep(1)
    services = tree.services()
    assert services["receiver"] == first["receiver"]
    began = time.monotonic()
    tree.process.terminate()
    assert tree.process.wait(15) == 0
    assert time.monotonic() - began < 10
    assert not any(alive(pid) for pid in services.values())


def test_nothing_outlives_a_supervisor_that_was_killed(tree: Tree) -> None:
    wait(tree.all_services)
    services = tree.services()
    tree.process.kill()
    tree.process.wait()
    wait(lambda: not any(alive(pid) for pid in services.values()), 15)


def run_serve(root: Path, *, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run ``overread serve`` where it is to refuse."""
    return subprocess.run(
        [*OVERREAD, "serve", "--site", str(root)],
        env={**os.environ, "OVERREAD_ALLOW_ROOT": "1"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@needs_storescu
def test_it_says_what_is_up_and_another_site_does_not_get_its_port(
    tree: Tree, tmp_path: Path
) -> None:
    ready = wait(lambda: tree.told("ready"))
    assert ready["portal"] == f"http://127.0.0.1:{tree.port + 1}"
    assert ready["dicom"] == f"127.0.0.1:{tree.port}"
    assert ready["ae_titles"] == "BRIGHT, OVERREAD"
    other = World(tmp_path / "other")
    other.settings["dicom"] = {"port": tree.port}
    other.build()
    done = run_serve(other.root)
    assert done.returncode == 2
    assert f"the DICOM port {tree.port} of 127.0.0.1 cannot be had" in done.stderr
    send(tree, tmp_path)
    assert tree.world.count(Instance) >= 6 and other.count(Instance) == 0
    other.close()
    receiver = tree.services()["receiver"]
    os.kill(receiver, signal.SIGKILL)
    wait(lambda: tree.services().get("receiver", receiver) != receiver)
    again = tmp_path / "again"
    again.mkdir()
    send(tree, again)
    done = run_serve(tree.world.root)
    assert done.returncode == 2
    assert "is served already" in done.stderr


def test_it_ends_when_a_service_refuses_to_start(tmp_path: Path, free_port: int) -> None:
    world = World(tmp_path / "site")
    world.settings["dicom"] = {"port": free_port}
    world.settings["portal"] = {"port": free_port + 1}
    world.build()
    with socket.create_server(("127.0.0.1", free_port + 1)):
        done = run_serve(world.root)
    assert done.returncode == 2
    assert f"somebody listens on the portal's 127.0.0.1:{free_port + 1} already" in done.stderr
    with (world.root / "data" / f"worker-{socket.gethostname()}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run_serve(world.root)
    world.close()
    assert done.returncode == 2
    assert "runs here already" in done.stderr
    assert "the worker refuses to start, and says why above; all is stopped" in done.stderr
    assert '"event": "ready"' not in done.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", free_port))


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_what_is_not_the_model_of_the_card_is_not_served(tmp_path: Path, command: str) -> None:
    root = whole(tmp_path / "site", weights=b"other weights")
    done = CliRunner().invoke(app, [command, "--site", str(root)])
    assert isinstance(done.exception, SiteError)
    assert "the SHA-256 of net.onnx is" in str(done.exception)
    assert not (root / "data").exists()


def test_a_destination_that_is_away_is_not_told_by_pynetdicom() -> None:
    script = (
        "from pynetdicom import AE; from overread.cli.serve import settle_process; "
        "settle_process(); ae = AE(); ae.add_requested_context('1.2.840.10008.1.1'); "
        "ae.associate('127.0.0.1', 1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_services_refuse_to_run_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVERREAD_ALLOW_ROOT")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(UsageError, match="do not run as root"):
        serve.settle_process()


def test_doctor_says_what_is_wrong(tmp_path: Path, free_port: int) -> None:
    world = World(tmp_path / "site")
    world.settings["dicom"] = {"port": free_port}
    world.settings["portal"] = {"port": free_port + 1}
    world.settings["storage"]["watermark"] = "900TB"
    world.settings["destinations"] = {"PACS": {"with": {"host": "127.0.0.1", "port": 1}}}
    world.build()
    done = CliRunner().invoke(app, ["doctor", "--json", "--site", str(world.root)])
    world.close()
    assert done.exit_code == 1
    said = {row["check"]: row["said"] for row in json.loads(done.stdout) if not row["well"]}
    assert {"disk", "receiver", "worker", "portal", "destination PACS"} <= set(said)
    assert "storage.watermark" in said["disk"]
