"""Drawn fruit, as an MR scanner would see them: no head, however large."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.dicom.volume import Volume

SPACING = (4.0, 1.0, 1.0)

FRUIT = {
    # name: half axes in mm (x, y, z), peel (thickness in mm, value), what its flesh is like
    "watermelon": ((95, 95, 120), (12.0, 0.75), "seeds"),
    "melon": ((75, 80, 85), (8.0, 0.6), "hollow"),
    "grapefruit": ((55, 55, 50), (7.0, 0.25), "segments"),
    "orange": ((38, 38, 36), (4.0, 0.35), "segments"),
    "kiwi": ((24, 25, 34), (0.5, 0.6), "seeds"),
    "pineapple": ((60, 60, 95), (6.0, 0.7), "core"),
    "pumpkin": ((110, 110, 75), (4.0, 0.8), "hollow"),
    "pomelo with an oily peel": ((80, 80, 85), (3.0, 1.4), "segments"),
}


def fruit(name: str, *, shape: tuple[int, int, int] = (40, 256, 256), seed: int = 1) -> Volume:
    """Draw one: float32, arbitrary units, axial, with noise, blur and partial volume."""
    axes, (thick, peel), kind = FRUIT[name]
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, SPACING[2]], [0, SPACING[1], 0], [SPACING[0], 0, 0]])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    k, i, j = np.meshgrid(*map(np.arange, shape), indexing="ij")
    x, y, z = (affine[:3, :3] @ np.stack([k, i, j]).reshape(3, -1) + affine[:3, 3:]).reshape(
        3, *shape
    )
    radius = np.sqrt((x / axes[0]) ** 2 + (y / axes[1]) ** 2 + (z / axes[2]) ** 2)
    depth = (1 - radius) * min(axes)
    image = np.where(depth > 0, peel, 0.0)
    flesh = depth > thick
    image[flesh] = (1 + 0.08 * _smooth(rng, shape))[flesh]
    angle = np.arctan2(y, x)
    if kind == "segments":
        image[flesh & (np.abs(np.sin(5 * angle)) < 0.06)] = 0.4
    elif kind == "hollow":
        image[radius < 0.45] = 0.5
    elif kind == "core":
        image[np.hypot(x, y) < 12] = 0.7
    elif kind == "seeds":
        image[flesh & (_smooth(rng, shape, 1.5) > 2.2)] = 0.1
    blurred = ndimage.gaussian_filter(image, (0.3, 0.6, 0.6))
    noisy = np.hypot(blurred + rng.normal(0, 0.025, shape), rng.normal(0, 0.025, shape))
    return Volume((700 * noisy).astype(np.float32), affine, modality="MR")


def _smooth(
    rng: np.random.Generator, shape: tuple[int, ...], width: float = 5.0
) -> NDArray[np.float64]:
    field = ndimage.gaussian_filter(rng.normal(size=shape), (width / 4, width, width))
    return np.asarray(field / field.std())
