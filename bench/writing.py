"""Writing a Segmentation and a structure set, beside highdicom, dcmqi and rt-utils.

A CT of 300 slices of 512 × 512 and a mask with three labels lie on disk. Each writer runs in a
process of its own, from the start of the process to the written file: it reads the mask and what
it needs of the series, makes the object and writes it. They take turns, so that what else the
machine does meets all of them. The Python ones then do it again in the same process, as a warm
worker would. What each wrote is then read back and compared with the mask, and
given to ``dciodvfy``. Memory is the highest resident set of the process, interpreter included,
beside the volume: 512 × 512 × 300 voxels as float32, 315 MB. Aims: not slower than the fastest of
the others whose result is right; at most 2.5 volumes of memory.

``python -m bench.writing [--rounds N] [--dry]``; the others come into ``build/bench``.
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
import venv
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from scipy import ndimage
from tests.dicom.series import affine, images

from overread.dicom.rtstruct import read_rtstruct
from overread.dicom.seg import read_seg
from overread.dicom.study import Instance, Series
from overread.dicom.volume import Mask
from overread.operators.files import to_ras

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
PEERS = Path(__file__).with_name("writing_peers.py")
VENV = ROOT / "build" / "bench"
WANTED = ("dcmqi==1.5.7", "rt-utils==1.2.7", "nibabel")

SHAPE = (300, 512, 512)
VOLUME = int(np.prod(SHAPE)) * 4
GRID = affine((1.0, 0.75, 0.75), origin=(-190.0, -190.0, -150.0))
NAMES = ("organ", "lesions", "vessels")

WAIT = """
import os, sys, time
began = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
print(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Run by a small interpreter: a child's highest resident set counts that of its parent too."""


@dataclass
class Writer:
    """One who writes, and how it did."""

    name: str
    command: Sequence[str]
    kind: str
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    warm_processor: list[float] = field(default_factory=list)
    memory: int = 0
    size: int = 0
    dice: list[float] = field(default_factory=list)
    errors: int = 0


def anatomy() -> NDArray[np.uint8]:
    """Make an organ with lesions and a tree of thin vessels in it."""
    rng = np.random.default_rng(0)
    small = ndimage.gaussian_filter(rng.normal(size=(75, 128, 128)).astype(np.float32), (3, 5, 5))
    z, y, x = np.ogrid[-1:1:75j, -1:1:128j, -1:1:128j]
    bump = small / small.std() * 0.06
    organ = (z / 0.75) ** 2 + ((y + 0.1) / 0.5) ** 2 + ((x + 0.2) / 0.55) ** 2 + bump < 1
    lesions = organ & (small > np.quantile(small[organ], 0.97))
    vessels = organ & (np.abs(np.roll(small, 9, axis=2)) < 0.12 * small.std())
    labels = organ.astype(np.uint8)
    labels[vessels], labels[lesions] = 3, 2
    # To full size; edges smoothed, as a model's are.
    smooth = np.zeros((4, *SHAPE), np.uint8)
    for number in (1, 2, 3):
        part = ndimage.zoom((labels == number).astype(np.float32), 4, order=1, grid_mode=True,
                            mode="nearest")  # fmt: skip
        smooth[number] = (part * 255).astype(np.uint8)
    smooth[0] = 127
    return np.asarray(smooth.argmax(axis=0).astype(np.uint8))


def lay_out_files(folder: Path) -> NDArray[np.uint8]:
    """Write the series, the mask and what describes it."""
    (folder / "images").mkdir()
    rng = np.random.default_rng(1)
    for index in range(SHAPE[0]):
        pixels = rng.integers(-1000, 1000, (1, *SHAPE[1:]), dtype=np.int16)
        shifted = GRID.copy()
        shifted[:3, 3] += index * GRID[:3, 0]

        def number(_: int, one: Dataset, index: int = index) -> None:
            one.InstanceNumber = index + 1
            one.SOPInstanceUID = f"2.25.{10**6 + index}"

        (one,) = images(pixels, shifted, modality="CT", edit=number)
        one.save_as(folder / "images" / f"{index:04d}.dcm", enforce_file_format=True)
    array = anatomy()
    nifti: Any = nibabel  # its annotations are partial
    nifti.save(nifti.Nifti1Image(array.T, to_ras(GRID)), folder / "labels.nii")
    (folder / "labels.json").write_text(json.dumps(NAMES))
    tissue = {"CodeValue": "85756007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Tissue"}
    described = [
        {
            "labelID": number,
            "SegmentLabel": name,
            "SegmentDescription": name,
            "SegmentAlgorithmType": "AUTOMATIC",
            "SegmentAlgorithmName": "bench",
            "SegmentedPropertyCategoryCodeSequence": tissue,
            "SegmentedPropertyTypeCodeSequence": tissue,
            "recommendedDisplayRGBValue": [100, 100, 100],
        }
        for number, name in enumerate(NAMES, start=1)
    ]
    meta = {"SeriesDescription": "bench", "SeriesNumber": "100", "InstanceNumber": "1",
            "ContentCreatorName": "bench", "BodyPartExamined": "",
            "segmentAttributes": [described]}  # fmt: skip
    (folder / "dcmqi.json").write_text(json.dumps(meta))
    return array


def prepare() -> None:
    """Bring the others into their own environment."""
    if not (VENV / "bin" / "itkimage2segimage").exists():
        venv.create(VENV, with_pip=True)
        pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "-q", *WANTED]
        subprocess.run(pip, check=True)


