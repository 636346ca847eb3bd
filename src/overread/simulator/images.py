"""Images of research formats, as volumes in the patient: NIfTI and NRRD."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
from numpy.typing import NDArray

from overread.dicom.volume import Volume
from overread.errors import UsageError

Affine = NDArray[np.float64]

NIFTI = (".nii", ".nii.gz")
NRRD = (".nrrd", ".nhdr")

_MILLIMETRES = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
# What turns a NRRD space's axes to LPS (x to the left, y to the back, z to the head).
_TO_LPS = {
    "left-posterior-superior": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
}
_SHORT = {"LPS": "left-posterior-superior", "RAS": "right-anterior-superior"}
_SHORT["LAS"] = "left-anterior-superior"


def is_image(path: Path) -> bool:
    """Say whether the file's name is that of a NIfTI or NRRD image."""
    return path.name.lower().endswith(NIFTI + NRRD)


def read_image(path: Path) -> Volume:
    """Read a NIfTI or NRRD image.

    Parameters
    ----------
    path : Path
        ``.nii``, ``.nii.gz``, ``.nrrd`` or ``.nhdr``, with three axes.

    Returns
    -------
    Volume
        The third axis of the file is the slice axis, the second the row, the first the column:
        nothing is turned or resampled. Values are those of the file, after its scaling.

    Raises
    ------
    UsageError
        The file is no such image, has not three axes, or does not say where it lies.
    """
    name = path.name.lower()
    if name.endswith(NIFTI):
        values, affine = _read_nifti(path)
    elif name.endswith(NRRD):
        values, affine = _read_nrrd(path)
    else:
        raise UsageError(f"{path} is neither NIfTI ({', '.join(NIFTI)}) nor NRRD ({NRRD[0]})")
    if values.ndim != 3:
        raise UsageError(f"{path} has {values.ndim} axes; expected 3 (column, row, slice)")
    # From (column, row, slice) to the (slice, row, column) of this house.
    return Volume(np.ascontiguousarray(values.transpose(2, 1, 0)), affine[:, [2, 1, 0, 3]])


def as_scanned(volume: Volume) -> Volume:
    """Turn each slice the way a scanner stores it, without resampling.

    Axial slices get rows from the patient's right to left and columns from front to back; coronal
    ones right to left and head to feet; sagittal ones front to back and head to feet. The order of
    the slices stays.

    Parameters
    ----------
    volume : Volume
        On any grid; an oblique one counts as the plane that it is nearest to.

    Returns
    -------
    Volume
        The same voxels in the same place, its row and column axes exchanged or reversed.
    """
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    through = int(np.argmax(np.abs(np.cross(directions[:, 1], directions[:, 2]))))
    # Direction in which the index grows, along rows (axis 1) and along columns (axis 2).
    wanted = {2: ((1, 1), (0, 1)), 1: ((2, -1), (0, 1)), 0: ((2, -1), (1, 1))}[through]
    array, affine = volume.array, volume.affine
    if abs(directions[wanted[0][0], 1]) < abs(directions[wanted[0][0], 2]):
        array, affine = array.transpose(0, 2, 1), affine[:, [0, 2, 1, 3]]
    for axis, (coordinate, sign) in enumerate(wanted, start=1):
        if affine[coordinate, axis] * sign < 0:
            array, affine = np.flip(array, axis), _reversed(affine, axis, array.shape[axis])
    return replace(volume, array=np.ascontiguousarray(array), affine=affine)


def _reversed(affine: Affine, axis: int, length: int) -> Affine:
    out = affine.copy()
    out[:3, 3] += affine[:3, axis] * (length - 1)
    out[:3, axis] = -affine[:3, axis]
    return out


def _read_nifti(path: Path) -> tuple[NDArray[Any], Affine]:
    try:
        image: Any = nibabel.load(path)
        values = np.asanyarray(image.dataobj)
    except (OSError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise UsageError(f"{path} cannot be read as NIfTI: {error}") from error
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    scale = _MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    # NIfTI's x grows to the right and y to the front, the patient's LPS to the left and the back.
    affine = np.diag([-scale, -scale, scale, 1.0]) @ image.affine
    return values, affine


def _read_nrrd(path: Path) -> tuple[NDArray[Any], Affine]:
    try:
        values, header = nrrd.read(str(path), index_order="F")
    except (OSError, EOFError, ValueError, nrrd.NRRDError) as error:
        raise UsageError(f"{path} cannot be read as NRRD: {error}") from error
    space = str(header.get("space", ""))
    signs = _TO_LPS.get(_SHORT.get(space, space).lower())
    directions = header.get("space directions")
    if signs is None or directions is None or "space origin" not in header:
        raise UsageError(
            f"{path} does not say where it lies: space is {space or 'absent'}; expected one of "
            f"{', '.join(_TO_LPS)}, with space directions and space origin"
        )
    affine = np.eye(4)
    affine[:3, :3] = np.diag(signs) @ np.asarray(directions, dtype=np.float64).T
    affine[:3, 3] = np.asarray(signs) * np.asarray(header["space origin"], dtype=np.float64)
    return values, affine
