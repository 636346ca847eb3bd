"""The page of a case whose images were looked at: boxes over them, classes beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import delete
from starlette.testclient import TestClient

from overread.identity.local import hash_password
from overread.portal.app import build
from overread.store import users
from overread.store.tables import ExamInstance, Result
from overread.validation.results import Class, Classification
from tests.portal.conftest import post_sign_in
from tests.portal.filled import AT, PASSWORDS, Filled, Filler, make_site
from tests.portal.radiograph import COLUMNS, ROWS, hips, radiograph
from tests.portal.test_cases import text_of


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """A store of radiographs."""
    filled = Filler(make_site(tmp_path_factory.mktemp("hips"))).filled
    with filled.database.write() as session:
        for name, role in (("rosa", "reader"), ("egon", "engineer")):
            secret = hash_password(PASSWORDS[name])
            users.add_user(session, AT, "test", name=name, secret=secret, role=role)
    hips(filled, "HIP-1", [radiograph("HIP-1")])
    hips(filled, "HIP-2", [radiograph("HIP-2", 1), radiograph("HIP-2", 2)])
    later = AT + timedelta(minutes=1)
    hips(filled, "HIP-3", [radiograph("HIP-3")], nothing=True, at=later)
    return filled


@pytest.fixture(scope="module")
def client(hospital: Filled) -> Iterator[TestClient]:
    with TestClient(build(hospital.site), follow_redirects=False) as browser:
        post_sign_in(browser, "rosa", PASSWORDS["rosa"])
        yield browser


def page(client: TestClient, hospital: Filled, name: str, query: str = "") -> str:
    answer = client.get(f"/cases/{hospital.cases[name]}{query}")
    assert answer.status_code == 200, answer.text
    return str(answer.text)


def test_boxes_lie_over_the_image_with_their_words(client: TestClient, hospital: Filled) -> None:
    text = page(client, hospital, "HIP-1")
    assert f'viewBox="0 0 {COLUMNS} {ROWS}"' in text
    boxes = re.findall(
        r'<rect class="line" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', text
    )
    assert [tuple(map(float, box)) for box in boxes] == [(35, 80, 80, 100), (185, 80, 80, 100)]
    assert re.findall(r"<title>(.*? hip.*?)</title>", text) == [
        "Right hip: Normal 0.94", "Left hip: Fracture 0.90"
    ]  # fmt: skip
    assert 'aria-label="AP PELVIS: Right hip: Normal 0.94; Left hip: Fracture 0.90"' in text
    assert 'stroke="#ff7a7a"' in text
    assert re.search(r'class="sides".*?>R</text>.*?text-anchor="end">L</text>', text)
    assert "<iframe" not in text


def test_pixels_that_are_not_square_keep_their_shape(hospital: Filled, client: TestClient) -> None:
    tall = radiograph("HIP-TALL", ImagerPixelSpacing=[2.8, 1.4])
    hips(hospital, "HIP-TALL", [tall], at=AT - timedelta(days=1))
    text = page(client, hospital, "HIP-TALL")
    outer, inner = re.findall(r'<svg viewBox="([^"]+)"', text.split('class="pane pictures"')[1])
    assert outer == f"0 0 {COLUMNS} {float(ROWS * 2)}"
    assert inner == f"0 0 {COLUMNS} {ROWS}", "boxes and marks stay in pixels of the image"
    assert 'preserveAspectRatio="none" role="img"' in text
    assert "<svg viewBox" in page(client, hospital, "HIP-1")
    assert 'preserveAspectRatio="none" role="img"' not in page(client, hospital, "HIP-1")


def test_the_image_behind_the_boxes_is_given_to_the_reader_alone(
    client: TestClient, hospital: Filled
) -> None:
    (url,) = re.findall(r'<image href="([^"]+)"', page(client, hospital, "HIP-1"))
    answer = client.get(url.replace("&amp;", "&"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["cache-control"] == "no-store"
    nobody = TestClient(build(hospital.site), follow_redirects=False)
    assert nobody.get(url).status_code == 401


def test_every_class_has_its_probability(client: TestClient, hospital: Filled) -> None:
    text = text_of(page(client, hospital, "HIP-1"))
    assert "Fracture Left hip found 0.99 0.90 Normal 0.07 Fracture 0.90 Hardware 0.03" in text
    assert "not calibrated" in text


def test_findings_link_to_their_boxes(client: TestClient, hospital: Filled) -> None:
    text = page(client, hospital, "HIP-2")
    marks = re.findall(r'<g id="(finding-\d)"', text)
    links = re.findall(r'<a href="#(finding-\d)"', text)
    assert marks == links == ["finding-1", "finding-2", "finding-3", "finding-4"]
    assert text.count('<figure class="picture">') == 2
    assert "AP PELVIS, image 2 of 2" in text
    elsewhere = page(client, hospital, "HIP-2", "?view=captures")
    assert re.findall(r'<a href="\?view=findings#(finding-\d)"', elsewhere) == links


def test_views_stand_beside_the_case(client: TestClient, hospital: Filled) -> None:
    assert "<iframe" in page(client, hospital, "HIP-2", "?view=viewer")
    text = page(client, hospital, "HIP-2", "?view=captures")
    pictures = re.findall(r'<img src="([^"]+)"[^>]* alt="([^"]+)"', text)
    assert [alt.rpartition(": ")[2] for _, alt in pictures] == ["image 1 of 2", "image 2 of 2"]
    for url, _ in pictures:
        assert client.get(url).content.startswith(b"\x89PNG")
    assert "<iframe" not in page(client, hospital, "HIP-2", "?view=nonsense")


def test_nothing_found_says_so_and_shows_the_image(client: TestClient, hospital: Filled) -> None:
    text = page(client, hospital, "HIP-3")
    assert "Nothing was found in this image." in text
    assert "<image href" in text
    assert 'class="mark"' not in text
    assert "ran on this exam to its end and marked nothing" in text


def test_written_objects_are_listed_and_open(client: TestClient, hospital: Filled) -> None:
    text = page(client, hospital, "HIP-1")
    words = text_of(text)
    assert "PDF document Findings (investigational) · opens in its own tab" in words
    assert "Structured report" in words
    assert "Imaging Measurement Report" in words
    assert re.search(r"90(\.0)? %", words)
    (url,) = re.findall(r'<a href="([^"]+/rendered)" target="_blank" rel="noopener">PDF', text)
    answer = client.get(url, headers={"accept": "text/html,*/*;q=0.8"})
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.content.startswith(b"%PDF-")
    assert answer.headers["content-disposition"] == 'inline; filename="report.pdf"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "script-src" not in answer.headers["content-security-policy"]


def test_the_list_says_what_was_found(client: TestClient) -> None:
    text = text_of(client.get("/cases").text)
    assert "Normal Right hip 0.94 Fracture Left hip 0.90 done" in text
    assert "0 found nothing found" in text


def test_the_jobs_page_lists_its_results(hospital: Filled) -> None:
    browser = TestClient(build(hospital.site), follow_redirects=False)
    post_sign_in(browser, "egon", PASSWORDS["egon"])
    text = browser.get(f"/jobs/{hospital.jobs['HIP-1']}").text
    assert "Right hip: Normal 0.94; Left hip: Fracture 0.90" in text_of(text)
    assert "2 found in 1 image" in text_of(text)
    assert f'href="/cases/{hospital.cases["HIP-1"]}?view=captures"' in text


def test_what_a_model_says_of_a_whole_image_stands_without_a_box(
    client: TestClient, hospital: Filled
) -> None:
    case = hips(hospital, "HIP-4", [radiograph("HIP-4")])
    with hospital.database.write() as session:
        uid = str(radiograph("HIP-4").SOPInstanceUID)
        rows = session.query(Result).filter_by(job_id=hospital.jobs["HIP-4"])
        for row in rows:
            if row.kind == "classification":
                values = {"<b>Normal": 0.2, "Broken": 0.8}
                one = Class("image", "Broken", 0.8, values, uid)
                row.data = Classification((one,), (uid,), "m@1.0.0").to_json()
            elif row.kind == "detections":
                session.delete(row)
    text = client.get(f"/cases/{case}").text
    assert 'class="mark"' not in text
    assert "Broken 0.80" in text_of(text)
    assert "&lt;b&gt;Normal" in text
    assert 'aria-label="AP PELVIS: Broken 0.80"' in text


def test_an_image_that_is_no_member_any_more_is_not_shown(
    client: TestClient, hospital: Filled
) -> None:
    case = hips(hospital, "HIP-5", [radiograph("HIP-5")])
    with hospital.database.write() as session:
        session.execute(delete(ExamInstance).where(ExamInstance.exam_id == case))
    text = client.get(f"/cases/{case}").text
    assert "<image href" not in text
    assert "<iframe" in text
