"""Whose the DICOM port is, between real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from overread.errors import UsageError
from overread.receiver.port import hold, join
from overread.receiver.server import Receiver
from overread.settings import Settings
from overread.site import load

HOLDER = """
import sys, time
from pathlib import Path
from overread.receiver.port import hold
from overread.site import load
with hold(load(Path(sys.argv[1]), {}).settings, share=True):
    print("held", flush=True)
    time.sleep(60)
"""


def settings(root: Path, port: int) -> Settings:
    root.mkdir(exist_ok=True)
    (root / "overread.yaml").write_text(f"site: {{name: A}}\ndicom: {{port: {port}}}\n")
    return load(root, {}).settings


def hold_elsewhere(root: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", HOLDER, str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_one_site_has_the_port_while_its_receivers_come_and_go(
    tmp_path: Path, free_port: int
) -> None:
    ours, other = settings(tmp_path / "a", free_port), settings(tmp_path / "b", free_port)
    for _ in range(2):
        with hold(ours):
            first, second = (Receiver(load(tmp_path / "a", {})) for _ in range(2))
            first.start()
            second.start()
            socket.create_connection(("127.0.0.1", free_port)).close()
            for share in (False, True):
                with pytest.raises(UsageError, match=f"port {free_port} of 127.0.0.1 cannot"):
                    hold(other, share=share).__enter__()
            first.close()
            second.close()
            with pytest.raises(UsageError, match="cannot be had"):  # though none listens
                hold(other).__enter__()
            first.start()
            first.close()
    with hold(other):
        pass


def test_a_second_receiver_of_the_site_shares_and_a_second_serve_does_not(
    tmp_path: Path, free_port: int
) -> None:
    ours, other = settings(tmp_path / "a", free_port), settings(tmp_path / "b", free_port)
    process = hold_elsewhere(tmp_path / "a")
    with pytest.raises(UsageError, match=f"of this site hold the DICOM port {free_port}"):
        hold(ours).__enter__()
    with hold(ours, share=True), join(ours):
        receiver = Receiver(load(tmp_path / "a", {}))
        receiver.start()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with pytest.raises(UsageError, match="of this site hold"):
            hold(ours).__enter__()
        with hold(ours, share=True):  # the first is gone, the second listens
            pass
        with pytest.raises(UsageError, match="cannot be had"):
            hold(other, share=True).__enter__()
        receiver.close()
    with hold(ours):
        pass


def test_a_stranger_who_listens_is_told(tmp_path: Path, free_port: int) -> None:
    ours = settings(tmp_path / "a", free_port)
    with socket.create_server(("127.0.0.1", free_port), reuse_port=True):
        for share in (False, True):
            with pytest.raises(UsageError, match="Address already in use; stop what listens"):
                hold(ours, share=share).__enter__()
    (tmp_path / "a" / "overread.yaml").write_text(
        f"site: {{name: A}}\ndicom: {{port: {free_port}, host: 192.0.2.1}}\n"
    )
    with pytest.raises(UsageError, match=r"192\.0\.2\.1 cannot be had: Cannot assign"):
        hold(load(tmp_path / "a", {}).settings).__enter__()
