"""Which element is meant, and what it says: addresses, and values as text.

An address is what a condition, a form or a listing writes to name one thing of a header:

================================================== =================================================
``StudyDescription``                               an attribute by its keyword (PS3.6)
``(0008,1030)``                                    the same by its tag
``RequestAttributesSequence.ScheduledProcedureID`` through sequences: every item is looked into
``PatientName.family``                             a component of a person's name (PS3.5 6.2.1.1):
                                                   family, given, middle, prefix, suffix
``(0029,xx10)@SIEMENS CSA HEADER``                 a private element of that creator's block; the
                                                   name runs to the end of the address, or stands
                                                   in double quotes where a path goes on after it
``CalledAETitle`` ``CallingAETitle`` `PeerAddress` the association that the instance came by
================================================== =================================================

Values are read as text: decoded by SpecificCharacterSet (ISO 2022 and GB18030 included), without
the padding that is not significant (PS3.5 6.2), one for each value of a multi-valued element. An
empty value is no value. Reading never raises, whatever the header holds.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from pydicom import DataElement, Dataset, Sequence
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import TEXT_VR_DELIMS, PersonName

from overread.dicom.study import Origin

ASSOCIATION = {
    "CalledAETitle": "called_ae_title",
    "CallingAETitle": "calling_ae_title",
    "PeerAddress": "peer_address",
}
"""Association fields, and the attribute of `Origin` that holds each."""

NAME_COMPONENTS = ("family", "given", "middle", "prefix", "suffix")
"""Components of a person's name, in the order of PS3.5 6.2.1.1."""

BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "OB or OW"})
UNKNOWN = ""
"""The VR of an element that no dictionary knows: what is compared with it decides."""

_UNREADABLE = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    NotImplementedError,
    RecursionError,
    OSError,
    EOFError,
    struct.error,
    BytesLengthException,
    InvalidDicomError,
    Warning,
)
"""What pydicom raises on values that are not what their VR says."""

_PRIVATE = re.compile(r'\(([0-9a-fA-F]{4}),xx([0-9a-fA-F]{2})\)@(?:"([^"]+)"|([^"]+)$)')
_PUBLIC = re.compile(r"\(([0-9a-fA-F]{4}),([0-9a-fA-F]{4})\)")
_WORD = re.compile(r"\w+")


class Malformed(ValueError):
    """A part of a condition that cannot be: what was found, and what was expected."""

    def __init__(self, what: str, expected: str) -> None:
        self.what, self.expected = what, expected
        super().__init__(f"{what}; expected {expected}")


@dataclass(frozen=True)
class Part:
    """One step of a path: a tag, or the byte of a private element in its creator's block."""

    tag: int
    creator: str = ""

    def find(self, dataset: Dataset) -> BaseTag | None:
        """Return the element's tag in this dataset, or none where it is not there."""
        if not self.creator:
            tag = Tag(self.tag)
            return tag if tag in dataset else None
        group = self.tag >> 16
        for block in range(0x10, 0x100):
            reservation = Tag(group, block)
            if reservation in dataset and self.creator in _values(dataset, reservation)[0]:
                tag = Tag(group, (block << 8) | (self.tag & 0xFF))
                if tag in dataset:
                    return tag
        return None


@dataclass(frozen=True)
class Address:
    """One thing of a header or its association.

    Attributes
    ----------
    written : str
        As the person wrote it.
    vr : str
        Its VR by the dictionary; `UNKNOWN` where there is none, ``AE`` or ``LO`` for a field of the
        association, ``SQ`` for a sequence as such.
    parts : tuple of Part
        The path; empty for a field of the association.
    component : int or None
        Which component of a person's name.
    """

    written: str
    vr: str
    parts: tuple[Part, ...] = ()
    component: int | None = None

    def read(self, header: Dataset, origin: Origin) -> Found:
        """Read what is there. Never raises."""
        if not self.parts:
            value = str(getattr(origin, ASSOCIATION[self.written])).strip()
            return Found((value,) if value else (), "" if value else "absent")
        values: list[str] = []
        note = "absent"
        for dataset in self._holders(header):
            tag = self.parts[-1].find(dataset)
            if tag is None:
                continue
            found, vr = _values(dataset, tag)
            if self.component is not None:
                found = tuple(self._component(name) for name in found)
            elif vr == "PN":
                found = tuple(_tidy_name(name) for name in found)
            values += [value for value in found if value]
            note = "empty"
        return Found(tuple(values), "" if values else note)

    def _holders(self, header: Dataset) -> Iterator[Dataset]:
        holders = [header]
        for part in self.parts[:-1]:
            holders = [item for holder in holders for item in _items(holder, part)]
        yield from holders

    def _component(self, name: str) -> str:
        components = name.split("^")
        assert self.component is not None  # noqa: S101  (only called where there is one)
        return components[self.component].strip() if self.component < len(components) else ""


