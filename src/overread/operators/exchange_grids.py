"""The voxels of a step's inputs, and whether what a program made lies on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.dicom.geometry import Affine, lay_out
from overread.dicom.study import Series
from overread.dicom.volume import Mask, Probability, Source, Volume
from overread.errors import GeometryError, StepFailed

SAME_PLACE_MM = 0.1
"""How far a corner of what a program made may lie from the same corner of the input: above what
NIfTI's 32 bits round away, far below a voxel."""

OnGrid = Volume | Mask | Probability


@dataclass(frozen=True)
class Grid:
    """The voxels of an input.

    Attributes
    ----------
    port : str
        The input.
    shape : tuple of int
        Slices, rows, columns.
    affine, frame_of_reference, source, modality
        As for `Volume`.
    """

    port: str
    shape: tuple[int, ...]
    affine: Affine
    frame_of_reference: str = ""
    source: Source | None = None
    modality: str = ""

    @property
    def origin(self) -> Source:
        """The grid that the input was read on."""
        slices, rows, columns = self.shape
        return self.source or Source((slices, rows, columns), self.affine, self.frame_of_reference)


def grids(inputs: Mapping[str, object]) -> list[Grid]:
    """List the grids of the inputs that have one, in the order of the ports."""
    found = []
    for port, value in inputs.items():
        if isinstance(value, Volume | Mask | Probability):
            modality = value.modality if isinstance(value, Volume) else ""
            place = (value.affine, value.frame_of_reference, value.source, modality)
            found.append(Grid(port, value.array.shape[-3:], *place))
        elif isinstance(value, Series):
            try:
                grid = lay_out(value)
            except GeometryError:  # no volume: what is made of it cannot be one either
                continue
            frame = str(value.header.get("FrameOfReferenceUID", ""))
            modality = str(value.header.get("Modality", ""))
            found.append(Grid(port, grid.shape, grid.affine, frame, None, modality))
    return found


def place(made: OnGrid, there: list[Grid], *, own_grid: bool = False) -> OnGrid:
    """Put what was made on the voxels of the input that it lies on, by turning axes only.

    Parameters
    ----------
    made : Volume, Mask or Probability
        With the affine that its program gave it.
    there : list of Grid
        The inputs' grids.
    own_grid : bool
        Whether it may lie on other voxels; it is then a thing of the first input's space.

    Raises
    ------
    StepFailed
        It lies on none of them, and may not.
    """
    misses = []
    for grid in there:
        array, miss = onto(made.array, made.affine, grid)
        if array is not None:
            return _at(made, array, grid.affine, grid, grid.source)
        misses.append(f"{miss} of {grid.port}")
    if not own_grid:
        lies = "; ".join(misses) or "no input has a grid"
        raise StepFailed(f"what was made does not lie on the voxels of an input: {lies}")
    return _at(made, made.array, made.affine, there[0], there[0].origin) if there else made


def _at(
    made: OnGrid, array: NDArray[Any], affine: Affine, grid: Grid, source: Source | None
) -> OnGrid:
    frame = grid.frame_of_reference
    if isinstance(made, Volume):
        made = replace(made, modality=made.modality or grid.modality)
    return replace(made, array=array, affine=affine, frame_of_reference=frame, source=source)


def onto(array: NDArray[Any], affine: Affine, grid: Grid) -> tuple[NDArray[Any] | None, str]:
    """Turn an array so that its axes run as those of a grid.

    Parameters
    ----------
    array : ndarray
        Its last three axes are turned.
    affine : ndarray, shape (4, 4)
        Index along those axes to LPS millimetres.

    Returns
    -------
    ndarray or None
        None where its voxels are not the grid's.
    str
        How it misses the grid, in words.
    """
    step = np.linalg.inv(grid.affine) @ affine
    turn = np.rint(step[:3, :3])
    if (abs(turn).sum(axis=0) != 1).any() or (abs(turn).sum(axis=1) != 1).any():
        return None, "its voxels have another size or direction than those"
    axes = [int(np.argmax(abs(turn[axis]))) for axis in range(3)]
    shape = array.shape[-3:]
    if tuple(shape[axis] for axis in axes) != tuple(grid.shape):
        return None, f"its shape {shape} is not the {tuple(grid.shape)}"
    back = turn.sum(axis=1) < 0
    exact = np.eye(4)
    exact[:3, :3] = turn
    exact[:3, 3] = np.where(back, np.array(grid.shape) - 1, 0)
    corners = np.array([[*at, 1] for at in product(*((0, size - 1) for size in shape))]).T
    away = np.linalg.norm(((affine - grid.affine @ exact) @ corners)[:3], axis=0).max()
    if away > SAME_PLACE_MM:
        return None, f"a corner lies {away:.2f} mm from that"
    leading = tuple(range(array.ndim - 3))
    turned = array.transpose(*leading, *(axis + len(leading) for axis in axes))
    flips = tuple(at + len(leading) for at in range(3) if back[at])
    return np.ascontiguousarray(np.flip(turned, flips)), ""
