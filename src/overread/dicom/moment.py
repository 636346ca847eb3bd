"""When an image was acquired, as its header says it."""

from __future__ import annotations

import re
from datetime import datetime

from pydicom import Dataset

from overread.dicom.study import day

_TIME = re.compile(r"([0-9]{2})(?::?([0-9]{2})(?::?([0-9]{2})(?:\.([0-9]{1,6}))?)?)?")
_DATETIME = re.compile(r"([0-9]{8})([0-9]{2,6}(?:\.[0-9]{1,6})?)?(?:[&+-][0-9]{4})?")


def acquired(header: Dataset) -> datetime | None:
    """Return when an image was acquired; none where its header has no date.

    Date and time of the acquisition, else of the series, else of the content; then
    AcquisitionDateTime, which is all that enhanced images have. Zones are left aside: what is
    compared are images of one exam, which one clock dated.
    """
    for kind in ("Acquisition", "Series", "Content"):
        if found := moment(
            str(header.get(f"{kind}Date") or ""), str(header.get(f"{kind}Time") or "")
        ):
            return found
    both = _DATETIME.fullmatch(str(header.get("AcquisitionDateTime") or "").strip())
    return moment(both[1], both[2] or "") if both else None


def moment(date: str, time: str = "") -> datetime | None:
    """Read a DICOM date (DA) and time (TM); none if there is no date, midnight if no time."""
    on = day(date.strip())
    if on is None:
        return None
    found = _TIME.fullmatch(time.strip())
    hour, minute, second, fraction = found.groups("0") if found else ("0",) * 4
    try:
        return datetime(  # noqa: DTZ001, DICOM's dates and times carry no zone
            on.year,
            on.month,
            on.day,
            int(hour),
            int(minute),
            min(int(second), 59),  # 60 is a leap second
            int(fraction.ljust(6, "0")),
        )
    except ValueError:
        return datetime(on.year, on.month, on.day)  # noqa: DTZ001
