"""How fast a series opens in OHIF, from our DICOMweb and from Orthanc's.

The same build of OHIF in the same Chromium opens the same CT series of uncompressed slices, in turn
from either, each time in a browser context that has kept nothing. OHIF itself is served by a third
process, so that only the DICOMweb services differ. *First image* is from OHIF's first request to a
service until its viewport holds an image; *whole series* until the last frame has come. The first
opening from each is not counted.

``python -m bench.viewer [--slices N] [--rounds N]``; needs the Debian package orthanc-dicomweb.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from bench.ingest import make_slices
from overread.dicom.study import Origin
from overread.portal import viewer
from overread.site import load
from overread.store import users
from overread.store.archive import Archive
from overread.store.database import Database
from overread.store.instances import keep, take

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "viewer.md"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
STUDY = "1.2.826.0.1.3680043.10.2"

CONFIG = ROOT / "src" / "overread" / "portal" / "static" / "app-config.js"


def _port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class _Ohif(SimpleHTTPRequestHandler):
    """OHIF's files; its settings are ours, with the DICOMweb root that the address names."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Send a file."""
        if self.path == "/app-config.js":
            text = CONFIG.read_text(encoding="utf-8")
            root = 'new URLSearchParams(window.location.search).get("root")'
            lines = [
                f"const DICOMWEB = {root};" if line.startswith("const DICOMWEB") else line
                for line in text.splitlines()
                if not line.startswith("import(")
            ]
            body = "\n".join(lines).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        if self.path.startswith("/viewer"):
            self.path = "/index.html"
        super().do_GET()

    def log_message(self, *_said: object) -> None:
        """Say nothing."""


@contextmanager
def _ohif() -> Iterator[str]:
    serve = partial(_Ohif, directory=str(viewer.OHIF))
    server = ThreadingHTTPServer(("127.0.0.1", 0), serve)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@contextmanager
def _ours(folder: Path, slices: Path) -> Iterator[tuple[str, str]]:
    """Our portal with the series; its DICOMweb root, and a token."""
    port = _port()
    for name in ("pipelines", "models"):
        (folder / name).mkdir(parents=True)
    (folder / "overread.yaml").write_text(
        json.dumps({"site": {"name": "Bench"}, "storage": {"path": "data", "watermark": "1MB"},
                    "portal": {"port": port}})
    )  # fmt: skip
    (folder / "routes.yaml").write_text("routes: []\n")
    site, now = load(folder, {}), datetime.now(UTC)
    database, archive = Database(site.settings.database_url), Archive(folder / "data" / "archive")
    database.upgrade()
    with database.write() as session:
        for file in sorted(slices.glob("*")):
            keep(
                session, archive, take(archive, file.read_bytes(), now), at=now,
                origin=Origin("BENCH", "OVERREAD", "127.0.0.1"), association_id=None,
                decisions=[], pipelines=[],
            )  # fmt: skip
        users.add_user(session, now, "bench", name="bench", secret="", role="reader")
        user = users.find_user(session, "bench")
        token = users.open_bearer(session, now, "bench", user, timedelta(hours=1)).token
    database.close()
    with _running(
        [sys.executable, "-m", "overread.cli.main", "portal", "--site", str(folder)],
        f"http://127.0.0.1:{port}/readyz",
    ):
        yield f"http://127.0.0.1:{port}/dicom-web", token


@contextmanager
def _orthanc(folder: Path, slices: Path) -> Iterator[str]:
    """Orthanc with its DICOMweb plugin and the series; its DICOMweb root."""
    folder.mkdir()
    port = _port()
    settings = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "HttpPort": port,
        "DicomPort": _port(), "AuthenticationEnabled": False, "RemoteAccessAllowed": False,
        "HttpServerEnabled": True, "KeepAlive": True, "HttpThreadsCount": 50,
        "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    file = folder / "orthanc.json"
    file.write_text(json.dumps(settings))
    program = shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin") or "Orthanc"
    root = f"http://127.0.0.1:{port}"
    with _running([program, str(file)], f"{root}/system"):
        for one in sorted(slices.glob("*")):
            httpx.post(f"{root}/instances", content=one.read_bytes()).raise_for_status()
        yield f"{root}/dicom-web"


@contextmanager
def _running(command: list[str], url: str) -> Iterator[None]:
    process = subprocess.Popen(
        command, env={**os.environ, "OVERREAD_ALLOW_ROOT": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(300):
            with suppress(httpx.TransportError):
                if httpx.get(url).status_code == 200:
                    break
            time.sleep(0.1)  # until it answers
        else:
            raise RuntimeError(f"{command[0]} did not answer at {url}")
        yield
    finally:
        process.terminate()
        process.wait(20)


def measure(slices: int, rounds: int) -> list[dict[str, Any]]:
    """Open the series from either in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_slices(folder / "slices", slices)
        with (
            _ohif() as address,
            _ours(folder / "site", folder / "slices") as (ours, token),
            _orthanc(folder / "orthanc", folder / "slices") as theirs,
        ):
            plan = {
                "viewer": address, "token": token, "slices": slices, "rounds": rounds,
                "study": STUDY, "roots": {"overread": ours, "Orthanc": theirs},
            }  # fmt: skip
            file = folder / "plan.json"
            file.write_text(json.dumps(plan))
            done = subprocess.run(
                ["node", str(Path(__file__).with_suffix(".mjs")), str(file)],
                capture_output=True, text=True, check=False, cwd=ROOT,
            )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    runs: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return runs


def page(runs: list[dict[str, Any]], slices: int) -> str:
    """Write the figures and how they came about."""
    rows = ["| | first image | whole series |", "| --- | --- | --- |"]
    median = {
        name: {
            key: statistics.median(run[key] for run in runs if run["name"] == name)
            for key in ("first", "whole")
        }
        for name in ("overread", "Orthanc")
    }
    for name, found in median.items():
        rows.append(f"| {name} | {found['first'] / 1000:.2f} s | {found['whole'] / 1000:.2f} s |")
    ratio = {key: median["overread"][key] / median["Orthanc"][key] for key in ("first", "whole")}
    rows.append(f"| **ratio** | **{ratio['first']:.2f}** | **{ratio['whole']:.2f}** |")
    rounds = len(runs) // 2
    what = (__doc__ or "").split("\n\n", 1)[1].rsplit("\n\n", 1)[0]
    return (
        "# A series into OHIF\n\n"
        f"{what}\n\n{slices} slices of 512 × 512, {rounds} openings of each, medians; "
        f"{os.cpu_count()} cores, {platform.system()}, load {os.getloadavg()[0]:.1f}.\n\n"
        + "\n".join(rows)
        + "\n"
    )


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    if not PLUGIN.exists():
        sys.exit(f"{PLUGIN} is not there; apt-get install orthanc-dicomweb")
    text = page(measure(asked.slices, asked.rounds), asked.slices)
    RESULTS.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
