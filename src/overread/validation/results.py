"""What a job measured, in words and numbers that last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One number.

    Attributes
    ----------
    region : str
        What was measured: a segment's label.
    quantity : str
        What was measured of it, such as ``volume``.
    value : float
        The value, in ``unit``.
    unit : str
        UCUM unit.
    method : str
        How it was come by.
    """

    region: str
    quantity: str
    value: float
    unit: str
    method: str


@dataclass(frozen=True)
class Measurements:
    """The measurements that one step made, in the order of the regions."""

    items: tuple[Measurement, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: ``{"measurements": [{"region": …, "value": …}, …]}``."""
        return {"measurements": [asdict(item) for item in self.items]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurements:
        """Read what `to_json` wrote."""
        return cls(tuple(Measurement(**item) for item in data["measurements"]))
