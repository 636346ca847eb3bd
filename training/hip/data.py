"""Phantom and real pelvis radiographs for the hip models, and training samples drawn from them.

Pictures are (rows, columns), normalised as the pipeline does it: the 1st percentile 0, the 99th 1,
bone bright. Boxes are x0, y0, x1, y1 in pixels, edges counted from the first pixel's outer corner.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom import dcmread
from torch import Tensor
from torch.nn import functional

from overread.simulator.pelvis import STATES, pelvis

REAL = Path("../shared/data/hip_xray")
REAL_TRAINING = ("1", "10", "115", "116", "12", "121", "123")
"""Real images trained on; 1 and 12 are the same picture."""
REAL_HELD_OUT = ("107", "138", "139")
TRAINING = range(10_000, 12_600)
"""Seeds of the phantoms trained on; every fourth is a child. No other was seen in training."""
HELD_OUT = range(1, 201)
"""Seeds of the phantoms that accuracy is measured on."""
SIZE = 192
"""Rows and columns that the detector sees."""
REGION = 96
"""Rows and columns that the classifier sees."""
MARGIN = 0.15
"""By how much of its size a box is enlarged, on every side, before it is classified."""
SIDES = ("right", "left")
COARSE = {False: 1.1, True: 0.5}
"""Millimetres between pixels of training pictures, of adults and children."""


@dataclass(frozen=True)
class Sample:
    """One picture with its truth.

    Attributes
    ----------
    name : str
        Seed or number.
    image : torch.Tensor
        float16 (rows, columns), in 0 to 1.
    boxes : numpy.ndarray
        float64 (2, 4): right hip and left hip.
    states : tuple of int
        Index in STATES, of each.
    """

    name: str
    image: Tensor
    boxes: NDArray[np.float64]
    states: tuple[int, int]


def normalised(image: NDArray) -> Tensor:
    """Bring a picture, bone bright, to 0 to 1."""
    low, high = np.percentile(image, (1, 99))
    return torch.from_numpy(np.clip((image - low) / max(high - low, 1e-6), 0, 1)).half()


def phantom_sample(seed: int, spacing: float | None = None) -> Sample:
    """Draw a phantom; at COARSE spacing if none is given. Every fourth seed is a child."""
    child = seed % 4 == 3
    drawn = pelvis(seed, spacing=spacing or COARSE[child], photometric="MONOCHROME2", child=child)
    boxes = np.array([hip.box for hip in drawn.hips])
    states = [STATES.index(hip.state) for hip in drawn.hips]
    return Sample(
        str(seed), normalised(drawn.image.astype(np.float32)), boxes, (states[0], states[1])
    )


def real_sample(folder: Path, number: str) -> Sample:
    """Read a real picture; its boxes are laid around the software's landmarks.

    Parameters
    ----------
    folder : pathlib.Path
        The data set's folder.
    number : str
        Such as ``"107"``.

    Returns
    -------
    Sample
        Both hips normal: none is broken or has hardware.
    """
    name = f"331_DDH_{number}"
    image = dcmread(folder / "dicoms" / "xray" / f"{name}.dcm").pixel_array[..., 0]
    marks = json.loads((folder / "labels" / "xray" / f"{name}.json").read_text())
    point = {key: np.array(value) for key, value in marks["landmark_list"][0].items()}
    # The software's l and r are now the patient's, now the picture's: what lies left in the picture
    # is taken for the right hip.
    pairs = [(point[f"pel_{side}_i"], point[f"pel_{side}_o"]) for side in "lr"]
    hips = sorted(pairs, key=lambda pair: float(pair[0][0]))
    apart = hips[1][0][0] - hips[0][0][0]
    boxes = []
    for sign, (inner, outer) in zip((-1, 1), hips, strict=True):
        ends = inner[0] + sign * apart * np.array([-0.07, 0.45])
        top, bottom = outer[1] - 0.09 * apart, inner[1] + 0.41 * apart
        boxes.append((ends.min(), top, ends.max(), bottom))
    limit = np.array([*image.shape[::-1]] * 2)
    return Sample(name, normalised(image.astype(np.float32)), np.clip(boxes, 0, limit), (0, 0))


def cut(image: Tensor, box: NDArray, size: int, turn: float = 0.0) -> Tensor:
    """Letterbox a part of a picture: scaled to fit, centred, padded with 0.

    Parameters
    ----------
    image : torch.Tensor
        float (rows, columns).
    box : numpy.ndarray
        (4,), which part; may reach outside.
    size : int
        Output rows and columns.
    turn : float
        Radians by which the part is turned.

    Returns
    -------
    torch.Tensor
        float32 (1, size, size).
    """
    rows, columns = image.shape
    half = max(box[2] - box[0], box[3] - box[1]) / 2
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    cos, sin = np.cos(turn) * half, np.sin(turn) * half
    theta = torch.tensor(
        [
            [2 * cos / columns, -2 * sin / columns, 2 * x / columns - 1],
            [2 * sin / rows, 2 * cos / rows, 2 * y / rows - 1],
        ],
        dtype=torch.float32,
    )
    # Average while sampling where the picture is much finer than what is wanted.
    finer = max(1, round(2 * half / size))
    grid = functional.affine_grid(theta[None], [1, 1, size * finer, size * finer], False)
    part = functional.grid_sample(image.float()[None, None], grid, align_corners=False)
    part = functional.avg_pool2d(part, finer)[0]
    inside = torch.zeros(size, size)
    wide, tall = ((box[2] - box[0]) / half / 2, (box[3] - box[1]) / half / 2)
    across, down = round(size * wide), round(size * tall)
    left, top = (size - across) // 2, (size - down) // 2
    inside[top : top + down, left : left + across] = 1
    return part * inside


def enlarged(box: NDArray, margin: float = MARGIN) -> NDArray:
    """Enlarge a box by a share of its size on every side."""
    grow = margin * np.array([box[2] - box[0], box[3] - box[1]])
    return np.concatenate([box[:2] - grow, box[2:] + grow])


class Sampler:
    """Draw augmented training samples without end.

    Parameters
    ----------
    phantoms, real : list of Sample
        Training pictures.
    seed : int
        For numpy's generator here and torch's global one.
    share : float
        Chance that a sample is real.
    """

    def __init__(
        self, phantoms: list[Sample], real: list[Sample], seed: int, share: float = 0.12
    ) -> None:
        self.phantoms, self.real, self.share = phantoms, real, share
        self.random = np.random.default_rng(seed)
        torch.manual_seed(seed)

    def pick(self) -> Sample:
        """Choose a picture."""
        pool = self.real if self.random.random() < self.share else self.phantoms
        return pool[self.random.integers(len(pool))]

    def pictures(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw samples for the detector.

        Returns
        -------
        tuple of torch.Tensor
            float32 (count, 1, SIZE, SIZE) and boxes (count, 2, 4) in its pixels; a box is NaN where
            the sample does not hold the hip's middle.
        """
        images, boxes = [], []
        for _ in range(count):
            sample = self.pick()
            rows, columns = sample.image.shape
            frame = np.array([0.0, 0.0, columns, rows])
            grow = self.random.uniform(-0.12, 0.06, 4) * [columns, rows, columns, rows]
            frame += grow * [-1, -1, 1, 1]
            image = cut(sample.image, frame, SIZE)
            half = max(frame[2] - frame[0], frame[3] - frame[1]) / 2
            corner = np.array([frame[0] + frame[2], frame[1] + frame[3]] * 2) / 2 - half
            placed = (sample.boxes - corner) * SIZE / (2 * half)
            low = np.tile((frame[:2] - corner[:2]) * SIZE / (2 * half), 2)
            high = np.tile((frame[2:] - corner[:2]) * SIZE / (2 * half), 2)
            middle = (placed[:, :2] + placed[:, 2:]) / 2
            gone = ((middle < low[:2] + 2) | (middle > high[:2] - 2)).any(axis=1)
            placed = np.clip(placed, low, high)
            if self.random.random() < 0.5:  # what was the left hip is now the right one
                image = image.flip(-1)
                placed[:, [0, 2]] = SIZE - placed[:, [2, 0]]
                placed, gone = placed[::-1].copy(), gone[::-1]
            placed[gone] = np.nan
            images.append(self.shade(image))
            boxes.append(torch.from_numpy(placed).float())
        return torch.stack(images), torch.stack(boxes)

    def regions(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw samples for the classifier.

        Returns
        -------
        tuple of torch.Tensor
            float32 (count, 1, REGION, REGION) and int64 (count,), index in STATES.
        """
        images, states = [], []
        for _ in range(count):
            sample, which = self.pick(), self.random.integers(2)
            box = sample.boxes[which]
            grown = enlarged(box, MARGIN + self.random.normal(0, 0.04))
            grown += self.random.normal(0, 0.05, 4) * np.tile(box[2:] - box[:2], 2)
            image = cut(sample.image, grown, REGION, self.random.normal(0, 0.08))
            images.append(self.shade(image.flip(-1) if self.random.random() < 0.5 else image))
            states.append(sample.states[which])
        return torch.stack(images), torch.tensor(states)

    def shade(self, image: Tensor) -> Tensor:
        """Change brightness, contrast, sharpness and noise."""
        draw = self.random.uniform
        if draw() < 0.3:
            image = functional.avg_pool2d(image[None], 3, 1, 1, count_include_pad=False)[0]
        ground = (image > 0).float()
        shaded = image.clamp(min=1e-3) ** draw(0.7, 1.4) * draw(0.85, 1.1) + draw(-0.05, 0.05)
        if draw() < 0.5:
            shaded = shaded + draw(0, 0.04) * torch.randn_like(image)
        return (shaded * ground).clamp(0, 1)
