"""A phantom patient: a drawn head with an enhancing tumour whose true volume is known.

Nothing here is anyone's. The head is drawn from ellipsoids and smooth random fields at the scale
that the brain-tumour example was trained on (normal brain 1, scalp fat about 2.5, enhancing tumour
about 1.8), then spoilt as a scanner would: partial volume through thick slices, blur, uneven coil
sensitivity, noise. The tumour is a lumpy ball; a large one has a core that does not enhance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.dicom.volume import Volume

Affine = NDArray[np.float64]
Field = NDArray[np.float32]

SHAPE = (24, 256, 256)
SPACING = (6.5, 0.9375, 0.9375)
"""Matrix and millimetres along (slice, row, column), as in the training data's protocol."""

TIME_POINTS = 6
RADII = (8.5, 10.5, 12.5, 14.5, 16.5, 18.5)
"""Mean radius of the tumour in mm, at each time point."""

_CENTRE = np.array([33.0, -20.0, 24.0])
"""The tumour's centre: left frontal lobe, LPS mm from the middle of the head."""
_HALF_AXES = np.array([72.0, 92.0, 106.0])
_SCALE = 900.0
"""Stored value of normal brain."""
_FINE = (10, 4, 4)
"""How often each voxel is divided along (slice, row, column) to tell how much of it is tumour."""
_SLABS = 3
"""Thin slices that are drawn and averaged for each thick one."""
_FIELD_STEP = 2.0
"""Grid of the smooth random fields, mm."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """One scan of the phantom patient.

    Attributes
    ----------
    image : Volume
        uint16, (24, 256, 256), T1-weighted with contrast medium.
    truth : Volume
        uint8 on the same grid: 1 where more than half of the voxel is enhancing tumour.
    millilitres : float
        The enhancing tumour's true volume, from the finely divided grid; the sum over ``truth``
        comes near it.
    """

    image: Volume
    truth: Volume
    millilitres: float


def phantom(time_point: int, *, seed: int = 6) -> Phantom:
    """Scan the phantom patient.

    Parameters
    ----------
    time_point : int
        0 to 5; the tumour is larger at each. The head is the same one, put into the scanner anew.
    seed : int
        Which patient.

    Returns
    -------
    Phantom
        The same for the same arguments.
    """
    if not 0 <= time_point < TIME_POINTS:
        raise ValueError(f"time point {time_point} is not one of 0 to {TIME_POINTS - 1}")
    rng = np.random.default_rng([seed, time_point])
    affine = _grid()
    pose = _pose(rng)
    head = np.mean(
        [_head(_points(affine, slab, pose), seed) for slab in _slabs()], axis=0, dtype=np.float32
    )
    rim, core = _tumour(affine, pose, RADII[time_point], seed)
    swelling = ndimage.gaussian_filter(rim + core, (0.8, 9, 9))
    image = head * (1 - 0.25 * np.clip(2 * swelling, 0, 1) * (head < 1.3))
    texture = 1 + 0.12 * _sampled(_noise(seed + 3, 2.5), _points(affine, 0.0, pose))
    image = image * (1 - rim - core) + 1.5 * texture * rim + 0.55 * core
    voxel = float(np.prod(SPACING))
    grid = Volume(_acquired(image, rng), affine, modality="MR")
    return Phantom(
        grid,
        grid.with_array((rim > 0.5).astype(np.uint8)),
        float(rim.sum(dtype=np.float64)) * voxel / 1000,
    )


def _grid() -> Affine:
    """Lay out axial slices from the skull base up, centred on the head."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, SPACING[2]], [0, SPACING[1], 0], [SPACING[0], 0, 0]])
    middle = (np.array(SHAPE) - 1) / 2
    affine[:3, 3] = -affine[:3, :3] @ middle + (0, 0, 9)
    return affine


def _slabs() -> Field:
    return ((np.arange(_SLABS) + 0.5) / _SLABS - 0.5).astype(np.float32)


