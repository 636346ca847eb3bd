from __future__ import annotations

import html
import re

from starlette.testclient import TestClient

from tests.portal.filled import Filled
from tests.portal.test_cases import text_of


def test_jobs(filled: Filled, engineer: TestClient) -> None:
    text = text_of(engineer.get("/jobs").text)
    assert "PH-C-0001 brain-tumour 1.0.0 routed 14.4 s refused missing slice" in text
    only = text_of(engineer.get("/jobs?state=failed").text)
    assert "PH-D-0001" in only
    assert "PH-C-0001" not in only


def test_exams(engineer: TestClient) -> None:
    text = text_of(engineer.get("/exams").text)
    assert "PH-A-0106 brain-tumour CI2_CD_BTS 16 closed by quiet time" in text
    only = text_of(engineer.get("/exams?state=held").text)
    assert "PH-G-0001" in only
    assert "PH-A-0106" not in only


def test_a_job_shows_steps_digests_times_and_log(filled: Filled, engineer: TestClient) -> None:
    page = engineer.get(f"/jobs/{filled.jobs['six']}").text
    text = text_of(page)
    for words in (
        "brain-tumour 1.0.0",
        "2026-06-02 09:30:35 UTC routed, priority 10",
        "ran 14.4 s",
        "t1c select_series 0.30 s",
        "window 12 of 12",
        "51ab" * 16,
        "9f2c" * 16,
        "seg segmentation",
    ):
        assert words in text
    assert page.count('class="card step done"') == 5


def test_a_refused_job_opens_on_the_step_that_refused(filled: Filled, engineer: TestClient) -> None:
    page = engineer.get(f"/jobs/{filled.jobs['refused']}").text
    assert 'class="card step refused" open>' in page


def test_a_job_is_found_by_the_beginning_of_its_id(filled: Filled, engineer: TestClient) -> None:
    assert engineer.get(f"/jobs/{filled.jobs['six'][:12]}").status_code == 200


def test_a_job_that_runs_shows_how_far_its_step_is(filled: Filled, engineer: TestClient) -> None:
    page = engineer.get(f"/jobs/{filled.jobs['running']}").text
    assert "windows 12 of 40" in text_of(page)
    assert '<progress value="12" max="40">' in page
    found = re.search(r'hx-get="([^"]+)" hx-trigger="every 1s"', page)
    assert found is not None
    again = engineer.get(html.unescape(found[1]), headers={"HX-Request": "true"})
    assert "windows 12 of 40" in text_of(again.text)
    assert "<html" not in again.text
    assert "HX-Refresh" not in again.headers
    # A step has ended since: the page is drawn anew.
    behind = engineer.get(f"/jobs/{filled.jobs['running']}/running?seen=running+1+1+1")
    assert behind.headers["HX-Refresh"] == "true"


def test_a_job_that_has_ended_asks_no_more(filled: Filled, engineer: TestClient) -> None:
    assert 'id="running"' not in engineer.get(f"/jobs/{filled.jobs['six']}").text
    assert engineer.get("/jobs/zzzz/running").status_code == 404


def test_there_is_no_such_job(engineer: TestClient) -> None:
    answer = engineer.get("/jobs/zzzz")
    assert answer.status_code == 404
    assert "There is no such job" in answer.text


def test_only_engineers_get_to_the_log_from_a_case(
    filled: Filled, reader: TestClient, engineer: TestClient
) -> None:
    path = f"/cases/{filled.cases['refused']}"
    assert "Steps and log" in engineer.get(path).text
    assert "Steps and log" not in reader.get(path).text
    assert reader.get(f"/jobs/{filled.jobs['refused']}").status_code == 403
