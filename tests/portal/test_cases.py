from __future__ import annotations

import re
from datetime import timedelta

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.store.tables import Audit, Exam, StepRun
from tests.portal.filled import AT, Filled, Filler, Patient


def text_of(page: str) -> str:
    """What a person reads: no tags, single spaces."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_list_shows_every_state(reader: TestClient) -> None:
    text = text_of(reader.get("/").text)
    for words in (
        "PHANTOM, SIX PH-0006",
        "9.9 mL done",
        "0.0 mL nothing found",
        "refused missing slice: between 12.0 mm and 18.0 mm",
        "failed step mask took more than its 8.0 GB",
        "running · mask",
        "arriving",
        "not run: held its StudyInstanceUID came under two patients",
        "no PatientID",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("query", "there", "not_there"),
    [
        ("q=PH-C-0001", "PHANTOM, FRUIT", "PHANTOM, CLEAR"),
        ("q=ph-0011", "PHANTOM, CLEAR", "PHANTOM, FRUIT"),
        ("q=phantom,+fr", "PHANTOM, FRUIT", "PHANTOM, SIX"),
        ("q=%25", "No case", "PHANTOM"),
        ("state=refused", "PHANTOM, FRUIT", "PHANTOM, CLEAR"),
        ("state=done", "PHANTOM, CLEAR", "PHANTOM, FRUIT"),
        ("state=queued", "No case is queued", "PHANTOM"),
    ],
)
def test_search_and_filter(reader: TestClient, query: str, there: str, not_there: str) -> None:
    text = text_of(reader.get(f"/?{query}").text)
    assert there in text
    assert not_there not in text


def test_a_list_that_is_cut_says_so(reader: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "More than 500 begin so"
    assert words not in text_of(reader.get("/?q=phantom").text)
    monkeypatch.setattr("overread.store.search.MOST", 3)
    assert words in text_of(reader.get("/?q=phantom").text)


def test_a_held_revision_still_opens(filled: Filled, reader: TestClient) -> None:
    filler = Filler(filled.site)
    patient = Patient("PHANTOM^LATE", "PH-0032")
    for name in ("late-1", "late-2"):
        filler.exam(name, patient=patient, accession=name, at=AT - timedelta(days=500))
    with filled.database.write() as session:
        session.get_one(Exam, filler.filled.cases["late-2"]).state = "held"
    answer = reader.get(f"/cases/{filler.filled.cases['late-2']}")
    assert answer.status_code == 200
    assert "other exam" not in text_of(answer.text)


def test_the_list_asks_for_its_rows_only(reader: TestClient) -> None:
    page = reader.get("/").text
    assert 'data-events="/events" data-live="#rows"' in page
    rows = reader.get("/", headers={"hx-request": "true"}).text
    assert rows.lstrip().startswith('<div id="rows">')
    assert "<html" not in rows


def test_a_case_shows_its_number_its_history_and_its_provenance(
    filled: Filled, reader: TestClient
) -> None:
    page = reader.get(f"/cases/{filled.cases['six']}").text
    text = text_of(page)
    for words in (
        "PHANTOM, SIX 55 y · F · PH-0006 MR · MR BRAIN NAV · 2 Jun 2026 accession PH-A-0106",
        "Enhancing tumour, volume 9.9 mL +136 % from baseline",
        "investigational",
        "Model brain-tumour 1.0.0",
        "Pipeline brain-tumour 1.0.0",
        "mask threshold 11.4 s",
        "not used SeriesDescription is not like T1.*POST",
        "voxels counted × volume of a voxel",
    ):
        assert words in text
    dates = re.findall(r"(\d+ \w+ 20\d\d)(?:</a>)?<small>", page)
    assert dates == ["2 Jun 2026", "8 Mar 2026", "12 Jan 2026", "3 Sep 2025", "9 Mar 2025"]
    assert f'data-src="/cases/{filled.cases["six"]}/viewer' in page, "after the page's own content"
    assert page.count('"href": "/cases/') == 5, "the points of the plot"


def test_words_stand_where_the_images_are_still_loading(filled: Filled, reader: TestClient) -> None:
    text = text_of(reader.get(f"/cases/{filled.cases['refused']}").text)
    assert text.endswith("Loading the images Open the images")


def test_opening_a_case_is_audited(filled: Filled, reader: TestClient) -> None:
    case_id = filled.cases["six-1"]
    reader.get(f"/cases/{case_id}")
    with filled.database.read() as session:
        row = session.scalars(
            select(Audit).where(Audit.action == "open case", Audit.subject == f"case {case_id}")
        ).first()
    assert row is not None
    assert row.actor == "rosa"
    assert row.detail == {}


@pytest.mark.parametrize(
    ("name", "tone", "title", "advice"),
    [
        ("empty", "none", "Nothing found", "what a model does not mark may still be there"),
        ("refused", "warn", "Refused", "Read the exam as usual, without the model"),
        ("failed", "bad", "Failed", "An engineer can run the job again"),
        ("held", "warn", "Not run: held", "has to settle which patient they are of"),
        ("running", "busy", "Running · mask", "this page changes by itself"),
        ("arriving", "busy", "Arriving", "this page changes by itself"),
    ],
)
def test_each_state_looks_different_and_says_what_to_do(
    filled: Filled, reader: TestClient, name: str, tone: str, title: str, advice: str
) -> None:
    page = reader.get(f"/cases/{filled.cases[name]}").text
    section = re.search(r'<section id="state".*?</section>', page, re.DOTALL)
    assert section is not None
    assert f'class="sec state {tone}"' in section[0]
    assert title in text_of(section[0])
    assert "What to do next" in section[0]
    assert advice in section[0]
    assert ("hx-get" in section[0]) is (tone == "busy")


def test_an_empty_patient_id_is_compared_with_nobody(filled: Filled, reader: TestClient) -> None:
    text = text_of(reader.get(f"/cases/{filled.cases['nobody']}").text)
    assert "These images have no PatientID, so this exam is not compared with any other" in text
    assert "other exam" not in text


def test_there_is_no_such_case(reader: TestClient) -> None:
    answer = reader.get("/cases/0123")
    assert answer.status_code == 404
    assert "There is no such case" in answer.text


def test_the_state_is_sent_again_only_when_it_has_changed(
    filled: Filled, reader: TestClient
) -> None:
    case_id = filled.cases["running"]
    page = reader.get(f"/cases/{case_id}").text
    poll = re.search(r'hx-get="(/cases/[^"]+)"', page)
    assert poll is not None
    assert reader.get(poll[1]).status_code == 204
    with filled.database.write() as session:
        step = session.scalars(select(StepRun).where(StepRun.state == "running")).one()
        step.name = "other"
    changed = reader.get(poll[1])
    assert changed.status_code == 200
    assert "Running · other" in text_of(changed.text)
    with filled.database.write() as session:
        session.get_one(StepRun, step.id).name = "mask"


def test_a_page_whose_job_has_ended_loads_itself_again(filled: Filled, reader: TestClient) -> None:
    answer = reader.get(f"/cases/{filled.cases['six']}/state?seen=running.mask.16")
    assert answer.headers["hx-refresh"] == "true"


def test_names_are_escaped(filled: Filled, reader: TestClient) -> None:
    filler = Filler(filled.site)
    filler.exam(
        "evil",
        patient=Patient("<script>alert(1)</script>", "<b>ID</b>"),
        accession="PH-EVIL",
        description='"><img src=x>',
        state="refused",
        reason="<i>reason</i>",
        at=AT - timedelta(days=300),
    )
    case_id = filler.filled.cases["evil"]
    for path in ("/?q=PH-EVIL", f"/cases/{case_id}", "/open?accession=PH-EVIL&patient=x"):
        page = reader.get(path).text
        for raw in ("<script>alert", "<b>ID", "<img src=x", "<i>reason"):
            assert raw not in page
