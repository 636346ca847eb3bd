"""Measure the ONNX model on the held-out patients.

Run from the project's root: ``python -m training.brain_tumour.evaluate``.
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from training.brain_tumour.data import DATA, HELD_OUT, load_scans
from training.brain_tumour.export import MODEL

CONSOLE = Console(width=100)


def keep_components(mask: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    """Drop small components (26-connected).

    Parameters
    ----------
    mask : numpy.ndarray
        bool (Z, Y, X).
    least : int
        Components of fewer voxels than this are dropped.

    Returns
    -------
    numpy.ndarray
        bool (Z, Y, X).
    """
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    keep = np.bincount(labels.ravel()) >= least
    keep[0] = False
    return keep[labels]


def dice(found: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    """Give the Dice coefficient of two masks of the same shape; 1 where both are empty."""
    total = int(found.sum() + reference.sum())
    return float(2 * (found & reference).sum() / total) if total else 1.0


def main() -> None:
    """Print a table with one row for each held-out scan, then speed and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--patients", nargs="*", default=list(HELD_OUT))
    parser.add_argument("--threshold", type=float, default=0.7)
    parser.add_argument("--least", type=int, default=50, help="voxels of the smallest component")
    args = parser.parse_args()
    session = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
    table = Table("patient", "time", "reference", "found", "Dice", "found, kept", "Dice, kept")
    seconds, scores = [], []
    for scan in load_scans(args.data, tuple(args.patients)):
        began = time.monotonic()
        (probability,) = session.run(["probability"], {"image": scan.image[None, None]})
        seconds.append(time.monotonic() - began)
        found = probability[0, 0] > args.threshold
        kept = keep_components(found, args.least)
        scores.append((dice(found, scan.mask), dice(kept, scan.mask)))
        counts = f"{scan.mask.sum()}", f"{found.sum()}", f"{scores[-1][0]:.3f}"
        table.add_row(scan.patient, scan.time, *counts, f"{kept.sum()}", f"{scores[-1][1]:.3f}")
    table.caption = f"voxels; threshold {args.threshold}; kept: components of {args.least} or more"
    CONSOLE.print(table)
    plain, kept_mean = np.mean(scores, axis=0)
    CONSOLE.print(f"mean Dice {plain:.3f}, kept {kept_mean:.3f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    CONSOLE.print(f"{np.mean(seconds):.1f} s a scan, {peak:.0f} MiB at most")


if __name__ == "__main__":
    main()
