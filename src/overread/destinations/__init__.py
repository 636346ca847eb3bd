"""Where results and images go: one small class for each kind of destination.

A destination plugin is a class with the methods of `Destination`, found by the entry point group
``overread.destinations``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Parcel:
    """One instance to send: the file, and what a peer must know before it takes it.

    Attributes
    ----------
    file : Path
        A DICOM file (PS3.10). It is sent as it is, never decoded.
    sop_class_uid, sop_instance_uid, transfer_syntax_uid : str
        As the file's meta group has them.
    """

    file: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True)
class Receipt:
    """What the other side said to one parcel.

    Attributes
    ----------
    delivered : bool
        Whether it has it now (also where it had it before).
    again : bool
        Not delivered, but worth another try without anybody doing something.
    said : str
        Its answer, for a person; may be told in a warning even where ``delivered``.
    """

    delivered: bool
    again: bool
    said: str


class Destination(Protocol):
    """Somewhere to send to. Made once for each batch of parcels."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        """Check the settings; ``name`` is the AE title by which routes name it.

        Raises
        ------
        ValueError
            A setting is missing or makes no sense; the message names it.
        """

    def echo(self) -> None:
        """Ask whether it is there.

        Raises
        ------
        Unavailable
            It does not answer, or turns us away.
        """

    def send(self, parcels: Sequence[Parcel]) -> Iterator[Receipt]:
        """Send parcels, in order, and tell of each as soon as it was answered.

        Raises
        ------
        Unavailable
            It cannot be reached, or went away; parcels without a receipt were not delivered.
        """
