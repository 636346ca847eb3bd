"""Stored values of images, decoded frame by frame, and what they mean."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from overread.dicom import codecs
from overread.dicom.mosaic import find_mosaic
from overread.dicom.planes import Plane, group
from overread.dicom.study import Instance
from overread.errors import Refused

UNREADABLE = (
    AttributeError,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom and the codecs raise on pixels that cannot be decoded; there is no single error."""

codecs.register()
FASTEST: dict[str, str] = {
    JPEG2000: codecs.NAME,
    JPEG2000Lossless: codecs.NAME,
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
}
"""Which of pydicom's decoders is tried first: of several, it would take the first by name."""

_PIXELS: dict[str, struct.Struct] = {
    ImplicitVRLittleEndian: struct.Struct("<HHL"),
    ExplicitVRLittleEndian: struct.Struct("<HH2sxxL"),
    ExplicitVRBigEndian: struct.Struct(">HH2sxxL"),
}
"""How the head of PixelData is encoded in each uncompressed transfer syntax (PS3.5 section 7.1)."""


def read_frames(instance: Instance, frames: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Decode frames of an image, one at a time.

    Parameters
    ----------
    instance : Instance
        An image of one value per pixel.
    frames : sequence of int
        Indices, from 0; of a mosaic, those of its tiles.

    Yields
    ------
    ndarray, shape (rows, columns)
        Values as stored, of the image's own integer type (or floating-point, where it has that).

    Raises
    ------
    Refused
        The image has no pixels, colour pixels, or pixels that cannot be decoded; or it is a
        segmentation.
    FileNotFoundError
        Its file is gone.
    """
    header = instance.header
    if header.get("Modality") == "SEG":
        raise Refused(f"object {instance.uid} is a segmentation; an image was expected")
    kind = str(header.get("PhotometricInterpretation") or "MONOCHROME2")
    if int(header.get("SamplesPerPixel") or 1) != 1 or not kind.startswith("MONOCHROME"):
        raise Refused(
            f"image {instance.uid} is in colour ({kind}); one value per pixel was expected"
        )
    if instance.file is None:
        raise FileNotFoundError(f"instance {instance.uid} has no file here")
    try:
        mosaic = find_mosaic(header)
        if mosaic is None:
            yield from _decode(header, instance.file, frames)
        else:
            (whole,) = _decode(header, instance.file, [0])
            yield from (mosaic.tile(whole, index) for index in frames)
    except UNREADABLE as error:
        raise Refused(
            f"image {instance.uid}: its pixels cannot be read ({error}); send the image again"
        ) from error


def _decode(header: Dataset, file: Path, frames: Sequence[int]) -> Iterator[NDArray[Any]]:
    native = _Native.of(header)
    if native:
        with file.open("rb") as stream:
            if native.ends(stream):
                yield from native.read(stream, frames)
                return
    syntax = _syntax(header)
    stored, high = header.get("BitsStored"), header.get("HighBit")
    if syntax in _PIXELS and stored and high is not None and high != stored - 1:
        raise ValueError(f"HighBit {high} with BitsStored {stored}, which pydicom does not look at")
    # pydicom does not look into a deflated file unless it has read it whole.
    source = dcmread(file) if syntax == DeflatedExplicitVRLittleEndian else file
    left = list(frames)
    if syntax in FASTEST:
        with suppress(*UNREADABLE):  # then by the others
            for frame in iter_pixels(
                source, indices=left[:], raw=True, decoding_plugin=FASTEST[syntax]
            ):
                yield frame
                del left[0]
    if left:
        yield from iter_pixels(source, indices=left, raw=True)


def _syntax(header: Dataset) -> str:
    meta = getattr(header, "file_meta", None)
    return str(meta.get("TransferSyntaxUID", "")) if meta else ""


@dataclass(frozen=True)
class _Native:
    """Uncompressed pixels that end their file, as nearly all do: read without parsing it again.

    Attributes
    ----------
    kind : dtype
        Of a value, with all bits that are allocated for it.
    shape : tuple of int
        Rows and columns of a frame.
    length : int
        Of all frames, in bytes.
    above, unused : int
        Bits above HighBit, and all that BitsStored leaves. What they hold (overlays, once) is no
        part of a value.
    head : Struct
        How the head of PixelData is encoded.
    """

    kind: np.dtype[Any]
    shape: tuple[int, int]
    length: int
    above: int
    unused: int
    head: struct.Struct

    @classmethod
    def of(cls, header: Dataset) -> _Native | None:
        """Read from a header how its pixels lie; none where the ordinary way must be taken."""
        syntax = _syntax(header)
        bits, stored = header.get("BitsAllocated"), header.get("BitsStored", 0)
        high = header.get("HighBit", -1)
        big = syntax == ExplicitVRBigEndian
        if (
            syntax not in _PIXELS
            or bits not in ((16,) if big else (8, 16, 32))
            or not 0 < stored <= high + 1 <= bits
        ):
            return None
        signed = "i" if header.get("PixelRepresentation") else "u"
        kind = np.dtype(f"{'>' if big else '<'}{signed}{bits // 8}")
        shape = int(header.Rows), int(header.Columns)
        count = shape[0] * shape[1] * int(header.get("NumberOfFrames") or 1)
        length = count * kind.itemsize
        form = _PIXELS[syntax]
        return cls(kind, shape, length + length % 2, bits - 1 - high, bits - stored, form)

    def ends(self, file: BufferedReader) -> bool:
        """Say whether a file ends with them."""
        file.seek(max(0, self._start(file) - self.head.size))
        group_, element, *_, size = self.head.unpack(file.read(self.head.size))
        return (group_, element, size) == (0x7FE0, 0x0010, self.length)

    def read(self, file: BufferedReader, frames: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Read frames of a file that ends with them."""
        start = self._start(file)
        for frame in frames:
            values = np.empty(self.shape, self.kind)
            file.seek(start + frame * values.nbytes)
            if file.readinto(values.data) != values.nbytes:
                raise EOFError(f"the file ends within frame {frame + 1}")
            if self.unused:
                np.left_shift(values, self.above, out=values)
                np.right_shift(values, self.unused, out=values)
            yield values

    def _start(self, file: BufferedReader) -> int:
        return file.seek(0, os.SEEK_END) - self.length


def transformation(plane: Plane) -> Dataset:
    """Return where the modality transformation of a plane stands: its frame's group, or the image.

    PS3.3 C.7.6.16.2.9 and C.11.1; empty where there is none.
    """
    header = plane.instance.header
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if not frames or plane.tiles:
        return header
    # A multi-frame Secondary Capture may have frames that say where they lie, and one rescale.
    return group(frames[plane.frame], "PixelValueTransformationSequence", header) or header


def write_values(plane: Plane, stored: NDArray[Any], into: NDArray[np.float32]) -> None:
    """Turn stored values into what they mean.

    Parameters
    ----------
    plane : Plane
        The plane that they belong to.
    stored : ndarray, shape (rows, columns)
        As `read_frames` gives them.
    into : ndarray, shape (rows, columns)
        Is given ``stored * RescaleSlope + RescaleIntercept``, or what the ModalityLUTSequence says.

    Raises
    ------
    Refused
        The ModalityLUTSequence cannot be read.
    """
    place = transformation(plane)
    if place.get("ModalityLUTSequence"):
        try:
            into[:] = apply_modality_lut(stored, place)
        except UNREADABLE as error:
            raise Refused(
                f"{plane.name} has a ModalityLUTSequence that cannot be read ({error})"
            ) from error
        return
    slope, intercept = place.get("RescaleSlope"), place.get("RescaleIntercept")
    into[:] = stored
    if slope is not None and float(slope) != 1:
        into *= float(slope)
    if intercept is not None and float(intercept) != 0:
        into += float(intercept)


def kind_of(plane: Plane) -> str:
    """Return what the values are, in the Standard's word: RescaleType or ModalityLUTType."""
    place = transformation(plane)
    tables = place.get("ModalityLUTSequence")
    if tables:
        return str(tables[0].get("ModalityLUTType") or "")
    return str(place.get("RescaleType") or "")
