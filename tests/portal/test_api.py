from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from overread.portal.app import build
from overread.store import users
from tests.portal.conftest import csrf_of
from tests.portal.filled import AT, Filled
from tests.portal.reading_site import reading_site


def test_exams_jobs_results_instances(filled: Filled, engineer: TestClient) -> None:
    exams = engineer.get("/api/v1/exams?accession=PH-A-0106").json()
    assert [exam["id"] for exam in exams] == [filled.cases["six"]]
    assert engineer.get(f"/api/v1/exams/{exams[0]['id']}").json() == exams[0]
    jobs = engineer.get(f"/api/v1/jobs?exam={exams[0]['id']}").json()
    assert [(job["id"], job["state"]) for job in jobs] == [(filled.jobs["six"], "done")]
    job = engineer.get(f"/api/v1/jobs/{jobs[0]['id']}").json()
    assert [step["name"] for step in job["steps"]] == ["t1c", "volume", "mask", "volumes", "seg"]
    results = engineer.get("/api/v1/results?accession=PH-A-0106&current=true").json()
    assert sorted(result["kind"] for result in results) == ["measurements", "segmentation"]
    instances = engineer.get(f"/api/v1/instances?study={filled.studies['six']}").json()
    assert len(instances) == 17
    assert {one["standing"] for one in instances} == {"kept", "ours"}


@pytest.mark.parametrize("path", ["/api/v1/exams/none", "/api/v1/jobs/none"])
def test_what_is_not_there(engineer: TestClient, path: str) -> None:
    assert engineer.get(path).status_code == 404


def test_a_reader_gets_results_and_no_jobs(reader: TestClient) -> None:
    assert reader.get("/api/v1/results?accession=PH-A-0106").status_code == 200
    answer = reader.get("/api/v1/jobs")
    assert answer.status_code == 403
    assert "needs engineer or admin" in answer.json()["detail"]


def test_a_bearer_token_opens_the_api(filled: Filled, anonymous: TestClient) -> None:
    from overread.portal.state import Portal

    portal = anonymous.app.state.portal  # type: ignore[attr-defined]  # a FastAPI application
    assert isinstance(portal, Portal)
    with filled.database.write() as session:
        user = users.find_user(session, "egon")
        opened = users.open_bearer(session, portal.now(), "test", user, timedelta(days=1))
    headers = {"authorization": f"Bearer {opened.token}"}
    assert anonymous.get("/api/v1/jobs", headers=headers).status_code == 200
    wrong = {"authorization": f"Bearer {opened.token}x"}
    assert anonymous.get("/api/v1/jobs", headers=wrong).status_code == 401


def test_it_describes_itself(anonymous: TestClient) -> None:
    described = anonymous.get("/api/v1/openapi.json").json()
    nouns = {path.split("/")[3] for path in described["paths"]}
    assert nouns >= {
        "exams", "instances", "jobs", "results", "cases", "readings", "projects", "pipelines",
        "models", "routes", "deliveries", "users", "audit", "forms", "health", "me", "why",
    }  # fmt: skip
    operations = [operation for path in described["paths"].values() for operation in path.values()]
    names = [one["operationId"] for one in operations]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)
    for one in operations:
        assert one["description"] and one["tags"]
        assert {"401", "403", "422"} <= set(one["responses"])
        assert {next(iter(way)) for way in one["security"]} >= {"token", "sign-in"}
    assert described["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


def everything(client: TestClient, path: str) -> list[Any]:
    """Go through a list by its links."""
    rows: list[Any] = []
    following: str | None = path
    while following:
        answer = client.get(following)
        assert answer.status_code == 200, answer.text
        rows += answer.json()
        found = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("link", ""))
        following = found[1] if found else None
    return rows


@pytest.mark.parametrize("noun", ["exams", "jobs", "results", "instances"])
def test_lists_come_in_pages(filled: Filled, engineer: TestClient, noun: str) -> None:
    size = 100 if noun == "instances" else 3
    whole = engineer.get(f"/api/v1/{noun}?limit=1000").json()
    paged = everything(engineer, f"/api/v1/{noun}?limit={size}")
    assert [one["id"] for one in paged] == [one["id"] for one in whole]
    assert len(whole) > size


def test_a_list_is_narrowed(filled: Filled, engineer: TestClient) -> None:
    held = engineer.get("/api/v1/exams?state=held").json()
    assert [one["accession"] for one in held] == ["PH-G-0001"]
    since = (AT - timedelta(days=1)).isoformat().replace("+00:00", "Z")
    late = engineer.get("/api/v1/exams", params={"since": since, "limit": 1000}).json()
    early = engineer.get("/api/v1/exams", params={"until": since, "limit": 1000}).json()
    assert len(early) == 4 and {one["accession"] for one in early}.isdisjoint(
        {one["accession"] for one in late}
    )
    assert all(one["opened_at"].endswith(("Z", "+00:00")) for one in late)


