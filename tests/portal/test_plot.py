from __future__ import annotations

from datetime import UTC, datetime

import pytest

from overread.portal.plot import plot
from overread.store.cases import Case
from overread.store.history import Point
from overread.store.tables import Exam
from overread.validation.results import Measurement


def point(date: str, **volumes: float) -> Point:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    exam = Exam(id=date, root_id=date, study_date=date, opened_at=at, state="closed")
    items = tuple(
        Measurement(region, "volume", value, "mL", "counted") for region, value in volumes.items()
    )
    return Point(Case(exam, None, "", items, date))


def test_the_axes_hold_every_point() -> None:
    drawn = plot(
        [point("20250101", a=4.2), point("20250701", a=9.9), point("20260101", a=3.0)], "20260101"
    )
    assert drawn is not None
    ((region, dots),) = drawn.lines
    assert region == "a"
    assert [dot.current for dot in dots] == [False, False, True]
    assert dots[0].x < dots[1].x < dots[2].x
    assert dots[1].y < dots[0].y < dots[2].y
    assert [text for _, text in drawn.levels] == ["0", "5", "10", "15"]
    assert drawn.levels[3][0] <= min(dot.y for dot in dots)
    assert [text for _, text in drawn.dates] == ["Jan 25", "Jul 25", "Jan 26"]
    assert dots[0].title == "1 Jan 2025: 4.2 mL"


def test_each_region_has_its_line() -> None:
    drawn = plot([point("20250101", a=1, b=2), point("20260101", b=3)], "")
    assert drawn is not None
    assert [(region, len(dots)) for region, dots in drawn.lines] == [("a", 1), ("b", 2)]


@pytest.mark.parametrize(
    "points",
    [
        [],
        [point("20250101", a=1)],
        [point("20250101", a=1), point("20250101", a=2)],
        [point("20250101", a=1), point("", a=2)],
        [point("20250101", a=1), point("20260101")],
        [point("20251332", a=1), point("2025", a=1)],
    ],
)
def test_less_than_two_dates_make_no_plot(points: list[Point]) -> None:
    assert plot(points, "") is None


@pytest.mark.parametrize("highest", [0.0, 0.003, 0.9, 1.0, 3.0, 14.4, 999.0])
def test_the_highest_volume_is_on_the_plot(highest: float) -> None:
    drawn = plot([point("20250101", a=0), point("20260101", a=highest)], "")
    assert drawn is not None
    heights = [dot.y for dot in drawn.lines[0][1]]
    assert drawn.levels[3][0] - 0.01 <= min(heights) <= max(heights) <= drawn.levels[0][0]
