"""Bring the values of images to the scale that a model was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overread.dicom.image import Images
from overread.dicom.volume import Volume

Floats = NDArray[np.float32]
Percentile = Annotated[float, Field(ge=0, le=100)]
Method = Literal["foreground", "zscore", "zscore_foreground", "window", "percentile"]

BINS = 256
"""Bins of the histogram that Otsu's threshold is taken from."""

BRIGHTEST = 99.5
"""Percentile that values are limited to before the histogram, so that a few bright voxels do not
squeeze all others into one bin."""

TISSUE = 25
"""Percentile of the foreground that stands for brain: the median is drawn up by fat."""

UPPER = 5.0
"""Where normalised values are cut off."""


def normalise(
    volume: Volume,
    *,
    method: Method,
    level: float | None = None,
    width: Annotated[float, Field(gt=0)] | None = None,
    low: Percentile = 1.0,
    high: Percentile = 99.0,
    clip: bool = True,
) -> Volume:
    """Bring the values of a volume to the scale that a model was trained on.

    Parameters
    ----------
    volume : Volume
        Any.
    method : str
        ``foreground``: divide by the level of the brain's tissue (the 25th percentile of what lies
        above Otsu's threshold) and limit to 0 … 5.
        ``zscore``: subtract the mean and divide by the standard deviation, of all voxels.
        ``zscore_foreground``: the same, with mean and standard deviation of what lies above Otsu's
        threshold; all voxels are brought to that scale.
        ``window``: ``level - width / 2`` becomes 0, ``level + width / 2`` becomes 1, cut off there.
        ``percentile``: the percentile ``low`` becomes 0, the percentile ``high`` becomes 1.
    level, width : float
        The window, in the volume's unit; for ``window`` only, and then both.
    low, high : float
        For ``percentile``: which, of all voxels.
    clip : bool
        For ``percentile``: values are limited to 0 … 1.

    Returns
    -------
    Volume
        float32, without unit, on the same grid. What is the same everywhere becomes 0.

    Raises
    ------
    ValueError
        A window without level and width, or a level or width without window; ``low`` is not below
        ``high``.
    """
    scale = _scale(method, level, width, (low, high), clip)
    return volume.with_array(scale(np.asarray(volume.array, np.float32)), unit="1")


def normalise_image(
    images: Images,
    *,
    method: Literal["zscore", "zscore_foreground", "window", "percentile"],
    level: float | None = None,
    width: Annotated[float, Field(gt=0)] | None = None,
    low: Percentile = 1.0,
    high: Percentile = 99.0,
    clip: bool = True,
) -> Images:
    """Bring the values of each image, by itself, to the scale that a model was trained on.

    Parameters
    ----------
    images : Images
        Radiographs, frames of an ultrasound.
    method : str
        ``zscore``, ``zscore_foreground``, ``window`` or ``percentile``, as of `normalise`, of one
        image's pixels.
    level, width : float
        The window, in the image's unit; for ``window`` only, and then both.
    low, high : float
        For ``percentile``: which, of all pixels.
    clip : bool
        For ``percentile``: values are limited to 0 … 1.

    Returns
    -------
    Images
        float32, without unit.

    Raises
    ------
    ValueError
        As of `normalise`.
    """
    scale = _scale(method, level, width, (low, high), clip)
    return Images(tuple(replace(one, array=scale(one.array), unit="1") for one in images))


def _scale(
    method: Method,
    level: float | None,
    width: float | None,
    percentiles: tuple[float, float],
    clip: bool,
) -> Callable[[Floats], Floats]:
    if (level is None) != (width is None) or (method == "window") != (level is not None):
        raise ValueError("normalise takes level and width with method window, and only then")
    low, high = percentiles
    if low >= high:
        raise ValueError(f"the percentile low ({low:g}) must be below high ({high:g})")
    if level is not None and width is not None:
        limits = level - width / 2, level + width / 2
        return lambda array: _between(array, *limits, clip=True)
    if method == "percentile":
        return lambda array: _between(
            array, *map(float, np.percentile(array, [low, high])), clip=clip
        )
    if method == "foreground":
        return foreground
    return lambda array: _zscore(array, otsu(array) if method == "zscore_foreground" else None)


def _zscore(array: Floats, above: float | None) -> Floats:
    values = array if above is None else array[array > above]
    mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    if not deviation > 0:
        return np.zeros_like(array, dtype=np.float32)
    return np.asarray((array - mean) / deviation, dtype=np.float32)


def _between(array: Floats, zero: float, one: float, *, clip: bool) -> Floats:
    if not one > zero:
        return np.zeros_like(array, dtype=np.float32)
    scaled = (array - zero) / (one - zero)
    return np.asarray(np.clip(scaled, 0, 1) if clip else scaled, dtype=np.float32)


def foreground(array: Floats) -> Floats:
    """Divide by the level of the brain's tissue, so that air is 0 and brain about 1.

    The formula is the one that the brain-tumour model was trained with: foreground is what lies
    above Otsu's threshold; the level is the foreground's 25th percentile; the result is limited to
    0 … 5. A constant volume becomes zeros.
    """
    threshold = otsu(array)
    level = float(np.percentile(array[array > threshold], TISSUE)) if threshold is not None else 0.0
    return np.clip(array / level, 0, UPPER) if level > 0 else np.zeros_like(array)


def otsu(array: NDArray[Any]) -> float | None:
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