@pytest.mark.parametrize(
    "query",
    [
        "exams?after=nonsense", "exams?limit=0", "exams?limit=1001", "exams?since=yesterday",
        "exams?since=2026-01-01T00:00:00", "exams?since=0001-01-01T00:00:00%2B14:00",
        "instances?after=0.1.x", "audit?after=x", "exams?state=%00", "exams?after=9.9",
    ],
)  # fmt: skip
def test_what_is_malformed_is_422(engineer: TestClient, query: str) -> None:
    status = 403 if query.startswith("audit") else 422
    answer = engineer.get(f"/api/v1/{query}")
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_what_changes_something_needs_the_token_of_the_sign_in(
    filled: Filled, sign_in: Callable[[str], TestClient]
) -> None:
    engineer = sign_in("egon")
    path = f"/api/v1/jobs/{filled.jobs['six']}/cancel"
    assert engineer.post(path).status_code == 403
    csrf = csrf_of(engineer.get(f"/jobs/{filled.jobs['six']}").text)
    answer = engineer.post(path, headers={"X-CSRF-Token": csrf})
    assert answer.status_code == 409
    assert "nothing to cancel" in answer.json()["detail"]


def test_me(engineer: TestClient) -> None:
    me = engineer.get("/api/v1/me").json()
    assert (me["name"], me["roles"]) == ("egon", [{"role": "engineer", "project": ""}])
    assert me["may"]["job.run"] is None and "user.change" not in me["may"]


def test_a_token_is_kept_to_its_scopes(filled: Filled, app: FastAPI) -> None:
    with filled.database.write() as session:
        user = users.find_user(session, "egon")
        opened = users.open_bearer(
            session, datetime.now(UTC), "test", user, timedelta(days=1),
            scopes=frozenset({"exam.list", "job.*"}),
        )  # fmt: skip
    client = TestClient(app, headers={"authorization": f"Bearer {opened.token}"})
    assert client.get("/api/v1/exams").status_code == 200
    assert client.get("/api/v1/jobs").status_code == 200
    for noun in ("deliveries", "results", "models", "me"):
        assert client.get(f"/api/v1/{noun}").status_code == 403


def test_the_numbers_of_a_case(tmp_path: Path) -> None:
    site = reading_site(tmp_path)
    app = build(site.filled.site)
    with site.filled.database.write() as session:
        tokens = {
            name: users.open_bearer(
                session, datetime.now(UTC), "test", users.find_user(session, name),
                timedelta(days=1),
            ).token
            for name in ("rosa", "robin", "cora")
        }  # fmt: skip
    rosa, robin, cora = (
        TestClient(app, headers={"authorization": f"Bearer {token}"}) for token in tokens.values()
    )
    listed = rosa.get("/api/v1/cases?project=glioma").json()
    assert {one["id"] for one in listed} == set(site.cases.values())
    case = rosa.get(f"/api/v1/cases/{site.cases['one']}").json()
    assert [number["region"] for number in case["numbers"]] == ["Enhancing tumour"]
    assert case["job"]["pipeline"] == "brain-tumour" and len(case["results"]) == 2
    reading = site.reading("one", "rosa")
    assert reading.opened_at is not None and sorted(reading.shown) == sorted(
        one["id"] for one in case["results"]
    )
    path = f"/api/v1/readings/{reading.id}"
    saved = rosa.put(path, json={"answers": {"comment": "so far"}, "revision": 0}).json()
    assert (saved["revision"], saved["state"]) == (1, "draft")
    stale = rosa.put(path, json={"answers": {}, "revision": 0})
    assert stale.status_code == 409 and "revision 1" in stale.json()["detail"]
    wrong = rosa.post(f"{path}/submit", json={"answers": {"none": 1}, "revision": 1})
    assert wrong.status_code == 422
    assert "none" in wrong.json()["detail"]["problems"]
    # another reader sees nothing of it, and does not get at it
    assert robin.get(path).status_code == 404
    assert robin.put(path, json={"answers": {}, "revision": 1}).status_code == 404
    theirs = robin.get(f"/api/v1/cases/{site.cases['one']}/readings").json()
    assert {one["reader"] for one in theirs} == {"robin"}
    progress = cora.get("/api/v1/projects/glioma/progress").json()
    assert progress["cases"] == 3 and {one["reader"] for one in progress["readers"]} == {
        "rosa", "robin",
    }  # fmt: skip
    assert rosa.get("/api/v1/projects/glioma/progress").status_code == 403
