"""What images look like, in a few numbers: to tell a head from a fruit, and a scan from noise.

Every number says something that a person can see, and is the same whatever the matrix, the voxel
size and, where values have no unit, the scanner's scale:

=============  ===================================================================================
``width_mm``   the **body**'s extent from left to right, front to back and feet to head. The body
``depth_mm``   is the largest connected thing that is brighter than what surrounds it, closed and
``height_mm``  with its holes filled in each axial slice
``inside``     its median far from its surface; only where values have a unit (``[hnsf'U]``): where
               they have none, the numbers below are multiples of it
``rind``       median of what lies 3 to 6 mm below its surface (of a head: fat of the scalp)
``under_rind`` median of what lies 9 to 12 mm below its surface (of a head: skull, or what is next)
``dark``       5th percentile of the body
``bright``     95th percentile of the body
``solid``      part of the body that is itself brighter than what surrounds it (of a head: what is
               not air, bone or fluid)
``smoothness`` correlation of neighbouring voxels; noise has 0
=============  ===================================================================================

Of a projection, brightness going from 0 at its 1st to 1 at its 99th percentile:

==============  ==================================================================================
``shape``       rows to columns, in mm where that is known
``middle``      median
``spread``      interquartile range
``top``         median along the upper edge: a trunk goes on there; a limb that lies across the
                picture, and a thing in its middle, do not
``background``  part of the picture that is below 0.1
``sides``       the lower of the medians half-way from the middle to either side, over that of the
                middle (or 0.1 where that is less): far below 1 for lungs beside a heart, about 1
                for ilia beside a spine
``symmetry``    correlation with its mirror image, left to right
``smoothness``  correlation of neighbouring pixels
==============  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.dicom.geometry import Affine, turn_to_axial

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Threshold = Callable[[Floats], float | None]

VOLUME = {
    "width_mm": "width of the body, mm",
    "depth_mm": "depth of the body, mm",
    "height_mm": "height of the body, mm",
    "inside": "median inside the body",
    "rind": "brightness 3 to 6 mm below the surface",
    "under_rind": "brightness 9 to 12 mm below the surface",
    "dark": "brightness of the body's darkest 5 %",
    "bright": "brightness of the body's brightest 5 %",
    "solid": "part of the body that is bright",
    "smoothness": "likeness of neighbouring voxels",
}
"""What is measured of a volume, by name, and how a person calls it."""

PLANE = {
    "shape": "height of the image over its width",
    "middle": "median brightness",
    "spread": "spread of brightness",
    "top": "brightness along the upper edge",
    "background": "part of the image that is dark",
    "sides": "brightness beside the middle, over the middle's",
    "symmetry": "likeness of left and right",
    "smoothness": "likeness of neighbouring pixels",
}
"""What is measured of a projection."""

HIGHEST = dict.fromkeys(
    ("solid", "middle", "spread", "top", "background", "symmetry", "smoothness"), 1.0
)
"""The most that a number can be, of those that have a bound."""

COARSE_MM = 2.0
"""Voxels are averaged to about this size first: numbers then hardly depend on the resolution."""

CLOSING = 2
"""Coarse voxels by which the body is closed, so that its surface is that of the skin."""

RIND_MM = (3.0, 6.0)
UNDER_RIND_MM = (9.0, 12.0)

FEWEST = 50
"""Coarse voxels below which a median says nothing."""

MOST_SLICES = 24
"""Slices of which smoothness is measured: enough to tell noise, and little memory."""

SIDE = 64
"""Pixels along each side of the small image in which places and symmetry are measured."""

BACKGROUND = 0.1
"""Below it, from 0 at the 1st to 1 at the 99th percentile, a pixel is background."""

EDGE = (0.0, 0.08)
"""Part of an image's height that is its upper edge."""

TRUNK = (0.17, 0.67)
"""Part of its height in which `MIDDLE` and `SIDES` lie."""

