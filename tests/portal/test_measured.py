from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from overread.portal.measured import sheet
from overread.portal.text import amount, unit
from overread.store.cases import Case
from overread.store.tables import Exam, Result
from overread.validation.results import Measurement
from tests.portal.filled import Filled
from tests.portal.test_cases import text_of


def case(*items: tuple[Any, ...]) -> Case:
    return Case(Exam(), None, measurements=tuple(Measurement(*item) for item in items))


LOBES = (
    ("left lobe", "volume", 576.6, "mL", "voxels"),
    ("right lobe", "volume", 1201.3, "mL", "voxels"),
    ("left lobe", "share", 32.4, "%", "of both"),
    ("right lobe", "graft-to-recipient weight ratio", 1.56, "%", "by weight"),
)


def test_numbers_stand_together_by_region_with_their_method() -> None:
    laid = sheet(case(*LOBES), [], {"left lobe": -12.0})
    assert laid.only is None
    assert laid.methods == ("voxels", "of both", "by weight")
    shown = {
        group.region: [(row.item.quantity, row.note, row.change) for row in group.rows]
        for group in laid.groups
    }
    assert shown == {
        "left lobe": [("volume", 1, -12.0), ("share", 2, None)],
        "right lobe": [("volume", 1, None), ("graft-to-recipient weight ratio", 3, None)],
    }


def test_a_single_volume_stands_alone_and_the_rest_in_the_table() -> None:
    laid = sheet(
        case(
            ("tumour", "long axis", 23.4, "mm", ""),
            ("tumour", "volume", 9.9, "mL", "voxels"),
        ),
        [],
        {"tumour": 136.0},
    )
    assert laid.only is not None
    assert (laid.only.value, laid.change) == (9.9, 136.0)
    (group,) = laid.groups
    assert [(row.item.quantity, row.note) for row in group.rows] == [("long axis", 0)]


def test_a_region_has_the_colour_that_it_is_drawn_in() -> None:
    results = [
        Result(data={"segments": ["of an older version"]}),
        Result(data={"segments": [{"label": "left lobe", "colour": [240, 150, 60]}]}),
    ]
    colours = {one.region: one.colour for one in sheet(case(*LOBES), results).groups}
    assert colours == {"left lobe": "#f0963c", "right lobe": ""}


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


def test_the_page_shows_every_number(filled: Filled, reader: TestClient) -> None:
    with filled.database.write() as session:
        result = (
            session.query(Result).filter_by(name="volumes", exam_id=filled.cases["six-3"]).one()
        )
        kept = result.data
        items = [Measurement(*item) for item in LOBES]
        result.data = {"measurements": [vars(item) for item in items]}
    try:
        page = reader.get(f"/cases/{filled.cases['six-3']}").text
        section = re.search(
            r'<section[^>]*aria-label="Measurements".*?<svg class="plot', page, re.S
        )
        assert section is not None
        words = text_of(section[0])
        assert "left lobe volume 1 576.6 mL share 2 32.4 % right lobe volume 1 1201 mL" in words
        assert "graft-to-recipient weight ratio 3 1.56 % 1 voxels 2 of both 3 by weight" in words
        assert "576.6 mL left lobe" in text_of(reader.get("/").text)
    finally:
        with filled.database.write() as session:
            session.get_one(Result, result.id).data = kept
