"""How fast images are taken in, durably, beside DCMTK's storescp and Orthanc.

The same CT slices are sent by DCMTK's storescu over one association to each receiver in turn, and
again, interleaved, so that what else the machine does meets all of them. Each begins with an empty
store. Timed is storescu from start to end, the association's opening and release included.

On a machine whose cores other work has taken, each image waits for the scheduler and not for the
receiver: ``chrt -r 5 python -m bench.ingest`` runs all of them ahead of that, and the page says so.

``python -m bench.ingest [--slices N] [--rounds N]``
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

RESULTS = Path(__file__).parent / "results" / "ingest.md"
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1", "OVERREAD_ALLOW_ROOT": "1"}
AE_TITLE = "OVERREAD"
SIDE = 512


@dataclass(frozen=True)
class Run:
    """One sending."""

    seconds: float
    cpu_seconds: float


def make_slices(folder: Path, count: int) -> int:
    """Write CT slices of 512 × 512 (0.5 MB each); return their bytes in all."""
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 4096, SIDE * SIDE, dtype=np.uint16)
    for number in range(count):
        one = Dataset()
        one.SOPClassUID = CTImageStorage
        one.SOPInstanceUID = f"1.2.826.0.1.3680043.10.1.{number + 1}"
        one.StudyDate, one.StudyTime, one.AccessionNumber = "20260102", "030405", "BENCH"
        one.Modality, one.StudyDescription, one.SeriesDescription = "CT", "Bench", "Axial"
        one.PatientName, one.PatientID = "Bench^Mark", "BENCH"
        one.PatientBirthDate, one.PatientSex = "19700101", "O"
        one.StudyInstanceUID = "1.2.826.0.1.3680043.10.2"
        one.SeriesInstanceUID = "1.2.826.0.1.3680043.10.3"
        one.SeriesNumber, one.InstanceNumber = 1, number + 1
        one.ImagePositionPatient = [0, 0, number]
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.PixelSpacing = [0.7, 0.7]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.Rows = one.Columns = SIDE
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
        one.PixelData = np.roll(noise, number).tobytes()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dcmwrite(folder / f"{number:05}.dcm", one, enforce_file_format=True)
    return sum(file.stat().st_size for file in folder.iterdir())


def overread(folder: Path, port: int) -> list[str]:
    """Lay out a site that knows the sender; return the command of its receiver."""
    (folder / "pipelines").mkdir()
    (folder / "routes.yaml").write_text("routes: []\n")
    site = {
        "site": {"name": "Bench"},
        "storage": {"watermark": "1MB"},
        "dicom": {"port": port, "ae_title": AE_TITLE},
        "senders": [{"ae_title": "STORESCU"}],
    }
    (folder / "overread.yaml").write_text(json.dumps(site))  # JSON is YAML
    return [sys.executable, "-m", "overread.cli.main", "receiver", "--site", str(folder)]


def storescp(folder: Path, port: int) -> list[str]:
    """Command of DCMTK's receiver; it writes what it gets, and syncs nothing."""
    return ["storescp", "--bit-preserving", "-aet", AE_TITLE, "-od", str(folder), str(port)]


def orthanc(folder: Path, port: int) -> list[str]:
    """Command of Orthanc, which syncs each file and keeps its index in SQLite."""
    settings = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "SyncStorageArea": True,
        "DicomAet": AE_TITLE,
        "DicomPort": port,
        "DicomAlwaysAllowStore": True,
        "HttpServerEnabled": False,
        "Plugins": [],
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(settings))
    return [shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin") or "Orthanc", str(file)]


RECEIVERS: dict[str, Callable[[Path, int], list[str]]] = {
    "overread": overread,
    "Orthanc": orthanc,
    "storescp": storescp,
}


def measure(name: str, files: Sequence[str]) -> Run:
    """Start a receiver with an empty store, send to it, stop it."""
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=RESULTS.parent))
    port = free_port()
    receiver = subprocess.Popen(
        RECEIVERS[name](folder, port),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port, receiver)
        before = cpu_seconds(receiver.pid)
        began = time.monotonic()
        subprocess.run(
            ["storescu", "-aec", AE_TITLE, "127.0.0.1", str(port), *files],
            env=ENVIRONMENT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.monotonic() - began
        return Run(seconds, cpu_seconds(receiver.pid) - before)
    finally:
        receiver.send_signal(signal.SIGTERM)
        receiver.wait()
        shutil.rmtree(folder)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, its threads included (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(port: int, receiver: subprocess.Popen[bytes]) -> None:
    """Wait until a receiver accepts."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        if receiver.poll() is not None:
            raise RuntimeError(f"the receiver ended with {receiver.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            time.sleep(1)
            return
    raise RuntimeError("the receiver did not start")


def scheduled() -> str:
    """Say it where sender and receivers ran before all other work, as under ``chrt -r 5``."""
    if os.sched_getscheduler(0) == os.SCHED_OTHER:
        return ""
    return "; sender and receivers ran with real-time priority, ahead of that other work"


def report(runs: dict[str, list[Run]], slices: int, size: int) -> str:
    """Say it as a page."""
    speeds = {name: [size / 1e6 / run.seconds for run in one] for name, one in runs.items()}
    median = {name: statistics.median(one) for name, one in speeds.items()}
    lines = [
        "# Ingest",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end{scheduled()}.",
        "",
        f"{slices} CT slices, {size / 1e6:.0f} MB in all, sent by `storescu` over one association "
        "with `TCP_NODELAY=1` on both sides, to an empty store, timed from its start to its end; "
        f"{len(next(iter(runs.values())))} rounds, receivers in turn. overread answers Success "
        "once file, folder entry and row are synced; Orthanc runs with `SyncStorageArea`; "
        "storescp syncs nothing.",
        "",
        "| receiver | MB/s, median | MB/s, each round | of Orthanc | CPU seconds per GB |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, one in runs.items():
        each = ", ".join(f"{speed:.0f}" for speed in speeds[name])
        cpu = statistics.median(run.cpu_seconds for run in one) / (size / 1e9)
        ratio = median[name] / median["Orthanc"]
        lines.append(f"| {name} | {median[name]:.0f} | {each} | {ratio:.2f} | {cpu:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.ingest")
    parser.add_argument("--slices", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="print, and write no page")
    arguments = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=RESULTS.parent) as below:
        size = make_slices(Path(below) / "in", arguments.slices)
        files = [str(file) for file in sorted((Path(below) / "in").iterdir())]
        runs: dict[str, list[Run]] = {name: [] for name in RECEIVERS}
        for _ in range(arguments.rounds):
            for name in RECEIVERS:
                runs[name].append(measure(name, files))
    page = report(runs, arguments.slices, size)
    print(page)
    if not arguments.dry:
        RESULTS.write_text(page)


if __name__ == "__main__":
    main()