@dataclass(frozen=True)
class Found:
    """What an address found: its values as text, or why there are none (``absent``, ``empty``)."""

    values: tuple[str, ...]
    note: str = ""

    def __str__(self) -> str:
        if not self.values:
            return self.note
        shown = [repr(v if len(v) <= 64 else v[:63] + "…") for v in self.values[:8]]
        more = [f"and {len(self.values) - 8} more"] if len(self.values) > 8 else []
        return "found " + ", ".join(shown + more)


@lru_cache(maxsize=1024)
def parse_address(written: str) -> Address:
    """Read an address.

    Raises
    ------
    Malformed
        It names nothing that a header holds.
    """
    if written in ASSOCIATION:
        return Address(written, "LO" if written == "PeerAddress" else "AE")
    parts: list[Part] = []
    vr, component, rest = "SQ", None, written
    while True:
        if parts and vr == "PN" and rest in NAME_COMPONENTS:
            component, rest = NAME_COMPONENTS.index(rest), ""
        elif parts and vr not in ("SQ", UNKNOWN):
            expected = "a path goes on only after a sequence"
            if vr == "PN":
                expected = f"one of {', '.join(NAME_COMPONENTS)} after a person's name"
            raise Malformed(f"{written!r}: {rest!r} comes after an element of VR {vr}", expected)
        else:
            part, vr, rest = _parse_part(written, rest)
            parts.append(part)
        if not rest:
            return Address(written, vr, tuple(parts), component)
        if not rest.startswith(".") or rest == ".":
            raise Malformed(f"{written!r}: {rest!r} is left over", "a dot between parts of a path")
        rest = rest[1:]


def _parse_part(written: str, rest: str) -> tuple[Part, str, str]:
    if match := _PRIVATE.match(rest):
        group = int(match[1], 16)
        if not group % 2:
            raise Malformed(f"{written!r}: group {match[1]} is not private", "an odd group")
        part = Part((group << 16) | int(match[2], 16), (match[3] or match[4]).strip())
        return part, UNKNOWN, rest[match.end() :]
    if match := _PUBLIC.match(rest):
        tag = int(match[1] + match[2], 16)
        if (tag >> 16) % 2:
            raise Malformed(
                f"{written!r} is a private tag without its creator",
                f'"({match[1]},xx{match[2][2:]})@CREATOR", as blocks move from file to file',
            )
    elif match := _WORD.match(rest):
        found = tag_for_keyword(match[0])
        if found is None:
            raise Malformed(f"{match[0]!r} is no attribute of DICOM", _suggest(match[0]))
        tag = int(found)
    else:
        raise Malformed(
            f"{written!r} is not an address", 'a keyword, "(gggg,eeee)" or a path of them'
        )
    if tag >> 16 <= 2 or tag >> 16 >= 0x7FE0:
        raise Malformed(
            f"{written!r} is not part of a header",
            "an attribute of the data set that comes before PixelData",
        )
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        vr = UNKNOWN
    return Part(tag), vr, rest[match.end() :]


def _suggest(keyword: str) -> str:
    close = get_close_matches(keyword, [*keyword_dict, *ASSOCIATION], n=3)
    return f"a keyword of PS3.6, perhaps {' or '.join(close)}" if close else "a keyword of PS3.6"


