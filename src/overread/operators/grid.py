"""Bring a volume to another grid, and what was found on it back to the grid of the source.

Nobody states the way back. Every volume remembers the grid that it was read on (`Source`), so what
was found on it is put there in one step, whatever was done in between.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from scipy import ndimage

from overread.dicom.geometry import ANATOMICAL, turn_to, turn_to_axial
from overread.dicom.interpolation import bring
from overread.dicom.volume import Mask, Probability, Source, Volume
from overread.errors import Refused
from overread.operators.intensity import otsu
from overread.pipelines.ports import Account

Millimetres = Annotated[float, Field(gt=0)]
Size = Annotated[int, Field(ge=1)]

NAMED = {"LPS-axial": "LPS", "LPS-coronal": "LIP", "LPS-sagittal": "PIL"}
"""Orientations by their usual names: as a radiologist looks at a stack of such slices."""

SAME_SPACING = 1e-4
"""Relative difference of spacing below which an axis is left as it is."""


def _orientation(name: str) -> str:
    letters = NAMED.get(name, name)
    if sorted(ANATOMICAL[one][0] if one in ANATOMICAL else -1 for one in letters) != [0, 1, 2]:
        raise ValueError(
            f"{name!r} is no orientation; expected {', '.join(NAMED)}, or three letters, one each "
            "of L or R, P or A, S or I"
        )
    return name


Orientation = Annotated[str, AfterValidator(_orientation)]


def reorient(volume: Volume, account: Account, *, to: Orientation = "LPS-axial") -> Volume:
    """Turn a volume to the nearest of the 48 orientations along the patient's axes.

    Axes are exchanged and flipped; no value is interpolated, so that an oblique volume stays
    oblique.

    Parameters
    ----------
    volume : Volume
        Any.
    to : str
        ``LPS-axial`` (slices from feet to head, rows from front to back, columns from the patient's
        right to left), ``LPS-coronal`` (slices from front to back, rows from head to feet, columns
        from right to left), ``LPS-sagittal`` (slices from right to left, rows from head to feet,
        columns from front to back); or three letters that say where to columns, rows and slices
        grow, as NIfTI tools have them: ``RAS``.

    Returns
    -------
    Volume
        The same values; the source is remembered.
    """
    turn = turn_to(volume.affine, NAMED.get(to, to))
    account.notes.append(
        f"turned to {to}: axes {turn.order}, flipped {[int(flip) for flip in turn.flip]}"
    )
    return volume.on_grid(
        np.ascontiguousarray(turn.turn(volume.array)),
        turn.affine(volume.affine, volume.array.shape),
    )


def resample(
    volume: Volume,
    account: Account,
    *,
    in_plane_mm: Millimetres | None = None,
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] | None = None,
) -> Volume:
    """Bring a volume to another spacing.

    Cubic interpolation along each axis; where an axis shrinks, a Gaussian is applied first, so that
    nothing is aliased. The new grid has the same centre and, within half a voxel, the same extent;
    its spacing is exactly what was asked for.

    Parameters
    ----------
    volume : Volume
        Any.
    in_plane_mm : float, optional
        Spacing of the two axes that lie nearest the axial plane; slices are left as they are.
    spacing_mm : tuple of float, optional
        Spacing along (slice, row, column).

    Returns
    -------
    Volume
        float32, within the limits of the values that were given; the source is remembered.

    Raises
    ------
    ValueError
        Both settings are given, or none.
    """
    if (in_plane_mm is None) == (spacing_mm is None):
        raise ValueError("resample takes either in_plane_mm or spacing_mm")
    wanted = list(spacing_mm or volume.spacing)
    if in_plane_mm is not None:
        for axis in turn_to_axial(volume.affine).order[1:]:
            wanted[axis] = in_plane_mm
    array, affine = volume.array, volume.affine.copy()
    for axis, (now, then) in enumerate(zip(volume.spacing, wanted, strict=True)):
        if abs(then / now - 1) < SAME_SPACING:
            continue
        size = array.shape[axis]
        count = max(1, round(size * now / then))
        start = (size - 1) / 2 - (count - 1) / 2 * then / now
        moved = np.moveaxis(array, axis, 0)
        weights = _interpolation(size, count, then / now, start).astype(np.float32)
        array = np.moveaxis(np.tensordot(weights, moved, axes=1), 0, axis)
        affine[:3, 3] += affine[:3, axis] * start
        affine[:3, axis] *= then / now
    low, high = float(volume.array.min()), float(volume.array.max())
    account.notes.append(
        f"from {_by(volume.array.shape, volume.spacing)} to {_by(array.shape, tuple(wanted))}"
    )
    return volume.on_grid(np.ascontiguousarray(np.clip(array, low, high), dtype=np.float32), affine)


def _by(shape: tuple[int, ...], spacing: tuple[float, ...]) -> str:
    sizes = " × ".join(str(size) for size in shape)
    return f"{sizes} voxels of {' × '.join(f'{step:.3f}' for step in spacing)} mm"


def _interpolation(size: int, count: int, ratio: float, start: float) -> NDArray[np.float64]:
    """Return the matrix (count, size) that resamples one axis.

    Smoothing and interpolation are linear, so what they do to the columns of the identity is all
    that they do.
    """
    identity = np.eye(size)
    if ratio > 1:
        identity = ndimage.gaussian_filter1d(identity, (ratio - 1) / 2, axis=0, mode="nearest")
    return np.asarray(
        ndimage.affine_transform(
            identity,
            np.array([ratio, 1.0]),
            offset=(start, 0.0),
            output_shape=(count, size),
            order=3 if size > 3 else 1,
            mode="nearest",
        )
    )


def crop_foreground(
    volume: Volume,
    account: Account,
    *,
    margin_mm: Annotated[float, Field(ge=0)] = 0.0,
    above: float | Literal["otsu"] = "otsu",
) -> Volume:
    """Crop a volume to the box that holds everything brighter than a threshold.

    Every voxel above the threshold counts, a single one too: choose a threshold above the noise.

    Parameters
    ----------
    volume : Volume
        Any.
    margin_mm : float
        How much is kept around, where the volume reaches so far.
    above : float or "otsu"
        Threshold in the volume's unit, or Otsu's.

    Returns
    -------
    Volume
        The same values in the box; the source is remembered.

    Raises
    ------
    Refused
        Nothing is above the threshold.
    """
    threshold = otsu(volume.array) if above == "otsu" else above
    inside = volume.array > threshold if threshold is not None else np.zeros(0, bool)
    if threshold is None or not inside.any():
        what = "all values are the same" if threshold is None else f"nothing is above {threshold:g}"
        raise Refused(
            f"the images show nothing to crop to: {what}; values lie from "
            f"{volume.array.min():g} to {volume.array.max():g}"
        )
    box, start = [], np.zeros(3)
    for axis, step in enumerate(volume.spacing):
        filled = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
        margin = int(np.ceil(margin_mm / step - SAME_SPACING))
        start[axis] = max(0, filled[0] - margin)
        box.append(slice(int(start[axis]), int(filled[-1]) + margin + 1))
    array = np.ascontiguousarray(volume.array[tuple(box)])
    account.notes.append(
        f"cropped from {_sizes(volume.array.shape)} to {_sizes(array.shape)} voxels, to what is "
        f"above {threshold:g} and {margin_mm:g} mm around"
    )
    return volume.on_grid(array, _moved(volume, start))


def pad(
    volume: Volume,
    account: Account,
    *,
    to: tuple[Size, Size, Size] | None = None,
    multiple: Size | tuple[Size, Size, Size] | None = None,
    value: float | Literal["lowest"] = "lowest",
) -> Volume:
    """Add voxels around a volume, as many on either side; an odd one at the end.

    Parameters
    ----------
    volume : Volume
        Any.
    to : tuple of int, optional
        Least size along (slice, row, column); an axis that is longer is left as it is.
    multiple : int or tuple of int, optional
        Each axis is brought to the next multiple of this, after ``to``.
    value : float or "lowest"
        What the new voxels hold, in the volume's unit; or the volume's lowest value.

    Returns
    -------
    Volume
        The same values, and the new voxels; the source is remembered.

    Raises
    ------
    ValueError
        Neither ``to`` nor ``multiple`` is given.
    """
    if to is None and multiple is None:
        raise ValueError("pad takes to, multiple or both")
    shape = volume.array.shape
    wanted = np.maximum(shape, to or shape)
    if multiple is not None:
        wanted = -(-wanted // np.array(multiple)) * np.array(multiple)
    before = (wanted - shape) // 2
    widths = list(zip(before.tolist(), (wanted - shape - before).tolist(), strict=True))
    filled = float(volume.array.min()) if value == "lowest" else value
    array = np.pad(volume.array, widths, constant_values=filled)
    account.notes.append(
        f"padded from {_sizes(shape)} to {_sizes(array.shape)} voxels, with {filled:g}"
    )
    return volume.on_grid(array, _moved(volume, -before))


def _sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(str(size) for size in shape)


def _moved(volume: Volume, start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the affine of a grid whose first voxel is another one of the volume's."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ start
    return affine


def resample_mask(mask: Mask, volume: Volume) -> Mask:
    """Bring a mask onto the grid of a volume; each voxel takes the label nearest to its centre.

    To bring a mask back to the images that it comes from, `to_source` is enough.

    Parameters
    ----------
    mask : Mask
        In the same space as the volume.
    volume : Volume
        Whose grid is wanted; its values are not looked at.

    Returns
    -------
    Mask
        On the volume's grid, 0 outside of what the mask covers.

    Raises
    ------
    ValueError
        Mask and volume lie in different frames of reference.
    """
    frames = {mask.frame_of_reference, volume.frame_of_reference} - {""}
    if len(frames) > 1:
        raise ValueError(
            f"mask and volume lie in different frames of reference ({' and '.join(sorted(frames))})"
        )
    across = np.linalg.inv(mask.affine) @ volume.affine
    return replace(
        mask,
        array=bring(mask.array, across, volume.array.shape),
        affine=volume.affine,
        frame_of_reference=volume.frame_of_reference,
        source=volume.source,
    )


def to_source(mask: Mask, account: Account) -> Mask:
    """Put a mask back onto the grid of the images that it comes from.

    One step undoes the whole chain before it: `reorient`, `crop_foreground`, `pad`, `resample`,
    `register`, in any order. Where the chain only turned, cropped and padded, each voxel finds its
    place exactly; otherwise each voxel of the source takes the label nearest to its centre. What
    was cropped away is background, what was padded is dropped.

    Parameters
    ----------
    mask : Mask
        On whatever grid.

    Returns
    -------
    Mask
        On the grid of the source, in its frame of reference; the mask itself where it lies there.
    """
    source = mask.source
    if source is None:
        account.notes.append("already on the grid of its source")
        return mask
    across = _from_source(source, mask)
    back = bring(mask.array, across, source.shape)
    account.notes.append(_told(mask, source, across))
    return replace(
        mask,
        array=back,
        affine=source.affine,
        frame_of_reference=source.frame_of_reference,
        source=_there(source),
    )


def probability_to_source(probability: Probability, account: Account) -> Probability:
    """Put probabilities back onto the grid of the images that they come from.

    As `to_source` does it for a mask, but interpolated linearly where the chain resampled; what
    was cropped away has probability 0.

    Parameters
    ----------
    probability : Probability
        On whatever grid.

    Returns
    -------
    Probability
        On the grid of the source, in its frame of reference.
    """
    source = probability.source
    if source is None:
        account.notes.append("already on the grid of its source")
        return probability
    across = _from_source(source, probability)
    back = np.stack([bring(one, across, source.shape, linear=True) for one in probability.array])
    account.notes.append(_told(probability, source, across))
    return replace(
        probability,
        array=back,
        affine=source.affine,
        frame_of_reference=source.frame_of_reference,
        source=_there(source),
    )


def _there(source: Source) -> Source | None:
    """Return what is still to be remembered on the source's own grid: which planes it has."""
    return replace(source, back=np.eye(4)) if source.planes else None


def _from_source(source: Source, found: Mask | Probability) -> NDArray[np.float64]:
    """Return the matrix from an index of the source to one of what was found."""
    return np.asarray(np.linalg.inv(source.back @ found.affine) @ source.affine)


def _told(found: Mask | Probability, source: Source, across: NDArray[np.float64]) -> str:
    sizes = f"from {_sizes(found.array.shape[-3:])} to {_sizes(source.shape)} voxels"
    exact = np.allclose(across, np.round(across), atol=1e-6)
    return f"back onto the source's grid, {sizes}" + (", voxel by voxel" if exact else "")
