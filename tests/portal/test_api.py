from __future__ import annotations

from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from overread.store import users
from tests.portal.filled import Filled


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


def test_a_bearer_token_opens_the_api_and_no_form(filled: Filled, anonymous: TestClient) -> None:
    from overread.portal.state import Portal

    portal = anonymous.app.state.portal  # type: ignore[attr-defined]  # a FastAPI application
    assert isinstance(portal, Portal)
    with filled.database.write() as session:
        user = users.find_user(session, "egon")
        opened = users.open_bearer(session, portal.now(), "test", user, timedelta(days=1))
    headers = {"authorization": f"Bearer {opened.token}"}
    assert anonymous.get("/api/v1/jobs", headers=headers).status_code == 200
    assert anonymous.post("/sign-out", data={"csrf": ""}, headers=headers).status_code == 403
    wrong = {"authorization": f"Bearer {opened.token}x"}
    assert anonymous.get("/api/v1/jobs", headers=wrong).status_code == 401


def test_it_describes_itself(anonymous: TestClient) -> None:
    described = anonymous.get("/api/v1/openapi.json").json()
    assert set(described["paths"]) == {
        "/api/v1/exams",
        "/api/v1/exams/{exam_id}",
        "/api/v1/jobs",
        "/api/v1/jobs/{job_id}",
        "/api/v1/results",
        "/api/v1/instances",
    }