def text(header: Dataset, element: str | int) -> tuple[str, ...]:
    """Read the values of an element as decoded text.

    Parameters
    ----------
    header : Dataset
        Any dataset.
    element : str or int
        An address as above, or a tag.

    Returns
    -------
    tuple of str
        Without padding; empty where the element is absent or empty.

    Raises
    ------
    Malformed
        ``element`` is not an address. What the header holds never raises.
    """
    written = (
        f"({element >> 16:04X},{element & 0xFFFF:04X})" if isinstance(element, int) else element
    )
    return parse_address(written).read(header, Origin()).values


def unreadable(header: Dataset, address: Address) -> str:
    """Say why an element that is there cannot be read as what its VR says; empty where it can.

    What `Address.read` gives of such an element is its bytes as text, where they are text.
    """
    holders = [header]
    for part in address.parts:
        inner: list[Dataset] = []
        for holder in holders:
            try:
                tag = part.find(holder)
                value = None if tag is None else holder[tag].value
            except _UNREADABLE as error:
                return f"{type(error).__name__}: {error}"
            if isinstance(value, Sequence):
                inner += value
            elif tag is not None and holder[tag].VR in ("DS", "IS"):
                for written in _texts(holder, holder[tag]):
                    try:
                        float(written)
                    except ValueError:
                        return f"it is {written[:64]!r}; a number was expected"
        holders = inner
    return ""


def _items(dataset: Dataset, part: Part) -> list[Dataset]:
    tag = part.find(dataset)
    element = None if tag is None else _element(dataset, tag)
    if element is None or element.VR != "SQ":
        return []
    return [item for item in element.value or () if isinstance(item, Dataset)]


def _element(dataset: Dataset, tag: BaseTag) -> DataElement | None:
    try:
        return dataset[tag]
    except _UNREADABLE:
        return None


def _values(dataset: Dataset, tag: BaseTag) -> tuple[tuple[str, ...], str]:
    """Return the values as text, and the VR that the element has here."""
    element = _element(dataset, tag)
    if element is None:
        return _raw(dataset, tag), UNKNOWN
    try:
        return _texts(dataset, element), str(element.VR)
    except _UNREADABLE:
        return (), str(element.VR)


def _raw(dataset: Dataset, tag: BaseTag) -> tuple[str, ...]:
    """Read as text what is not what its VR says."""
    try:
        value = dataset.get_item(tag).value
    except _UNREADABLE:
        return ()
    return _split(_decode(dataset, value)) if isinstance(value, bytes) else ()


def _texts(dataset: Dataset, element: DataElement) -> tuple[str, ...]:
    value, vr = element.value, str(element.VR)
    if value is None:
        return ()
    if vr == "SQ":
        return (f"{len(value)} item{'s' if len(value) != 1 else ''}",) if len(value) else ()
    if isinstance(value, bytes):
        if vr in BINARY:
            return (f"{len(value)} bytes",) if value else ()
        return _split(_decode(dataset, value))
    several = isinstance(value, MultiValue | list | tuple)
    texts = [_strip(str(item)) for item in (value if several else (value,)) if item is not None]
    if vr == "PN" or isinstance(value, PersonName):
        # the alphabetic, ideographic and phonetic spellings are three values of one name
        texts = [spelling for name in texts for spelling in name.split("=")]
    return tuple(item for item in texts if item)


def _decode(dataset: Dataset, value: bytes) -> str:
    """Decode bytes of unknown kind; what is not printable text then is no text at all."""
    try:
        encodings = convert_encodings(dataset.get("SpecificCharacterSet") or "ISO_IR 6")
        decoded = _strip(decode_bytes(value, encodings, TEXT_VR_DELIMS))
    except _UNREADABLE:
        decoded = _strip(value.decode("latin-1"))
    return decoded if decoded.isprintable() else ""


def _split(decoded: str) -> tuple[str, ...]:
    return tuple(item for item in map(_strip, decoded.split("\\")) if item)


def _strip(value: str) -> str:
    return value.strip(" \0\t\r\n")


def _tidy_name(name: str) -> str:
    """Drop what is not significant in a name: spaces around components, empty ones at the end."""
    return "^".join(part.strip() for part in name.split("^")).rstrip("^")
