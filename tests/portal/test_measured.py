from __future__ import annotations

from typing import Any

import pytest

from overread.portal.measured import courses, region_colours, sheet
from overread.portal.text import amount, gain, unit
from overread.store.tables import Result
from overread.validation.page import Page, Series, Threshold
from overread.validation.results import Measurement
from tests.portal.test_plot import MODEL, NEWER, RUTH, visit

LOBES = [
    Measurement(*item)
    for item in (
        ("left lobe", "volume", 576.6, "mL", "voxels"),
        ("right lobe", "volume", 1201.3, "mL", "voxels"),
        ("left lobe", "share", 32.4, "%", "of both"),
        ("right lobe", "graft-to-recipient weight ratio", 1.56, "%", "by weight"),
    )
]


def test_what_is_in_no_course_stands_by_region_with_its_method() -> None:
    laid = courses([visit(1, ("left lobe", 576.6, MODEL))], "exam-1", Page())
    rest = sheet(LOBES, laid, [])
    assert rest.methods == ("voxels", "of both", "by weight")
    assert {
        group.region: [(fact.item.quantity, fact.note) for fact in group.facts]
        for group in rest.groups
    } == {"left lobe": [("share", 2)], "right lobe": [("graft-to-recipient weight ratio", 3)]}
    assert [len(group.facts) for group in sheet(LOBES, [], []).groups] == [2, 2]


def test_a_region_has_the_colour_that_it_is_drawn_in() -> None:
    results = [
        Result(data={"segments": ["of an older version"]}),
        Result(data={"segments": [{"label": "left lobe", "colour": [240, 150, 60]}]}),
    ]
    assert region_colours(results) == {"left lobe": "#f0963c"}
    colours = {one.region: one.colour for one in sheet(LOBES, [], results).groups}
    assert colours == {"left lobe": "#f0963c", "right lobe": ""}


def test_rows_are_newest_first_by_region_and_models_before_readers() -> None:
    visits = [
        visit(1, ("b", 1.0, MODEL), ("a", 2.0, MODEL)),
        visit(2, ("b", 3.0, NEWER), ("a", 4.0, NEWER), ("b", 5.0, RUTH)),
        visit(None, ("a", 9.0, MODEL)),
    ]
    (course,) = courses(visits, "exam-2", Page(series=(Series(regions=("a", "b")),)))
    shown = [
        (one.visit.link, one.row.point.line.region, one.look, one.is_first, one.is_current)
        for one in course.entries
    ]
    assert shown == [
        ("link-2", "a", "l0", True, True),
        ("link-2", "b", "l2", False, True),
        ("link-2", "b", "e0", False, True),
        ("link-1", "a", "l1", True, False),
        ("link-1", "b", "l3", False, False),
        ("link-None", "a", "l1", True, False),
    ]
    assert [one.number.item.value for one in course.large] == [4.0, 3.0], "the model's own"


def test_a_series_takes_its_regions_and_quantity_only() -> None:
    visits = [visit(1, ("a", 1.0, MODEL), ("b", 2.0, MODEL))]
    assert courses(visits, "exam-1", Page(series=(Series(quantity="diameter"),))) == []
    (only,) = courses(visits, "exam-1", Page(series=(Series(regions=("b",)),)))
    assert [one.row.point.line.region for one in only.entries] == ["b"]


@pytest.mark.parametrize(
    ("start", "declared", "used"),
    [
        ("", "first", "first"),
        ("", "nadir", "nadir"),
        ("first", "nadir", "first"),
        ("link-2", "first", "exam-2"),
        ("exam-2", "first", "first"),
        ("'; --", "nadir", "nadir"),
    ],
)
def test_the_baseline_is_the_chosen_one_or_the_declared(
    start: str, declared: Any, used: str
) -> None:
    visits = [visit(1, ("a", 1.0, MODEL)), visit(2, ("a", 2.0, MODEL))]
    (course,) = courses(visits, "exam-2", Page(series=(Series(baseline=declared),)), start)
    assert course.start == used


@pytest.mark.parametrize(
    ("threshold", "value", "mark"),
    [
        (Threshold(increase="25%"), 2.0, "▲ threshold"),
        (Threshold(increase="25%", words="growth"), 1.3, "▲ growth, within measurement error"),
        (Threshold(decrease="25%", words="response"), 0.5, "▼ response"),
        (Threshold(increase="200%"), 2.0, ""),
        (None, 2.0, ""),
    ],
)
def test_a_mark_is_words_and_not_a_colour(
    threshold: Threshold | None, value: float, mark: str
) -> None:
    visits = [visit(1, ("a", 1.0, MODEL)), visit(2, ("a", value, MODEL))]
    page = Page(series=(Series(threshold=threshold, repeatability="10%"),))
    (course,) = courses(visits, "exam-2", page)
    assert course.large[0].mark.replace("\N{NO-BREAK SPACE}", " ") == mark


@pytest.mark.parametrize(
    ("value", "code", "written"),
    [
        (1201.28, "mL", "1201 mL"),
        (0.254, "mL", "0.25 mL"),
        (32.43, "%", "32.4 %"),
        (1.562, "%", "1.56 %"),
        (104.26, "mm", "104 mm"),
        (546.2, "mm2", "546 mm²"),
        (-12.34, "[hnsf'U]", "−12.3 HU"),
        (0.923, "1", "0.92"),
        (7.0, "{cells}", "7.00 cells"),
    ],
)
def test_amounts_and_units_are_written_as_people_do(value: float, code: str, written: str) -> None:
    assert f"{amount(value, code)} {unit(code)}".strip() == written


@pytest.mark.parametrize(
    ("value", "written"), [(1.26, "+1.3"), (-1.26, "−1.3"), (0.0, "±0.0"), (1234.0, "+1234")]
)
def test_differences_have_a_sign(value: float, written: str) -> None:
    assert gain(value, "mL") == written
