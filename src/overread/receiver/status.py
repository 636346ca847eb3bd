"""What a C-STORE is answered (PS3.4 table B.2-1, PS3.7 annex C)."""

from __future__ import annotations

from dataclasses import dataclass

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
NOT_OF_ITS_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
NO_SUCH_OPERATION = 0x0211


@dataclass(frozen=True)
class Answer:
    """A status, and the comment that a sender may show or log.

    Attributes
    ----------
    comment : str
        ErrorComment (0000,0902); no patient data. Cut to 64 characters where it is sent.
    """

    status: int
    comment: str = ""


TAKEN = Answer(SUCCESS)
