from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overread.portal.engineering.timeline import SCALE, Mark, draw
from overread.store.tables import Job, StepRun

AT = datetime(2026, 6, 2, 9, 30, tzinfo=UTC)


def job(*, started: float | None = 1, ended: float | None = 11, attempt: int = 1) -> Job:
    def at(seconds: float | None) -> datetime | None:
        return None if seconds is None else AT + timedelta(seconds=seconds)

    return Job(created_at=AT, started_at=at(started), ended_at=at(ended), attempt=attempt)


def step(name: str, begins: float, ends: float | None, attempt: int = 1) -> StepRun:
    return StepRun(
        name=name, operator="threshold", state="done" if ends is not None else "running",
        attempt=attempt, position=0, started_at=AT + timedelta(seconds=begins),
        ended_at=None if ends is None else AT + timedelta(seconds=ends),
    )  # fmt: skip


def test_bars_are_to_scale() -> None:
    drawn = draw(job(), [step("a", 1, 3.5), step("b", 3.5, 11)], AT + timedelta(hours=1))
    assert drawn.lasts == timedelta(seconds=11)
    queue, a, b = drawn.bars
    assert (queue.name, queue.state, queue.x) == ("queue", "queued", 0)
    assert queue.width == pytest.approx(1 / 11 * SCALE, abs=0.01)
    assert a.x == pytest.approx(1 / 11 * SCALE, abs=0.01)
    assert b.width / a.width == pytest.approx(3, abs=0.01)
    assert [mark.words for mark in drawn.marks] == ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s"]


def test_what_runs_grows_with_the_clock() -> None:
    drawn = draw(job(ended=None), [step("a", 1, None)], AT + timedelta(seconds=5))
    assert drawn.bars[-1].is_running
    assert drawn.bars[-1].lasts == timedelta(seconds=4)
    assert drawn.bars[-1].x + drawn.bars[-1].width == pytest.approx(SCALE, abs=0.01)


def test_a_job_that_waits_is_one_bar() -> None:
    drawn = draw(job(started=None, ended=None), [], AT + timedelta(seconds=9))
    assert [(bar.state, bar.is_running) for bar in drawn.bars] == [("queued", True)]


def test_the_time_between_attempts_is_not_drawn() -> None:
    second = [step("a", 1, 2), step("a", 5000, 5001, attempt=2)]
    drawn = draw(job(started=5000, ended=5002, attempt=2), second, AT + timedelta(days=1))
    assert [bar.name for bar in drawn.bars] == ["a"]
    assert drawn.lasts == timedelta(seconds=2)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.5, "0.5 s"), (90, "1 min 30 s"), (120, "2 min"), (7260, "2 h 1 min")]
)
def test_marks_say_their_time(seconds: float, words: str) -> None:
    assert Mark(0, seconds).words == words


TIMES = st.floats(-10, 1e6, allow_nan=False)


@given(
    started=st.none() | TIMES,
    ended=st.none() | TIMES,
    steps=st.lists(st.tuples(TIMES, st.none() | TIMES), max_size=5),
    now=TIMES,
)
def test_whatever_the_clocks_say_bars_stay_inside(
    started: float | None,
    ended: float | None,
    steps: list[tuple[float, float | None]],
    now: float,
) -> None:
    runs = [step(f"s{n}", begins, ends) for n, (begins, ends) in enumerate(steps)]
    drawn = draw(job(started=started, ended=ended), runs, AT + timedelta(seconds=now))
    assert len(drawn.bars) == len(runs) + 1
    for bar in drawn.bars:
        assert 0 <= bar.x <= SCALE
        assert bar.width > 0
        assert bar.x + bar.width <= SCALE + 0.02
    assert 1 <= len(drawn.marks) <= 8
