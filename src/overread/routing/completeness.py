"""When an exam is whole, and which evidence says so. Pure: the time is an argument.

The law, for an exam whose first image came at *first* and whose last came at *last*:

- it has what it **requires** when every requirement is met by enough series with enough instances;
- it is **quiet** from *last* + ``quiet`` on;
- it closes when it is quiet and has what it requires;
- from *first* + ``deadline`` on it closes whatever is missing, and says what.

``window`` plays no part here: it says which studies a patient's exam takes in, not when it closes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom import Dataset

from overread.dicom.match import UNSENT
from overread.dicom.study import Origin
from overread.pipelines.definition import Complete, RequiredSeries


@dataclass(frozen=True, eq=False)
class Seen:
    """A series of an open exam.

    Attributes
    ----------
    series_uid : str
        SeriesInstanceUID.
    header : Dataset
        Header of one of its instances.
    instances : int
        How many of its instances have arrived.
    origin : Origin
        The association of that instance.
    """

    series_uid: str
    header: Dataset
    instances: int
    origin: Origin = UNSENT


@dataclass(frozen=True)
class Verdict:
    """Whether an exam closes now, and why.

    Attributes
    ----------
    closed : bool
        Whether it closes.
    decided_by : str
        ``quiet``, ``quiet and required series`` or ``deadline``; while it stays open, what it
        waits for: ``waits for quiet`` or ``waits for required series``.
    look_again_at : datetime
        When to look next if nothing more arrives; ``now`` once it is closed.
    evidence : dict
        Plain JSON: what was seen, what was required and how much of it was there.
    """

    closed: bool
    decided_by: str
    look_again_at: datetime
    evidence: dict[str, Any]


def look(  # noqa: PLR0917  (the order of what is told: exam, times, revision)
    complete: Complete,
    seen: Sequence[Seen],
    first_at: datetime,
    last_at: datetime,
    now: datetime,
    revision: int = 1,
) -> Verdict:
    """Say whether an open exam is whole.

    Parameters
    ----------
    complete : Complete
        What the pipeline asks.
    seen : sequence of Seen
        The exam's series so far.
    first_at, last_at : datetime
        When its first and its last image came (of this revision), aware.
    now : datetime
        Aware.
    revision : int
        The exam's revision, from 1; it goes into the evidence.

    Returns
    -------
    Verdict
        If it is open, ``look_again_at`` is later than ``now``, and at that time (or when something
        more arrives) this is to be asked again.
    """
    deadline, quiet_at = first_at + complete.deadline, last_at + complete.quiet
    required = [_required(requirement, seen) for requirement in complete.require]
    met = all(item["met"] for item in required)
    if met and now >= quiet_at:
        closed, decided_by, again = True, "quiet and required series" if required else "quiet", now
    elif now >= deadline:
        closed, decided_by, again = True, "deadline", now
    elif met:
        closed, decided_by, again = False, "waits for quiet", min(quiet_at, deadline)
    else:
        closed, decided_by, again = False, "waits for required series", deadline
    evidence = {
        "revision": revision,
        "first_at": first_at.isoformat(),
        "last_at": last_at.isoformat(),
        "quiet_at": quiet_at.isoformat(),
        "deadline": deadline.isoformat(),
        "series": [{"series_uid": item.series_uid, "instances": item.instances} for item in seen],
        "instances": sum(item.instances for item in seen),
        "required": required,
        "met": met,
    }
    return Verdict(closed, decided_by, again, evidence)


def _required(requirement: RequiredSeries, seen: Sequence[Seen]) -> dict[str, Any]:
    """Say how much of one requirement has arrived: which series match, which of them are whole."""
    matching = [item for item in seen if requirement.series.holds(item.header, item.origin)]
    whole = [item for item in matching if item.instances >= requirement.instances]
    return {
        "series": requirement.series.source,
        "at_least": requirement.at_least,
        "instances": requirement.instances,
        "matching": [item.series_uid for item in matching],
        "found": len(whole),
        "met": len(whole) >= requirement.at_least,
    }
