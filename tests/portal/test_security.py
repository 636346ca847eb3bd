from __future__ import annotations

import pytest
from starlette.testclient import TestClient


def policy(answer_headers: object) -> dict[str, list[str]]:
    parts = str(answer_headers).split(";")
    return {words[0]: words[1:] for part in parts if (words := part.split())}


@pytest.mark.parametrize("path", ["/sign-in", "/healthz", "/static/10-base.css", "/nothing/there"])
def test_every_answer_has_the_strict_headers(anonymous: TestClient, path: str) -> None:
    headers = anonymous.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "content-security-policy" in headers
    assert "cross-origin-embedder-policy" not in headers
    assert "server" not in headers


def test_pages_run_only_our_own_files_and_are_framed_by_nobody(reader: TestClient) -> None:
    answer = reader.get("/")
    rules = policy(answer.headers["content-security-policy"])
    assert rules["default-src"] == ["'none'"]
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == ["'self'"]
    assert rules["frame-ancestors"] == ["'self'"]
    assert answer.headers["cache-control"] == "no-store"
    assert "style=" not in answer.text
    assert "<script>" not in answer.text


def test_the_viewer_may_more_but_no_other_host(reader: TestClient) -> None:
    rules = policy(reader.get("/viewer/viewer").headers["content-security-policy"])
    assert rules["frame-ancestors"] == ["'self'"]
    assert "'unsafe-inline'" not in rules["script-src"]
    assert sum(source.startswith("'sha256-") for source in rules["script-src"]) == 2
    hosts = [source for sources in rules.values() for source in sources if "." in source]
    assert hosts == []
    assert not any(
        "http" in source or source == "*" for sources in rules.values() for source in sources
    )
