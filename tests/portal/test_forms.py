from __future__ import annotations

import json

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from overread.portal.app import build
from tests.portal.conftest import csrf_of, post_sign_in
from tests.portal.filled import PASSWORDS
from tests.portal.reading_site import ReadingSite, reading_site

URL = "/forms/progression/preview"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> ReadingSite:
    return reading_site(tmp_path_factory.mktemp("forms") / "site")


@pytest.fixture(scope="module")
def app(site: ReadingSite) -> FastAPI:
    return build(site.filled.site)


def signed(app: FastAPI, name: str) -> TestClient:
    client = TestClient(app, follow_redirects=False)
    assert post_sign_in(client, name, PASSWORDS[name]).status_code == 303
    return client


def test_who_writes_a_form_sees_it_as_a_reader_will(app: FastAPI) -> None:
    page = signed(app, "egon").get(URL).text
    assert "Does this exam show progression?" in page
    assert 'name="/segments/first region/seconds"' in page
    assert "asked in Glioma progression" in page
    assert "It is not answered yet." in page


def test_what_answers_become_is_shown_and_nothing_is_kept(app: FastAPI) -> None:
    client = signed(app, "egon")
    token = csrf_of(client.get(URL).text)
    sent = {"/progression": "no", "/volume": "900", "/comment": "<b>"}
    shown = client.post(URL, data=sent, headers={"X-CSRF-Token": token})
    assert shown.status_code == 200
    assert "900 is out of range; expected 0 to 500 mL." in shown.text
    assert "&#34;no&#34;" in shown.text or '"no"' in shown.text
    assert "<b>" not in shown.text.replace("<b>2", "")


def test_a_reload_shows_the_file_as_it_is_now(site: ReadingSite, app: FastAPI) -> None:
    client = signed(app, "egon")
    file = site.filled.site.root / "forms" / "progression.json"
    before = file.read_text()
    document = json.loads(before)
    try:
        document["properties"]["volume"]["title"] = "Volume, as you see it"
        file.write_text(json.dumps(document, indent=1))
        assert "Volume, as you see it" in client.get(URL).text
        document["properties"]["volume"]["type"] = "nubmer"
        file.write_text(json.dumps(document, indent=1))
        page = client.get(URL).text
        line = next(
            at for at, text in enumerate(file.read_text().splitlines(), 1) if "nubmer" in text
        )
        assert f"forms/progression.json:{line}" in page and "nubmer" in page
    finally:
        file.write_text(before)


@pytest.mark.parametrize("name", ["nothing", "..%2F..%2Foverread", "progression.json", "*"])
def test_what_is_no_form_is_not_there(app: FastAPI, name: str) -> None:
    assert signed(app, "egon").get(f"/forms/{name}/preview").status_code == 404


def test_a_reader_previews_nothing(app: FastAPI) -> None:
    assert signed(app, "rosa").get(URL).status_code == 403
