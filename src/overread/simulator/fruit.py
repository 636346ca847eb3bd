"""Drawn fruit in an MR scanner: what a model of the head must not be given.

Each is an ellipsoid with a peel and flesh, and segments, seeds or a hollow inside; blurred and
noisy as a scan is. Nothing here was measured on any fruit: what counts is that they are round,
bright and of many sizes, as heads are, and have no fat and bone below their skin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.dicom.volume import Volume

SPACING = (4.0, 1.0, 1.0)
"""Millimetres along (slice, row, column)."""

SHAPE = (36, 256, 256)

_SCALE = 700.0
"""Stored value of flesh."""


@dataclass(frozen=True)
class Fruit:
    """How a fruit is drawn.

    Attributes
    ----------
    half_axes : tuple of float
        In mm: left to right, front to back, feet to head.
    peel : tuple of float
        Its thickness in mm, and its brightness; flesh has 1.
    inside : str
        What is in it.
    """

    half_axes: tuple[float, float, float]
    peel: tuple[float, float]
    inside: Literal["seeds", "hollow", "segments", "core"]


FRUIT = {
    "watermelon": Fruit((95, 95, 120), (12.0, 0.75), "seeds"),
    "melon": Fruit((75, 80, 85), (8.0, 0.6), "hollow"),
    "grapefruit": Fruit((55, 55, 50), (7.0, 0.25), "segments"),
    "orange": Fruit((38, 38, 36), (4.0, 0.35), "segments"),
    "kiwi": Fruit((24, 25, 34), (0.5, 0.6), "seeds"),
    "pineapple": Fruit((60, 60, 95), (6.0, 0.7), "core"),
    "pumpkin": Fruit((110, 110, 75), (4.0, 0.8), "hollow"),
    "pomelo with an oily peel": Fruit((80, 80, 85), (3.0, 1.4), "segments"),
}


def fruit(name: str, *, seed: int = 1) -> Volume:
    """Scan a fruit.

    Parameters
    ----------
    name : str
        One of `FRUIT`.
    seed : int
        Of its texture and of the noise.

    Returns
    -------
    Volume
        uint16, (36, 256, 256), axial; the same for the same arguments.
    """
    drawn = FRUIT[name]
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, SPACING[2]], [0, SPACING[1], 0], [SPACING[0], 0, 0]])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    z, y, x = (
        ((np.arange(size) - (size - 1) / 2) * step).reshape([-1 if a == b else 1 for b in range(3)])
        for a, (size, step) in enumerate(zip(SHAPE, SPACING, strict=True))
    )
    half = drawn.half_axes
    radius = np.sqrt((x / half[0]) ** 2 + (y / half[1]) ** 2 + (z / half[2]) ** 2)
    depth = (1 - radius) * min(half)
    thick, brightness = drawn.peel
    image = np.where(depth > 0, brightness, 0.0)
    flesh = depth > thick
    image[flesh] = (1 + 0.08 * _texture(rng, 5.0))[flesh]
    if drawn.inside == "segments":
        image[flesh & (np.abs(np.sin(5 * np.arctan2(y, x))) < 0.06)] = 0.4
    elif drawn.inside == "hollow":
        image[radius < 0.45] = 0.5
    elif drawn.inside == "core":
        image[np.broadcast_to(np.hypot(x, y) < 12, SHAPE)] = 0.7
    else:
        image[flesh & (_texture(rng, 1.5) > 2.2)] = 0.1
    real = ndimage.gaussian_filter(image, (0.3, 0.6, 0.6)) + rng.normal(0, 0.025, SHAPE)
    stored = _SCALE * np.hypot(real, rng.normal(0, 0.025, SHAPE))
    return Volume(np.round(stored).astype(np.uint16), affine, modality="MR")


def _texture(rng: np.random.Generator, width: float) -> NDArray[np.float64]:
    """Draw a smooth random field, mean 0 and deviation 1; ``width`` in mm."""
    sigma = [width / step for step in SPACING]
    field = ndimage.gaussian_filter(rng.standard_normal(SHAPE), sigma)
    return np.asarray((field - field.mean()) / field.std())
