from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.identity.local import hash_password
from overread.portal.app import build
from overread.store import seal, users
from overread.store.audit import record
from overread.store.tables import Audit
from tests.dicom.audit_schema import code, faults
from tests.portal.conftest import post_sign_in
from tests.portal.filled import AT, Filled, Filler, Patient, make_site
from tests.portal.test_cases import text_of

PASSWORD = "an administrator's password"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """A site of its own, since its audit is looked at whole."""
    filler = Filler(make_site(tmp_path_factory.mktemp("audited")))
    filler.exam("six", patient=Patient(), accession="PH-A-0106")
    with filler.filled.database.write() as session:
        for name, role in (("ada", "administrator"), ("egon", "engineer")):
            users.add_user(
                session, AT, "test", name=name, secret=hash_password(PASSWORD), role=role
            )
    return filler.filled


def client_of(filled: Filled, name: str) -> TestClient:
    client = TestClient(build(filled.site), follow_redirects=False)
    assert post_sign_in(client, name, PASSWORD).status_code == 303
    return client


@pytest.fixture(scope="module")
def ada(own: Filled) -> TestClient:
    return client_of(own, "ada")


@pytest.fixture(scope="module")
def egon(own: Filled) -> TestClient:
    return client_of(own, "egon")


def told(filled: Filled, action: str) -> list[Audit]:
    with filled.database.read() as session:
        rows = select(Audit).where(Audit.action == action).order_by(Audit.id)
        return list(session.scalars(rows))


def seal_all(filled: Filled) -> None:
    with filled.database.read() as session:
        block = seal.next_block(session, datetime.now(UTC))
    assert block is not None
    with filled.database.write() as session:
        assert seal.keep(session, block)


def test_the_page_says_who_did_what_and_what_is_sealed(own: Filled, ada: TestClient) -> None:
    seal_all(own)
    with own.database.write() as session:
        record(session, AT, "ada", "retry job", f"job {own.jobs['six']}", {"from": "mask"})
    page = ada.get("/audit")
    text = text_of(page.text)
    assert page.status_code == 200
    assert "ada retry job job" in text
    assert "1 not sealed" in text
    assert f'href="/jobs/{own.jobs["six"]}"' in page.text
    assert text.count("sealed") > 3
    assert re.search(r"<pre|<script>", page.text) is None


@pytest.mark.parametrize(
    ("query", "has", "has_not"),
    [
        ("actor=egon", "egon", "retry job"),
        ("action=retry+job", "retry job", "egon"),
        ("subject=job", "retry job", "sign in user"),
        ("since=2026-06-02&until=2026-06-02", "retry job", "egon"),
        ("since=2099-01-01", "No row is as asked for", "retry job"),
        ("subject=%3Cscript%3E", "No row is as asked for", "retry job"),
    ],
)
def test_rows_are_filtered(
    ada: TestClient, egon: TestClient, query: str, has: str, has_not: str
) -> None:
    assert egon.get("/jobs").status_code == 200
    page = ada.get(f"/audit?{query}")
    body = text_of(page.text[page.text.index("<tbody>") : page.text.index("</tbody>")])
    assert has in body
    assert has_not not in body


def test_a_day_that_is_none_is_said(ada: TestClient) -> None:
    page = ada.get("/audit?since=yesterday")
    assert page.status_code == 400
    assert "“yesterday” is no day; write one as 2026-06-02." in text_of(page.text)
    assert ada.get("/audit/export?until=x").status_code == 400


def test_pages_go_on_after_the_last_row(own: Filled, ada: TestClient) -> None:
    with own.database.write() as session:
        for number in range(205):
            record(session, AT, "many", "open case", f"case {number:032x}")
    address, seen = "/audit?actor=many", list[str]()
    pages = 0
    while address:
        page = ada.get(address)
        seen += re.findall(r"case [0-9a-f]{32}(?=<)", page.text)
        older = re.search(r'<a href="([^"]+)" rel="next"', page.text)
        address = older[1].replace("&amp;", "&") if older else ""
        pages += 1
    assert pages == 3
    assert seen == [f"case {number:032x}" for number in reversed(range(205))]


def test_it_is_for_administrators(own: Filled, egon: TestClient) -> None:
    for path in ("/audit", "/audit/export"):
        assert egon.get(path).status_code == 403
    refused = [row.subject for row in told(own, "refuse")]
    assert refused == ["route GET /audit", "route GET /audit/export"]


