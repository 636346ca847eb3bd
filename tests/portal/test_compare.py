"""Two versions of a segmentation beside each other, and their surfaces."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.portal.compare import box, outline
from overread.store.tables import Result
from tests.drawn import drawn
from tests.portal.filled import TUMOUR, Filled, lesion
from tests.portal.test_editing import images, store

CASE = "six-3"
SMALL, LARGE = lesion(9.0), lesion(12.0)


@pytest.fixture(scope="module")
def versions(filled: Filled, reader: TestClient) -> tuple[str, str]:
    """The model's result and the reader's edit of it."""
    file = drawn(images(filled, CASE), SMALL, name="to compare", label=TUMOUR.label)
    assert store(reader, [file], filled.cases[CASE]).status_code == 200
    with filled.database.read() as session:
        rows = session.scalars(
            select(Result).where(Result.name == "seg", Result.exam_id == filled.cases[CASE])
        ).all()
        by = {bool(one.author): one.id for one in rows}
        return by[False], by[True]


def test_outline_is_the_edge_of_the_pixels() -> None:
    inside = np.zeros((4, 5), bool)
    inside[1, 1:4] = True
    inside[2, 1] = True
    drawn_edges = set(re.findall(r"M\d+ \d+[hv]\d+", outline(inside)))
    assert drawn_edges == {"M1 1h3", "M2 2h2", "M1 3h1", "M1 1v2", "M2 2v1", "M4 1v1"}
    assert outline(np.zeros((3, 3), bool)) == ""


def test_box_holds_all_and_no_more() -> None:
    inside = np.zeros((4, 5, 6), bool)
    inside[1, 2, 3] = inside[2, 4, 0] = True
    assert box(inside) == (slice(1, 3), slice(2, 5), slice(0, 4))
    assert box(np.zeros((2, 2, 2), bool)) == (slice(0, 1),) * 3


def test_the_page_says_how_the_versions_differ(
    reader: TestClient, filled: Filled, versions: tuple[str, str]
) -> None:
    case = filled.cases[CASE]
    page = reader.get(f"/cases/{case}/compare", params={"a": versions[0], "b": versions[1]})
    assert page.status_code == 200
    voxel = 3.0 * 1.5 * 1.5 / 1000
    small, large = SMALL.sum() * voxel, LARGE.sum() * voxel
    score = 2 * SMALL.sum() / (SMALL.sum() + LARGE.sum())
    for words in (f"{large:.2f} mL", f"{small:.2f} mL", f"{small - large:+.2f} mL", f"{score:.3f}"):
        assert words in page.text
    found = re.search(r'<script type="application/json">(.*?)</script>', page.text, re.DOTALL)
    assert found
    slices = json.loads(found[1])
    assert len(slices) == int(LARGE.any(axis=(1, 2)).sum())
    assert f"/cases/{case}/dicom-web/" in slices[0]["image"]
    assert reader.get(slices[0]["image"]).headers["content-type"] == "image/png"


def test_what_is_of_another_case_is_not_there(
    reader: TestClient, filled: Filled, versions: tuple[str, str]
) -> None:
    other = filled.cases["six"]
    for path in (f"compare?a={versions[0]}&b={versions[1]}", f"turn/{versions[0]}"):
        assert reader.get(f"/cases/{other}/{path}").status_code == 404


def test_a_surface_is_that_of_the_segment(
    reader: TestClient, filled: Filled, versions: tuple[str, str]
) -> None:
    case = filled.cases[CASE]
    assert TUMOUR.label in reader.get(f"/cases/{case}/turn/{versions[0]}").text
    data = reader.get(f"/cases/{case}/turn/{versions[0]}/1").content
    corners, triangles = np.frombuffer(data, "<u4", 2)
    places = np.frombuffer(data, "<f4", 3 * corners, 8).reshape(-1, 3)
    faces = np.frombuffer(data, "<u4", 3 * triangles, 8 + 12 * corners).reshape(-1, 3)
    assert len(data) == 8 + 12 * (corners + triangles)
    first, second, third = (places[faces[:, one]].astype(float) for one in range(3))
    volume = np.einsum("ij,ij->i", first, np.cross(second, third)).sum() / 6
    assert volume == pytest.approx(LARGE.sum() * 3.0 * 1.5 * 1.5, rel=0.1)
    assert reader.get(f"/cases/{case}/turn/{versions[0]}/9").status_code == 404
