"""How fast a series becomes a volume, beside dcm2niix and SimpleITK.

Each reader reads the same folder of CT slices in turn, and again, interleaved, so that what else
the machine does meets all of them. Every reading is a process of its own, as memory that a process
was given before costs less. Of overread and SimpleITK the time is taken within it, from the folder
to the voxels; their imports, which a worker does once, are left out. dcm2niix is timed from start
to end, writing its uncompressed NIfTI included, as it cannot do otherwise; the file goes to memory.

What they read is compared: all must find the same mean value.

On a machine whose cores other work has taken, ``chrt -r 5 python -m bench.reading`` runs all of
them ahead of that, and the page says so.

``python -m bench.reading [--slices N] [--rounds N]``
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless

from bench.ingest import SIDE, make_slices

RESULTS = Path(__file__).parent / "results" / "reading.md"
MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108 - a tmpfs
COMPRESSED = 100
"""Slices of the compressed series."""


@dataclass(frozen=True)
class Run:
    """One reading.

    Attributes
    ----------
    seconds : float
        From the folder to the voxels.
    cpu_seconds : float
        User and system time in between.
    volumes : float
        Peak of memory above what the process had before, in volumes of float32.
    mean : float
        Of all voxels.
    """

    seconds: float
    cpu_seconds: float
    volumes: float
    mean: float


def overread(folder: Path) -> Callable[[], float]:
    """Read headers and voxels as a job does."""
    from overread.dicom.study import Instance, Series
    from overread.dicom.volume import read_volume

    files = sorted(folder.iterdir())
    headers = [Instance(dcmread(file, stop_before_pixels=True), file) for file in files]
    volume = read_volume(Series(tuple(headers)))
    return lambda: float(volume.array.mean(dtype=np.float64))


def simpleitk(folder: Path) -> Callable[[], float]:
    """Read as SimpleITK's documentation shows it."""
    import SimpleITK

    itk: Any = SimpleITK
    reader = itk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    return lambda: float(itk.GetArrayViewFromImage(image).mean(dtype=np.float64))


def dcm2niix(folder: Path) -> Callable[[], float]:
    """Convert to a file, uncompressed, in memory."""
    made = Path(tempfile.mkdtemp(prefix="bench-", dir=MEMORY))
    command = ["dcm2niix", "-z", "n", "-b", "n", "-f", "out", "-o", str(made), str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def mean() -> float:
        loaded: Any = nibabel.load(made / "out.nii")
        found = float(np.asarray(loaded.dataobj).mean(dtype=np.float64))
        shutil.rmtree(made)
        return found

    return mean


READERS: dict[str, Callable[[Path], Callable[[], float]]] = {
    "overread": overread,
    "SimpleITK": simpleitk,
    "dcm2niix": dcm2niix,
}


def child(reader: str, folder: Path) -> Run:
    """Read in this process, which has read nothing yet."""
    import SimpleITK  # noqa: F401 - imports are not timed

    import overread.dicom.volume  # noqa: F401

    before, cpu, began = peak(), cpu_seconds(), time.perf_counter()
    mean = READERS[reader](folder)
    seconds, cpu = time.perf_counter() - began, cpu_seconds() - cpu
    volume = len(list(folder.iterdir())) * SIDE * SIDE * 4
    return Run(seconds, cpu, (peak() - before) / volume, mean())


def peak() -> float:
    """Greatest resident memory of this process so far, bytes (proc(5))."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024.0


def cpu_seconds() -> float:
    """User and system time of this process and of those that it waited for."""
    return sum(os.times()[:4])


def measure(reader: str, folder: Path) -> Run:
    """Read a folder in a process of its own, in which numpy does as in a job's."""
    command = [sys.executable, "-W", "ignore", "-m", "bench.reading", "--child", reader]
    answer = subprocess.run(
        [*command, str(folder)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"},
    ).stdout
    return Run(*json.loads(answer))


def compress(source: Path, folder: Path) -> None:
    """Write some slices as JPEG 2000, with a body in them, as noise alone does not compress."""
    folder.mkdir()
    row, column = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    rng = np.random.default_rng(0)
    for number, file in enumerate(sorted(source.iterdir())[:COMPRESSED]):
        one = dcmread(file)
        inside = (column / 0.8) ** 2 + (row / 0.6) ** 2 < 1
        organs = 60 * np.sin(9 * column + number / 9) * np.cos(7 * row) + rng.normal(
            0, 12, row.shape
        )
        values = np.where(inside, 1064 + organs, rng.normal(24, 6, row.shape))
        one.PixelData = values.clip(0, 4095).astype("<u2").tobytes()
        one.compress(JPEG2000Lossless, generate_instance_uid=False)
        one.save_as(folder / file.name)


def report(title: str, runs: dict[str, list[Run]]) -> list[str]:
    """Say one series as a table."""
    median = {name: statistics.median(run.seconds for run in one) for name, one in runs.items()}
    best = min(median[name] for name in runs if not name.startswith("overread"))
    lines = [
        "",
        f"## {title}",
        "",
        "| reader | seconds, median | each round | of the best other | CPU seconds | memory |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in runs.items():
        each = ", ".join(f"{run.seconds:.2f}" for run in one)
        cpu = statistics.median(run.cpu_seconds for run in one)
        memory = "" if name == "dcm2niix" else f"{max(run.volumes for run in one):.2f}"
        ratio = median[name] / best
        lines.append(
            f"| {name} | {median[name]:.2f} | {each} | {ratio:.2f} | {cpu:.2f} | {memory} |"
        )
    means = [run.mean for one in runs.values() for run in one]
    if max(means) - min(means) > 1e-3 * max(1.0, abs(means[0])):
        raise RuntimeError(f"the readers disagree: {means}")
    return lines


def compare(title: str, folder: Path, rounds: int) -> list[str]:
    """Let every reader read a folder, in turn."""
    files = sorted(folder.iterdir())
    for file in files:  # into the page cache
        file.read_bytes()
    runs: dict[str, list[Run]] = {name: [] for name in READERS}
    for _ in range(rounds):
        for name, one in runs.items():
            one.append(measure(name, folder))
    return report(title, runs)


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.reading")
    parser.add_argument("--slices", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="print, and write no page")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        reader, folder = arguments.child
        print(json.dumps(astuple(child(reader, Path(folder)))))
        return
    rounds = arguments.rounds
    RESULTS.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=RESULTS.parent) as made:
        plain, packed = Path(made) / "plain", Path(made) / "packed"
        make_slices(plain, arguments.slices)
        compress(plain, packed)
        tables = [
            *compare(f"{arguments.slices} slices, uncompressed", plain, rounds),
            *compare(f"{COMPRESSED} slices, JPEG 2000 lossless", packed, rounds),
        ]
    load, ahead = os.getloadavg()[0], ""
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        ahead = "; all readers ran with real-time priority, ahead of other work"
    page = "\n".join(
        [
            "# Reading",
            "",
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, "
            f"{os.cpu_count()} cores, load {load:.1f} at the end{ahead}.",
            "",
            f"CT slices of {SIDE} × {SIDE}, from files in the page cache to voxels in memory; "
            f"{rounds} rounds, readers in turn, each reading in a new process. The time "
            "of overread and SimpleITK is without imports; overread's is with reading the headers "
            "and applying the rescaling, to float32. dcm2niix writes a NIfTI file of int16, to "
            "memory. All found the same mean value. Memory is the peak above what the process "
            "had before, in volumes of float32.",
            *tables,
            "",
        ]
    )
    print(page)
    if not arguments.dry:
        RESULTS.write_text(page)


if __name__ == "__main__":
    main()
