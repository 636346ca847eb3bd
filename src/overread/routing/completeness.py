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

from overread.dicom.study import Origin
from overread.pipelines.definition import Complete


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
    origin: Origin = Origin()


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
