from __future__ import annotations

from datetime import datetime, timedelta
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overread.measures.progression import (
    FIRST,
    NADIR,
    Line,
    Point,
    Row,
    Rule,
    baseline,
    levels,
    progression,
)

TUMOUR = Line("tumour", "volume", "mL", "model 1.0.0")
DAY = datetime.fromisoformat("2026-01-01")


def point(
    day: int | None,
    value: float,
    *,
    line: Line = TUMOUR,
    exam: str = "",
    how: dict[str, str] | None = None,
) -> Point:
    at = None if day is None else DAY + timedelta(days=day)
    return Point(line, exam or f"exam {day}", at, value, MappingProxyType(how or {}))


def rows(*values: float, rule: Rule | None = None, start: str = FIRST) -> list[Row]:
    """Rows of a line, a day apart."""
    return progression([point(day, value) for day, value in enumerate(values)], rule, start)


@pytest.mark.parametrize(
    ("start", "percents"),
    [
        (FIRST, [None, 50.0, -50.0, 100.0]),
        (NADIR, [100.0, 200.0, None, 300.0]),
        ("exam 1", [-100 / 3, None, -200 / 3, 100 / 3]),
        ("exam 9", [None, None, None, None]),
    ],
)
def test_changes_are_counted_from_the_chosen_baseline(
    start: str, percents: list[float | None]
) -> None:
    found = rows(10, 15, 5, 20, start=start)
    assert [one.percent for one in found] == [
        None if percent is None else pytest.approx(percent) for percent in percents
    ]
    if start == "exam 9":
        assert {one.gap for one in found} == {"no baseline"}


@pytest.mark.parametrize(
    ("rule", "value", "crossed", "within"),
    [
        (Rule(increase=25), 12.4, "", False),
        (Rule(increase=25), 12.5, "increase", False),  # at least
        (Rule(increase=25), 30, "increase", False),
        (Rule(increase=25), 5, "", False),
        (Rule(increase=25, repeatability=12), 13, "increase", True),
        (Rule(increase=25, repeatability=12), 13.7, "increase", False),
        (Rule(increase=25, repeatability=12), 12.4, "", False),
        (Rule(decrease=50), 5.1, "", False),
        (Rule(decrease=50), 5, "decrease", False),
        (Rule(decrease=50, repeatability=20), 4, "decrease", True),
        (Rule(decrease=50, repeatability=20), 2.9, "decrease", False),
        (Rule(absolute=1), 11, "increase", False),
        (Rule(absolute=1), 10.9, "", False),
        (Rule(increase=25, absolute=1), 11, "", False),  # both must be reached
        (Rule(increase=25, absolute=10), 13, "", False),
        (Rule(increase=5, decrease=5), 10, "", False),
        (Rule(), 1000, "", False),
    ],
)
def test_a_threshold_is_crossed_by_at_least_as_much(
    rule: Rule, value: float, crossed: str, within: bool
) -> None:
    last = rows(10, value, rule=rule)[-1]
    assert (last.crossed, last.is_within_error) == (crossed, within)


def test_arithmetic_is_no_change() -> None:
    assert (3.3 / 3.0 - 1) * 100 < 10, "what a computer makes of 3.0 to 3.3"
    assert rows(3.0, 3.3, rule=Rule(increase=10))[-1].crossed == "increase"


def test_from_zero_there_is_the_difference_only() -> None:
    none, some, much = rows(0, 0.4, 2, rule=Rule(increase=25, absolute=1, repeatability=10))
    assert none.gap == "baseline"
    assert (some.gap, some.percent, some.absolute, some.crossed) == ("zero baseline", None, 0.4, "")
    assert (much.percent, much.absolute, much.crossed) == (None, 2, "increase")
    assert not much.is_within_error


def test_negative_numbers_grow_upwards() -> None:
    last = rows(-100, -50, rule=Rule(increase=25))[-1]
    assert (last.percent, last.crossed) == (50, "increase")


def test_an_undated_exam_is_last_and_not_compared() -> None:
    found = progression([point(None, 1), point(0, 10), point(5, 20)], Rule(increase=25), NADIR)
    assert [one.point.at is None for one in found] == [False, False, True]
    assert (found[-1].gap, found[-1].percent, found[-1].absolute) == ("undated", None, None)
    assert found[-1].crossed == ""
    assert found[1].percent == 100
    assert baseline([point(None, 1)]) is None


def test_before_the_baseline_nothing_is_crossed() -> None:
    before, _, after = rows(20, 10, 20, rule=Rule(increase=25), start=NADIR)
    assert (before.percent, before.crossed) == (100, "")
    assert (after.percent, after.crossed) == (100, "increase")


