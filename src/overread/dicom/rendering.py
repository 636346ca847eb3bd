"""From the stored values of a projection or ultrasound image to values where larger is brighter.

The grayscale pipeline of PS3.4 N.2: modality LUT, VOI LUT, photometric interpretation. Colour
becomes luminance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import iter_pixels
from scipy.special import expit

from overread.dicom.match import text
from overread.dicom.mosaic import find_mosaic
from overread.dicom.pixels import UNREADABLE, read_frames
from overread.dicom.planes import group
from overread.dicom.study import Instance
from overread.errors import Refused

Floats = NDArray[np.float32]
Voi = Literal["none", "window", "lut"]

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601), with which YBR_FULL is defined as well
(PS3.3 C.7.6.3.1.2)."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame, rendered.

    Attributes
    ----------
    index : int
        Of the frame in its image, from 0.
    array : ndarray, shape (rows, columns), float32
        Larger is brighter.
    notes : tuple of str
        What a person should know of how it came about.
    """

    index: int
    array: Floats
    notes: tuple[str, ...] = ()


def render(instance: Instance, frames: Sequence[int], voi: Voi) -> Iterator[Frame]:
    """Render frames of an image.

    Parameters
    ----------
    instance : Instance
        An image of one or three samples per pixel.
    frames : sequence of int
        Indices, from 0.
    voi : str
        ``none``: the values as they are after the modality LUT. ``window``: its first window, to
        0 … 1. ``lut``: its first VOI LUT, or its window where it has no LUT, to 0 … 1. Where the
        image has neither, its whole range becomes 0 … 1.

    Yields
    ------
    Frame
        In the order asked for.

    Raises
    ------
    Refused
        It has no pixels, or some that cannot be read.
    """
    kind = str(instance.header.get("PhotometricInterpretation") or "")
    if find_mosaic(instance.header) is not None:
        raise Refused(
            f"image {instance.uid} is a mosaic: the slices of a volume, side by side; read_volume "
            "reads it"
        )
    if not kind.startswith("MONOCHROME"):
        yield from _colour(instance, frames, voi)
        return
    for index, stored in zip(frames, read_frames(instance, frames), strict=True):
        try:
            array, notes = _grey(instance.header, index, stored, voi)
        except UNREADABLE as error:
            raise Refused(
                f"image {instance.uid}: its lookup tables or windows cannot be read ({error})"
            ) from error
        yield Frame(index, array, notes)


def _grey(
    header: Dataset, index: int, stored: NDArray[Any], voi: Voi
) -> tuple[Floats, tuple[str, ...]]:
    transformation = _place(header, index, "PixelValueTransformationSequence")
    values = np.asarray(apply_modality_lut(stored, transformation), np.float64)
    low, high = _limits(header, transformation)
    notes: list[str] = []
    if voi == "none":
        shown = values
    else:
        shown, note = _viewed(values, _place(header, index, "FrameVOILUTSequence"), voi, low, high)
        notes.append(note)
        low, high = 0.0, 1.0
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        shown = low + high - shown
        notes.append("MONOCHROME1 inverted")
    padding = _padding(header, stored)
    if padding.any() and not padding.all():
        shown[padding] = shown[~padding].min()
        notes.append("PixelPaddingValue set to the darkest value")
    return shown.astype(np.float32), tuple(notes)


def _place(header: Dataset, index: int, keyword: str) -> Dataset:
    """Return where a frame's values are described: its functional group, or the image itself."""
    frames = header.get("PerFrameFunctionalGroupsSequence")
    found = group(frames[index], keyword, header) if frames and index < len(frames) else None
    return found or header


def _limits(header: Dataset, transformation: Dataset) -> tuple[float, float]:
    """Lowest and highest value that the modality LUT can give for what BitsStored can hold."""
    tables = transformation.get("ModalityLUTSequence")
    if tables:
        return 0.0, float(2 ** int(tables[0].LUTDescriptor[2]) - 1)
    bits = int(header.get("BitsStored") or header.get("BitsAllocated") or 16)
    signed = bool(header.get("PixelRepresentation"))
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
    mapped = np.asarray(apply_modality_lut(ends, transformation), np.float64)
    return float(mapped.min()), float(mapped.max())


