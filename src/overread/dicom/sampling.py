"""Bring the slices of an irregular series onto a regular grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.dicom.planes import Affine


def interpolate_slices(
    array: NDArray[np.float32], places: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Interpolate linearly between slices.

    Parameters
    ----------
    array : ndarray, shape (planes, rows, columns)
        Slices as they are.
    places : ndarray, shape (slices,)
        Where each wanted slice lies among them, from 0 to ``planes - 1``.

    Returns
    -------
    ndarray, shape (slices, rows, columns)
    """
    made = np.empty((len(places), *array.shape[1:]), np.float32)
    for index, place in enumerate(places.tolist()):
        below = int(place)
        part = place - below
        made[index] = array[below]
        if part:
            made[index] *= 1 - part
            made[index] += array[below + 1] * np.float32(part)
    return made


def straighten(array: NDArray[np.float32], affine: Affine) -> tuple[NDArray[np.float32], Affine]:
    """Take the shear out of a tilted stack: every slice is shifted within its own plane.

    Interpolation is linear. Rows or columns are added so that no voxel is lost; where no slice
    reaches, they hold the lowest value of the volume.

    Parameters
    ----------
    array : ndarray, shape (slices, rows, columns)
        On a grid whose slice axis is not normal to its planes.
    affine : ndarray, shape (4, 4)
        Of that grid.

    Returns
    -------
    array, affine
        On a grid with the same planes whose three axes are at right angles.
    """
    from scipy import ndimage  # takes long to import, and few volumes are tilted

    step, in_plane = affine[:3, 0], affine[:3, 1:3]
    size = np.linalg.norm(in_plane, axis=0)
    drift = (
        step @ (in_plane / size)
    ) / size  # rows and columns that a slice lies off the one before
    last = drift * (len(array) - 1)
    start = np.floor(np.minimum(0, last) + _ROUNDING)
    end = np.ceil(np.maximum(0, last) - _ROUNDING)
    shape = [int(count) for count in array.shape[1:] + end - start]
    made = np.empty((len(array), *shape), np.float32)
    lowest: Any = array.min()
    for index, plane in enumerate(array):
        ndimage.affine_transform(
            plane,
            np.ones(2),
            offset=start - index * drift,
            output=made[index],
            output_shape=tuple(shape),
            order=1,
            mode="grid-constant",
            cval=lowest,
        )
    straight = affine.copy()
    straight[:3, 0] = step - in_plane @ drift
    straight[:3, 3] = affine[:3, 3] + in_plane @ start
    return made, straight


_ROUNDING = 1e-6
"""Of an index: what rounding of positions adds is no row."""
