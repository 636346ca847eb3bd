"""Pages of long lists: each begins after the last row of the one before, and counts nothing.

A place in a list is the values that it is ordered by, written as text that a link can hold: a rank,
a time and an opaque id, nothing of a patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

Row = TypeVar("Row")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, order=True)
class Place:
    """Where a row stands in a list.

    Attributes
    ----------
    rank : int
        0 where the list has no ranks.
    """

    rank: int
    at: datetime
    id: str

    def __str__(self) -> str:
        return f"{self.rank}.{(self.at - _EPOCH) // _MICROSECOND}.{self.id}"


def place(text: str) -> Place | None:
    """Read what `str` makes of a place; none where it is none, so that a list begins anew."""
    rank, _, rest = text.partition(".")
    micros, _, row_id = rest.partition(".")
    numbers = rank + micros
    if not (rank and micros and numbers.isascii() and numbers.isdecimal() and row_id.isalnum()):
        return None
    if len(numbers) > 24:
        return None
    try:
        return Place(int(rank), _EPOCH + int(micros) * _MICROSECOND, row_id)
    except OverflowError:
        return None


@dataclass(frozen=True)
class Page(Generic[Row]):
    """One page of a list.

    Attributes
    ----------
    rows : sequence
        In the list's order.
    next : str
        The place that the next page begins after; empty where this is the last one.
    """

    rows: Sequence[Row]
    next: str = ""


@dataclass(frozen=True)
class Days:
    """A span of time.

    Attributes
    ----------
    since, until : datetime or None
        From when on, and before when; none for no limit.
    """

    since: datetime | None = None
    until: datetime | None = None


EVER = Days()
"""No limit."""