def writers(folder: Path) -> list[Writer]:
    """List who writes."""
    ours, theirs = sys.executable, str(VENV / "bin" / "python")

    def peer(python: str, name: str) -> list[str]:
        return [python, str(PEERS), name, str(folder)]

    dcmqi = [
        str(VENV / "bin" / "itkimage2segimage"),
        "--inputImageList", str(folder / "labels.nii"),
        "--inputDICOMDirectory", str(folder / "images"),
        "--inputMetadata", str(folder / "dcmqi.json"),
        "--outputDICOM", str(folder / "made"),
    ]  # fmt: skip
    return [
        Writer("Overread, SEG", peer(ours, "overread_seg"), "seg"),
        Writer("highdicom 0.28, SEG", peer(ours, "highdicom"), "seg"),
        Writer("dcmqi 1.5.7, SEG", dcmqi, "seg"),
        Writer("Overread, RTSTRUCT", peer(ours, "overread_rtstruct"), "rtstruct"),
        Writer("rt-utils 1.2.7, RTSTRUCT", peer(theirs, "rt_utils"), "rtstruct"),
    ]


def run(writer: Writer, folder: Path) -> None:
    """Let one write once; keep its time and its memory."""
    made = folder / "made"
    made.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-S", "-c", WAIT, *writer.command],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0 or not made.is_file():
        raise SystemExit(f"{writer.name} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    seconds, processor, kilobytes = done.stdout.split()[-3:]
    writer.seconds.append(float(seconds))
    writer.processor.append(float(processor))
    writer.memory = max(writer.memory, int(kilobytes) * 1024)


def run_again(writer: Writer) -> None:
    """Let one that is Python write again and again in one process; keep the median."""
    if str(PEERS) not in writer.command:
        return
    done = subprocess.run([*writer.command, "--again"], capture_output=True, text=True, check=True)
    seconds, processor = done.stdout.split()[-2:]
    writer.warm.append(float(seconds))
    writer.warm_processor.append(float(processor))


def judge(writer: Writer, folder: Path, truth: NDArray[np.uint8], source: Series) -> None:
    """Read back what was written; ask the validator."""
    made = folder / "made"
    writer.size = made.stat().st_size
    dataset = dcmread(made)
    back = (read_seg if writer.kind == "seg" else read_rtstruct)(dataset, source)
    for index in range(len(NAMES)):
        found = back.array == index + 1 if isinstance(back, Mask) else back.array[index] > 0
        wanted = truth == index + 1
        both = int(np.count_nonzero(found & wanted))
        writer.dice.append(2 * both / (np.count_nonzero(found) + np.count_nonzero(wanted)))
    if program := shutil.which("dciodvfy"):
        told = subprocess.run([program, "-new", made], capture_output=True, text=True, check=False)
        lines = (told.stdout + told.stderr).splitlines()
        writer.errors = sum(line.startswith("Error") for line in lines)


def report(all_of_them: Sequence[Writer], rounds: int) -> str:
    """Say it as a page."""
    lines = [
        "# Writing",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end.",
        "",
        "A CT of 300 slices of 512 × 512 and a mask with three labels (an organ, its lesions, thin "
        f"vessels), both on disk. {rounds} rounds in turn; medians. *Process*: a process of its "
        "own, from its start to the written file, interpreter and imports included. *Warm*: the "
        "median of five more times in the same process, as in a worker. Each as seconds by the "
        "clock / of processor time; on a shared machine only the latter compares well. Memory is "
        "the highest resident set of the process, interpreter included, in volumes of 315 MB (the "
        "voxels as float32). Dice: the file read back by the centres of voxels, against the mask, "
        "for each label. Errors: of `dciodvfy`.",
        "",
        "| who | process, s | warm, s | memory, MB | in volumes | file, MB | Dice | errors |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in all_of_them:
        dice = " / ".join(f"{value:.4f}" for value in one.dice)
        lines.append(
            f"| {one.name} | {_both(one.seconds, one.processor)} | "
            f"{_both(one.warm, one.warm_processor)} | {one.memory / 1e6:.0f} | "
            f"{one.memory / VOLUME:.2f} | {one.size / 1e6:.1f} | {dice} | {one.errors} |"
        )
    return "\n".join(lines) + "\n"


def _both(clock: list[float], processor: list[float]) -> str:
    if not clock:
        return "–"
    return f"{statistics.median(clock):.2f} / {statistics.median(processor):.2f}"


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.writing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="print, and write no page")
    chosen = parser.parse_args()
    prepare()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth = lay_out_files(folder)
        files = sorted((folder / "images").iterdir())
        source = Series(
            tuple(Instance(dcmread(file, stop_before_pixels=True), file) for file in files)
        )
        all_of_them = writers(folder)
        for turn in range(chosen.rounds):
            for writer in all_of_them:
                run(writer, folder)
                if turn == 0:
                    judge(writer, folder, truth, source)
                run_again(writer)
    page = report(all_of_them, chosen.rounds)
    print(page)
    if not chosen.dry:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "writing.md").write_text(page)


if __name__ == "__main__":
    main()
