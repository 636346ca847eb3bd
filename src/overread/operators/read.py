"""Read the pixels of a series."""

from __future__ import annotations

from overread.dicom import volume
from overread.dicom.study import Series
from overread.dicom.volume import Volume
from overread.pipelines.ports import Account


def read_volume(series: Series, account: Account) -> Volume:
    """Read a series as one volume: float32, rescaled, on a regular grid in patient space.

    Raises
    ------
    GeometryError
        The slices make no regular grid: one is missing, they are tilted, turned, uneven, doubled.
    Refused
        Pixels are missing, in colour, or cannot be decoded.
    """
    found = volume.read_volume(series)
    account.used.extend((one.uid, "a slice of the volume") for one in series)
    slices, rows, columns = found.array.shape
    spacing = " × ".join(f"{step:.3f}" for step in found.spacing)
    account.notes.append(f"{slices} slices of {rows} × {columns}, voxels of {spacing} mm")
    return found