def test_model_versions_and_edits_are_never_mixed() -> None:
    newer = Line("tumour", "volume", "mL", "model 2.0.0")
    reader = Line("tumour", "volume", "mL", "reader 7")
    found = progression(
        [
            point(0, 10), point(1, 11), point(1, 40, line=reader, exam="exam 1"),
            point(2, 100, line=newer), point(3, 50, line=newer),
        ],
        Rule(increase=25),
    )  # fmt: skip
    by_line = {
        line: [(one.percent, one.gap, one.crossed) for one in found if one.point.line == line]
        for line in (TUMOUR, reader, newer)
    }
    assert by_line[TUMOUR] == [(None, "baseline", ""), (pytest.approx(10), "", "")]
    assert by_line[reader] == [(None, "baseline", "")]
    assert by_line[newer] == [(None, "baseline", ""), (-50, "", "")]


def test_a_source_without_the_baseline_exam_is_not_compared_across() -> None:
    reader = Line("tumour", "volume", "mL", "reader 7")
    found = progression([point(0, 10), point(1, 12), point(1, 14, line=reader)], start="exam 0")
    assert [(one.gap, one.percent) for one in found if one.point.line == reader] == [
        ("no baseline", None)
    ]


def test_another_acquisition_is_told() -> None:
    first = point(0, 10, how={"scanner": "A", "spacing": "1 × 1 × 1", "sequence": "SE"})
    other = point(1, 10, how={"scanner": "B", "spacing": "1 × 1 × 3", "sequence": "SE"})
    unknown = point(2, 10, how={"scanner": "A"})
    found = progression([first, other, unknown])
    assert [one.differs for one in found] == [(), ("scanner", "spacing"), ()]


def test_levels_are_where_a_line_crosses() -> None:
    up, down = levels(point(0, 8), Rule(increase=25, decrease=50, absolute=1, repeatability=10))
    assert [up.value, up.low, up.high] == pytest.approx([10, 9.2, 10.8])
    assert up.percent == 25
    higher, _ = levels(point(0, 8), Rule(increase=25, decrease=50, absolute=4))
    assert (higher.value, higher.percent) == (12, 50)
    assert (down.value, down.percent, down.direction) == (4, -50, "decrease")
    (from_zero,) = levels(point(0, 0), Rule(increase=25, absolute=1, repeatability=10))
    assert (from_zero.value, from_zero.low, from_zero.high, from_zero.percent) == (1, 1, 1, None)


values = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 6))
lines = st.sampled_from(
    [Line(region, "volume", "mL", source) for region in "ab" for source in ("m 1", "m 2", "r 1")]
)
points = st.lists(
    st.tuples(lines, st.one_of(st.none(), st.integers(0, 400)), st.integers(0, 30), values),
    max_size=24,
    unique_by=lambda one: (one[0], one[2]),
).map(
    lambda found: [
        point(day, value, line=line, exam=f"exam {exam:02}") for line, day, exam, value in found
    ]
)
rules = st.builds(
    Rule,
    *[st.one_of(st.none(), st.floats(0.5, 400)) for _ in range(4)],
)
starts = st.sampled_from([FIRST, NADIR, *(f"exam {number:02}" for number in range(30))])


@given(points, rules, starts, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(
    given_points: list[Point], rule: Rule, start: str, random: object
) -> None:
    shuffled = list(given_points)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' random
    assert progression(shuffled, rule, start) == progression(given_points, rule, start)


@given(points, rules, starts)
def test_laws(given_points: list[Point], rule: Rule, start: str) -> None:
    found = progression(given_points, rule, start)
    assert len(found) == len(given_points), "nothing is dropped"
    dated = [one.point.at for one in found if one.point.at is not None]
    assert dated == sorted(dated)
    for one in found:
        base = one.baseline
        if base is not None:
            assert base.line == one.point.line, "never across sources"
            assert base.at is not None
        if one.gap == "baseline":
            assert (one.percent, one.absolute, one.crossed) == (None, None, "")
        if one.gap:
            assert one.percent is None
        if one.crossed:
            assert base is not None
            assert one.point.at is not None
            assert base.at is not None
            assert one.point.at >= base.at
        if one.is_within_error:
            assert one.crossed
            assert rule.repeatability
        if start == NADIR and base is not None and one.point.at is not None:
            assert base.value <= one.point.value, "the nadir is the lowest"
    for line in {one.point.line for one in found}:
        assert sum(one.gap == "baseline" for one in found if one.point.line == line) <= 1


@given(points, rules, starts)
def test_a_late_prior_changes_only_its_own_line(
    given_points: list[Point], rule: Rule, start: str
) -> None:
    late = point(-30, 3.0, line=Line("late", "volume", "mL", "m 1"), exam="exam late")
    before = progression(given_points, rule, start)
    after = progression([*given_points, late], rule, start)
    assert [one for one in after if one.point is not late] == before