@pytest.mark.parametrize("form", ["csv", "jsonl", "dicom"])
def test_an_export_has_every_row_and_is_told(own: Filled, ada: TestClient, form: str) -> None:
    answer = ada.get(f"/audit/export?format={form}")
    assert answer.status_code == 200
    assert "attachment" in answer.headers["content-disposition"]
    exports = told(own, "export audit")
    last = exports[-1]
    assert (last.actor, last.subject, last.address) == ("ada", "audit", "testclient")
    assert last.detail == {"format": form, "filtered_by": []}
    with own.database.read() as session:
        ids = [str(one) for one in session.scalars(select(Audit.id).order_by(Audit.id))]
    lines = answer.text.splitlines()
    if form == "csv":
        assert [row["id"] for row in csv.DictReader(io.StringIO(answer.text))] == ids
    elif form == "jsonl":
        assert [str(json.loads(line)["id"]) for line in lines] == ids
    else:
        messages = [fromstring(line) for line in lines]  # noqa: S314 - our own
        assert len(messages) == len(ids)
        assert [fault for one in messages for fault in faults(one)] == []
        assert code(messages[-1], "EventIdentification/EventID") == "110101"


def test_messages_name_study_and_patient(own: Filled, ada: TestClient) -> None:
    with own.database.write() as session:
        record(session, AT, "rosa", "open case", f"case {own.cases['six']}", address="10.0.0.7")
    answer = ada.get("/audit/export?format=dicom&actor=rosa")
    message = fromstring(answer.text)  # noqa: S314 - our own
    objects = {
        one.find("ParticipantObjectIDTypeCode").get("csd-code"): one.get("ParticipantObjectID")  # type: ignore[union-attr]
        for one in message.iter("ParticipantObjectIdentification")
    }
    assert objects == {"case": own.cases["six"], "110180": own.studies["six"], "2": "PH-0006"}
    # what is filtered by is not told: it might be a name
    assert told(own, "export audit")[-1].detail["filtered_by"] == ["actor"]


def test_a_cell_is_no_formula(own: Filled, ada: TestClient) -> None:
    with own.database.write() as session:
        record(session, AT, "=HYPERLINK(1)", "open case", "case 1")
    answer = ada.get("/audit/export?format=csv&actor=%3DHYPERLINK(1)")
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert row["actor"] == "'=HYPERLINK(1)"


def test_images_are_told_of_once_for_a_series_and_sign_in(own: Filled) -> None:
    study = own.studies["six"]
    with own.database.read() as session:
        from overread.store import studies

        images = [one for one in studies.instances(session, study) if one.standing == "kept"]
    series = f"/dicom-web/studies/{study}/series/{images[0].series_uid}"
    before = len(told(own, "retrieve images"))
    wanted = {"Accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=*'}
    first, second = client_of(own, "egon"), client_of(own, "egon")
    for client in (first, second):
        for one in images[:3]:
            path = f"{series}/instances/{one.sop_instance_uid}"
            assert client.get(f"{path}/frames/1", headers=wanted).status_code == 200
            assert (
                client.get(f"{path}/rendered", headers={"Accept": "image/png"}).status_code == 200
            )
        assert client.get(f"{series}/metadata").status_code == 200
    rows = told(own, "retrieve images")[before:]
    assert [row.subject for row in rows] == [f"series {min(one.id for one in images)}"] * 2
    assert len({row.session for row in rows}) == 2


def test_a_list_is_told_of_once_in_ten_minutes(own: Filled) -> None:
    egon = client_of(own, "egon")
    before = len(told(own, "list exams"))
    for _ in range(3):
        assert egon.get("/exams").status_code == 200
        assert egon.get("/exams?q=PHANTOM", headers={"HX-Request": "true"}).status_code == 200
    rows = told(own, "list exams")[before:]
    assert [(row.actor, row.subject, row.detail) for row in rows] == [("egon", "exams", {})]


def test_a_site_that_was_changed_is_told(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    (tmp_path / "routes.yaml").write_text("routes: []\n")
    build(site)
    build(site)
    (tmp_path / "routes.yaml").write_text("routes: []  # changed\n")
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "new.yaml").write_text("name: secret\n")
    app = build(site)
    with app.state.portal.database.read() as session:
        rows = list(session.scalars(select(Audit).order_by(Audit.id)))
    assert [(row.actor, row.action, row.subject) for row in rows] == [
        ("overread", "change configuration", "site")
    ] * 2
    files = rows[1].detail["files"]
    assert files.keys() == {"routes.yaml", "pipelines/new.yaml"}
    assert files["pipelines/new.yaml"][0] == ""
    assert files["routes.yaml"][0] == rows[0].detail["files"]["routes.yaml"][1]
    assert "secret" not in json.dumps(rows[1].detail)
