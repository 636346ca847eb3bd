"""A DICOM AE that takes images by C-STORE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from overread.destinations import Parcel, Receipt


class Dimse:
    """A C-STORE peer; see `overread.destinations.Destination`."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        self.name = name
        self.settings = settings

    def echo(self) -> None:
        """Send a C-ECHO."""
        raise NotImplementedError

    def send(self, parcels: Sequence[Parcel]) -> Iterator[Receipt]:
        """Send the parcels over one association."""
        raise NotImplementedError
