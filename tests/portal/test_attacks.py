"""What a hostile or broken client sends, and what may never come back or be logged."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from overread.portal.app import build
from overread.portal.sign_in import own_path
from tests.portal.filled import make_site


@pytest.mark.parametrize(
    "target",
    [
        "//[", "http://[", "//evil.example", "/\\evil.example", "\\/evil.example",
        "/\t/evil.example", "https://evil.example/", "javascript:alert(1)", "evil", "",
        "/\r\nSet-Cookie: a=b",
    ],
)  # fmt: skip
def test_sign_in_leads_nowhere_else(anonymous: TestClient, target: str) -> None:
    assert own_path(target) == "/"
    answer = anonymous.get("/sign-in", params={"next": target})
    assert answer.status_code == 200
    assert 'name="next" value="/"' in answer.text


def test_an_origin_that_is_no_address_is_another_site(anonymous: TestClient) -> None:
    for origin in ("http://[", "null", "testserver", "https://testserver.evil.example"):
        answer = anonymous.post("/sign-in", headers={"origin": origin})
        assert answer.status_code == 403
        assert "another site" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/..%2f..%2fapp.py", "/%2e%2e/%2e%2e/app.py", "//etc/passwd", "/%2fetc%2fpasswd", "/a%00b",
        "/" + "a" * 5000, "/static/..%2fapp.py", "/static/%00",
    ],
)  # fmt: skip
def test_no_path_leaves_the_viewers_folder(anonymous: TestClient, path: str) -> None:
    assert anonymous.get(path).status_code == 404


def test_an_error_is_logged_and_answered_without_its_words(
    app: FastAPI, reader: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OperationalError("SELECT ?", ("PHANTOM^SECRET",), Exception("database is locked"))

    monkeypatch.setattr("overread.store.cases.find_case", fail)
    with caplog.at_level(logging.WARNING):
        answer = reader.get("/cases/0123")
    assert answer.status_code == 500
    assert answer.headers["cache-control"] == "no-store"
    assert "SECRET" not in answer.text
    assert "OperationalError at" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_method_that_nobody_knows_is_no_label(anonymous: TestClient) -> None:
    anonymous.request("PHSECRET", "/healthz")
    assert "PHSECRET" not in anonymous.get("/metrics").text


def test_beyond_loopback_nothing_goes_around_the_proxy(tmp_path: Path) -> None:
    app = build(make_site(tmp_path / "site", host="0.0.0.0", proxy="10.0.0.9"))  # noqa: S104
    plain = TestClient(app, base_url="http://portal")
    refused = plain.get("/sign-in")
    assert refused.status_code == 403
    assert "X-Forwarded-Proto" in refused.text
    assert plain.get("/healthz").status_code == 200
    assert TestClient(app, base_url="https://portal").get("/sign-in").status_code == 200
