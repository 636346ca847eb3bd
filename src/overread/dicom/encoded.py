"""An encoded dataset: read up to its pixels, wrapped as a file, compared with another copy.

A dataset is the bytes that follow the File Meta Information in a PS3.10 file, or that a C-STORE
carries. Pixels are decoded here only by `same_pixels`.
"""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, config, dcmread
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import data_element_generator
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.multival import MultiValue
from pydicom.pixels.utils import iter_pixels
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

IMPLEMENTATION_CLASS_UID = UID("2.25.178643251871213406812938175093470382145")
"""Ours, for File Meta Information and associations (PS3.7 D.3.3.2)."""

IMPLEMENTATION_VERSION_NAME = "OVERREAD_0_1"

_GROUP_AT = 144
"""Where File Meta Information goes on after its own length: preamble, DICM, and that element."""

_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_CHARACTER_SET = BaseTag(0x00080005)
_SEQUENCE_END = 0xFFFEE0DD
_ITEM = 0xFFFEE000
_UNDEFINED = 0xFFFFFFFF
_GE_PRIVATE_BIG_ENDIAN_PIXELS = "1.2.840.113619.5.2"
"""Implicit VR Little Endian but for its pixels."""

_LONGEST_INFLATED = 2**30
"""Deflated bytes may inflate a thousandfold; of what is sent deflated nothing is near this."""

_GEOMETRY = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
)
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")

UNREADABLE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom raises on bytes that are no dataset; it has no single error for that."""


class Unparseable(ValueError):
    """The bytes are no dataset in that transfer syntax, or end too early."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """A dataset as it came.

    Attributes
    ----------
    header : Dataset
        Everything before PixelData.
    transfer_syntax : str
        Its UID.
    data : bytes-like
        The whole dataset, encoded.
    pixels_at : int
        Where the pixel data element begins in the dataset (once inflated, if it is deflated); its
        length where there is none.
    """

    header: Dataset
    transfer_syntax: str
    data: bytes | bytearray | memoryview
    pixels_at: int

    def pixels(self) -> bytes | memoryview:
        """Return the encoded pixel data element and what follows it."""
        return memoryview(_inflated(self.data, self.transfer_syntax))[self.pixels_at :]


def parse(data: bytes | bytearray | memoryview, transfer_syntax: str) -> Encoded:
    """Read a dataset up to its pixels.

    A transfer syntax that is not in the Standard is taken as Explicit VR Little Endian, as every
    encapsulated one is (PS3.5 A.4), and where that fails as Implicit VR Little Endian.

    Raises
    ------
    Unparseable
        With what is wrong and where.
    """
    inflated = _inflated(data, transfer_syntax)
    if transfer_syntax in (ImplicitVRLittleEndian, _GE_PRIVATE_BIG_ENDIAN_PIXELS):
        encodings = [(True, True)]
    elif transfer_syntax == ExplicitVRBigEndian:
        encodings = [(False, False)]
    elif UID(transfer_syntax).is_transfer_syntax:
        encodings = [(False, True)]
    else:
        encodings = [(False, True), (True, True)]
    for implicit, little in encodings:
        try:
            header, pixels_at = _read(inflated, implicit, little)
        except Unparseable:
            if (implicit, little) == encodings[-1]:
                raise
        else:
            return Encoded(header, transfer_syntax, data, pixels_at)
    raise AssertionError("there is at least one encoding to try")


def parse_file(data: bytes) -> Encoded:
    """Read a PS3.10 file, as STOW-RS carries it and jobs make it.

    Raises
    ------
    Unparseable
        No preamble, no File Meta Information, or a dataset that cannot be read.
    """
    meta, start = file_meta(data)
    return parse(memoryview(data)[start:], str(meta.get("TransferSyntaxUID", "")))


def file_meta(data: bytes) -> tuple[FileMetaDataset, int]:
    """Read the File Meta Information of a PS3.10 file, and say where the dataset begins.

    Raises
    ------
    Unparseable
        There is none, or it names no transfer syntax.
    """
    if data[128:132] != b"DICM":
        raise Unparseable("no DICM after 128 bytes: not a DICOM file (PS3.10 section 7.1)")
    stream = BytesIO(data)
    stream.seek(132)
    try:
        meta = FileMetaDataset(
            {
                element.tag: element
                for element in data_element_generator(
                    stream, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2
                )
            }
        )
        named = bool(meta.get("TransferSyntaxUID"))
    except UNREADABLE as error:
        raise Unparseable(f"its File Meta Information cannot be read: {error}") from error
    if not named:
        raise Unparseable("its File Meta Information has no TransferSyntaxUID (0002,0010)")
    return meta, stream.tell()


def make_preface(sop_class: str, sop_instance: str, transfer_syntax: str) -> bytes:
    """Make what stands before a dataset in a PS3.10 file: preamble and File Meta Information.

    pydicom makes it; only the length of the group and the SOP Instance UID are then put into what
    was made for the class and the syntax before, as the receiver needs it for every image.
    """
    before, after = _preface_halves(sop_class, transfer_syntax)
    uid = sop_instance.encode("ascii", "replace")
    uid += b"\0" * (len(uid) % 2)
    length = len(before) - _GROUP_AT + 8 + len(uid) + len(after)
    group = b"\2\0\0\0UL\4\0" + length.to_bytes(4, "little")
    instance = b"\2\0\3\0UI" + len(uid).to_bytes(2, "little") + uid
    return before[: _GROUP_AT - 12] + group + before[_GROUP_AT:] + instance + after


@lru_cache(maxsize=256)
def _preface_halves(sop_class: str, transfer_syntax: str) -> tuple[bytes, bytes]:
    """Make the preface of an object named ``1.2``, and cut that name out."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID("1.2")
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    buffer = DicomBytesIO()
    buffer.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(buffer, meta, enforce_standard=True)
    before, after = buffer.getvalue().split(b"\2\0\3\0UI\4\x001.2\0")
    return before, after


