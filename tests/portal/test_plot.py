from __future__ import annotations

import json
from datetime import datetime
from types import MappingProxyType

from overread.measures.progression import Line, Point
from overread.portal.measured import courses
from overread.portal.plot import plot
from overread.store.cases import Case
from overread.store.history import Number, Source, Visit
from overread.store.tables import Exam, Result
from overread.validation.page import Page, Series, Threshold
from overread.validation.results import Measurement

MODEL = Source("model m 1", "m", "1")
NEWER = Source("model m 2", "m", "2")
RUTH = Source("reader 7", "ruth", "v3", is_edit=True)


def visit(day: int | None, *values: tuple[str, float, Source], unit: str = "mL") -> Visit:
    """An exam of that day of 2026 with volumes."""
    name = f"exam-{day}"
    at = None if day is None else datetime.fromisoformat(f"2026-01-{day:02}T12:00:00")
    numbers = tuple(
        Number(
            Point(Line(region, "volume", unit, source.key), name, at, value, MappingProxyType({})),
            Measurement(region, "volume", value, unit, ""),
            source,
            Result(),
        )
        for region, value, source in values
    )
    return Visit(Case(Exam(root_id=name), None), f"link-{day}", at, numbers)


def test_what_is_drawn() -> None:
    visits = [
        visit(1, ("tumour", 4.0, MODEL)),
        visit(9, ("tumour", 6.0, MODEL), ("tumour", 5.0, RUTH)),
        visit(None, ("tumour", 7.0, MODEL)),
    ]
    page = Page(
        series=(Series(threshold=Threshold(increase="25%", words="growth"), repeatability="10%"),)
    )
    (course,) = courses(visits, "exam-9", page)
    assert course.is_plotted
    assert plot(course) == {
        "title": "Volume",
        "unit": "mL",
        "lines": [
            {
                "look": "l0",
                "label": "model 1",
                "edit": False,
                "points": [
                    {
                        "at": 1767268800.0, "value": 4.0,
                        "words": ["1 Jan 2026", "4.0 mL", "baseline"],
                        "href": "/cases/link-1", "now": False, "otherwise": False,
                    },
                    {
                        "at": 1767960000.0, "value": 6.0,
                        "words": ["9 Jan 2026", "6.0 mL", "+50 %", "▲\N{NO-BREAK SPACE}growth"],
                        "href": "/cases/link-9", "now": True, "otherwise": False,
                    },
                ],
                "levels": [
                    {
                        "value": 5.0, "low": 4.6, "high": 5.4,
                        "words": "+25 %, band = repeatability 10 %",
                    }
                ],
            },
            {
                "look": "e0",
                "label": "ruth",
                "edit": True,
                "points": [
                    {
                        "at": 1767960000.0, "value": 5.0,
                        "words": ["9 Jan 2026", "5.0 mL", "baseline"],
                        "href": "/cases/link-9", "now": True, "otherwise": False,
                    }
                ],
                "levels": [
                    {
                        "value": 6.25, "low": 5.75, "high": 6.75,
                        "words": "+25 %, band = repeatability 10 %",
                    }
                ],
            },
        ],
    }  # fmt: skip
    json.dumps(plot(course), allow_nan=False)


def test_one_time_is_no_plot() -> None:
    two = [visit(1, ("a", 1.0, MODEL), ("b", 2.0, MODEL)), visit(None, ("a", 2.0, MODEL))]
    (course,) = courses(two, "exam-1", Page())
    assert not course.is_plotted


def test_lines_say_what_tells_them_apart() -> None:
    visits = [visit(1, ("a", 1.0, MODEL), ("b", 2.0, MODEL)), visit(2, ("a", 2.0, NEWER))]
    (course,) = courses(visits, "exam-2", Page())
    assert [(line.label, line.look) for line in course.lines] == [
        ("a · model 2", "l0"), ("a · model 1", "l1"), ("b · model 1", "l2"),
    ]  # fmt: skip
