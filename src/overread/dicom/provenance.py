"""Where a derived object comes from: UIDs that say the same thing twice, and the object itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO

from pydicom import Dataset, dcmwrite
from pydicom.uid import UID

from overread.dicom.codes import Segment

_UUID_BITS = 128


def derive_uid(*parts: str) -> UID:
    """Derive a UID from names, so that a step that runs again makes the same object.

    Parameters
    ----------
    *parts : str
        What identifies the object: job, step, and what it is in the object.

    Returns
    -------
    UID
        ``2.25.`` and a 128-bit number, the first half of the SHA-256 of the parts (each preceded
        by its length, so that ``("ab", "c")`` and ``("a", "bc")`` differ).

    Notes
    -----
    PS3.5 B.2 lets a UID be made from a UUID. The version bits are set to 8 (RFC 9562: custom).
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(f"{len(data)}:".encode() + data)
    number = int.from_bytes(digest.digest()[: _UUID_BITS // 8], "big")
    number = (number & ~(0xF << 76)) | (0x8 << 76)
    number = (number & ~(0x3 << 62)) | (0x2 << 62)
    return UID(f"2.25.{number}")


@dataclass(frozen=True, eq=False)
class DerivedObject:
    """A DICOM object that we made.

    Attributes
    ----------
    dataset : Dataset
        The object with its file meta information.
    kind : str
        ``segmentation``.
    segments : tuple of Segment
        What a segmentation holds, numbered as in the object.
    sources : tuple of str
        SOP Instance UIDs of the images it was made from.
    """

    dataset: Dataset
    kind: str
    segments: tuple[Segment, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def uid(self) -> str:
        """SOPInstanceUID."""
        return str(self.dataset.SOPInstanceUID)

    def encode(self) -> bytes:
        """Encode as a PS3.10 file. The same object gives the same bytes."""
        buffer = BytesIO()
        dcmwrite(buffer, self.dataset, enforce_file_format=True)
        return buffer.getvalue()
