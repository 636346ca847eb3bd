"""How the pages write dates, names, numbers and times."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from overread.dicom.study import day

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def dicom_date(value: str) -> str:
    """Write a DICOM date (DA) as ``2 Jun 2026``; anything else as it stands."""
    found = day(value)
    if found is None:
        return value or "no date"
    return f"{found.day} {_MONTHS[found.month - 1]} {found.year}"


def person(value: str) -> str:
    """Write a person's name (PN): family, given; the alphabetic group where there are several."""
    group = next((part for part in value.split("=") if part), "")
    parts = [part.strip() for part in group.split("^")]
    family, given = parts[0], " ".join(part for part in parts[1:3] if part)
    return ", ".join(part for part in (family, given) if part) or "no name"


def age(birth: str, on: str) -> str:
    """Write the age in years on a day, both DICOM dates; empty if either is not known."""
    born, then = day(birth), day(on)
    if born is None or then is None or then < born:
        return ""
    return f"{then.year - born.year - ((then.month, then.day) < (born.month, born.day))} y"


def volume(value: float) -> str:
    """Write millilitres: one decimal from 1 up, two below, none from 1000."""
    if value == 0:
        return "0.0"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}"


_UNITS = {"1": "", "mm2": "mm²", "cm2": "cm²", "mm3": "mm³", "[hnsf'U]": "HU", "Cel": "°C"}


def unit(code: str) -> str:
    """Write a UCUM unit as people do; one that is not listed as it stands, in no braces."""
    return _UNITS.get(code, code.strip("{}"))


def amount(value: float, code: str) -> str:
    """Write a number: millilitres as `volume` does, all else with three digits that count."""
    if code == "mL":
        return volume(value)
    size = abs(value)
    decimals = 2 if size < 10 else 1 if size < 100 else 0
    return f"{value:.{decimals}f}".replace("-", "−")


def gain(value: float, code: str) -> str:
    """Write a difference as `amount` does, with its sign."""
    sign = "+" if value > 0 else "−" if value < 0 else "±"
    return sign + amount(abs(value), code)


def change(value: float | None) -> str:
    """Write a change in per cent with its sign."""
    if value is None:
        return ""
    rounded = round(value)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else '±'}{abs(rounded)} %"


def moment(value: datetime | None) -> str:
    """Write one of our own times, in UTC, to the second."""
    return "" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(value: datetime, now: datetime) -> str:
    """Write how long ago something was, in its largest unit."""
    seconds = max(0, int((now - value).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"


def span(value: timedelta | None) -> str:
    """Write a duration: ``0.42 s``, ``12.3 s``, ``4 min 5 s``."""
    if value is None:
        return ""
    seconds = value.total_seconds()
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def short(digest: str) -> str:
    """Write the beginning of a digest, enough to compare by eye."""
    return digest[:12]


FILTERS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        dicom_date,
        person,
        age,
        volume,
        unit,
        amount,
        gain,
        change,
        moment,
        ago,
        span,
        short,
    )
}
