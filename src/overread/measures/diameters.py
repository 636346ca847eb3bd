"""The longest diameter of a region in its slices, and the one across it. Arrays and numbers only.

Lesions are measured so by RECIST 1.1 (Eisenhauer EA et al. 2009, doi:10.1016/j.ejca.2008.10.026)
and by RANO (Wen PY et al. 2010, doi:10.1200/JCO.2009.26.3541): the longest diameter in a slice, and
the longest one perpendicular to it in the same slice.

A region's outline in a slice runs halfway between the centres of the voxels inside and those
outside: each voxel reaches half a step from its centre along rows and columns. A diameter is
measured on the outline's convex hull, as with a ruler from edge to edge. All of it is done in
millimetres in the plane of the slice, so that unequal and oblique voxels count as they lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

Points = NDArray[np.float64]

TIES = 9
"""Decimals of a millimetre that lengths are compared with: of equal ones the first counts, whatever
the arithmetic rounds."""


@dataclass(frozen=True, eq=False)
class Diameters:
    """A region's longest diameter in a slice, and the longest perpendicular to it there.

    Attributes
    ----------
    slice : int
        Index of the slice.
    long, across : float
        Lengths, mm.
    long_ends, across_ends : ndarray, shape (2, 3)
        Ends of both, in the millimetres that the affine gives.
    """

    slice: int
    long: float
    across: float
    long_ends: Points
    across_ends: Points


def diameters(inside: NDArray[np.bool_], affine: NDArray[np.float64]) -> Diameters | None:
    """Measure the slice in which a region's longest diameter is longest.

    Parameters
    ----------
    inside : ndarray of bool, shape (slices, rows, columns)
        The region.
    affine : ndarray, shape (4, 4)
        Voxel index to millimetres.

    Returns
    -------
    Diameters or None
        None where the region is empty. Of slices with equal diameters, the first.
    """
    plane, basis = _plane(affine)
    longest: tuple[float, int, Points, tuple[int, int]] | None = None
    for index in np.flatnonzero(inside.any(axis=(1, 2))).tolist():
        hull = _outline(inside[index]) @ plane
        hull = hull[ConvexHull(hull).vertices]
        apart = np.linalg.norm(hull[:, None] - hull[None], axis=-1).round(TIES)
        first, second = np.unravel_index(int(apart.argmax()), apart.shape)
        length = float(apart[first, second])
        if longest is None or length > longest[0]:
            longest = length, index, hull, (int(first), int(second))
    if longest is None:
        return None
    _, index, hull, ends = longest
    corner = affine[:3, 3] + index * affine[:3, 0]
    long_ends = hull[list(ends)]
    across_ends = _across(hull, ends)
    return Diameters(
        index,
        float(np.linalg.norm(long_ends[1] - long_ends[0])),
        float(np.linalg.norm(across_ends[1] - across_ends[0])),
        corner + long_ends @ basis,
        corner + across_ends @ basis,
    )


def _plane(affine: NDArray[np.float64]) -> tuple[Points, Points]:
    """Return what takes (row, column) to millimetres in the plane, and those to space."""
    row, column = affine[:3, 1], affine[:3, 2]
    first = column / np.linalg.norm(column)
    second = row - (row @ first) * first
    basis = np.array([first, second / np.linalg.norm(second)])
    return np.array([row, column]) @ basis.T, basis


def _outline(inside: NDArray[np.bool_]) -> Points:
    """Return points (row, column) whose convex hull is that of the outline.

    The outermost voxels of each row are enough: those between cannot be corners.
    """
    rows = np.flatnonzero(inside.any(axis=1))
    first = inside[rows].argmax(axis=1)
    last = inside.shape[1] - 1 - inside[rows, ::-1].argmax(axis=1)
    centres = np.concatenate([np.stack([rows, first], 1), np.stack([rows, last], 1)])
    steps = np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])
    return np.unique((centres[:, None] + steps).reshape(-1, 2), axis=0)


def _across(hull: Points, ends: tuple[int, int]) -> Points:
    """Return the ends of the longest chord of a convex polygon perpendicular to its diameter.

    The ends of the diameter part the polygon into two chains. Along the diameter the distance
    between them is concave and bends only at corners, so the longest chord goes through one.
    """
    low, high = sorted(ends)
    along = hull[high] - hull[low]
    along /= np.linalg.norm(along)
    off = np.array([-along[1], along[0]])
    chains: list[Any] = [
        hull[low : high + 1],
        np.roll(hull, -high, axis=0)[: len(hull) - high + low + 1],
    ]
    places = hull @ along
    sides = []
    for chain in chains:
        at = chain @ along
        order = np.argsort(at, kind="stable")
        sides.append(np.interp(places, at[order], (chain @ off)[order]))
    best = int(np.abs(sides[0] - sides[1]).round(TIES).argmax())
    return np.array([places[best] * along + side[best] * off for side in sides])
