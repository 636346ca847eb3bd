from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.portal.app import build
from overread.store.tables import Audit, Session
from tests.portal.conftest import post_sign_in
from tests.portal.filled import PASSWORDS
from tests.portal.reading_site import ReadingSite, copied, reading_site

GOOD = {
    "/progression": "yes",
    "/hips/left hip/finding": "normal",
    "/hips/right hip/finding": "fracture",
}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> ReadingSite:
    return reading_site(tmp_path_factory.mktemp("fresh") / "site")


@pytest.fixture
def site(fresh: ReadingSite, tmp_path: Path) -> ReadingSite:
    return copied(fresh, tmp_path / "site")


@pytest.fixture
def sign(site: ReadingSite) -> Callable[[str], Browser]:
    app = build(site.filled.site)

    def signed(name: str) -> Browser:
        client = TestClient(app, follow_redirects=False)
        assert post_sign_in(client, name, PASSWORDS[name]).status_code == 303
        return Browser(site, client)

    return signed


class Browser:
    """A reader's page of a case: what its scripts send."""

    def __init__(self, site: ReadingSite, client: TestClient) -> None:
        self.site, self.client = site, client
        self.case, self.text, self.hidden = "", "", dict[str, str]()

    def open(self, case: str) -> str:
        """Load the case's page."""
        self.case = f"/cases/{self.site.cases[case]}"
        self.text = self.client.get(self.case).text
        part = self.text.partition('id="reading"')[2]
        found = re.findall(r'name="(csrf|revision|form)" value="([^"]*)"', part)
        self.hidden = {}
        for name, value in found:
            self.hidden.setdefault(name, value)
        return self.text

    def send(self, method: str, path: str = "", **answers: Any) -> Any:
        """Send the form as the page's script does."""
        body = {**self.hidden, **answers.pop("fields", {})}
        csrf = self.hidden.get("csrf", "")
        return self.client.request(
            method, f"{self.case}/reading{path}", data=body, headers={"X-CSRF-Token": csrf}
        )


Sign = Callable[[str], Browser]


def acts(site: ReadingSite, subject: str) -> list[str]:
    with site.filled.database.read() as session:
        query = select(Audit.action).where(Audit.subject == subject).order_by(Audit.id)
        return list(session.scalars(query))


def test_a_project_of_files_alone_asks_its_form_on_its_page(sign: Sign) -> None:
    page = sign("rosa").open("one")
    assert "Does this exam show progression?" in page
    assert "Compare with the exam before." in page
    assert "Glioma progression" in page
    assert 'name="/hips/left hip/finding"' in page
    # The grid by segment has the results' own region.
    assert 'name="/segments/Enhancing tumour/seconds"' in page


def test_from_the_first_look_to_the_next_case(site: ReadingSite, sign: Sign) -> None:
    rosa = sign("rosa")
    rosa.open("one")
    kept = site.reading("one", "rosa")
    assert kept.opened_at is not None and kept.state == "open" and kept.shown
    saved = rosa.send("PUT", "/draft", fields={"/comment": "so far"})
    assert saved.status_code == 200 and saved.json()["revision"] == 1
    assert 'value="1"' in rosa.open("one") and "so far" in rosa.text
    done = rosa.send("POST", fields={**GOOD, "/comment": "done"})
    assert done.status_code == 204
    assert done.headers["HX-Redirect"] == f"/cases/{site.cases['two']}"
    kept = site.reading("one", "rosa")
    assert kept.state == "submitted" and kept.submitted_at is not None
    assert kept.answers == {
        "progression": "yes", "comment": "done",
        "hips": {"left hip": {"finding": "normal"}, "right hip": {"finding": "fracture"}},
    }  # fmt: skip
    assert kept.form == "progression" and len(kept.form_digest) == 64
    assert acts(site, f"reading {kept.id}") == ["open reading", "save draft", "submit reading"]


def test_after_the_last_case_comes_the_worklist(site: ReadingSite, sign: Sign) -> None:
    rosa = sign("rosa")
    for case in ("one", "two", "three"):
        rosa.open(case)
        answer = rosa.send("POST", fields=GOOD)
    assert answer.headers["HX-Redirect"] == "/"