def text(header: Dataset, keyword: str) -> str:
    """Return an element's value as decoded text without padding.

    Several values are joined by a backslash; what is absent, empty or cannot be read is empty. No
    NUL and no lone surrogate comes out, which databases refuse.
    """
    try:
        value = header.get(keyword)
        if value is None:
            return ""
        values = value if isinstance(value, MultiValue) else [value]
        joined = "\\".join(str(item) for item in values)
    except UNREADABLE:
        return ""
    return joined.replace("\0", "").encode("utf-8", "replace").decode().strip()


def number(header: Dataset, keyword: str) -> int | None:
    """Return an element's value as a whole number that fits 32 bits, or none."""
    try:
        value = int(header.get(keyword))
    except UNREADABLE:
        return None
    return value if 0 <= value < 2**31 else None


def difference(one: Dataset, other: Dataset) -> str:
    """Say in which of SOP class, Study and geometry two headers differ; empty if in none.

    Geometry is Rows, Columns, NumberOfFrames, ImagePositionPatient, ImageOrientationPatient and
    PixelSpacing, compared as numbers, and the functional groups, compared as bytes.
    """
    for keyword in ("SOPClassUID", "StudyInstanceUID"):
        if text(one, keyword) != text(other, keyword):
            return keyword
    for keyword in _GEOMETRY:
        if _numbers(one, keyword) != _numbers(other, keyword):
            return keyword
    for keyword in _GROUPS:
        if _reencoded(one, keyword) != _reencoded(other, keyword):
            return keyword
    return ""


def same_pixels(one: Path, other: Path) -> bool:
    """Decode two PS3.10 files, frame by frame, and compare.

    Two objects without PixelData differ in no pixel.

    Raises
    ------
    Unparseable
        One of them cannot be decoded here.
    """
    try:
        having = [
            "PixelData" in dcmread(file, specific_tags=["PixelData"]) for file in (one, other)
        ]
        if having != [True, True]:
            return having == [False, False]
        frames = zip_longest(iter_pixels(one), iter_pixels(other))
        return all(a is not None and b is not None and np.array_equal(a, b) for a, b in frames)
    except (*UNREADABLE, RuntimeError) as error:
        raise Unparseable(f"its pixels cannot be decoded here: {error}") from error


