"""A job's steps over time, drawn to scale: where each bar begins, and how wide it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from overread.store.tables import Job, StepRun

SCALE = 100.0
"""Width of the whole time: bars and marks are placed in per cent of it."""

_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
"""Seconds that may lie between two marks."""
_MARKS = 6
_LEAST = 0.2
"""A bar that is narrower would not be seen."""


@dataclass(frozen=True)
class Bar:
    """One row.

    Attributes
    ----------
    name : str
        What stands before it.
    what : str
        The operator; ``waits`` for the time in the queue.
    state : str
        Of the step; ``queued`` for the time in the queue.
    x, width : float
        In per cent of the whole; a bar is never narrower than can be seen.
    lasts : timedelta
    is_running : bool
        Whether it has not ended.
    """

    name: str
    what: str
    state: str
    x: float
    width: float
    lasts: timedelta
    is_running: bool = False


@dataclass(frozen=True)
class Mark:
    """A mark of the scale: where it stands in per cent, and the seconds since the beginning."""

    x: float
    seconds: float

    @property
    def words(self) -> str:
        """What is written there."""
        if self.seconds < 60:
            return f"{self.seconds:g} s"
        minutes, seconds = divmod(round(self.seconds), 60)
        hours, minutes = divmod(minutes, 60)
        if hours:
            return f"{hours} h {minutes} min" if minutes else f"{hours} h"
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"


@dataclass(frozen=True)
class Timeline:
    """The drawing.

    Attributes
    ----------
    bars : tuple of Bar
        From top to bottom, in order of time.
    marks : tuple of Mark
    lasts : timedelta
        The whole of it.
    """

    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    lasts: timedelta


def draw(job: Job, steps: Sequence[StepRun], now: datetime) -> Timeline:
    """Lay out the current attempt of a job: its wait in the queue, then its steps.

    Parameters
    ----------
    steps : sequence of StepRun
        Of any attempts; what earlier ones did is drawn where it is used again.
    """
    shown = [step for step in steps if step.attempt == job.attempt]
    begin = job.created_at
    if job.attempt > 1:  # the time that lies between attempts was a person's
        begin = min((step.started_at for step in shown), default=job.started_at or begin)
    if job.started_at is not None:
        begin = min(begin, job.started_at)
    last = max((step.ended_at or now for step in shown), default=job.started_at or now)
    end = max(job.ended_at or last, last, begin + timedelta(milliseconds=1))
    whole = (end - begin).total_seconds()

    def bar(name: str, what: str, state: str, at: datetime, to: datetime | None) -> Bar:
        lasts = max((to or now) - at, timedelta(0))
        x = min(max((at - begin).total_seconds() / whole * SCALE, 0.0), SCALE - _LEAST)
        width = min(max(lasts.total_seconds() / whole * SCALE, _LEAST), SCALE - x)
        return Bar(name, what, state, round(x, 2), round(width, 2), lasts, to is None)

    bars = []
    if job.attempt == 1:
        until = job.started_at or job.ended_at
        bars.append(bar("queue", "waits", "queued", job.created_at, until))
    bars += [
        bar(one.name, one.operator, one.state, one.started_at, one.ended_at)
        for one in sorted(shown, key=lambda one: (one.started_at, one.position))
    ]
    return Timeline(tuple(bars), _marks(whole), end - begin)


def _marks(whole: float) -> tuple[Mark, ...]:
    every = next((one for one in _TICKS if whole / one <= _MARKS), whole / _MARKS)
    count = int(whole / every) + 1
    return tuple(Mark(round(n * every / whole * SCALE, 2), n * every) for n in range(count))