def test_a_page_without_scripts_does_the_same(site: ReadingSite, sign: Sign) -> None:
    rosa = sign("rosa")
    rosa.open("one")
    url = f"{rosa.case}/reading"
    refused = rosa.client.post(url, data=rosa.hidden)
    assert refused.status_code == 422
    assert "<title>Reading" in refused.text and "It is not answered yet" in refused.text
    done = rosa.client.post(url, data={**rosa.hidden, **GOOD})
    assert (done.status_code, done.headers["location"]) == (303, f"/cases/{site.cases['two']}")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "Does this exam show progression? It is not answered yet."),
        ({"/volume": "501"}, "Volume: 501 is out of range; expected 0 to 500 mL."),
        ({"/count": "two"}, "is not a whole number"),
        ({"/quality": "7"}, "is no answer"),
        ({"/nope": "1"}, "The form has no question"),
        ({"/../../etc/passwd": "1"}, "The form has no question"),
        ({"/progression": "<script>alert(1)</script>"}, "&lt;script&gt;"),
        ({"/hips/third hip/finding": "normal"}, "there is no row"),
        ({"/where": "{"}, "not marked"),
        ({"/where": '{"sop_instance_uid": "1.2", "frame": 0, "x": 1, "y": 1}'}, "not of this case"),
        ({"/comment": "x" * 4001}, "expected at most 4,000"),
        ({"/comment": "a\x00b"}, "cannot be kept"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_submitted(
    site: ReadingSite, sign: Sign, fields: dict[str, str], said: str
) -> None:
    rosa = sign("rosa")
    rosa.open("one")
    answer = rosa.send("POST", fields=({**GOOD, **fields} if fields else {}))
    assert answer.status_code == 422
    assert said in answer.text
    assert "<script>alert" not in answer.text
    assert site.reading("one", "rosa").state == "open"


def test_a_mark_on_an_image_of_the_case_is_kept(site: ReadingSite, sign: Sign) -> None:
    from overread.dicom.provenance import derive_uid

    rosa = sign("rosa")
    rosa.open("one")
    uid = derive_uid("one", "t1c", "3")
    mark = f'{{"sop_instance_uid": "{uid}", "frame": 0, "x": 12.5, "y": 127}}'
    assert rosa.send("POST", fields={**GOOD, "/where": mark}).status_code == 204
    assert site.reading("one", "rosa").answers["where"]["x"] == 12.5
    rosa.open("two")
    answer = rosa.send("POST", fields={**GOOD, "/where": mark})  # of another patient's case
    assert answer.status_code == 422 and "not of this case" in answer.text


def test_the_same_submit_again_changes_nothing(site: ReadingSite, sign: Sign) -> None:
    rosa = sign("rosa")
    rosa.open("one")
    first, second = (rosa.send("POST", fields=GOOD) for _ in range(2))
    assert first.status_code == second.status_code == 204
    assert first.headers["HX-Redirect"] == second.headers["HX-Redirect"]
    assert acts(site, f"reading {site.reading('one', 'rosa').id}").count("submit reading") == 1


def test_another_submit_after_it_is_told_how_to_amend(site: ReadingSite, sign: Sign) -> None:
    rosa = sign("rosa")
    rosa.open("one")
    rosa.send("POST", fields=GOOD)
    answer = rosa.send("POST", fields={**GOOD, "/progression": "no"})
    assert answer.status_code == 409
    assert "was submitted already" in answer.text and "Amend this reading" in answer.text
    assert site.reading("one", "rosa").answers["progression"] == "yes"
    draft = rosa.send("PUT", "/draft", fields={"/progression": "no"})
    assert draft.status_code == 409


def test_another_window_overwrites_nothing(site: ReadingSite, sign: Sign) -> None:
    one, other = sign("rosa"), sign("rosa")
    one.open("one")
    other.open("one")
    assert one.send("PUT", "/draft", fields={"/comment": "first window"}).status_code == 200
    stale = other.send("PUT", "/draft", fields={"/comment": "second window"})
    assert stale.status_code == 409
    assert "first window" in stale.text and "second window" in stale.text
    assert 'data-revision="1"' in stale.text
    assert other.send("POST", fields={**GOOD, "/comment": "second window"}).status_code == 409
    assert site.reading("one", "rosa").answers == {"comment": "first window"}
    other.hidden["revision"] = "1"  # the reader has seen both, and keeps these
    assert other.send("PUT", "/draft", fields={"/comment": "second window"}).status_code == 200


def test_a_form_that_changed_meanwhile_is_shown_with_what_was_typed(sign: Sign) -> None:
    rosa = sign("rosa")
    rosa.open("one")
    rosa.hidden["form"] = "0" * 64
    answer = rosa.send("POST", fields={**GOOD, "/comment": "typed"})
    assert answer.status_code == 409
    assert "The form was changed" in answer.text and "typed" in answer.text


def test_an_amendment_is_a_new_reading_with_its_reason(site: ReadingSite, sign: Sign) -> None:
    rosa = sign("rosa")
    rosa.open("one")
    rosa.send("POST", fields=GOOD)
    first = site.reading("one", "rosa")
    rosa.open("one")
    assert "Submitted" in rosa.text and "Amend this reading" in rosa.text
    assert rosa.send("POST", "/amend", fields={"reason": " "}).status_code == 422
    assert rosa.send("POST", "/amend", fields={"reason": "wrong side"}).status_code == 204
    assert "Your amendment" in rosa.open("one") and "wrong side" in rosa.text
    assert rosa.send("POST", fields={**GOOD, "/progression": "no"}).status_code == 204
    second = site.reading("one", "rosa")
    assert (second.amends, second.reason, second.state) == (first.id, "wrong side", "submitted")
    assert (first.answers["progression"], second.answers["progression"]) == ("yes", "no")
    assert acts(site, f"reading {second.id}") == ["begin amendment", "amend reading"]


def test_an_amendment_can_be_given_up_and_begun_again(site: ReadingSite, sign: Sign) -> None:
    rosa = sign("rosa")
    rosa.open("one")
    assert rosa.send("POST", "/discard").status_code == 409
    rosa.send("POST", fields=GOOD)
    rosa.open("one")
    rosa.send("POST", "/amend", fields={"reason": "wrong side"})
    rosa.open("one")
    assert rosa.send("POST", "/discard").status_code == 204
    assert "Your amendment" not in rosa.open("one")
    assert rosa.send("POST", "/amend", fields={"reason": "after all"}).status_code == 204
    assert "after all" in rosa.open("one")


def test_nobody_sees_the_answers_of_another_before_their_own(site: ReadingSite, sign: Sign) -> None:
    rosa, robin, cora = sign("rosa"), sign("robin"), sign("cora")
    rosa.open("one")
    secret = "the left ventricle is shifted"
    rosa.send("PUT", "/draft", fields={**GOOD, "/comment": secret})
    assert secret not in cora.open("one")  # a draft is nobody else's
    rosa.open("one")
    rosa.send("POST", fields={**GOOD, "/comment": secret})
    for path in ("", "/reading"):
        assert secret not in robin.client.get(f"/cases/{site.cases['one']}{path}").text
        assert secret in cora.client.get(f"/cases/{site.cases['one']}{path}").text
    robin.open("one")
    robin.send("POST", fields=GOOD)
    assert secret not in robin.open("one")  # nor after it
    with site.filled.database.read() as session:
        assert secret not in " ".join(str(one.detail) for one in session.scalars(select(Audit)))


def test_who_reads_no_case_of_it_is_answered_like_no_case(site: ReadingSite, sign: Sign) -> None:
    cora, egon = sign("cora"), sign("egon")
    cora.open("one")
    assert cora.send("PUT", "/draft", fields=GOOD).status_code == 403
    egon.open("one")
    assert egon.send("POST", fields=GOOD).status_code == 403
    rosa = sign("rosa")
    rosa.open("one")
    rosa.case = "/cases/" + "0" * 32
    assert rosa.send("PUT", "/draft", fields=GOOD).status_code == 404


def test_a_sign_in_that_ended_is_answered_as_a_script_can_tell(
    site: ReadingSite, sign: Sign
) -> None:
    rosa = sign("rosa")
    rosa.open("one")
    with site.filled.database.write() as session:
        session.query(Session).delete()
    assert rosa.send("PUT", "/draft", fields=GOOD).status_code == 401
    assert rosa.send("POST", fields=GOOD).status_code == 401
    again = sign("rosa")
    again.case, again.hidden = rosa.case, rosa.hidden  # the old page, the new sign-in
    assert again.send("PUT", "/draft", fields=GOOD).status_code == 403
    assert site.reading("one", "rosa").answers == {}


def test_ten_megabytes_of_text_are_refused_before_anything_is_kept(
    site: ReadingSite, sign: Sign
) -> None:
    rosa = sign("rosa")
    rosa.open("one")
    for method, path in (("PUT", "/draft"), ("POST", "")):
        answer = rosa.send(method, path, fields={**GOOD, "/comment": "x" * 10_000_000})
        assert answer.status_code == 413
        assert "larger than 2000000 bytes" in answer.text
    kept = site.reading("one", "rosa")
    assert (kept.answers, kept.revision, kept.state) == ({}, 0, "open")


def test_a_draft_keeps_whatever_was_typed(site: ReadingSite, sign: Sign) -> None:
    rosa = sign("rosa")
    rosa.open("one")
    odd = {"/volume": "12 or so", "/why": "hidden now", "/comment": "Ärzte\r\n<b>'; DROP TABLE"}
    assert rosa.send("PUT", "/draft", fields=odd).status_code == 200
    assert site.reading("one", "rosa").answers == {
        "volume": "12 or so", "why": "hidden now", "comment": "Ärzte\n<b>'; DROP TABLE",
    }  # fmt: skip
    page = rosa.open("one")
    assert "&lt;b&gt;&#39;; DROP TABLE" in page and "<b>'" not in page
