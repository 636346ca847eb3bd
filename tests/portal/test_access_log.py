from __future__ import annotations

from collections.abc import Callable

import structlog
from starlette.testclient import TestClient

from tests.portal.filled import Filled


def test_a_line_says_what_was_asked_and_nothing_of_a_patient(
    filled: Filled, sign_in: Callable[[str], TestClient]
) -> None:
    reader = sign_in("rosa")
    study = filled.studies["six"]
    with structlog.testing.capture_logs() as lines:
        reader.get(f"/dicom-web/studies/{study}/series", params={"PatientID": "PH-0006"})
        reader.get("/open", params={"accession": "PH-A-0106"})
        reader.get(f"/cases/{filled.cases['six']}/state")
        reader.get("/cases/PHANTOM^SIX")
        reader.get("/no/PH-A-0106/here")
        reader.request("PHSECRET", "/cases")
    asked = [line for line in lines if line["event"] == "request"]
    assert [line["route"] for line in asked[:3]] == [
        "/dicom-web/studies/{study}/series", "/open", "/cases/{case_id}/state",
    ]  # fmt: skip
    assert asked[2]["case_id"] == filled.cases["six"]
    assert {line["method"] for line in asked} == {"GET", "other"}
    assert all(isinstance(line["ms"], int) and line["status"] >= 200 for line in asked)
    assert all(len(line["sign_in"]) == 32 for line in asked[:4])
    text = repr(asked)
    for secret in ("PH-", "PHANTOM", "PHSECRET", study, reader.cookies["overread"], "rosa"):
        assert secret not in text


def test_a_monitor_that_is_answered_leaves_no_line(anonymous: TestClient) -> None:
    with structlog.testing.capture_logs() as lines:
        anonymous.get("/healthz")
        anonymous.get("/metrics")
    assert lines == []


def test_what_is_turned_away_at_the_gate_is_logged_too(anonymous: TestClient) -> None:
    with structlog.testing.capture_logs() as lines:
        anonymous.post("/sign-out", headers={"origin": "https://elsewhere.example"})
    (line,) = lines
    assert (line["status"], line["route"], line["sign_in"]) == (403, "other", "")
