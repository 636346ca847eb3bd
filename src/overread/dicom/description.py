"""What an exam holds, in words: each series and image with the attributes that were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Description:
    """An exam described: plain JSON, see `overread.operators.describe.describe_exam`."""

    data: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the description."""
        return self.data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Description:
        """Read what `to_json` wrote."""
        return cls(dict(data))
