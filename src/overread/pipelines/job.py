"""The states of a job and of a step, and which may follow which."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(StrEnum):
    """Where a step is."""

    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({JobState.DONE, JobState.REFUSED, JobState.FAILED, JobState.CANCELLED})
"""A job in one of these states changes no more, except that a retry queues it again."""

FOLLOWS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: ENDED,
    JobState.DONE: frozenset(),
    JobState.REFUSED: frozenset({JobState.QUEUED}),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
}

ON_DEMAND, ROUTED = 1, 10
"""Priorities; lower runs first. A person who pushed an exam by hand waits for it."""


def may_follow(state: JobState, after: JobState) -> bool:
    """Say whether a job in state ``after`` may come into ``state``."""
    return state in FOLLOWS[after]
