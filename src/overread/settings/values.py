"""What values of a site's text may be: durations, sizes, AE titles, ports."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_duration(value: Any) -> Any:
    """Read ``30s``, ``500ms``, ``60m``, ``12h`` or ``7d`` as a `timedelta`.

    A bare number is refused, since it does not say its unit.
    """
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", str(value))
    if not match:
        raise ValueError(f"{value!r} is not a duration; write a number with a unit: 30s, 60m, 12h")
    return timedelta(seconds=float(match[1]) * _DURATION_UNITS[match[2]])


def parse_size(value: Any) -> Any:
    """Read ``500MB`` or ``2GB`` (powers of ten) as a number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB)", str(value), re.IGNORECASE)
    if not match:
        raise ValueError(f"{value!r} is not a size; write a number with a unit: 500MB, 2GB")
    return int(float(match[1]) * _SIZE_UNITS[match[2].upper()])


def check_ae_title(value: str) -> str:
    """Refuse what PS3.5 does not allow as an AE title: 1 to 16 characters, no backslash, not blank.

    Leading and trailing spaces are not significant there (PS3.5 table 6.2-1), so none are allowed.
    """
    if not (1 <= len(value) <= 16) or value != value.strip() or "\\" in value:
        raise ValueError(f"{value!r} is not an AE title: 1 to 16 characters, no backslash")
    if not value.isascii() or not value.isprintable():
        raise ValueError(f"{value!r} is not an AE title: printable ASCII only")
    return value


def check_zone(value: str) -> str:
    """Refuse what is no time zone of the system's database."""
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{value!r} is no time zone; write one like Europe/Vienna") from error
    return value


def write_duration(value: timedelta) -> str:
    """Write a duration as `parse_duration` reads it, in seconds."""
    return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(write_duration, return_type=str, when_used="json"),
]
Size = Annotated[int, BeforeValidator(parse_size)]
AETitle = Annotated[str, AfterValidator(check_ae_title)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Frozen(BaseModel):
    """A part of the site's text: unknown keys are refused, and nothing changes it later."""

    model_config = ConfigDict(extra="forbid", frozen=True)
