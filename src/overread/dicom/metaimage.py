"""MetaImage: a text header beside raw voxels, as ITK and many research programs read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from overread.dicom.volume import Mask, Volume

ELEMENT = {"u1": "MET_UCHAR", "u2": "MET_USHORT", "i2": "MET_SHORT", "f4": "MET_FLOAT"}
"""Type of voxel to its name in the header."""


def save_mhd(image: Volume | Mask, file: Path) -> None:
    """Save a volume or a mask as ``NAME.mhd`` and ``NAME.raw``.

    MetaImage has patient space as DICOM has it (LPS, mm). The header keeps the geometry to 17
    digits; names of segments, unit and frame of reference have no place in it.

    Parameters
    ----------
    image : Volume or Mask
        Of uint8, uint16, int16 or float32.
    file : Path
        Ending in ``.mhd``.

    Raises
    ------
    ValueError
        The name ends otherwise, or the voxels are of another type.
    """
    kind = image.array.dtype.str[1:]
    if file.suffix != ".mhd" or kind not in ELEMENT:
        raise ValueError(
            f"{file.name}, voxels of {image.array.dtype}: a name ending in .mhd and voxels of "
            "uint8, uint16, int16 or float32 were expected"
        )
    spacing = image.spacing[::-1]
    axes = image.affine[:3, [2, 1, 0]] / spacing  # a column of it for columns, rows, slices
    raw = file.with_suffix(".raw")
    header = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": _numbers(axes.T.ravel().tolist()),
        "Offset": _numbers(image.affine[:3, 3].tolist()),
        "ElementSpacing": _numbers(spacing),
        "DimSize": " ".join(str(size) for size in image.array.shape[::-1]),
        "ElementType": ELEMENT[kind],
        "ElementDataFile": raw.name,
    }
    np.ascontiguousarray(image.array, dtype=f"<{kind}").tofile(raw)
    file.write_text("".join(f"{key} = {value}\n" for key, value in header.items()))


def _numbers(values: list[float] | tuple[float, ...]) -> str:
    return " ".join(f"{value:.17g}" for value in values)
