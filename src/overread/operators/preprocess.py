"""Bring a volume to the grid and the scale that a model was trained on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from overread.dicom.geometry import Affine, turn_to_axial
from overread.dicom.volume import Mask, Volume
from overread.pipelines.ports import Account

Millimetres = Annotated[float, Field(gt=0)]

SAME_SPACING = 1e-4
"""Relative difference of spacing below which an axis is left as it is."""

BINS = 256
"""Bins of the histogram that Otsu's threshold is taken from."""

BRIGHTEST = 99.5
"""Percentile that values are limited to before the histogram, so that a few bright voxels do not
squeeze all others into one bin."""

TISSUE = 25
"""Percentile of the foreground that stands for brain: the median is drawn up by fat."""

UPPER = 5.0
"""Where normalised values are cut off."""


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
    in_plane_mm : float, optional
        Spacing of the two axes that lie nearest the axial plane; slices are left as they are.
    spacing_mm : tuple of float, optional
        Spacing along (slice, row, column).

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


def resample_mask(mask: Mask, volume: Volume) -> Mask:
    """Bring a mask onto the grid of a volume; each voxel takes the label nearest to its centre.

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
    return Mask(
        nearest(mask.array, mask.affine, volume.array.shape, volume.affine),
        volume.affine,
        mask.segments,
        volume.frame_of_reference,
        mask.model,
        volume.source,
    )


def nearest(
    array: NDArray[Any], affine: Affine, shape: tuple[int, ...], onto: Affine
) -> NDArray[Any]:
    """Take the nearest value of an array at each voxel of another grid; 0 outside."""
    across = np.linalg.inv(affine) @ onto
    linear = across[:3, :3]
    straight = np.allclose(linear, np.diag(np.diag(linear)), atol=1e-9)
    return np.asarray(
        ndimage.affine_transform(
            array,
            np.diag(linear) if straight else linear,
            offset=across[:3, 3],
            output_shape=shape,
            order=0,
            mode="grid-constant",
        )
    )


def normalise(
    volume: Volume,
    *,
    method: Literal["foreground", "zscore", "window"],
    level: float | None = None,
    width: Annotated[float, Field(gt=0)] | None = None,
) -> Volume:
    """Bring the values of a volume to the scale that a model was trained on.

    Parameters
    ----------
    method : str
        ``foreground``: divide by the level of the brain's tissue, see `foreground`.
        ``zscore``: subtract the mean and divide by the standard deviation.
        ``window``: ``level - width / 2`` becomes 0, ``level + width / 2`` becomes 1, cut off there.
    level, width : float
        The window, in the volume's unit; for ``window`` only, and then both.

    Returns
    -------
    Volume
        float32, without unit.

    Raises
    ------
    ValueError
        A window without level and width, or a level or width without window.
    """
    array = np.asarray(volume.array, dtype=np.float32)
    if (method == "window") != (level is not None and width is not None):
        raise ValueError("normalise takes level and width with method window, and only then")
    if method == "foreground":
        array = foreground(array)
    elif method == "zscore":
        deviation = float(array.std(dtype=np.float64))
        mean = float(array.mean(dtype=np.float64))
        array = (array - mean) / deviation if deviation > 0 else np.zeros_like(array)
    elif level is not None and width is not None:
        array = np.clip((array - (level - width / 2)) / width, 0, 1)
    return volume.with_array(np.asarray(array, dtype=np.float32), unit="1")


def foreground(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide by the level of the brain's tissue, so that air is 0 and brain about 1.

    The formula is the one that the brain-tumour model was trained with: foreground is what lies
    above Otsu's threshold; the level is the foreground's 25th percentile; the result is limited to
    0 … 5. A constant volume becomes zeros.
    """
    threshold = otsu(array)
    level = float(np.percentile(array[array > threshold], TISSUE)) if threshold is not None else 0.0
    return np.clip(array / level, 0, UPPER) if level > 0 else np.zeros_like(array)


def otsu(array: NDArray[np.float32]) -> float | None:
    """Threshold that parts the values into two classes with the greatest variance between them.

    Otsu N (1979), doi:10.1109/TSMC.1979.4310076; over 256 bins from the minimum to the 99.5th
    percentile, above which values are limited.

    Returns
    -------
    float or None
        An edge of the histogram; none where (nearly) all values are the same.
    """
    low, high = float(array.min()), float(np.percentile(array, BRIGHTEST))
    if high <= low:
        return None
    counts, edges = np.histogram(np.minimum(array, high), bins=BINS, range=(low, high))
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = array.size - below
    sums = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2)
    between = (sums[-1] * below / array.size - sums[:-1]) ** 2 / np.maximum(below * above, 1)
    return float(edges[1 + int(np.argmax(between))])
