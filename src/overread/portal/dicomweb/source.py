"""The stored file behind an instance: its header, its bulk values, its frames.

Nothing is decoded. Two encodings are not served as they are stored, since PS3.18 knows neither on
the web: big endian and deflated objects are given as Explicit VR Little Endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import get_frame
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
)
from pydicom.valuerep import VR

from overread.store.archive import Archive
from overread.store.tables import Instance

PIXELS = (Tag("PixelData"), Tag("FloatPixelData"), Tag("DoubleFloatPixelData"))
_CHUNK = 1 << 20
_WORDS = {VR.OW: 2, VR.OL: 4, VR.OF: 4, VR.OV: 8, VR.OD: 8}
_RENDERED = frozenset({ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian})


class NotThere(Exception):
    """The object has no such frame or value."""


def syntax_of(instance: Instance) -> str:
    """Return the transfer syntax that an instance is served in."""
    stored = instance.transfer_syntax_uid
    return str(ExplicitVRLittleEndian) if stored in _RENDERED else stored


@contextmanager
def opened(archive: Archive, instance: Instance) -> Iterator[BinaryIO]:
    """Open the PS3.10 file of an instance, in the transfer syntax that it is served in."""
    path = archive.path(instance.key)
    if instance.transfer_syntax_uid in _RENDERED:
        yield BytesIO(_explicit(path))
        return
    with path.open("rb") as file:
        yield file


def chunks(archive: Archive, instance: Instance) -> Iterator[bytes]:
    """Read the whole file, a piece at a time."""
    with opened(archive, instance) as file:
        while piece := file.read(_CHUNK):
            yield piece


@lru_cache(maxsize=4)
def _explicit(path: Path) -> bytes:
    """Write a big endian or deflated object as Explicit VR Little Endian."""
    dataset = dcmread(path)
    if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:
        _swap(dataset)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = BytesIO()
    dcmwrite(out, dataset, little_endian=True, implicit_vr=False, enforce_file_format=True)
    return out.getvalue()


def _swap(dataset: Dataset) -> None:
    """Turn the words of binary values, which pydicom leaves as they were read, to little endian."""
    bits = int(dataset.get("BitsAllocated", 16) or 16)
    for element in dataset:
        if element.VR == VR.SQ:
            for item in element.value:
                _swap(item)
        elif element.VR in _WORDS and element.value:
            word = _WORDS[VR(element.VR)]
            if element.tag == PIXELS[0] and bits > 16:
                word = bits // 8
            words = np.frombuffer(element.value, f">u{word}")
            element.value = words.astype(f"<u{word}").tobytes()


@dataclass(frozen=True)
class Pixels:
    """Where the pixel data of an open file are.

    Attributes
    ----------
    tag : BaseTag
        PixelData, FloatPixelData or DoubleFloatPixelData.
    vr : str
        As encoded.
    start : int
        Offset of the value's first byte.
    length : int or None
        Bytes of the value; none where it is encapsulated.
    """

    tag: BaseTag
    vr: str
    start: int
    length: int | None


def header(file: BinaryIO) -> tuple[Dataset, Pixels | None]:
    """Read everything before the pixel data, big values left in the file, and find the pixels."""
    file.seek(0)
    dataset = dcmread(file, stop_before_pixels=True, defer_size=_CHUNK, force=True)
    return dataset, _find_pixels(file, dataset)


def _find_pixels(file: BinaryIO, dataset: Dataset) -> Pixels | None:
    head = file.read(8)
    if len(head) < 8:
        return None
    tag = Tag(int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little"))
    if tag not in PIXELS:
        return None
    if dataset.original_encoding[0]:  # as it was read: a private syntax does not tell
        vr, length = "OW", int.from_bytes(head[4:8], "little")
    else:
        vr, length = head[4:6].decode("ascii"), int.from_bytes(file.read(4), "little")
    return Pixels(tag, vr, file.tell(), None if length == 0xFFFFFFFF else length)


def frame(file: BinaryIO, number: int) -> bytes:
    """Read one frame as it is stored.

    Parameters
    ----------
    number : int
        From 1.

    Raises
    ------
    NotThere
        The object has no pixels, or fewer frames, or they are not as its header says.
    """
    try:
        return _frame(file, number)
    except (ValueError, TypeError, AttributeError, LookupError, OSError, struct.error) as error:
        raise NotThere(f"frame {number} cannot be read: {type(error).__name__}") from error


def _frame(file: BinaryIO, number: int) -> bytes:
    dataset, pixels = header(file)
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    if pixels is None or not 1 <= number <= count:
        raise NotThere(f"there is no frame {number}; the object has {count if pixels else 0}")
    file.seek(pixels.start)
    if pixels.length is None:
        return get_frame(file, number - 1, number_of_frames=count)
    bits = _bits_of_frame(dataset)
    first = (number - 1) * bits
    last = first + bits
    file.seek(pixels.start + first // 8)
    raw = file.read(-(-last // 8) - first // 8)
    if len(raw) * 8 < bits:
        raise NotThere(f"the pixel data end before frame {number}")
    if first % 8 == 0:
        return _trimmed(raw, bits)
    # One-bit frames follow one another without padding (PS3.5 section 8.1.1): shift to a byte.
    lifted = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")[first % 8 :][:bits]
    return np.packbits(lifted, bitorder="little").tobytes()


def _trimmed(raw: bytes, bits: int) -> bytes:
    """Clear the bits after the frame's last one, which belong to the next frame."""
    if bits % 8 == 0:
        return raw
    return raw[:-1] + bytes([raw[-1] & ((1 << bits % 8) - 1)])


def _bits_of_frame(dataset: Dataset) -> int:
    samples = int(dataset.get("SamplesPerPixel", 1) or 1)
    cells = int(dataset.Rows) * int(dataset.Columns)
    allocated = int(dataset.get("BitsAllocated", 0) or 0)
    if samples == 3 and dataset.get("PhotometricInterpretation") == "YBR_FULL_422":
        samples = 2  # two chroma samples for every two pixels
    return cells * samples * allocated


def span(file: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    """Read a stretch of an open file, a piece at a time."""
    file.seek(start)
    while length > 0 and (piece := file.read(min(_CHUNK, length))):
        length -= len(piece)
        yield piece
