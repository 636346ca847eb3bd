"""In a real Chromium: a PACS that the site names shows the portal in a frame, another does not."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import uvicorn

from overread.identity.local import hash_password
from overread.portal.app import build
from overread.store import users
from tests.conftest import ROOT
from tests.portal.filled import AT, Filler, make_site

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.skipif(not CHROMIUM.is_file(), reason="Chromium is not installed (make setup)"),
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed (make setup)"),
]


@contextmanager
def pacs(shows: str) -> Iterator[str]:
    """A host whose only page has a frame; yields its origin."""
    page = f'<!doctype html><title>PACS</title><iframe src="{shows}"></iframe>'.encode()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_only_a_named_host_frames_the_portal(tmp_path: Path, free_port: int) -> None:
    shows = f"http://127.0.0.1:{free_port}/open?accession=PH-NOT-THERE"
    with pacs(shows) as named, pacs(shows) as another:
        filler = Filler(make_site(tmp_path / "site", embed=(named,)))
        with filler.filled.database.write() as session:
            users.add_user(
                session, AT, "test", name="rosa", secret=hash_password("a password"), role="reader"
            )
        server = uvicorn.Server(
            uvicorn.Config(
                build(filler.filled.site), host="127.0.0.1", port=free_port, log_level="warning"
            )
        )
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.05)
            assert thread.is_alive()
        with socket.create_connection(("127.0.0.1", free_port), 5):
            pass
        plan = {
            "pages": {"named": named, "another": another},
            "name": "rosa",
            "password": "a password",
        }
        (tmp_path / "plan.json").write_text(json.dumps(plan))
        done = subprocess.run(
            ["node", str(ROOT / "tests/portal/embedding.mjs"), str(tmp_path / "plan.json")],
            capture_output=True, text=True, timeout=90, check=False, cwd=ROOT,
        )  # fmt: skip
        server.should_exit = True
        thread.join()
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["named"]["url"] == shows
    assert seen["named"]["says"] == "Nothing has arrived for PH-NOT-THERE"
    assert seen["named"]["refused"] == []
    assert seen["another"]["url"].startswith("chrome-error:")
    assert "frame-ancestors 'self'" in seen["another"]["refused"][0]
