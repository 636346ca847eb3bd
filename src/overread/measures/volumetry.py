"""Volumes of labelled regions. Arrays and numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MM3_PER_ML = 1000.0


def voxel_volume(affine: NDArray[np.float64]) -> float:
    """Volume of one voxel in mm³: the absolute determinant of the affine's linear part.

    The determinant, not the product of the spacings, so that a sheared grid counts right.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Voxel index to millimetres.
    """
    return float(abs(np.linalg.det(np.asarray(affine, dtype=np.float64)[:3, :3])))


def volumes(
    labels: NDArray[Any], affine: NDArray[np.float64], numbers: Sequence[int]
) -> dict[int, float]:
    """Volume of each label in mL: the count of its voxels times the volume of one.

    Parameters
    ----------
    labels : ndarray of unsigned integers, any shape
        0 is background.
    affine : ndarray, shape (4, 4)
        Voxel index to millimetres.
    numbers : sequence of int
        The labels to measure; one that is not there has 0 mL.

    Returns
    -------
    dict of int to float
        Label to mL.
    """
    counts = np.zeros(max(numbers, default=0) + 1, dtype=np.int64)
    for part in np.atleast_2d(labels):  # a slice at a time: bincount takes 8 bytes for each voxel
        found = np.bincount(part.ravel(), minlength=counts.size)
        counts += found[: counts.size]
    each = voxel_volume(affine) / MM3_PER_ML
    return {number: float(counts[number]) * each for number in numbers}
