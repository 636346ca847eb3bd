from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from overread.portal.app import build
from overread.portal.security import LARGEST
from tests.portal.conftest import csrf_of, post_sign_in
from tests.portal.filled import PASSWORDS, Filled, make_site


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


PACS = "https://pacs.hospital.example"


@pytest.mark.parametrize(
    ("embed", "scheme", "same_site", "ancestors"),
    [
        ((), "http", "SameSite=Lax", ["'self'"]),
        ((), "https", "SameSite=Lax", ["'self'"]),
        ((PACS,), "http", "SameSite=Lax", ["'self'", PACS]),
        ((PACS,), "https", "SameSite=None", ["'self'", PACS]),
    ],
)
def test_only_named_hosts_embed_us_and_only_then_cookies_go_into_frames(
    tmp_path: Path, embed: tuple[str, ...], scheme: str, same_site: str, ancestors: list[str]
) -> None:
    app = build(make_site(tmp_path / "site", embed=embed))
    client = TestClient(app, base_url=f"{scheme}://portal", follow_redirects=False)
    answer = client.get("/sign-in")
    parts = answer.headers["set-cookie"].split("; ")
    assert same_site in parts
    assert ("Secure" in parts) == (scheme == "https")
    assert ("Partitioned" in parts) == (same_site == "SameSite=None")
    assert parts[0].startswith("__Host-") == (scheme == "https")
    for path in ("/sign-in", "/app-config.js", "/nothing"):
        rules = policy(client.get(path).headers["content-security-policy"])
        assert rules["frame-ancestors"] == ancestors
    assert "x-frame-options" not in answer.headers


def test_our_own_forms_are_taken_from_pages_that_tell_no_referrer(
    sign_in: Callable[[str], TestClient],
) -> None:
    """A browser sends ``Origin: null`` with them, and says whose they are beside it."""
    reader = sign_in("rosa")
    csrf = csrf_of(reader.get("/account").text)
    for headers, status in (
        ({"origin": "null"}, 403),
        ({"origin": "null", "sec-fetch-site": "cross-site"}, 403),
        ({"origin": "null", "sec-fetch-site": "same-site"}, 403),
        ({"origin": "null", "sec-fetch-site": "none"}, 403),
        ({"origin": "https://elsewhere.example", "sec-fetch-site": "same-origin"}, 403),
        ({"origin": "null", "sec-fetch-site": "same-origin"}, 303),
    ):
        answer = reader.post("/sign-out", data={"csrf": csrf}, headers=headers)
        assert answer.status_code == status, headers


@pytest.mark.parametrize("path", ["/sign-in", "/api/v1/jobs/1/retry", "/account/tokens"])
def test_a_request_that_is_too_large_is_refused_whatever_it_says(
    reader: TestClient, path: str
) -> None:
    large = b"x" * (LARGEST + 1)
    answer = reader.post(path, content=large)
    assert answer.status_code == 413
    assert f"larger than {LARGEST} bytes" in answer.text

    def pieces() -> Iterator[bytes]:
        for _ in range(5):
            yield b"x" * (LARGEST // 4)

    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = reader.post(path, content=pieces(), headers=form)
    assert answer.status_code == 413, "it did not say its length"


def test_pages_of_a_site_with_hosts_that_embed_it_can_be_signed_in_to(filled: Filled) -> None:
    settings = filled.site.settings
    portal = settings.portal.model_copy(update={"embed": (PACS,)})
    site = type(filled.site)(
        **{
            **vars(filled.site),
            "settings": settings.model_copy(update={"portal": portal}),
        }
    )
    client = TestClient(build(site), base_url="https://portal", follow_redirects=False)
    assert post_sign_in(client, "rosa", PASSWORDS["rosa"]).status_code == 303
    assert client.get("/").status_code == 200
