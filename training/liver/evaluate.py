"""Measure the ONNX liver model on phantoms that were held out.

Run from the project's root: ``python -m training.liver.evaluate``.
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
from training.brain_tumour.evaluate import dice
from training.liver.data import HELD_OUT, PIXEL, REAL, SIZE, real_scan, window
from training.liver.export import MODEL

from overread.simulator.abdomen import NAMES, abdomen

CONSOLE = Console(width=100)
GAP = 3.0


def labelled(
    session: onnxruntime.InferenceSession, image: NDArray, threshold: float
) -> NDArray[np.uint8]:
    """Give each voxel its most probable label, where that reaches the threshold."""
    rows, columns = (-size % 16 for size in image.shape[1:])
    padded = np.pad(image.astype(np.float32), ((0, 0), (0, rows), (0, columns)))
    (found,) = session.run(["probability"], {"image": padded[None, None]})
    found = found[0, :, :, : image.shape[1], : image.shape[2]]
    return np.where(found.max(0) >= threshold, found.argmax(0) + 1, 0).astype(np.uint8)


def main() -> None:
    """Print a row for each held-out phantom: Dice, and how far the volumes are off."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--threshold", type=float, default=0.35)
    parser.add_argument("--real", type=Path, default=REAL)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(HELD_OUT))
    args = parser.parse_args()
    session = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
    names = list(NAMES.values())
    table = Table(
        "seed", *(f"Dice {name}" for name in names), *(f"{n}, %" for n in names), "left, %"
    )
    rows, seconds = [], []
    for seed in args.seeds:
        drawn = abdomen(seed, shape=(64, SIZE, SIZE), spacing=(GAP, PIXEL, PIXEL))
        began = time.monotonic()
        found = labelled(session, window(drawn.image.array), args.threshold)
        seconds.append(time.monotonic() - began)
        scores = [dice(found == value, drawn.truth.array == value) for value in NAMES]
        voxel = GAP * PIXEL**2 / 1000
        volumes = [float((found == value).sum()) * voxel for value in NAMES]
        true = [drawn.millilitres[name] for name in names]
        off = [100 * (a / b - 1) for a, b in zip(volumes, true, strict=True)]
        share = 100 * (volumes[0] / sum(volumes[:2]) - true[0] / sum(true[:2]))
        rows.append([*scores, *off, share])
        cells = [f"{v:.3f}" for v in scores], [f"{v:+.1f}" for v in (*off, share)]
        table.add_row(str(seed), *cells[0], *cells[1])
    table.caption = "left: the left lobe's share of both, in percentage points off"
    CONSOLE.print(table)
    CONSOLE.print("mean", np.mean(rows, axis=0).round(3))
    CONSOLE.print("worst", np.min(rows, axis=0)[:3].round(3), np.abs(rows).max(0)[3:].round(1))
    if args.real.exists():
        real = real_scan(args.real)
        found = labelled(session, real.image, args.threshold)
        CONSOLE.print(
            f"trained on: real slices, Dice of the liver {dice(found > 0, real.truth > 0):.3f}"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    CONSOLE.print(f"{np.mean(seconds):.1f} s a scan, {peak:.0f} MiB at most")


if __name__ == "__main__":
    main()
