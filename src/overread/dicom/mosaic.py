"""Siemens mosaics: the slices of one volume, tiled over one single-frame image.

Where each slice lies stands in no attribute of the Standard. The image's own position is that of a
slice as large as the whole mosaic; the protocol of the scanner, kept as text in a private element
of the series, has the centre of every slice as it was planned. The way from slice to slice is taken
from there, the place of the first from the image, since the scanner may have moved it since
(prospective motion correction).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from overread.errors import GeometryError

COUNT = ("SIEMENS MR HEADER", 0x0019, 0x0A)
"""Creator, group and byte of NumberOfImagesInMosaic."""

SERIES_HEADER = ("SIEMENS CSA HEADER", 0x0029, 0x20)
"""Creator, group and byte of the series header that the protocol stands in."""

_CENTRE = re.compile(rb"sSliceArray\.asSlice\[(\d+)]\.sPosition\.d(Sag|Cor|Tra)\s*=\s*([-+.\deE]+)")
_SLICES = re.compile(rb"sSliceArray\.lSize\s*=\s*(\d+)")
_AXES = {b"Sag": 0, b"Cor": 1, b"Tra": 2}


@dataclass(frozen=True, eq=False)
class Mosaic:
    """How a mosaic is parted.

    Attributes
    ----------
    across : int
        Tiles in a row of tiles, and in a column.
    size : tuple of int
        Rows and columns of one tile.
    steps : ndarray, shape (slices, 3)
        From the first tile's slice to each, in order of the tiles (row by row), LPS mm.
    corner : ndarray, shape (2,)
        How many rows and columns the first tile's corner lies inside that of the image, where both
        have the same centre.
    """

    across: int
    size: tuple[int, int]
    steps: NDArray[np.float64]
    corner: NDArray[np.float64]

    def tile(self, pixels: NDArray[np.generic], index: int) -> NDArray[np.generic]:
        """Return a view of one tile of the image's pixels."""
        row, column = divmod(index, self.across)
        rows, columns = self.size
        return pixels[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns]


def find_mosaic(header: Dataset) -> Mosaic | None:
    """Say how an image is parted into slices; none if it is no mosaic.

    Raises
    ------
    GeometryError
        ``no position``: it calls itself a mosaic, but the private elements that say where its
        slices lie are gone or do not fit.
    """
    if "MOSAIC" not in (header.get("ImageType") or ()):
        return None
    count = _private(header, COUNT)
    centres = _centres(_private(header, SERIES_HEADER))
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    across = math.isqrt(len(centres) - 1) + 1 if len(centres) else 1
    if len(centres) < 2 or count != len(centres) or rows % across or columns % across:
        raise GeometryError(
            "no position",
            f"image {header.get('SOPInstanceUID')} is a Siemens mosaic of {count or 'some'} slices "
            f"over {rows} × {columns} pixels; its private elements (0029,xx20) of SIEMENS CSA "
            f"HEADER give the place of {len(centres)}. Send it without private elements removed",
        )
    size = (rows // across, columns // across)
    corner = np.array([rows - size[0], columns - size[1]]) / 2
    return Mosaic(across, size, _from_first(header, centres), corner)


def _private(header: Dataset, where: tuple[str, int, int]) -> object:
    creator, group, byte = where
    try:
        return header.private_block(group, creator)[byte].value
    except KeyError:
        return None


def _centres(protocol: object) -> NDArray[np.float64]:
    """Read the planned centres of the slices, LPS mm; shape (slices, 3), empty if they are gone."""
    text = protocol if isinstance(protocol, bytes) else b""
    found = _SLICES.search(text)
    centres = np.zeros((int(found[1]) if found else 0, 3))  # what the protocol leaves out is 0
    for index, axis, value in _CENTRE.findall(text):
        if int(index) < len(centres):
            centres[int(index), _AXES[axis]] = float(value)
    return centres


def _from_first(header: Dataset, centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the way to each tile's slice; the tiles begin at the end of the plan that is nearer.

    The scanner may number the slices against the order of its plan (from head to feet, say).
    """
    position, direction, spacing = (
        np.array([float(value) for value in header.get(keyword) or ()])
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    if (position.size, direction.size, spacing.size) != (3, 6, 2):
        return np.asarray(centres - centres[0])  # `planes` refuses it
    half_rows, half_columns = (header.Rows - 1) / 2, (header.Columns - 1) / 2
    middle = (
        position
        + direction[3:] * spacing[0] * half_rows
        + direction[:3] * spacing[1] * half_columns
    )
    ends = np.linalg.norm(centres[[0, -1]] - middle, axis=1)
    ordered = centres if ends[0] <= ends[1] else centres[::-1]
    return np.asarray(ordered - ordered[0])
