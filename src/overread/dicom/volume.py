"""A volume: voxels with a place in the patient.

The one convention of this house: arrays are indexed ``(slice, row, column)`` and the affine maps
``(slice, row, column, 1)`` to millimetres in the patient's coordinate system of PS3.3 C.7.6.2.1.1
(LPS: x to the patient's left, y to the back, z to the head).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.dicom.codes import Segment

Affine = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar volume.

    Attributes
    ----------
    array : ndarray, shape (slices, rows, columns)
        Values in ``unit``.
    affine : ndarray, shape (4, 4), float64
        Index ``(slice, row, column)`` to LPS millimetres.
    frame_of_reference : str
        FrameOfReferenceUID; empty where the source had none.
    unit : str
        UCUM unit of the values; ``1`` for arbitrary units, ``[hnsf'U]`` for Hounsfield units.
    modality : str
        Modality of the source images.
    """

    array: NDArray[Any]
    affine: Affine
    frame_of_reference: str = ""
    unit: str = "1"
    modality: str = ""

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise ValueError(f"a volume has 3 axes (slice, row, column), not {self.array.ndim}")
        if self.affine.shape != (4, 4):
            raise ValueError(f"an affine is 4 by 4, not {self.affine.shape}")
        if not abs(np.linalg.det(self.affine[:3, :3])) > 0:
            raise ValueError("the affine is singular: the voxels have no volume")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (slice, row, column) axes, in mm."""
        step = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(step[0]), float(step[1]), float(step[2]))

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm³, from the determinant, so that shear counts."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def with_array(self, array: NDArray[Any], *, unit: str | None = None) -> Volume:
        """Return other values on the same grid."""
        return replace(self, array=array, unit=self.unit if unit is None else unit)


@dataclass(frozen=True, eq=False)
class Mask:
    """Labels on a grid.

    Attributes
    ----------
    array : ndarray, shape (slices, rows, columns), uint8 or uint16
        0 is background; every other value is a segment's number.
    affine, frame_of_reference
        As for `Volume`.
    segments : tuple of Segment
        What each value stands for.
    model : str
        ``name@version`` of the model that made it; empty if none did.
    """

    array: NDArray[Any]
    affine: Affine
    segments: tuple[Segment, ...]
    frame_of_reference: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise ValueError(f"a mask has 3 axes (slice, row, column), not {self.array.ndim}")
        if self.array.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"a mask holds uint8 or uint16, not {self.array.dtype}")
        known = {segment.number for segment in self.segments}
        unknown = sorted(set(np.unique(self.array).tolist()) - known - {0})
        if unknown:
            raise ValueError(f"the mask holds values {unknown} that no segment describes")

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def with_array(self, array: NDArray[Any]) -> Mask:
        """Return other labels on the same grid."""
        return replace(self, array=array)