MIDDLE = (0.42, 0.58)
SIDES = ((0.18, 0.38), (0.62, 0.82))
"""Parts of its width."""


def volume_appearance(
    array: NDArray[Any],
    affine: Affine,
    threshold: Threshold,
    *,
    has_unit: bool = False,
    lowest: float | None = None,
) -> dict[str, float]:
    """Measure what a volume looks like.

    Parameters
    ----------
    array : ndarray, shape (slices, rows, columns)
        Values, larger is brighter.
    affine : ndarray, shape (4, 4)
        Index to LPS millimetres.
    threshold : callable
        Gives the value that parts the body from what surrounds it, or none.
    has_unit : bool
        Whether values have a unit, so that they mean something by themselves.
    lowest : float, optional
        Values below it count as this: of CT, air, so that what some scanners write around their
        round field of view (-2000, -3024) does not make a body of the air in it.

    Returns
    -------
    dict of str to float
        By the names of `VOLUME`. What cannot be measured (of a constant volume: anything) is not
        among them.
    """
    turn = turn_to_axial(affine)
    steps = [float(np.linalg.norm(affine[:3, axis])) for axis in turn.order]
    whole = turn.turn(array)
    small, coarse = _coarse(whole, steps, lowest)
    limit = threshold(small)
    if limit is None:
        return {}
    bright = small > limit
    body = _body(bright)
    depth = _depth(body, coarse)
    level = float(np.median(small[depth >= depth.max() / 2]))
    scale = 1.0 if has_unit else level
    if not scale > 0:
        return {}
    found = dict(zip(("height_mm", "depth_mm", "width_mm"), _extent(body, coarse), strict=True))
    if has_unit:
        found["inside"] = level
    for name, (low, high) in (("rind", RIND_MM), ("under_rind", UNDER_RIND_MM)):
        shell = small[(depth > low) & (depth <= high)]
        if shell.size >= FEWEST:
            found[name] = float(np.median(shell)) / scale
    dark, light = np.percentile(small[body], [5, 95])
    found |= {"dark": float(dark) / scale, "bright": float(light) / scale}
    found["solid"] = float((bright & body).sum() / body.sum())
    quarter = len(whole) // 4
    middle = whole[quarter : len(whole) - quarter]
    smooth = _smoothness(_at_least(middle[:: -(-len(middle) // MOST_SLICES)], lowest))
    if smooth is not None:
        found["smoothness"] = smooth
    return {name: found[name] for name in VOLUME if name in found}


def plane_appearance(
    array: NDArray[Any], spacing: tuple[float, float] | None = None
) -> dict[str, float]:
    """Measure what a projection looks like.

    Parameters
    ----------
    array : ndarray, shape (rows, columns)
        Values, larger is brighter.
    spacing : tuple of float, optional
        Distance between rows and between columns.

    Returns
    -------
    dict of str to float
        By the names of `PLANE`; what cannot be measured is not among them.
    """
    rows, columns = array.shape
    row, column = spacing or (1.0, 1.0)
    found = {"shape": rows * row / (columns * column)}
    low, first, middle, third, high = np.percentile(array, [1, 25, 50, 75, 99]).tolist()
    little = _little(array)
    if high > low:
        found |= {"middle": (middle - low) / (high - low), "spread": (third - first) / (high - low)}
        found |= _places(np.clip((little - low) / (high - low), 0, 1))
    for name, value in (
        ("symmetry", _correlation(little, little[:, ::-1])),
        ("smoothness", _smoothness(array)),
    ):
        if value is not None:
            found[name] = value
    return {name: found[name] for name in PLANE if name in found}


def _places(little: NDArray[np.float64]) -> dict[str, float]:
    """Measure how bright a small image, 0 to 1, is where."""
    middle = max(float(np.median(_part(little, TRUNK, MIDDLE))), BACKGROUND)
    beside = [float(np.median(_part(little, TRUNK, side))) for side in SIDES]
    return {
        "top": float(np.median(_part(little, EDGE, (0.0, 1.0)))),
        "background": float((little < BACKGROUND).mean()),
        "sides": min(beside) / middle,
    }


def _part(
    image: NDArray[np.float64], down: tuple[float, float], across: tuple[float, float]
) -> NDArray[np.float64]:
    """Cut a part out of an image, at least one pixel."""
    rows, columns = (
        slice(int(low * size), max(int(low * size) + 1, round(high * size)))
        for (low, high), size in zip((down, across), image.shape, strict=True)
    )
    return image[rows, columns]


def _little(array: NDArray[Any]) -> NDArray[np.float64]:
    """Average blocks of pixels to an image of at most `SIDE` pixels along each side."""
    small = array.astype(np.float64)
    for axis, side in enumerate(array.shape):
        edges = np.linspace(0, side, min(SIDE, side), endpoint=False).astype(int)
        counts = np.diff(np.append(edges, side))
        sums = np.add.reduceat(small, edges, axis)
        small = sums / (counts[:, None] if axis == 0 else counts)
    return small


def _coarse(
    array: NDArray[Any], steps: Sequence[float], lowest: float | None
) -> tuple[Floats, tuple[float, ...]]:
    """Average blocks of voxels to about `COARSE_MM`; what is left over at the far ends is cut."""
    factors = [max(1, round(COARSE_MM / step)) for step in steps]
    factors = [min(one, size) for one, size in zip(factors, array.shape, strict=True)]
    counts = [size // one for size, one in zip(array.shape, factors, strict=True)]
    small = np.empty(counts, np.float32)
    for index in range(counts[0]):  # slab by slab, as a turned array is copied by reshape
        slab = array[
            index * factors[0] : (index + 1) * factors[0],
            : counts[1] * factors[1],
            : counts[2] * factors[2],
        ]
        blocks = _at_least(slab, lowest).reshape(
            factors[0], counts[1], factors[1], counts[2], factors[2]
        )
        small[index] = blocks.mean(axis=(0, 2, 4), dtype=np.float32)
    return small, tuple(step * one for step, one in zip(steps, factors, strict=True))


def _at_least(array: NDArray[Any], lowest: float | None) -> NDArray[Any]:
    return array if lowest is None else np.maximum(array, lowest)


def _body(bright: Bools) -> Bools:
    body = np.empty_like(bright)
    for index, plane in enumerate(bright):
        closed = ndimage.binary_closing(np.pad(plane, CLOSING), iterations=CLOSING)
        body[index] = ndimage.binary_fill_holes(closed)[CLOSING:-CLOSING, CLOSING:-CLOSING]
    labels, count = ndimage.label(body)
    if count > 1:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        body = labels == sizes.argmax()
    return np.asarray(body, dtype=np.bool_)


def _depth(body: Bools, steps: Sequence[float]) -> NDArray[np.float64]:
    """Distance in mm to the body's surface; where the images end at head or feet is no surface."""
    beyond = int(np.ceil(UNDER_RIND_MM[1] / steps[0])) + 1
    padded = np.pad(body, ((beyond, beyond), (0, 0), (0, 0)), mode="edge")
    padded = np.pad(padded, ((0, 0), (1, 1), (1, 1)))
    depth = ndimage.distance_transform_edt(padded, sampling=steps)
    return np.asarray(depth[beyond:-beyond, 1:-1, 1:-1])


def _extent(body: Bools, steps: Sequence[float]) -> list[float]:
    found = []
    for axis, step in enumerate(steps):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(body.any(axis=others))
        found.append(float(places[-1] - places[0] + 1) * step)
    return found


def _smoothness(array: NDArray[Any]) -> float | None:
    return _correlation(array[..., :-1], array[..., 1:])


def _correlation(one: NDArray[Any], other: NDArray[Any]) -> float | None:
    if not one.size or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    a, b = one - one.mean(dtype=np.float64), other - other.mean(dtype=np.float64)
    return float((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean()))