def _pose(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw how the head lies in the scanner: scanner to head coordinates, 4 by 4."""
    turned, tipped = np.radians(rng.normal(0, 2.0, 2))
    about_z = np.array(
        [[np.cos(turned), -np.sin(turned), 0], [np.sin(turned), np.cos(turned), 0], [0, 0, 1]]
    )
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(tipped), -np.sin(tipped)], [0, np.sin(tipped), np.cos(tipped)]]
    )
    pose = np.eye(4)
    pose[:3, :3] = about_z @ about_x
    pose[:3, 3] = rng.normal(0, 2.0, 3)
    return pose


def _points(affine: Affine, slab: float, pose: NDArray[np.float64]) -> Field:
    """Head coordinates of every voxel's centre, shape (3, slices, rows, columns), mm."""
    matrix = (pose @ affine).astype(np.float32)
    indices = [np.arange(count, dtype=np.float32) for count in SHAPE]
    indices[0] = indices[0] + slab
    k, i, j = np.meshgrid(*indices, indexing="ij", sparse=True)
    return np.stack([row[0] * k + row[1] * i + row[2] * j + row[3] for row in matrix[:3]])


@cache
def _noise(seed: int, width: float) -> Field:
    """Draw a smooth random field over the head, mean 0 and deviation 1; ``width`` in mm."""
    size = int(260 / _FIELD_STEP)
    white = np.random.default_rng(seed).standard_normal((size, size, size), dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, width / _FIELD_STEP)
    return np.asarray((smooth - smooth.mean()) / smooth.std(), dtype=np.float32)


def _sampled(field: Field, points: Field) -> Field:
    middle = (field.shape[0] - 1) / 2
    return np.asarray(
        ndimage.map_coordinates(field, points / _FIELD_STEP + middle, order=1, mode="nearest"),
        dtype=np.float32,
    )


def _ball(points: Field, centre: tuple[float, float, float], axes: tuple[float, ...]) -> Field:
    """Distance from an ellipsoid's centre, 1 on its surface."""
    parts = [((points[i] - np.float32(centre[i])) / np.float32(axes[i])) ** 2 for i in range(3)]
    return np.asarray(np.sqrt(parts[0] + parts[1] + parts[2]), dtype=np.float32)


def _head(points: Field, seed: int) -> Field:
    """Draw the head without the tumour, at the points given."""
    x, y, z = points
    broad, middle, fine = (_sampled(_noise(seed + i, w), points) for i, w in enumerate((22, 6, 3)))
    up = np.maximum(z, 0) / _HALF_AXES[2]
    down = 1 - 0.12 * (np.minimum(z, 0) / 75) ** 2
    depth = np.sqrt((x / (_HALF_AXES[0] * down)) ** 2 + (y / (_HALF_AXES[1] * down)) ** 2 + up**2)
    depth += 0.008 * broad
    image = np.zeros_like(depth)
    for outer, value in (
        (1.0, 1.2),  # skin
        (0.985, 2.6),  # fat below it
        (0.93, 0.12),  # outer table of the skull
        (0.905, 0.9),  # its marrow
        (0.89, 0.1),  # inner table
        (0.865, 1.5),  # dura and veins, which enhance
        (0.857, 0.35),  # fluid
    ):
        image[depth < outer] = value
    image[(depth < 0.93) & (depth > 0.905) & (middle > 1.0)] = 0.9
    brain = depth < 0.845 + 0.006 * fine
    white = 1 + 0.05 * np.tanh(2 * (0.62 - depth + 0.1 * middle)) + 0.02 * fine
    image[brain] = white[brain]
    sulci = brain & (depth > 0.62) & (np.abs(middle) < 0.10 * (depth - 0.5) / 0.3)
    image[sulci] = 0.6
    image[brain & (np.abs(x) < 0.8) & (z > 20)] = 0.55
    _inside(image, points, depth, fine)
    _below(image, points, depth, (broad, middle, fine))
    return np.asarray(image, dtype=np.float32)


def _inside(image: Field, points: Field, depth: Field, fine: Field) -> None:
    """Draw ventricles, deep grey matter and the large veins."""
    for side in (-1.0, 1.0):
        grey = _ball(points, (side * 24, 0, 8), (12, 20, 14)) < 1
        image[grey] = 0.95 + 0.02 * fine[grey]
        horn = _ball(points, (side * 6, -6, 20), (7, 34, 9)) < 1
        image[horn] = 0.4
        image[_ball(points, (side * 20, 40, 12), (6, 16, 9)) < 1] = 0.4
        image[_ball(points, (side * 19, 36, 12), (2.2, 5, 4)) < 1] = 1.7
    image[(_ball(points, (0, 78, 20), (3.5, 4.5, 70)) < 1) & (depth < 0.88)] = 1.9
    vessels = (depth < 0.84) & (depth > 0.45) & (fine > 3.3)
    image[vessels] = 1.5


def _below(image: Field, points: Field, depth: Field, noise: tuple[Field, Field, Field]) -> None:
    """Draw what lies in front of and below the brain: face, eyes, air."""
    x, y, z = points
    broad, middle, fine = noise
    base = np.minimum(-28 + 0.25 * (-y - 20) - z, -12 + 4 * broad - y)
    face = (depth < 0.93) & (base > 0)
    tissue = 0.72 + 0.12 * np.tanh(middle) + 0.04 * fine
    image[face] = tissue[face]
    image[face & (base < 5)] = 0.15  # the bone of the skull base
    image[face & (np.abs(x) < 17) & (np.abs(y + 45) < 26) & (broad + 0.6 * middle > 0)] = 0.05
    for side in (-1.0, 1.0):
        image[_ball(points, (side * 31, -66, -36), (13, 14, 13)) < 1] = 0.45


def _tumour(
    affine: Affine, pose: NDArray[np.float64], radius: float, seed: int
) -> tuple[Field, Field]:
    """Tell how much of each voxel is enhancing tumour, and how much is its core.

    Returns
    -------
    rim, core : ndarray, shape (slices, rows, columns)
        Fractions, 0 to 1.
    """
    rim, core = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    matrix = pose @ affine
    centre = np.linalg.solve(matrix, np.append(_CENTRE, 1))[:3]
    reach = np.ceil(1.5 * radius / np.array(SPACING)).astype(int) + 1
    low = np.maximum(np.floor(centre).astype(int) - reach, 0)
    high = np.minimum(np.ceil(centre).astype(int) + reach + 1, SHAPE)
    divided = [
        low[axis] + (np.arange((high[axis] - low[axis]) * _FINE[axis]) + 0.5) / _FINE[axis] - 0.5
        for axis in range(3)
    ]
    k, i, j = np.meshgrid(*divided, indexing="ij", sparse=True)
    offset = np.stack(
        [
            matrix[a, 0] * k + matrix[a, 1] * i + matrix[a, 2] * j + matrix[a, 3] - _CENTRE[a]
            for a in range(3)
        ]
    )
    distance = np.linalg.norm(offset, axis=0)
    direction = offset / np.maximum(distance, 1e-6)
    rng = np.random.default_rng([seed, 99])
    lumps = np.zeros_like(distance)
    for order, height in ((2, 0.10), (3, 0.08), (5, 0.05)):
        axis, phase = rng.standard_normal(3), rng.uniform(0, 2 * np.pi)
        lumps += height * np.sin(order * (direction.T @ (axis / np.linalg.norm(axis))).T + phase)
    surface = radius * (1 + lumps)
    hollow = max(radius - 9.0, 0.0) * (1 - lumps)
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    rim[window] = _coarse((distance < surface) & (distance >= hollow))
    core[window] = _coarse(distance < hollow)
    return rim, core


def _coarse(inside: NDArray[np.bool_]) -> Field:
    slices, rows, columns = (n // f for n, f in zip(inside.shape, _FINE, strict=True))
    parts = inside.reshape(slices, _FINE[0], rows, _FINE[1], columns, _FINE[2])
    return np.asarray(parts.mean(axis=(1, 3, 5)), dtype=np.float32)


def _acquired(image: Field, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Blur, shade and add noise as a scanner would, and store as integers."""
    blurred = ndimage.gaussian_filter(image, (0, 0.6, 0.6))
    k, i, j = (np.linspace(-1, 1, count, dtype=np.float32) for count in SHAPE)
    slope = rng.normal(0, 0.04, 3)
    shade = 1 + slope[0] * k[:, None, None] + slope[1] * i[:, None] + slope[2] * j
    shade = shade - 0.08 * (i[:, None] ** 2 + j**2 - 0.5)
    gain = _SCALE * rng.uniform(0.9, 1.1)
    real = blurred * shade + rng.normal(0, 0.025, SHAPE)
    # The magnitude of a complex signal: noise where there is no signal is never below zero.
    stored = gain * np.hypot(real, rng.normal(0, 0.025, SHAPE))
    return np.asarray(np.clip(np.round(stored), 0, 4095), dtype=np.uint16)
