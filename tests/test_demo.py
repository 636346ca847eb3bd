"""The demo as a visitor runs it, with one exam of its story, in real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "overread"]


def _demo(site: Path) -> dict[str, Any]:
    command = [*COMMAND, "demo", "--site", str(site), "--once", "--seconds", "0", "--exams", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


def _jobs(site: Path) -> list[dict[str, Any]]:
    command = [*COMMAND, "job", "list", "--site", str(site), "--json"]
    listed: list[dict[str, Any]] = json.loads(subprocess.check_output(command))
    return listed


@pytest.mark.timeout(400)
def test_once_ends_with_its_results_and_again_makes_no_others(tmp_path: Path) -> None:
    site = tmp_path / "demo-site"
    first = _demo(site)
    assert (first["cases"], first["results"]) == (1, 1)
    assert first["portal"].startswith("http://127.0.0.1:")
    assert first["failed"] == []
    (exam,) = first["exams"]
    assert exam["patient"] == "PHANTOM^SIX"
    assert exam["reference_ml"] == pytest.approx(2.8, abs=0.3)
    assert exam["dice"] > 0.5
    again = _demo(site)
    assert again["exams"][0]["model_ml"] == exam["model_ml"]
    assert [job["state"] for job in _jobs(site)] == ["done"]


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_killed_it_leaves_nothing_behind(tmp_path: Path) -> None:
    site = tmp_path / "demo-site"
    command = [*COMMAND, "demo", "--site", str(site), "--exams", "1", "--seconds", "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as demo:
        assert demo.stdout is not None
        assert "The portal is at" in demo.stdout.readline()
        overlay = (site / "environments" / "demo.yaml").read_text().splitlines()[-1]
        ports = json.loads(overlay)
        taken = [
            ports["dicom"]["port"],
            ports["portal"]["port"],
            ports["destinations"]["PACS"]["with"]["port"],
        ]
        assert all(_listening(port) for port in taken)
        demo.send_signal(signal.SIGKILL)
    ends = time.monotonic() + 30
    while any(_listening(port) for port in taken) and time.monotonic() < ends:
        time.sleep(0.2)
    assert not any(_listening(port) for port in taken)


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = subprocess.run(
        [*COMMAND, "demo", "--site", str(tmp_path), "--once"], capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"no site" in done.stderr
