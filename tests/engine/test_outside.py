"""Programs of this machine, run over files: what they see, what stops them, what is believed."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overread.dicom.volume import Volume
from overread.engine.alone import Ran
from overread.engine.outside import launch
from overread.engine.sandbox import Box
from overread.operators.container import container
from overread.settings import Settings
from tests.engine.outside import SPOT, VOLUME, Outside


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    made = Outside(tmp_path_factory.mktemp("outside"))
    assert made.box.problem() == ""
    yield made
    made.close()


def shell(outside: Outside, script: str, **more: Any) -> Ran:
    """Run a shell script as the program."""
    given = {"makes": "volume", "program": "/bin/sh", "arguments": ["-c", script], **more}
    return outside.step("process", **given)


TMP = "/tmp/x"  # noqa: S108, the program's own
COPY = "cp /in/volume/image.nii /out/"


def test_it_is_given_files_and_what_it_leaves_is_what_the_step_makes(outside: Outside) -> None:
    look = f"{COPY}; cat /params.json; echo; ls /in /in/volume; cat /in/volume/port.json"
    ran = shell(outside, look, parameters={"level": 3, "names": ["a"]})
    made = outside.made(ran)
    assert isinstance(made, Volume) and (made.array == VOLUME.array).all()
    assert np.array_equal(made.affine, VOLUME.affine)  # the input's own, not NIfTI's 32 bits of it
    log = outside.log(ran)
    assert '{"level": 3, "names": ["a"]}' in log and '"type": "Volume"' in log
    digest = hashlib.sha256(Path("/bin/sh").read_bytes()).hexdigest()
    assert ran.account["notes"] == [f"program /bin/sh, SHA-256 {digest}"]


def test_it_sees_the_system_and_its_files_alone(outside: Outside) -> None:
    places = [
        outside.site.root,
        outside.box.work,
        Path.home(),
        Path("/etc/passwd"),
        "/root",
        "/home",
    ]
    script = f"{COPY}; id -u; " + "; ".join(
        f"test -e {place} && echo sees {place}" for place in places
    )
    log = outside.log(shell(outside, f"{script}; ls /proc | grep -c '^[0-9]'"))
    assert "sees" not in log
    assert log.splitlines()[0] == "1000" and int(log.splitlines()[-1]) < 8


def test_it_can_write_to_out_and_tmp_alone(outside: Outside) -> None:
    places = ("/out/x", TMP, "/x", "/usr/x", "/in/x", "/in/volume/image.nii", "/params.json")
    script = f"{COPY}; " + "; ".join(f"echo y > {place} && echo wrote {place}" for place in places)
    log = outside.log(shell(outside, f"({script}) 2>/dev/null; rm /out/x"))
    assert [line.split()[1] for line in log.splitlines()] == ["/out/x", TMP]


def test_it_has_no_network_and_no_secrets(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = f"{COPY}; env; (bash -c 'echo > /dev/tcp/127.0.0.1/{port}' && echo connected) 2>&1"
        log = outside.log(shell(outside, f"{script}; true", environment={"LEVEL": "3"}))
    assert "connected" not in log and "DATABASE_PASSWORD" not in log
    assert "LEVEL=3" in log.splitlines() and "HOME=/tmp" in log.splitlines()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo first; echo it is wrong >&2; exit 3", "exit code 3: it is wrong"),
        ("kill -SEGV $$", "died of SIGSEGV"),
        ("sleep 60", "still running after the"),
        ("exec >/dev/null 2>&1; sleep 60", "still running after the"),
        ("true", "0 files .* there is nothing"),
        ("ln -s /etc/passwd /out/image.nii", "/out/image.nii is a link"),
        ("mkdir -p /out/a; mkfifo /out/a/pipe", "/out/a/pipe is a pipe"),
        (f"{COPY}; {COPY}second.nii", "2 files .* there is image.nii, second.nii"),
        ("echo nonsense > /out/image.nii", "no Volume: .*/out/image.nii"),
        ("head -c 300 /in/volume/image.nii > /out/image.nii", "no Volume"),
        ('echo \'{"type": "Series"}\' > /out/port.json', "says 'Series'; a Volume"),
        ("head -c 70000000 /dev/zero > /out/x", "larger file than engine.disk"),
        ("for i in 1 2 3; do head -c 30000000 /dev/zero > /out/$i; done; sleep 9", "engine.disk"),
        ("python3 -c 'x = bytes(range(256)) * (1 << 23)'", "exit code 1: MemoryError"),
    ],
)
def test_what_goes_wrong_is_told(outside: Outside, script: str, reason: str) -> None:
    ran = shell(outside, script, seconds=5.0 if "sleep 60" not in script else 1.5)
    assert ran.state == "failed"
    assert re.search(reason, ran.reason, re.DOTALL), ran.reason


def test_what_it_printed_is_kept_where_it_failed_too(outside: Outside) -> None:
    ran = shell(outside, "echo before; exit 1")
    assert "before" in outside.log(ran)
    ran = shell(outside, "seq 1 1000000; exit 1", seconds=20.0)
    assert len(outside.log(ran)) <= 200_000 and outside.log(ran).endswith("1000000\n")


def test_a_pinned_program_is_the_one_that_runs(outside: Outside) -> None:
    digest = hashlib.sha256(Path("/bin/sh").read_bytes()).hexdigest()
    assert shell(outside, COPY, sha256=digest).state == "done"
    ran = shell(outside, COPY, sha256="0" * 64)
    assert f"has SHA-256 {digest}, but this step is pinned to 0000" in ran.reason
    ran = outside.step("process", program="/usr/bin/nothing-like-it", makes="volume")
    assert "cannot be run here: No such file" in ran.reason


def test_a_folder_of_programs_is_shown_where_the_site_says(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    program = tools / "copy"
    program.write_text(f"#!/bin/sh\n{COPY}\n")
    program.chmod(0o755)
    engine = {"memory": "1GB", "programs": [str(tools)]}
    outside = Outside(tmp_path, engine=engine)
    hidden = Outside(tmp_path / "tools")
    try:
        assert outside.step("process", program=str(program), makes="volume").state == "done"
        ran = hidden.step("process", program=str(program), makes="volume")
        assert ran.state == "failed" and "lies outside of what a program may read" in ran.reason
    finally:
        outside.close()
        hidden.close()


def test_a_mask_needs_its_segments(outside: Outside) -> None:
    ran = shell(outside, COPY, makes="mask")
    assert (
        "holds values from 0 to 500" not in ran.reason and "give the step `segments`" in ran.reason
    )
    ran = shell(outside, COPY, makes="mask", segments=[SPOT])
    assert "values [500] that no segment describes" in ran.reason
    made = outside.made(shell(outside, COPY, makes="mask", segments=[{**SPOT, "number": 500}]))
    assert made.model.startswith("sh@") and (made.array == VOLUME.array).all()


def test_only_what_a_pipeline_names_is_run(tmp_path: Path) -> None:
    """A child that asks for a program in a step that has none gets none."""
    request: dict[str, Any] = {"operator": "threshold", "source": None, "settings": {}}
    box = Box("none", 10**9, 1, tmp_path)
    settings = Settings.model_validate({"site": {"name": "T"}})
    assert launch(request, box, settings) is None
    request = {"operator": container.__name__, "source": "/some/file.py", "settings": {}}
    assert launch(request, box, settings) is None


def test_what_a_child_puts_in_the_way_is_not_followed(outside: Outside, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "in").mkdir(parents=True)
    (elsewhere / "params.json").write_text("{}")
    exchange = tmp_path / "exchange"
    exchange.symlink_to(elsewhere)
    request: dict[str, Any] = {
        "operator": "process", "source": None, "job": "j", "step": "s", "context": {},
        "settings": {"program": "/bin/true", "makes": "volume"}, "exchange": str(exchange),
    }  # fmt: skip
    run = launch(request, outside.box, outside.site.settings)
    assert run is not None
    assert "cannot be exchanged" in run(5.0, lambda: None)["failed"]
    assert sorted(path.name for path in elsewhere.iterdir()) == ["in", "params.json"]
    exchange.unlink()
    (exchange / "in").mkdir(parents=True)
    os.symlink("/etc/passwd", exchange / "params.json")
    run = launch(request, outside.box, outside.site.settings)
    assert run is not None
    assert "/params.json is a link" in run(5.0, lambda: None)["failed"]
