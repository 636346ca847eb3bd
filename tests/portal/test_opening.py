from __future__ import annotations

from datetime import timedelta

from starlette.testclient import TestClient

from tests.portal.filled import AT, Filled, Filler, Patient
from tests.portal.test_cases import text_of


def test_one_case_opens_at_once_by_an_opaque_id(filled: Filled, reader: TestClient) -> None:
    for query in (
        "accession=PH-A-0106",
        "accession=PH-A-0106%20",
        "accession=PH-A-0106&pipeline=brain-tumour&patient=PH-0006",
    ):
        answer = reader.get(f"/open?{query}")
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/cases/{filled.cases['six']}"


def test_two_patients_under_one_accession_are_a_choice(filled: Filled, reader: TestClient) -> None:
    answer = reader.get("/open?accession=PH-DOUBLE")
    assert answer.status_code == 200
    text = text_of(answer.text)
    assert "came with different patients" in text
    assert "PHANTOM, DOUBLE0 PH-0020" in text
    assert "PHANTOM, DOUBLE1 PH-0021" in text
    one = reader.get("/open?accession=PH-DOUBLE&patient=PH-0021")
    assert one.headers["location"] == f"/cases/{filled.cases['double-1']}"


def test_a_second_study_without_a_case_is_said(filled: Filled, reader: TestClient) -> None:
    filler = Filler(filled.site)
    patient = Patient("PHANTOM^TWICE", "PH-0031")
    filler.exam("twice", patient=patient, accession="PH-TWICE", at=AT - timedelta(days=400))
    answer = reader.get("/open?accession=PH-TWICE")
    assert answer.headers["location"] == f"/cases/{filler.filled.cases['twice']}"
    filler.without_case("PH-TWICE", pid=patient.id)
    answer = reader.get("/open?accession=PH-TWICE")
    assert answer.status_code == 200
    assert "has 1 case" in text_of(answer.text)
    assert "MR KNEE · 1 Jun 2026 not run: no pipeline took it" in text_of(answer.text)


def test_images_that_no_pipeline_took_say_why(reader: TestClient) -> None:
    answer = reader.get("/open?accession=PH-NOWHERE")
    assert answer.status_code == 200
    text = text_of(answer.text)
    for words in (
        "Not run · overread",
        "PHANTOM, KNEE · PH-9",
        "3 images in 1 series",
        "OVERREAD 3 × kept",
        "route “brain to the tumour pipeline” – its condition is not met",
        "MR KNEE",
        "overread why PH-NOWHERE",
    ):
        assert words in text
    assert 'hx-trigger="every 4s"' in answer.text


def test_a_case_of_another_pipeline_is_not_picked(reader: TestClient) -> None:
    answer = reader.get("/open?accession=PH-A-0106&pipeline=liver")
    assert answer.status_code == 200
    assert "no exam of pipeline liver holds them" in text_of(answer.text)


def test_nothing_arrived(reader: TestClient) -> None:
    answer = reader.get("/open?accession=UNKNOWN-1")
    assert answer.status_code == 404
    assert "Nothing has arrived for UNKNOWN-1" in answer.text
    assert "<title>Not here yet · overread</title>" in answer.text
    assert 'hx-trigger="every 4s"' in answer.text


def test_a_link_without_an_accession_says_so(reader: TestClient) -> None:
    for query in ("", "?accession=", "?accession=%20"):
        answer = reader.get(f"/open{query}")
        assert answer.status_code == 404
        assert "names no accession number" in answer.text


def test_an_accession_is_matched_literally(reader: TestClient) -> None:
    for query in ("*", "PH-A-%25", "PH-A-010%3F", "ph-a-0106"):
        assert "Nothing has arrived" in reader.get(f"/open?accession={query}").text
