"""How fast a series becomes a volume, beside dcm2niix and SimpleITK.

Each reader reads the same folder of CT slices in turn, and again, interleaved, so that what else
the machine does meets all of them. Every reading is a process of its own, as memory that a process
was given before costs less. Of overread and SimpleITK the time is taken within it, from the folder
to the voxels; their imports, which a worker does once, are left out. dcm2niix is timed from start
to end, writing its uncompressed NIfTI included, as it cannot do otherwise; the file goes to memory.

What they read is compared: all must find the same mean value.

``python -m bench.reading [--slices N] [--rounds N]``
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
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
    volumes : float
        Peak of memory above what the process had before, in volumes of float32.
    mean : float
        Of all voxels.
    """

    seconds: float
    volumes: float
    mean: float


def overread(folder: Path) -> tuple[float, float, float]:
    """Read headers and voxels as a job does."""
    from overread.dicom.study import Instance, Series
    from overread.dicom.volume import read_volume

    before, began = peak(), time.perf_counter()
    files = sorted(folder.iterdir())
    headers = [Instance(dcmread(file, stop_before_pixels=True), file) for file in files]
    volume = read_volume(Series(tuple(headers)))
    seconds = time.perf_counter() - began
    return seconds, peak() - before, float(volume.array.mean(dtype=np.float64))


def simpleitk(folder: Path) -> tuple[float, float, float]:
    """Read as SimpleITK's documentation shows it."""
    import SimpleITK

    before, began = peak(), time.perf_counter()
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    seconds = time.perf_counter() - began
    after = peak()
    array = SimpleITK.GetArrayViewFromImage(image)
    return seconds, after - before, float(array.mean(dtype=np.float64))


def peak() -> float:
    """Greatest resident memory of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def dcm2niix(folder: Path, volume: int) -> Run:
    """Convert; the mean is taken afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=MEMORY) as made:
        began = time.perf_counter()
        child = subprocess.Popen(
            ["dcm2niix", "-z", "n", "-b", "n", "-f", "out", "-o", made, str(folder)],
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        if status:
            raise RuntimeError(f"dcm2niix ended with {status}")
        loaded: Any = nibabel.load(Path(made) / "out.nii")  # type: ignore[attr-defined]
        mean = float(np.asarray(loaded.dataobj).mean(dtype=np.float64))
    return Run(seconds, usage.ru_maxrss * 1024 / volume, mean)


CHILDREN: dict[str, Callable[[Path], tuple[float, float, float]]] = {
    "overread": overread,
    "SimpleITK": simpleitk,
}
READERS = (*CHILDREN, "dcm2niix")


def measure(reader: str, folder: Path, volume: int) -> Run:
    """Read a folder in a process of its own."""
    if reader == "dcm2niix":
        return dcm2niix(folder, volume)
    command = [sys.executable, "-W", "ignore", "-m", "bench.reading", "--child", reader]
    answer = subprocess.run(
        [*command, str(folder)], check=True, capture_output=True, text=True
    ).stdout
    seconds, memory, mean = json.loads(answer)
    return Run(seconds, memory / volume, mean)


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


def report(title: str, runs: dict[str, list[Run]], slices: int) -> list[str]:
    """Say one series as a table."""
    median = {name: statistics.median(run.seconds for run in one) for name, one in runs.items()}
    best = min(median[name] for name in runs if name != "overread")
    lines = [
        "",
        f"## {title}",
        "",
        "| reader | seconds, median | seconds, each round | of the best other | peak memory, volumes |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, one in runs.items():
        each = ", ".join(f"{run.seconds:.2f}" for run in one)
        memory = max(run.volumes for run in one)
        lines.append(
            f"| {name} | {median[name]:.2f} | {each} | {median[name] / best:.2f} | {memory:.2f} |"
        )
    means = [run.mean for one in runs.values() for run in one]
    if max(means) - min(means) > 1e-3 * max(1.0, abs(means[0])):
        raise RuntimeError(f"the readers disagree: {means}")
    lines += ["", f"A volume is {slices} × {SIDE} × {SIDE} values of float32."]
    return lines


def compare(title: str, folder: Path, rounds: int) -> list[str]:
    """Let every reader read a folder, in turn."""
    files = sorted(folder.iterdir())
    for file in files:  # into the page cache
        file.read_bytes()
    volume = len(files) * SIDE * SIDE * 4
    runs: dict[str, list[Run]] = {name: [] for name in READERS}
    for _ in range(rounds):
        for name in READERS:
            runs[name].append(measure(name, folder, volume))
    return report(title, runs, len(files))


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
        print(json.dumps(CHILDREN[reader](Path(folder))))
        return
    RESULTS.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=RESULTS.parent) as made:
        plain, packed = Path(made) / "plain", Path(made) / "packed"
        make_slices(plain, arguments.slices)
        compress(plain, packed)
        tables = [
            *compare(f"{arguments.slices} slices, uncompressed", plain, arguments.rounds),
            *compare(f"{COMPRESSED} slices, JPEG 2000 lossless", packed, arguments.rounds),
        ]
    load = os.getloadavg()[0]
    page = "\n".join(
        [
            "# Reading",
            "",
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, "
            f"{os.cpu_count()} cores, load {load:.1f} at the end.",
            "",
            f"CT slices of {SIDE} × {SIDE}, from files in the page cache to voxels in memory; "
            f"{arguments.rounds} rounds, readers in turn, each reading in a new process. The time "
            "of overread and SimpleITK is without imports; overread's is with reading the headers "
            "and applying the rescaling. dcm2niix writes a NIfTI file, to memory. All found the "
            "same mean value.",
            *tables,
            "",
        ]
    )
    print(page)
    if not arguments.dry:
        RESULTS.write_text(page)


if __name__ == "__main__":
    main()
