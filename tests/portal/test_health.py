from __future__ import annotations

import re

from starlette.testclient import TestClient

from tests.portal.filled import Filled


def test_alive_and_ready(anonymous: TestClient) -> None:
    assert anonymous.get("/healthz").text == "ok\n"
    assert anonymous.get("/readyz").json() == {"ready": True, "missing": []}


def test_metrics_count_by_route_and_hold_no_patient(filled: Filled, reader: TestClient) -> None:
    reader.get(f"/cases/{filled.cases['six']}")
    reader.get("/open?accession=PH-NOWHERE")
    text = reader.get("/metrics").text
    assert (
        'overread_portal_requests_total{method="GET",route="/cases/{case_id}",status="200"}' in text
    )
    assert re.search(r'overread_rows\{kind="job",state="refused"\} [1-9]', text)
    assert 'overread_rows{kind="instance",state="kept"}' in text
    for secret in ("PHANTOM", "PH-", filled.cases["six"], filled.studies["six"]):
        assert secret not in text


def test_no_path_of_a_request_becomes_a_label(anonymous: TestClient) -> None:
    anonymous.get("/no/such/PH-0006")
    assert "PH-0006" not in anonymous.get("/metrics").text
