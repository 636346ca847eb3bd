"""A reading's life: open, draft, submitted; and what a page that asks may do with it.

::

    open ──► draft ──► submitted ──► amended by a new reading, which is a draft at once
      └────────┴─────► withdrawn     (no longer to be done; an amendment that was thought better of)

What is submitted never changes. A page that was loaded before somebody's other window saved is
stale: it overwrites nothing until its reader has seen both.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

REASON_LIMIT = 500
"""Characters of the reason for an amendment."""


class ReadingState(StrEnum):
    """What has become of a reading."""

    OPEN = "open"
    DRAFT = "draft"
    SUBMITTED = "submitted"
    WITHDRAWN = "withdrawn"


TO_DO = frozenset({ReadingState.OPEN, ReadingState.DRAFT})


class Outcome(StrEnum):
    """What becomes of what a page asks for."""

    KEPT = "kept"
    """It is done."""
    REPEATED = "repeated"
    """It had been done already, by the same request: nothing is done twice."""
    STALE = "stale"
    """Another window has saved since this page was loaded: both are shown."""
    CLOSED = "closed"
    """It was submitted with other answers; only an amendment changes that."""
    WITHDRAWN = "withdrawn"
    """It is no longer to be done."""


def saving(state: str, kept: int, given: int) -> Outcome:
    """Say what becomes of a draft.

    Parameters
    ----------
    state : str
        Of the reading.
    kept, given : int
        The revision that is kept, and the one that the page was loaded with.
    """
    if state == ReadingState.WITHDRAWN:
        return Outcome.WITHDRAWN
    if state == ReadingState.SUBMITTED:
        return Outcome.CLOSED
    return Outcome.KEPT if kept == given else Outcome.STALE


def submitting(
    state: str,
    revisions: tuple[int, int],
    kept: Mapping[str, Any],
    given: Mapping[str, Any],
) -> Outcome:
    """Say what becomes of answers that are submitted.

    Parameters
    ----------
    state : str
        Of the reading.
    revisions : tuple of int
        The one that is kept, and the one that the page was loaded with.
    kept, given : mapping
        Answers: those that are kept, and those that are submitted.
    """
    if state == ReadingState.SUBMITTED and dict(kept) == dict(given):
        return Outcome.REPEATED
    return saving(state, *revisions)


def is_reason(text: str) -> bool:
    """Say whether a text can be why a reading is amended."""
    return 3 <= len(text.strip()) <= REASON_LIMIT
