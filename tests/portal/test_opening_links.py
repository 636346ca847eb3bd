"""Links by who follows them, in which project, signed or not."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.errors import SiteError
from overread.identity.local import hash_password
from overread.portal.app import build
from overread.site import load
from overread.store import enrolments, users
from overread.store.tables import Audit, Exam
from overread.validation import links
from tests.portal.conftest import post_sign_in
from tests.portal.filled import AT, PASSWORDS, Filled, Filler, Patient
from tests.portal.reading_site import ReadingSite, reading_site
from tests.portal.test_cases import text_of

KEY = "0123456789abcdef0123456789abcdef"
OTHER = """\
name: other
title: The other project
pipelines: [brain-tumour]
members: {reader: {users: [otto]}}
"""
PASSWORDS |= {"otto": "a reader of another project"}


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> ReadingSite:
    root = tmp_path_factory.mktemp("links")
    (root / "projects").mkdir()
    (root / "projects" / "other.yaml").write_text(OTHER)
    made = reading_site(root)
    filler = Filler(load(root, {}))
    filler.exam("secret", patient=Patient("PHANTOM^SECRET", "PH-S-1"), accession="PH-SECRET")
    filler.exam("both", patient=Patient("PHANTOM^BOTH", "PH-B-1"), accession="PH-BOTH")
    filler.exam(
        "twin", patient=Patient("PHANTOM^TWIN", "PH-T-1"), accession="PH-READ-1",
        at=AT - timedelta(days=3),
    )  # fmt: skip
    filler.exam(
        "coming", patient=Patient("PHANTOM^COMING", "PH-C-1"), accession="PH-COMING",
        state="", exam_state="open",
    )  # fmt: skip
    filler.exam(
        "outside", patient=Patient("PHANTOM^OUTSIDE", "PH-O-1"), accession="PH-OUTSIDE",
    )  # fmt: skip
    roots = filler.filled.cases
    with made.filled.database.write() as session:
        users.add_user(
            session, AT, "test", name="otto", secret=hash_password(PASSWORDS["otto"]),
            role="reader", project="other",
        )  # fmt: skip
        for name, project in (
            ("secret", "other"), ("both", "other"), ("both", "glioma"), ("twin", "other"),
        ):  # fmt: skip
            case = enrolments.enrol(session, AT, project, roots[name], "brain-tumour")
            made.cases[f"{name} in {project}"] = case.id
    return made


def browser(filled: Filled, name: str) -> TestClient:
    client = TestClient(build(load(filled.site.root, {})), follow_redirects=False)
    assert post_sign_in(client, name, PASSWORDS[name]).status_code == 303
    return client


@pytest.fixture(scope="module")
def rosa(reading: ReadingSite) -> TestClient:
    return browser(reading.filled, "rosa")


@pytest.fixture(scope="module")
def otto(reading: ReadingSite) -> TestClient:
    return browser(reading.filled, "otto")


@pytest.fixture(scope="module")
def egon(reading: ReadingSite) -> TestClient:
    return browser(reading.filled, "egon")


def said(page: str) -> str:
    """What a page says, but for what it was asked for."""
    return re.sub(r"PH-[A-Z]+", "…", text_of(page))


def test_a_project_case_opens_by_its_enrolment(reading: ReadingSite, rosa: TestClient) -> None:
    answer = rosa.get("/open?accession=PH-READ-2")
    assert (answer.status_code, answer.headers["location"]) == (
        303, f"/cases/{reading.cases['two']}",
    )  # fmt: skip
    assert rosa.get(answer.headers["location"]).status_code == 200


def test_what_is_not_theirs_is_as_if_it_were_not_there(rosa: TestClient, otto: TestClient) -> None:
    """The case of another project, of none, and one that never came: one and the same answer."""
    answers = [
        rosa.get(f"/open?accession={accession}")
        for accession in ("PH-SECRET", "PH-OUTSIDE", "PH-NEVER")
    ]
    assert {one.status_code for one in answers} == {404}
    assert len({said(one.text) for one in answers}) == 1
    assert otto.get("/open?accession=PH-SECRET").status_code == 303
    assert otto.get("/open?accession=PH-READ-2").status_code == 404


def test_what_is_not_theirs_is_not_counted(
    reading: ReadingSite, rosa: TestClient, egon: TestClient
) -> None:
    """Two patients have this accession number; each project has one of them."""
    answer = rosa.get("/open?accession=PH-READ-1")
    assert answer.headers["location"] == f"/cases/{reading.cases['one']}"
    page = egon.get("/open?accession=PH-READ-1")
    assert page.status_code == 200
    text = text_of(page.text)
    assert "came with different patients" in text
    assert "PHANTOM, ONE" in text
    assert "PHANTOM, TWIN" in text


def test_one_exam_in_two_projects_is_a_choice(
    reading: ReadingSite, rosa: TestClient, egon: TestClient
) -> None:
    page = egon.get("/open?accession=PH-BOTH")
    assert page.status_code == 200
    text = text_of(page.text)
    assert "project Glioma progression" in text
    assert "project The other project" in text
    assert "different patients" not in text
    named = egon.get("/open?accession=PH-BOTH&project=other")
    assert named.headers["location"] == f"/cases/{reading.cases['both in other']}"
    mine = rosa.get("/open?accession=PH-BOTH")
    assert mine.headers["location"] == f"/cases/{reading.cases['both in glioma']}"
    assert rosa.get("/open?accession=PH-BOTH&project=other").status_code == 200  # it is in mine
    assert "PH-B-1" in text_of(rosa.get("/open?accession=PH-BOTH&project=other").text)


def test_an_exam_outside_of_the_project_is_said_to_who_sees_it(egon: TestClient) -> None:
    page = egon.get("/open?accession=PH-OUTSIDE&project=glioma")
    assert page.status_code == 200
    text = text_of(page.text)
    assert "Not a case of Glioma progression" in text
    assert "PHANTOM, OUTSIDE" in text


def test_an_exam_on_its_way_is_said_and_turns_into_the_case(
    reading: ReadingSite, rosa: TestClient
) -> None:
    page = rosa.get("/open?accession=PH-COMING")
    assert page.status_code == 200
    text = text_of(page.text)
    assert "PH-COMING is on its way" in text
    assert "COMING" not in text.replace("PH-COMING", "")  # no name
    again = re.search(r'hx-get="([^"]+)"', page.text)
    assert again is not None
    address = again[1].replace("&amp;", "&")
    polled = rosa.get(address, headers={"HX-Request": "true"})
    assert polled.status_code == 200
    assert "HX-Redirect" not in polled.headers
    with reading.filled.database.write() as session:
        exam = session.scalars(select(Exam).where(Exam.accession == "PH-COMING")).one()
        exam.state = "closed"
        case = enrolments.enrol(session, AT, "glioma", exam.root_id, "brain-tumour")
    polled = rosa.get(address, headers={"HX-Request": "true"})
    assert polled.headers["HX-Redirect"] == f"/cases/{case.id}"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"accession": "A" * 65}, "Its accession has 65 characters; 64 are allowed"),
        ({"accession": "A\x00B"}, "characters that cannot be printed"),
        ({"accession": "A", "patient": "x" * 10_000}, "Its patient has 10000 characters"),
        ({"accession": "A", "project": "a\nb"}, "characters that cannot be printed"),
    ],
)
def test_junk_is_answered_clearly(rosa: TestClient, query: dict[str, str], words: str) -> None:
    answer = rosa.get(f"/open?{urlencode(query)}")
    assert answer.status_code == 400
    assert words in text_of(answer.text)


@pytest.mark.parametrize(
    "junk", ["<script>alert(1)</script>", "' OR 1=1 --", "../../etc/passwd", "%", "ß" * 64, "{{1}}"]
)
def test_tricks_find_nothing(rosa: TestClient, egon: TestClient, junk: str) -> None:
    for name in ("accession", "pipeline", "project", "patient"):
        for client in (rosa, egon):
            answer = client.get(f"/open?{urlencode({'accession': 'PH-READ-1', name: junk})}")
            assert answer.status_code in (200, 404)
            assert "<script>alert" not in answer.text
            assert "location" not in answer.headers


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> ReadingSite:
    """A site that opens signed links only."""
    root = tmp_path_factory.mktemp("signing")
    made = reading_site(root)
    (root / "overread.yaml").write_text(
        f"site: {{name: Phantom clinic}}\nportal: {{link_key: {KEY}, signed_links: require}}\n"
    )
    return made


@pytest.fixture(scope="module")
def sara(signing: ReadingSite) -> TestClient:
    return browser(signing.filled, "rosa")


def address(parameters: dict[str, str], minutes: float = 5, key: str = KEY) -> str:
    expires = int((datetime.now(UTC) + timedelta(minutes=minutes)).timestamp())
    return f"/open?{urlencode(links.sign(parameters, key, expires))}"


def refusals(site: ReadingSite) -> list[Audit]:
    with site.filled.database.read() as session:
        return list(session.scalars(select(Audit).where(Audit.action == "refuse link")))


def test_a_signed_link_opens(signing: ReadingSite, sara: TestClient) -> None:
    answer = sara.get(address({"accession": "PH-READ-2", "project": "glioma"}))
    assert answer.headers["location"] == f"/cases/{signing.cases['two']}"


def test_a_signature_gives_no_right(signing: ReadingSite, sara: TestClient) -> None:
    filler = Filler(signing.filled.site)
    filler.exam("beyond", patient=Patient("PHANTOM^BEYOND", "PH-X-1"), accession="PH-BEYOND")
    assert sara.get(address({"accession": "PH-BEYOND"})).status_code == 404


@pytest.mark.parametrize(
    ("link", "why", "words"),
    [
        ("/open?accession=PH-READ-2", "unsigned", "only where the PACS has signed them"),
        (address({"accession": "PH-READ-2"}, minutes=-2), "expired", "that is over"),
        (address({"accession": "PH-READ-2"}, key="another key, as long"), "forged", "signature"),
        (
            address({"accession": "PH-READ-1"}).replace("READ-1", "READ-2"), "forged", "signature",
        ),
        (address({"accession": "PH-READ-2"}) + "&patient=PH-R-1", "forged", "signature"),
    ],
)  # fmt: skip
def test_another_link_is_refused_and_told(
    signing: ReadingSite, sara: TestClient, link: str, why: str, words: str
) -> None:
    before = len(refusals(signing))
    answer = sara.get(link)
    assert answer.status_code == 403
    assert words in text_of(answer.text)
    assert "location" not in answer.headers
    (row,) = refusals(signing)[before:]
    assert (row.actor, row.subject, row.detail) == ("rosa", "link", {"why": why})


def test_a_page_that_waits_goes_on_when_its_link_has_expired(
    signing: ReadingSite, sara: TestClient
) -> None:
    page = sara.get(address({"accession": "PH-NEVER"}))
    again = re.search(r'hx-get="([^"]+)"', page.text)
    assert again is not None
    polled = sara.get(again[1].replace("&amp;", "&"), headers={"HX-Request": "true"})
    assert polled.status_code == 200
    assert "Nothing has arrived for PH-NEVER" in text_of(polled.text)


def test_a_wrong_signature_is_refused_where_none_is_asked_for(rosa: TestClient) -> None:
    """Also where the site has no key at all."""
    assert rosa.get(address({"accession": "PH-READ-2"})).status_code == 403


def test_who_is_not_signed_in_lands_on_it(signing: ReadingSite) -> None:
    client = TestClient(build(load(signing.filled.site.root, {})), follow_redirects=False)
    link = address({"accession": "PH-READ-3"})
    away = client.get(link)
    assert away.status_code == 303
    assert away.headers["location"].startswith("/sign-in?next=")
    landed = post_sign_in(client, "rosa", PASSWORDS["rosa"], link)
    assert landed.headers["location"] == link
    assert client.get(link).headers["location"] == f"/cases/{signing.cases['three']}"


@pytest.mark.parametrize(
    ("portal", "words"),
    [
        ("{signed_links: require}", "needs a link_key"),
        ("{link_key: short}", "shorter than 16 characters"),
    ],
)
def test_a_key_that_is_none_is_refused(tmp_path: Path, portal: str, words: str) -> None:
    (tmp_path / "overread.yaml").write_text(f"site: {{name: T}}\nportal: {portal}\n")
    with pytest.raises(SiteError, match=words):
        load(tmp_path, {})
