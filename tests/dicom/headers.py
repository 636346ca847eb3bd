"""Headers as bytes, so that tests read what a scanner writes and not what Python made nice."""

from __future__ import annotations

import struct
from io import BytesIO

from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import Tag

LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}


def element(tag: int | str, vr: str, value: bytes) -> bytes:
    """Encode an element in Explicit VR Little Endian, whatever the value."""
    number = Tag(tag)
    head = struct.pack("<HH2s", number.group, number.element, vr.encode())
    if vr in LONG:
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def header(*elements: bytes) -> Dataset:
    """Decode elements as pydicom reads them from a file: raw until they are asked for."""
    return read_dataset(BytesIO(b"".join(elements)), is_implicit_VR=False, is_little_endian=True)