def _viewed(
    values: NDArray[np.float64], place: Dataset, voi: Voi, low: float, high: float
) -> tuple[NDArray[np.float64], str]:
    """Bring values to 0 … 1 as the image itself says that it is to be seen."""
    tables = place.get("VOILUTSequence")
    if voi == "lut" and tables:
        return _looked_up(values, tables[0]), "first VOI LUT applied"
    centres, widths = text(place, "WindowCenter"), text(place, "WindowWidth")
    if centres and widths:
        function = str(place.get("VOILUTFunction") or "LINEAR")
        centre, width = float(centres[0]), float(widths[0])
        note = f"window {centre:g}, {width:g} ({function}) applied"
        return windowed(values, centre, width, function), note
    return (values - low) / (high - low), "no window: the whole range of stored values is used"


def windowed(
    values: NDArray[np.float64], centre: float, width: float, function: str = "LINEAR"
) -> NDArray[np.float64]:
    """Apply a window to 0 … 1 (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Raises
    ------
    ValueError
        The width is not positive, or the function is none of LINEAR, LINEAR_EXACT, SIGMOID.
    """
    if not width > 0:
        raise ValueError(f"WindowWidth is {width:g}; more than 0 was expected")
    if function == "SIGMOID":
        shown = expit(4 * (values - centre) / width)
    elif function == "LINEAR_EXACT":
        shown = np.clip((values - centre) / width + 0.5, 0, 1)
    elif function != "LINEAR":
        raise ValueError(f"VOILUTFunction is {function}; LINEAR, LINEAR_EXACT or SIGMOID expected")
    elif width > 1:
        shown = np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    else:
        shown = (values > centre - 0.5).astype(np.float64)
    return np.asarray(shown)


def _looked_up(values: NDArray[np.float64], table: Dataset) -> NDArray[np.float64]:
    """Apply a VOI LUT to 0 … 1 (PS3.3 C.11.2.1.1)."""
    count, first, bits = (int(value) for value in table.LUTDescriptor)
    data = table.LUTData
    entries = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data)
    if entries.size < (count or 65536):
        raise ValueError(f"the VOI LUT has {entries.size} entries; {count or 65536} were expected")
    index = np.clip(np.round(values).astype(np.int64) - first, 0, (count or 65536) - 1)
    return np.asarray(entries[index], np.float64) / float(2**bits - 1)


def _padding(header: Dataset, stored: NDArray[Any]) -> NDArray[np.bool_]:
    value = header.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, np.bool_)
    limit = header.get("PixelPaddingRangeLimit")
    ends = sorted((int(value), int(value if limit is None else limit)))
    return np.asarray((stored >= ends[0]) & (stored <= ends[1]))


def _colour(instance: Instance, frames: Sequence[int], voi: Voi) -> Iterator[Frame]:
    header = instance.header
    kind = str(header.get("PhotometricInterpretation") or "")
    if not header.get("Rows") or not kind:
        what = header.get("Modality") or header.get("SOPClassUID") or "it"
        raise Refused(f"object {instance.uid} ({what}) has no pixels; an image was expected")
    if instance.file is None:
        raise FileNotFoundError(f"instance {instance.uid} has no file here")
    palette = kind == "PALETTE COLOR"
    said = Dataset()
    try:
        read = iter_pixels(instance.file, indices=list(frames), raw=palette, ds_out=said)
        for index, stored in zip(frames, read, strict=True):
            colours = apply_color_lut(stored, header) if palette else stored
            if colours.ndim != 3 or colours.shape[-1] < 3:
                raise ValueError(f"{kind} with {colours.ndim} axes")
            became = str(said.get("PhotometricInterpretation") or kind)
            if became.startswith("YBR"):
                luminance = colours[..., 0].astype(np.float32)
            else:
                luminance = colours[..., :3].astype(np.float32) @ np.array(LUMINANCE, np.float32)
            bits = 8 * colours.dtype.itemsize if palette else int(header.get("BitsStored") or 8)
            luminance *= (255 if voi == "none" else 1) / (2**bits - 1)
            yield Frame(index, luminance, (f"luminance of {kind}",))
    except UNREADABLE as error:
        raise Refused(
            f"image {instance.uid}: its pixels cannot be read ({error}); send the image again"
        ) from error