def _inflated(
    data: bytes | bytearray | memoryview, transfer_syntax: str
) -> bytes | bytearray | memoryview:
    if transfer_syntax != DeflatedExplicitVRLittleEndian:
        return data
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(data, _LONGEST_INFLATED + 1)
    except zlib.error as error:
        raise Unparseable(f"its deflated dataset cannot be inflated: {error}") from error
    if len(inflated) > _LONGEST_INFLATED:
        raise Unparseable(f"its deflated dataset inflates past {_LONGEST_INFLATED} bytes")
    if not inflater.eof:  # what follows the end is padding
        raise Unparseable("its deflated dataset cannot be inflated: truncated")
    return inflated


def _read(
    data: bytes | bytearray | memoryview, implicit: bool, little: bool
) -> tuple[Dataset, int]:
    """Read the elements before the pixels; return them and where the pixels begin."""
    stream = BytesIO(data)
    elements: dict[BaseTag, RawDataElement | DataElement] = {}
    pixels: list[int] = []

    def at_pixels(tag: BaseTag, _vr: str | None, length: int) -> bool:
        if tag in _PIXELS:
            pixels.append(length)
            pixels.append(stream.tell())
        return bool(pixels)

    last = BaseTag(0)
    whole = 0  # where the last element that was read ends
    try:
        for element in data_element_generator(stream, implicit, little, stop_when=at_pixels):
            _check_element(element)
            last, whole = element.tag, stream.tell()
            elements[last] = element
        encoding: Any = default_encoding
        if _CHARACTER_SET in elements:
            character_set = elements[_CHARACTER_SET]
            if isinstance(character_set, RawDataElement):
                character_set = convert_raw_data_element(character_set)
            encoding = convert_encodings(character_set.value)
    except Unparseable:
        raise
    except UNREADABLE as error:
        raise Unparseable(f"it cannot be read after {last}: {error}") from error
    if not elements:
        raise Unparseable("it has no data element before its pixels")
    if pixels:
        _check_pixels(data, pixels[0], pixels[1], little)
    elif whole != len(data):
        raise Unparseable(f"it ends in the middle of an element after {last}")
    header = Dataset(elements)
    header.set_original_encoding(implicit, little, encoding)
    return header, whole


def _check_element(element: RawDataElement | DataElement) -> None:
    if isinstance(element, RawDataElement) and element.length != _UNDEFINED:
        there = len(element.value or b"")
        if there != element.length:
            raise Unparseable(
                f"element {element.tag} says {element.length} bytes; {there} are there"
            )


def _check_pixels(
    data: bytes | bytearray | memoryview, length: int, start: int, little: bool
) -> None:
    """Refuse pixel data that ends too early; of encapsulated pixels only the lengths are read."""
    if length != _UNDEFINED:
        if start + length > len(data):
            raise Unparseable(
                f"PixelData says {length} bytes; {len(data) - start} are there: truncated"
            )
        return
    form = struct.Struct("<HHL" if little else ">HHL")
    while start + 8 <= len(data):
        group, element, size = form.unpack_from(data, start)
        tag = group << 16 | element
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM or size == _UNDEFINED:
            raise Unparseable(f"a fragment of PixelData begins with {BaseTag(tag)}, not an item")
        start += 8 + size
    raise Unparseable("PixelData ends without its sequence delimiter: truncated")


def _numbers(header: Dataset, keyword: str) -> list[float | str]:
    try:
        value = header.get(keyword)
    except UNREADABLE as error:
        return [f"unreadable: {error}"]
    if value is None or value == "":
        return []
    values = value if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
    try:
        return [float(item) for item in values]
    except UNREADABLE:
        return [str(item) for item in values]


def _reencoded(header: Dataset, keyword: str) -> bytes:
    """One sequence in Explicit VR Little Endian, so that copies in two syntaxes can be compared."""
    if keyword not in header:
        return b""
    part = Dataset()
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    try:
        part.add(header[keyword])
        write_dataset(buffer, part)
    except UNREADABLE as error:
        return f"unreadable: {error}".encode()
    return buffer.getvalue()


def keep_values_out_of_logs() -> None:
    """Make this process say nothing of values that are not as the Standard has them.

    pydicom's warnings quote them, and what they quote may be a patient's.
    """
    config.settings.reading_validation_mode = config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="pydicom")
