"""The values of one grid at the voxels of another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.dicom.geometry import Affine

STRAIGHT = 1e-3
"""In voxels, over the whole grid: axes that stray less from each other lie along each other."""

DECIMALS = 6
"""Coordinates are rounded to a millionth of a voxel, so that arithmetic does not decide what is
nearest where a centre lies between two voxels: the one with the higher index is."""


def bring(
    array: NDArray[Any],
    across: Affine,
    shape: tuple[int, ...],
    *,
    linear: bool = False,
    outside: float = 0.0,
) -> NDArray[Any]:
    """Take the values of an array at each voxel of another grid.

    A voxel reaches half a step to each side of its centre; beyond the outermost lies ``outside``.
    Where the axes of both grids lie along each other (turned, cropped, padded, resampled), each
    axis is looked up by itself, which is exact and quick.

    Parameters
    ----------
    array : ndarray, shape (slices, rows, columns)
        The values.
    across : ndarray, shape (4, 4)
        Index of the other grid to index of the array.
    shape : tuple of int
        Of the other grid.
    linear : bool
        Interpolate linearly, instead of taking the nearest value.
    outside : float
        Value beyond the array.

    Returns
    -------
    ndarray, shape as given
        Of the array's type.
    """
    steps = across[:3, :3]
    along = np.abs(steps).argmax(axis=1)
    stray = np.abs(steps).copy()
    stray[range(3), along] = 0
    if len(set(along.tolist())) == 3 and (stray @ np.array(shape)).max() < STRAIGHT:
        return _straight(array, across, shape, linear, outside)
    if not linear:
        return np.asarray(
            ndimage.affine_transform(
                array, steps, across[:3, 3], shape, order=0, mode="grid-constant", cval=outside
            )
        )
    found = ndimage.affine_transform(array, steps, across[:3, 3], shape, order=1, mode="nearest")
    inside = ndimage.affine_transform(
        np.ones(array.shape, np.uint8), steps, across[:3, 3], shape, order=0, mode="grid-constant"
    )
    found[inside == 0] = outside
    return np.asarray(found)


def _straight(
    array: NDArray[Any],
    across: Affine,
    shape: tuple[int, ...],
    linear: bool,
    outside: float,
) -> NDArray[Any]:
    along = np.abs(across[:3, :3]).argmax(axis=1)
    taken = array.transpose(np.argsort(along).tolist())
    places = []
    for axis in range(3):  # of the other grid, and of `taken`
        source = int(np.flatnonzero(along == axis)[0])
        at = across[source, axis] * np.arange(shape[axis]) + across[source, 3]
        at = np.round(at, DECIMALS)
        size = taken.shape[axis]
        inside = np.flatnonzero((at >= -0.5) & (at < size - 0.5))
        places.append(inside)
        taken = _along(taken, axis, np.clip(at[inside], 0, size - 1), linear)
    found = np.full(shape, outside, dtype=array.dtype)
    found[np.ix_(*places)] = taken
    return found


def _along(array: NDArray[Any], axis: int, at: NDArray[np.float64], linear: bool) -> NDArray[Any]:
    """Take an array's values along one axis at coordinates that lie inside."""
    if not linear or (at == np.round(at)).all():
        return np.take(array, np.floor(at + 0.5).astype(np.intp), axis)
    below = np.floor(at).astype(np.intp)
    above = np.minimum(below + 1, array.shape[axis] - 1)
    part = (at - below).reshape([-1 if other == axis else 1 for other in range(3)])
    low, high = np.take(array, below, axis), np.take(array, above, axis)
    return np.asarray(low + (high - low) * part, dtype=array.dtype)
