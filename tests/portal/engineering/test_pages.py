"""Exams, deliveries, routes, setup, health and why, as pages."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from pydicom import Dataset
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.portal.app import build
from overread.store import deliveries, enrolments, users
from overread.store.tables import Audit, Delivery, Instance
from tests.portal.conftest import csrf_of, post_sign_in
from tests.portal.filled import (
    AT,
    PASSWORDS,
    Filled,
    Filler,
    Patient,
    as_file,
    lesion,
    make_site,
    mr_slices,
)
from tests.portal.test_cases import text_of


def test_an_exam_leads_to_all_that_became_of_it(filled: Filled, engineer: TestClient) -> None:
    page = engineer.get(f"/exams/{filled.cases['six']}").text
    text = text_of(page)
    assert "PHANTOM, SIX PH-0006" in text
    assert "quiet time" in text
    assert "4 AX T1 POST" in text
    assert "16 sent CI2_CD_BTS gathered" in text
    assert f'href="/jobs/{filled.jobs["six"]}"' in page
    assert 'href="/why?accession=PH-A-0106"' in page
    assert f'href="/cases/{filled.cases["six"]}"' in page
    assert engineer.get("/exams/none").status_code == 404


def test_lists_go_on_where_the_page_before_ended(
    filled: Filled, engineer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for noun in ("exams", "jobs"):
        monkeypatch.setattr(f"overread.portal.engineering.{noun}.ROWS", 4)
        seen: list[str] = []
        path = f"/{noun}"
        while path:
            page = engineer.get(path).text
            rows = re.findall(rf'class="cover" id="\w-(\w+)" href="/{noun}/', page)
            assert 1 <= len(rows) <= 4
            seen += rows
            more = re.search(r'href="([^"]+)" rel="next"', page)
            path = html.unescape(more[1]) if more else ""
        assert len(seen) == len(set(seen)) >= 12
        assert engineer.get(f"/{noun}?after=nonsense").status_code == 200


def test_a_job_of_another_project_is_not_there(tmp_path: Path) -> None:
    filler = Filler(make_site(tmp_path))
    for name in ("own", "other"):
        filler.exam(name, patient=Patient("P", name), accession=f"PH-{name}")
    filled = filler.filled
    with filled.database.write() as session:
        for name in ("own", "other"):
            enrolments.enrol(session, AT, name, filled.cases[name], "brain-tumour")
        user = users.add_user(
            session, AT, "test", name="egon",
            secret=_secret(PASSWORDS["egon"]), role="engineer", project="own",
        )  # fmt: skip
        opened = users.open_bearer(session, _now(), "test", user, timedelta(days=1))
    app = build(filled.site)
    client = TestClient(app, follow_redirects=False)
    assert post_sign_in(client, "egon", PASSWORDS["egon"]).status_code == 303
    token = {"authorization": f"Bearer {opened.token}"}
    for name, status in (("own", 200), ("other", 404)):
        exam, job = filled.cases[name], filled.jobs[name]
        for path in (f"/exams/{exam}", f"/jobs/{job}", f"/why?accession=PH-{name}"):
            assert client.get(path).status_code == status, path
        for path in (f"exams/{exam}", f"jobs/{job}", f"jobs/{job}/log", f"why?accession=PH-{name}"):
            answer = TestClient(app).get(f"/api/v1/{path}", headers=token)
            assert answer.status_code == status, path
    assert "PH-own" in client.get("/exams").text
    assert "PH-other" not in client.get("/exams").text + client.get("/jobs").text
    listed = TestClient(app).get("/api/v1/instances", headers=token).json()
    assert {one["accession"] for one in listed} == {"PH-own"}
    assert client.get("/deliveries").status_code == 403  # for the whole site only


def _secret(password: str) -> str:
    from overread.identity.local import hash_password

    return hash_password(password)


def _now() -> datetime:
    return datetime.now(UTC)


class Sent:
    """Some deliveries of the filled site, by their state."""

    def __init__(self, filled: Filled) -> None:
        self.filled = filled
        self.ids: dict[str, str] = {}
        with filled.database.write() as session:
            images = session.scalars(select(Instance.id).order_by(Instance.id).limit(5)).all()
            for image, state in zip(
                images, ("queued", "waiting", "failed", "delivered", "held"), strict=True
            ):
                one = deliveries.order(session, image, "PACS", cause="route all", why={}, at=AT)
                one.state, one.attempts = state, 3
                one.error = "conflict with another copy" if state == "held" else "away"
                session.flush()
                self.ids[state] = one.id

    def state(self, of: str) -> tuple[str, int, str]:
        with self.filled.database.read() as session:
            one = session.get_one(Delivery, self.ids[of])
            return one.state, one.attempts, one.error


@pytest.fixture
def sent(filled: Filled) -> Iterator[Sent]:
    made = Sent(filled)
    yield made
    with filled.database.write() as session:
        for one in made.ids.values():
            session.delete(session.get_one(Delivery, one))


def test_deliveries_are_retried_and_held(sent: Sent, sign_in: Callable[[str], TestClient]) -> None:
    engineer = sign_in("egon")
    page = engineer.get("/deliveries").text
    csrf = csrf_of(page)
    assert page.count('action="/deliveries/') == 2 + 3  # failed, waiting; and queued to be held

    def do(what: str, of: str) -> int:
        answer = engineer.post(f"/deliveries/{sent.ids[of]}/{what}", data={"csrf": csrf})
        return int(answer.status_code)

    assert do("retry", "failed") == 303 and sent.state("failed") == ("queued", 0, "")
    assert do("hold", "waiting") == 303
    assert sent.state("waiting") == ("held", 3, "held by egon")
    assert do("retry", "waiting") == 303 and sent.state("waiting") == ("queued", 0, "")
    # what a contradiction holds is not let go by a button
    assert do("retry", "held") == 409 and sent.state("held")[0] == "held"
    assert do("retry", "delivered") == 409 and do("hold", "delivered") == 409
    assert engineer.post("/deliveries/none/hold", data={"csrf": csrf}).status_code == 404
    with sent.filled.database.read() as session:
        subject = f"delivery {sent.ids['waiting']}"
        told = session.scalars(select(Audit.action).where(Audit.subject == subject)).all()
    assert list(told) == ["hold delivery", "retry delivery"]


def test_deliveries_by_the_api(sent: Sent, engineer: TestClient, app: FastAPI) -> None:
    with sent.filled.database.write() as session:
        user = users.find_user(session, "egon")
        token = users.open_bearer(session, _now(), "test", user, timedelta(days=1)).token
    api = TestClient(app, headers={"authorization": f"Bearer {token}"})
    listed = api.get("/api/v1/deliveries?destination=PACS&state=failed").json()
    assert [one["id"] for one in listed] == [sent.ids["failed"]]
    answer = api.post(f"/api/v1/deliveries/{sent.ids['failed']}/retry")
    assert answer.status_code == 200 and answer.json()["state"] == "queued"
    assert api.post(f"/api/v1/deliveries/{sent.ids['delivered']}/hold").status_code == 409


def test_the_routes_are_tried_on_an_exam_and_on_a_file(
    filled: Filled, engineer: TestClient
) -> None:
    text = text_of(engineer.get("/routes?exam=PH-NOWHERE").text)
    assert "1 brain to the tumour pipeline" in text
    assert engineer.get("/routes?exam=PH-A-0106").status_code == 200
    assert engineer.get("/routes?exam=none").status_code == 404
    one = mr_slices("dropped", Patient(), "PH-DROP", "20260602", "MR BRAIN", lesion(5))[0]
    csrf = csrf_of(engineer.get("/routes").text)
    headers = {"X-CSRF-Token": csrf, "Content-Type": "application/dicom"}

    def drop(content: bytes, query: str = "", **more: str) -> tuple[int, str]:
        answer = engineer.post(f"/routes/test{query}", content=content, headers=headers | more)
        return answer.status_code, text_of(answer.text)

    kept = sorted(filled.site.settings.data.rglob("*"))
    status, text = drop(as_file(one)[:3000])  # the header is in the beginning
    assert status == 200
    assert "sent CI2_CD_BTS by route brain to the tumour pipeline: its condition is met" in text
    assert "StudyDescription" in text
    one.StudyDescription = "<script>alert(1)</script>"
    status, text = drop(as_file(one))
    assert "not sent" in text and "<script>" not in text
    assert "came from there" in drop(as_file(mr_brain()), "?calling=CI2_CD_BTS")[1]
    assert drop(b"no DICOM")[0] == 422 and drop(b"")[0] == 422
    assert drop(as_file(one), **{"X-CSRF-Token": "x"})[0] == 403
    assert drop(bytes(4_000_001))[0] == 413
    assert sorted(filled.site.settings.data.rglob("*")) == kept


def mr_brain() -> Dataset:
    return mr_slices("brain", Patient(), "PH-DROP", "20260602", "MR BRAIN", lesion(5))[0]


def test_a_replay_says_what_would_go_elsewhere(filled: Filled, engineer: TestClient) -> None:
    text = text_of(engineer.get("/routes?since=2026-01-01").text)
    found = re.search(r"(\d+) series since 2026-01-01: (\d+) would go elsewhere now", text)
    assert found is not None
    # All but the knee come to the pipeline itself, where nothing is sent again.
    assert int(found[1]) > 10 and int(found[2]) == 0
    assert engineer.get("/routes?since=soon").status_code == 404


def test_why_is_a_page(filled: Filled, engineer: TestClient, reader: TestClient) -> None:
    page = engineer.get("/why?accession=PH-A-0106").text
    assert "its results are there" in page
    assert f'href="/exams/{filled.cases["six"]}"' in page
    assert f'href="/jobs/{filled.jobs["six"]}"' in page
    assert "missing slice" in engineer.get("/why?accession=PH-C-0001").text
    nowhere = text_of(engineer.get("/why?accession=PH-NOWHERE").text)
    assert "Route brain to the tumour pipeline did not take" in nowhere
    assert engineer.get("/why?accession=<script>").status_code == 404
    assert "<script>alert" not in engineer.get("/why?accession=<script>alert(1)</script>").text
    assert reader.get("/why?accession=PH-A-0106").status_code == 403


def test_what_the_site_is_made_of(engineer: TestClient, reader: TestClient) -> None:
    assert "The site has no pipeline" not in engineer.get("/plugins").text
    plugins = text_of(engineer.get("/plugins").text)
    assert (
        "measure_volumes overread overread.operators.measure:measure_volumes available" in plugins
    )
    pipeline = text_of(engineer.get("/pipelines/brain-tumour").text)
    assert "brain to the tumour pipeline" in pipeline and "after 30.0 s without" in pipeline
    assert engineer.get("/models").status_code == 200
    for path in ("/pipelines/none", "/models/none/1.0.0", "/models/none/1.0.0/verified"):
        assert engineer.get(path).status_code == 404
    for path in ("/plugins", "/models", "/deliveries", "/routes", "/health", "/exams", "/jobs"):
        assert reader.get(path).status_code == 403


def test_health_says_what_is_wrong(engineer: TestClient) -> None:
    text = text_of(engineer.get("/health").text)
    assert "No worker has ever given a sign of life" in text
    checks = text_of(engineer.get("/health/checks").text)
    assert "worker wrong no worker has given a sign of life" in checks
    assert "site well no fault" in checks
