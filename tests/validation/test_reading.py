from __future__ import annotations

from itertools import product

import pytest

from overread.validation.reading import Outcome, ReadingState, is_reason, saving, submitting


@pytest.mark.parametrize(
    ("state", "given", "outcome"),
    [
        ("open", 3, Outcome.KEPT),
        ("draft", 3, Outcome.KEPT),
        ("draft", 2, Outcome.STALE),
        ("draft", 4, Outcome.STALE),
        ("draft", -1, Outcome.STALE),
        ("submitted", 3, Outcome.CLOSED),
        ("submitted", 2, Outcome.CLOSED),
        ("withdrawn", 3, Outcome.WITHDRAWN),
    ],
)
def test_what_becomes_of_a_draft(state: str, given: int, outcome: Outcome) -> None:
    assert saving(state, 3, given) is outcome


@pytest.mark.parametrize(
    ("state", "given", "answers", "outcome"),
    [
        ("draft", 3, {"a": 2}, Outcome.KEPT),
        ("draft", 2, {"a": 1}, Outcome.STALE),
        ("submitted", 2, {"a": 1}, Outcome.REPEATED),
        ("submitted", 3, {"a": 2}, Outcome.CLOSED),
        ("withdrawn", 3, {"a": 1}, Outcome.WITHDRAWN),
    ],
)
def test_what_becomes_of_a_submit(
    state: str, given: int, answers: dict[str, int], outcome: Outcome
) -> None:
    assert submitting(state, (3, given), {"a": 1}, answers) is outcome


def test_nothing_but_an_open_or_begun_reading_is_ever_changed() -> None:
    for state, given in product(ReadingState, range(-1, 5)):
        for answers in ({"a": 1}, {"a": 2}):
            outcome = submitting(state, (3, given), {"a": 1}, answers)
            assert (outcome is Outcome.KEPT) == (state in ("open", "draft") and given == 3)


def test_a_reason_says_something() -> None:
    assert [is_reason(one) for one in ("", "  a ", "wrong side", "x" * 501)] == [
        False, False, True, False,
    ]  # fmt: skip
