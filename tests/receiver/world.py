"""A small site with receiver processes of its own, and senders that reach them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association as Sending
from sqlalchemy import select

from overread.destinations.dimse import prepare_requestor
from overread.dicom.encoded import file_meta
from overread.site import SiteFolder, load
from overread.store.archive import Archive
from overread.store.database import Database
from overread.store.tables import Instance
from tests.store.objects import as_file

DCMTK = {**os.environ, "TCP_NODELAY": "1", "OVERREAD_ALLOW_ROOT": "1"}

PIPELINE = {
    "name": "bright-spots",
    "version": "1.0.0",
    "ae_title": "BRIGHT",
    "steps": {
        "series": {"use": "select_series", "with": {"where": "always"}},
        "volume": {"use": "read_volume", "in": {"series": "series"}},
        "mask": {"use": "threshold", "in": {"volume": "volume"}, "with": {"above": 500}},
        "volumes": {"use": "measure_volumes", "in": {"mask": "mask"}},
    },
    "results": ["volumes"],
}


class World:
    """A site folder, its database and archive, and receivers that can be killed."""

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self.port = port
        self.settings: dict[str, Any] = {
            "site": {"name": "Test"},
            "storage": {"path": "data", "watermark": "1MB"},
            "dicom": {"port": port, "max_associations": 4},
            "senders": [
                {"ae_title": "SCANNER", "issuer": "HOSPITAL"},
                {"ae_title": "ELSEWHERE", "addresses": ["10.0.0.0/8"]},
            ],
            "destinations": {"PACS": {"with": {"host": "127.0.0.1", "port": 104}}},
        }
        self.routes: list[dict[str, Any]] = []
        self.receivers: list[subprocess.Popen[bytes]] = []
        self.site: SiteFolder
        self.database: Database
        self.archive: Archive

    def build(self) -> World:
        """Write the site folder (JSON is YAML) and make the database."""
        (self.root / "pipelines").mkdir(parents=True, exist_ok=True)
        (self.root / "overread.yaml").write_text(json.dumps(self.settings))
        (self.root / "routes.yaml").write_text(json.dumps({"routes": self.routes}))
        (self.root / "pipelines" / "bright-spots.yaml").write_text(json.dumps(PIPELINE))
        self.site = load(self.root, {})
        self.database = Database(self.site.settings.database_url)
        self.database.upgrade()
        self.archive = Archive(self.site.settings.data / "archive")
        return self

    def start(self, count: int = 1) -> World:
        """Start receivers and wait until each accepts."""
        command = [sys.executable, "-m", "overread.cli.main", "receiver", "--site", str(self.root)]
        for _ in range(count):
            self.receivers.append(subprocess.Popen(command, env=DCMTK, stderr=subprocess.PIPE))
        presences = self.site.settings.data / "receivers"
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            there = len(list(presences.iterdir())) if presences.is_dir() else 0
            if there >= count and self.answers():
                return self
            for receiver in self.receivers:
                if receiver.poll() is not None:
                    assert receiver.stderr is not None
                    raise AssertionError(receiver.stderr.read().decode())
            time.sleep(0.1)
        raise AssertionError("the receiver did not start")

    def answers(self) -> bool:
        """Say whether somebody listens."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """Kill every receiver with SIGKILL."""
        for receiver in self.receivers:
            receiver.send_signal(signal.SIGKILL)
        for receiver in self.receivers:
            receiver.wait()
        self.receivers.clear()

    def stop(self) -> float:
        """Stop every receiver with SIGTERM; return the seconds that it took."""
        began = time.monotonic()
        for receiver in self.receivers:
            receiver.terminate()
        for receiver in self.receivers:
            assert receiver.wait(20) == 0
        self.receivers.clear()
        return time.monotonic() - began

    def close(self) -> None:
        """End what still runs."""
        self.kill()
        if hasattr(self, "database"):
            self.database.close()

    def dcmtk(self, program: str, *arguments: str, called: str = "OVERREAD") -> tuple[int, str]:
        """Run a DCMTK sender as SCANNER; return its exit code and what it said."""
        done = subprocess.run(
            [program, "-aet", "SCANNER", "-aec", called, "127.0.0.1",
             str(self.port), *arguments],
            env=DCMTK, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace")

    def send(self, folder: Path, *, called: str = "OVERREAD") -> tuple[int, str]:
        """Send the files of a folder in their order with storescu, over one association."""
        files = [str(file) for file in sorted(folder.iterdir())]
        return self.dcmtk("storescu", "-v", *files, called=called)

    def associate(
        self,
        *contexts: tuple[str, str],
        called: str = "OVERREAD",
        calling: str = "SCANNER",
    ) -> Sending:
        """Open an association with pynetdicom; each context is a class and a syntax."""
        ae = AE(ae_title=calling)
        for abstract, transfer in contexts or [("1.2.840.10008.1.1", ExplicitVRLittleEndian)]:
            ae.add_requested_context(abstract, transfer)
        return ae.associate(
            "127.0.0.1",
            self.port,
            ae_title=called,
            evt_handlers=[(evt.EVT_CONN_OPEN, prepare_requestor)],
        )

    def rows(self, table: Any) -> list[Any]:
        """All rows of a table, the oldest first where they have numbers."""
        with self.database.read() as session:
            return list(session.scalars(select(table).order_by(table.id)))

    def kept(self) -> dict[str, bytes]:
        """The encoded dataset of each kept instance, as it lies in the archive."""
        found = {}
        for row in self.rows(Instance):
            file = self.archive.path(row.key).read_bytes()
            found[row.sop_instance_uid] = file[file_meta(file)[1] :]
        return found

    def files(self) -> list[str]:
        """Keys of everything in the archive."""
        return sorted(
            str(path.relative_to(self.archive.root))
            for path in self.archive.root.rglob("*")
            if path.is_file()
        )


def write(folder: Path, datasets: list[Dataset], syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write datasets as files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, dataset in enumerate(datasets):
        (folder / f"{number:05}.dcm").write_bytes(as_file(dataset, syntax))
    return folder


def encoded(file: Path) -> bytes:
    """The dataset of a file, without what stands before it."""
    data = file.read_bytes()
    return data[file_meta(data)[1] :]
