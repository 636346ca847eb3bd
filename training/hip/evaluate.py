"""Measure both ONNX hip models, one after the other as the pipeline runs them, on held-out images.

Run from the project's root: ``python -m training.hip.evaluate``.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from training.hip.data import (
    HELD_OUT,
    REAL,
    REAL_HELD_OUT,
    REAL_TRAINING,
    REGION,
    SIDES,
    SIZE,
    Sample,
    cut,
    enlarged,
    phantom_sample,
    real_sample,
)
from training.hip.export import FILES

from overread.simulator.pelvis import STATES

CONSOLE = Console(width=100)
FINE = 0.3
"""Millimetres between pixels of an adult phantom here; twice finer would change nothing."""


def overlap(one: NDArray, other: NDArray) -> float:
    """Give the intersection over union of two boxes."""
    both = (np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])).clip(0).prod()
    areas = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()
    return float(both / (areas - both))


class Pair:
    """Detector and classifier."""

    def __init__(self) -> None:
        self.detector, self.classifier = (
            onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            for path in FILES.values()
        )

    def find(self, sample: Sample) -> list[tuple[NDArray, float]]:
        """Give the best box and its score, of the right hip and of the left."""
        rows, columns = sample.image.shape
        frame = np.array([0.0, 0.0, columns, rows])
        image = cut(sample.image, frame, SIZE).numpy()
        boxes, scores = self.detector.run(["boxes", "scores"], {"image": image[None]})
        half = max(rows, columns) / 2
        corner = np.array([columns / 2 - half, rows / 2 - half] * 2)
        placed = np.clip(boxes[0] * 2 * half / SIZE + corner, 0, [columns, rows, columns, rows])
        best = [int(scores[0, :, side].argmax()) for side in range(len(SIDES))]
        return [(placed[i], float(scores[0, i, side])) for side, i in enumerate(best)]

    def state(self, sample: Sample, box: NDArray) -> int:
        """Give the most probable state of the hip in a box."""
        rows, columns = sample.image.shape
        inside = np.clip(enlarged(box), 0, [columns, rows, columns, rows])
        image = cut(sample.image, inside, REGION).numpy()
        (probability,) = self.classifier.run(["probability"], {"image": image[None]})
        return int(probability[0].argmax())


def measure(pair: Pair, samples: list[Sample], threshold: float) -> list[str]:
    """Measure a set: hips found, mean and least overlap, states right, and the confusion."""
    confusion = np.zeros((len(STATES), len(STATES)), dtype=int)
    overlaps, found, swapped = [], 0, 0
    for sample in samples:
        for side, (box, score) in enumerate(pair.find(sample)):
            agreement = overlap(box, sample.boxes[side])
            swapped += overlap(box, sample.boxes[1 - side]) > agreement
            found += score >= threshold and agreement >= 0.5
            overlaps.append(agreement)
            confusion[sample.states[side], pair.state(sample, box)] += 1
    right = int(np.trace(confusion))
    return [
        f"{found} / {len(overlaps)}",
        f"{np.mean(overlaps):.3f}",
        f"{np.min(overlaps):.3f}",
        f"{swapped}",
        f"{right} / {len(overlaps)}",
        " ".join("/".join(map(str, row)) for row in confusion),
    ]


def main() -> None:
    """Print a row for each set of images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, default=REAL)
    parser.add_argument("--threshold", type=float, default=0.3)
    parser.add_argument("--phantoms", type=int, default=len(HELD_OUT))
    args = parser.parse_args()
    pair = Pair()
    sets = {"phantoms, adults": [], "phantoms, children": []}
    for seed in HELD_OUT[: args.phantoms]:
        child = seed % 4 == 3
        sample = phantom_sample(seed, None if child else FINE)
        sets["phantoms, children" if child else "phantoms, adults"].append(sample)
    if args.real.exists():
        sets["real, held out"] = [real_sample(args.real, n) for n in REAL_HELD_OUT]
        sets["real, trained on"] = [real_sample(args.real, n) for n in REAL_TRAINING]
    table = Table("images", "hips found", "mean IoU", "least", "sides swapped", "states right", "")
    for name, samples in sets.items():
        table.add_row(name, *measure(pair, samples, args.threshold))
    table.caption = f"last column: by true state ({', '.join(STATES)}), how many were called each"
    CONSOLE.print(table)


if __name__ == "__main__":
    main()
