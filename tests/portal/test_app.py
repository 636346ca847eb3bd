from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.portal.test_cases import text_of

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize("path", ["/nowhere", "/case", "/cases/1/2/3", "/jobs/1/log", "/a%00b"])
def test_an_unknown_address_is_answered_in_the_sites_look(reader: TestClient, path: str) -> None:
    answer = reader.get(path, headers=BROWSER)
    assert answer.status_code == 404
    assert "There is no such page" in text_of(answer.text)
    assert '<link rel="stylesheet" href="/static/10-base.css">' in answer.text
    assert '<a class="btn ghost" href="/cases">All cases</a>' in answer.text
    assert "rosa" in answer.text


def test_nobody_in_particular_gets_the_same_page(anonymous: TestClient) -> None:
    answer = anonymous.get("/nowhere", headers=BROWSER)
    assert answer.status_code == 404
    assert "There is no such page" in answer.text
    assert "Sign out" not in answer.text


def test_programs_are_answered_in_their_own_way(reader: TestClient) -> None:
    assert reader.get("/api/v1/nothing").json() == {"detail": "There is no such page"}
    assert reader.get("/chunk.js").text == "There is no such page.\n"


def test_a_refusal_is_answered_in_the_sites_look(reader: TestClient) -> None:
    answer = reader.get("/aside", headers=BROWSER)
    assert answer.status_code == 403
    assert "Not for this account" in text_of(answer.text)
    assert "to see what was set aside needs engineer or admin" in text_of(answer.text)
    assert '<a class="btn ghost" href="/cases">All cases</a>' in answer.text


def test_so_is_what_another_site_sends(reader: TestClient) -> None:
    foreign = {"origin": "https://elsewhere.example"}
    answer = reader.post("/sign-out", headers=BROWSER | foreign)
    assert answer.status_code == 403
    assert "The request comes from another site." in text_of(answer.text)
    assert 'href="/static/10-base.css"' in answer.text
    plain = reader.post("/sign-out", headers=foreign)
    assert plain.text == "refused: the request comes from another site\n"
