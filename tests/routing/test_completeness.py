"""When an exam is whole: a table of cases, and what holds for all."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from overread.dicom.study import Origin
from overread.pipelines.definition import Complete
from overread.routing.completeness import Seen, look

NOON = datetime(2024, 1, 31, 12, tzinfo=UTC)
T1 = {"SeriesDescription": {"regex": "T1.*POST"}}


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def seen(description: str, instances: int = 1, uid: str = "") -> Seen:
    header = Dataset()
    header.SeriesDescription = description
    return Seen(uid or f"1.2.{len(description)}", header, instances)


def complete(**more: Any) -> Complete:
    return Complete.model_validate({"quiet": "30s", "deadline": "10m", **more})


PLAIN = complete()
NEEDS_T1 = complete(require=[{"series": T1}])
NEEDS_TWO = complete(require=[{"series": T1, "at_least": 2, "instances": 3}])
POST, FLAIR = seen("AX T1 POST", 3, "1.2.3"), seen("FLAIR", 20)

CASES = [
    # asked, seen, last image at, now, closed, decided by, look again at
    (PLAIN, [FLAIR], 0, 29, False, "waits for quiet", 30),
    (PLAIN, [FLAIR], 0, 30, True, "quiet", 30),
    (PLAIN, [FLAIR], 100, 120, False, "waits for quiet", 130),
    (PLAIN, [FLAIR], 590, 599, False, "waits for quiet", 600),
    (PLAIN, [FLAIR], 590, 600, True, "deadline", 600),
    (PLAIN, [], 0, 30, True, "quiet", 30),
    (NEEDS_T1, [FLAIR], 0, 30, False, "waits for required series", 600),
    (NEEDS_T1, [FLAIR], 0, 599, False, "waits for required series", 600),
    (NEEDS_T1, [FLAIR], 0, 600, True, "deadline", 600),
    (NEEDS_T1, [FLAIR, POST], 0, 10, False, "waits for quiet", 30),
    (NEEDS_T1, [FLAIR, POST], 0, 30, True, "quiet and required series", 30),
    (NEEDS_T1, [POST], 0, 4000, True, "quiet and required series", 4000),
    (NEEDS_TWO, [POST], 0, 100, False, "waits for required series", 600),
    (NEEDS_TWO, [POST, seen("T1 POST b", 2)], 0, 100, False, "waits for required series", 600),
    (NEEDS_TWO, [POST, seen("T1 POST b", 3)], 0, 100, True, "quiet and required series", 100),
]


@pytest.mark.parametrize(("asked", "series", "last", "now", "closed", "by", "again"), CASES)
def test_table(
    asked: Complete, series: list[Seen], last: int, now: int, closed: bool, by: str, again: int
) -> None:
    verdict = look(asked, series, NOON, at(last), at(now), 1)
    assert (verdict.closed, verdict.decided_by, verdict.look_again_at) == (closed, by, at(again))


def test_the_evidence_says_what_was_there_and_what_was_not() -> None:
    verdict = look(NEEDS_TWO, [POST, FLAIR], NOON, at(5), at(600), 2)
    assert json.loads(json.dumps(verdict.evidence)) == verdict.evidence
    assert verdict.evidence == {
        "revision": 2,
        "first_at": "2024-01-31T12:00:00+00:00",
        "last_at": "2024-01-31T12:00:05+00:00",
        "quiet_at": "2024-01-31T12:00:35+00:00",
        "deadline": "2024-01-31T12:10:00+00:00",
        "series": [
            {"series_uid": "1.2.3", "instances": 3},
            {"series_uid": "1.2.5", "instances": 20},
        ],
        "instances": 23,
        "required": [
            {
                "series": T1,
                "at_least": 2,
                "instances": 3,
                "matching": ["1.2.3"],
                "found": 1,
                "met": False,
            }
        ],
        "met": False,
    }


def test_a_required_series_may_be_told_by_its_sender() -> None:
    asked = complete(require=[{"series": {"CallingAETitle": "SCANNER"}}])
    here = Seen("1.2", Dataset(), 1, Origin("SCANNER"))
    assert look(asked, [here], NOON, NOON, at(30)).closed
    assert not look(asked, [Seen("1.2", Dataset(), 1)], NOON, NOON, at(30)).closed


SERIES = st.lists(st.builds(seen, st.sampled_from(["T1 POST", "FLAIR"]), st.integers(1, 4)))
ASKED = st.builds(
    lambda quiet, deadline, n: complete(
        quiet=f"{quiet}s",
        deadline=f"{deadline}s",
        require=[{"series": T1, "at_least": n}] if n else [],
    ),
    st.integers(0, 100),
    st.integers(1, 500),
    st.integers(0, 3),
)
SECONDS = st.floats(0, 1000)


@given(ASKED, SERIES, SECONDS, SECONDS, SECONDS)
def test_the_laws(
    asked: Complete, series: list[Seen], last: float, since: float, later: float
) -> None:
    now = last + since
    verdict = look(asked, series, NOON, at(last), at(now))
    # it is never open past its deadline, and an open one is looked at again, later but by then
    assert verdict.closed or at(now) < NOON + asked.deadline
    assert verdict.closed or at(now) < verdict.look_again_at <= NOON + asked.deadline
    # time alone never opens what is closed
    assert not verdict.closed or look(asked, series, NOON, at(last), at(now + later)).closed
    # and what it is told to look again at, it decides then or knows a later time
    if not verdict.closed:
        again = look(asked, series, NOON, at(last), verdict.look_again_at)
        assert again.closed
    # more series never make it wait for more
    more = look(asked, [*series, seen("T1 POST", 4)], NOON, at(last), at(now))
    assert not verdict.closed or more.closed
