from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

from overread.errors import UsageError
from overread.portal.server import serve
from tests.portal.filled import make_site


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"cannot listen on 127.0.0.1:{port}: .*portal.port"):
            serve(make_site(tmp_path / "site", port=port))


def test_tls_is_ended_here_where_a_certificate_is_given(tmp_path: Path, free_port: int) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout",
         "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    site = make_site(
        tmp_path,
        port=free_port,
        certificate=Path("cert.pem"),
        key=Path("key.pem"),
    )
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(site, stop))
    thread.start()
    try:
        trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        with httpx.Client(verify=trust, base_url=f"https://localhost:{free_port}") as client:
            for _ in range(100):
                try:
                    answer = client.get("/sign-in")
                    break
                except httpx.ConnectError:
                    time.sleep(0.1)
            assert answer.headers["strict-transport-security"]
            assert "__Host-overread-form" in answer.headers["set-cookie"]
            assert "Secure" in answer.headers["set-cookie"]
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
