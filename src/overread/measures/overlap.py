"""How far two segmentations of one thing agree. Arrays and numbers only.

Definitions, with A and B the sets of voxels:

- **Dice** = 2 |A ∩ B| / (|A| + |B|). (Dice LR 1945, doi:10.2307/1932409.)
- A **surface** is made of the faces between a voxel inside and one outside, each with its area and
  its centre in millimetres; beyond the array everything is outside. The distance of a face to the
  other surface is that of its centre to the nearest face's centre there.
- The **mean surface distance** is the mean of these distances over the faces of both surfaces
  together, weighted by area (average symmetric surface distance).
- **HD95** is the greater of two distances, from A to B and from B to A: the least below which 95 %
  of the surface's area lies. (Hausdorff distance, 95th percentile.)

Where both are empty they agree: Dice is 1, distances are 0. Where only one is, Dice is 0 and there
is no distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

Floats = NDArray[np.float64]
Inside = NDArray[np.bool_]

PERCENTILE = 95.0


@dataclass(frozen=True)
class Distances:
    """Distances between two surfaces, mm: see the module.

    Attributes
    ----------
    mean : float
        Mean surface distance.
    hausdorff : float
        Hausdorff distance at the percentile that was asked for.
    """

    mean: float
    hausdorff: float


def dice(one: Inside, other: Inside) -> float:
    """Dice coefficient, 0 to 1."""
    both = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    return 2 * int(np.count_nonzero(one & other)) / both if both else 1.0


def surface_distances(
    one: Inside, other: Inside, affine: Floats, percentile: float = PERCENTILE
) -> Distances | None:
    """Distances between the surfaces of two regions on one grid.

    Parameters
    ----------
    one, other : ndarray of bool, shape (slices, rows, columns)
        The regions.
    affine : ndarray, shape (4, 4)
        Voxel index to millimetres.
    percentile : float
        Of the Hausdorff distance; 100 is the classical one.

    Returns
    -------
    Distances or None
        None where one region is empty and the other is not.
    """
    if not one.any() or not other.any():
        return None if one.any() or other.any() else Distances(0.0, 0.0)
    places, areas = zip(surface(one, affine), surface(other, affine), strict=True)
    there = np.asarray(KDTree(places[1]).query(places[0])[0])
    back = np.asarray(KDTree(places[0]).query(places[1])[0])
    return Distances(
        float(np.average(np.concatenate([there, back]), weights=np.concatenate(areas))),
        max(_percentile(there, areas[0], percentile), _percentile(back, areas[1], percentile)),
    )


def surface(inside: Inside, affine: Floats) -> tuple[Floats, Floats]:
    """Faces between a region and what surrounds it.

    Parameters
    ----------
    inside : ndarray of bool, shape (slices, rows, columns)
        The region; not empty.
    affine : ndarray, shape (4, 4)
        Voxel index to millimetres.

    Returns
    -------
    ndarray, shape (faces, 3)
        Centres, mm.
    ndarray, shape (faces,)
        Areas, mm².
    """
    box: Any = ndimage.find_objects(inside.astype(np.uint8))[0]
    start = np.array([edge.start for edge in box])
    padded = np.pad(inside[box], 1)
    centres, areas = [], []
    for axis in range(3):
        faces = np.argwhere(np.diff(padded, axis=axis)) + start - 1.0
        faces[:, axis] += 0.5
        sides = [affine[:3, other] for other in range(3) if other != axis]
        centres.append(faces @ affine[:3, :3].T + affine[:3, 3])
        areas.append(np.full(len(faces), np.linalg.norm(np.cross(sides[0], sides[1]))))
    return np.concatenate(centres), np.concatenate(areas)


def _percentile(distances: Floats, areas: Floats, percentile: float) -> float:
    order = np.argsort(distances, kind="stable")
    covered = np.cumsum(areas[order])
    reached = np.searchsorted(covered, covered[-1] * percentile / 100 * (1 - 1e-12))
    return float(distances[order[min(int(reached), len(order) - 1)]])
