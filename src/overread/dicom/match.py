"""The one condition language: what a header and its association must say. (Being written.)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset

from overread.dicom.study import Origin


class ConditionError(ValueError):
    """A condition is malformed; `faults` has all of it, `path`, `what`, `expected` the first."""

    path: tuple[str | int, ...]
    what: str
    expected: str


@dataclass(frozen=True)
class Explanation:
    """Whether a condition is true, and why."""

    true: bool
    condition: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        raise NotImplementedError

    def lines(self) -> list[str]:
        """Return the tree as indented lines."""
        raise NotImplementedError


class Condition:
    """A parsed condition; pydantic fields annotated with it parse plain data."""

    source: Any

    def explain(self, header: Dataset, origin: Origin = Origin()) -> Explanation:
        """Evaluate, with reasons. Never raises, whatever the header holds."""
        raise NotImplementedError

    def holds(self, header: Dataset, origin: Origin = Origin()) -> bool:
        """Evaluate."""
        raise NotImplementedError


def parse(data: Any) -> Condition:
    """Parse plain data. Raises `ConditionError`."""
    raise NotImplementedError


def text(header: Dataset, element: str | int) -> tuple[str, ...]:
    """Values of an element as decoded text, without padding; empty where absent or empty."""
    raise NotImplementedError
