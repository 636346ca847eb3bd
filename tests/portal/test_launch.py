from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.identity.local import hash_password
from overread.portal.app import build
from overread.settings import FhirServer, Smart
from overread.store import users
from overread.store.tables import Audit
from tests.portal import smart_double as ehr_double
from tests.portal.conftest import post_sign_in
from tests.portal.filled import AT, Filled, Filler, Patient, make_site
from tests.portal.test_cases import text_of

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a password of the test"


@pytest.fixture(scope="module")
def ehr() -> Iterator[str]:
    """Base address of a double of an EHR, in a process of its own."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.portal.smart_double", str(port)], cwd=ROOT
    )
    base = f"http://127.0.0.1:{port}/fhir"
    ends = time.monotonic() + 20
    while True:
        try:
            httpx.get(f"{base}/.well-known/smart-configuration")
            break
        except httpx.ConnectError:
            assert time.monotonic() < ends, "the double did not start"
            time.sleep(0.1)  # it is starting
    yield base
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, ehr: str) -> Filled:
    """A site that this EHR launches, and another EHR that does not answer."""
    made = make_site(tmp_path_factory.mktemp("launched"))
    smart = Smart(client_id=ehr_double.CLIENT, client_secret=SecretStr(ehr_double.SECRET))
    systems = {"": ehr_double.SYSTEM}
    servers = {
        "ehr": FhirServer(url=ehr, patient_systems=systems, smart=smart),
        "dead": FhirServer(url="http://127.0.0.1:9/fhir", patient_systems=systems, smart=smart),
        "plain": FhirServer(url="http://127.0.0.1:9/plain", patient_systems=systems),
    }
    filler = Filler(replace(made, settings=made.settings.model_copy(update={"fhir": servers})))
    for number in (1, 2, 6):
        filler.exam(
            f"six-{number}", patient=Patient(), accession=f"PH-A-010{number}",
            date=f"2026010{number}",
        )  # fmt: skip
    filler.exam(
        "clear", patient=Patient("PHANTOM^CLEAR", "PH-0011", "19850612", "M"), accession="PH-B-1"
    )
    with filler.filled.database.write() as session:
        for name, project in (("rosa", ""), ("otto", "elsewhere")):
            users.add_user(
                session, AT, "test", name=name, secret=hash_password(PASSWORD),
                role="reader", project=project,
            )  # fmt: skip
    return filler.filled


@pytest.fixture(scope="module")
def browser(site: Filled) -> Callable[[str], TestClient]:
    app = build(site.site)

    def signed_in(name: str) -> TestClient:
        client = TestClient(app, follow_redirects=False)
        assert post_sign_in(client, name, PASSWORD).status_code == 303
        return client

    return signed_in


@pytest.fixture(scope="module")
def rosa(browser: Callable[[str], TestClient]) -> TestClient:
    return browser("rosa")


def set_out(client: TestClient, ehr: str, launch: str) -> str:
    """Launch, let the EHR allow it, and return the address that it sends the browser back to."""
    away = client.get("/launch", params={"iss": ehr, "launch": launch})
    assert away.status_code == 303, away.text
    allowed = httpx.get(away.headers["location"], follow_redirects=False)
    assert allowed.status_code == 303, allowed.text
    parts = urlsplit(allowed.headers["location"])
    return f"{parts.path}?{parts.query}"


def launched(client: TestClient, ehr: str, launch: str) -> httpx.Response:
    answer: httpx.Response = client.get(set_out(client, ehr, launch))
    return answer


def told(site: Filled, action: str) -> list[Audit]:
    with site.database.read() as session:
        return list(session.scalars(select(Audit).where(Audit.action == action)))


def test_the_one_case_of_the_patient_opens(site: Filled, ehr: str, rosa: TestClient) -> None:
    answer = launched(rosa, ehr, "clear")
    assert answer.headers["location"] == f"/cases/{site.cases['clear']}"
    (row,) = told(site, "launch")
    assert (row.actor, row.subject, row.detail) == ("rosa", "fhir ehr", {"cases": 1})


def test_several_cases_are_a_choice(ehr: str, rosa: TestClient) -> None:
    answer = launched(rosa, ehr, "six")
    assert answer.status_code == 200
    text = text_of(answer.text)
    assert "3 cases of the patient whose record is open in ehr" in text
    assert "PHANTOM, SIX" in text
    assert "PH-0011" not in text  # the same value under another system is somebody else's


def test_the_study_or_the_visit_says_which_case(site: Filled, ehr: str, rosa: TestClient) -> None:
    by_study = launched(rosa, ehr, "six::s106")
    assert by_study.headers["location"] == f"/cases/{site.cases['six-6']}"
    by_visit = launched(rosa, ehr, "six:e1")
    assert by_visit.headers["location"] == f"/cases/{site.cases['six-2']}"
    other_visit = launched(rosa, ehr, "six:e2")
    assert "3 cases of the patient" in text_of(other_visit.text)


def test_only_what_they_may_see(ehr: str, browser: Callable[[str], TestClient]) -> None:
    answer = launched(browser("otto"), ehr, "clear")
    assert answer.status_code == 404
    assert "has no case here, or none that this account may see" in text_of(answer.text)


@pytest.mark.parametrize(
    ("launch", "status", "words"),
    [
        ("nobody", 403, "no identifier of a system that this site knows"),
        ("unknown", 404, "has no case here"),
        ("wrong", 200, "The birth date in the images is not that in the EHR"),
        ("two", 200, "cases of different patients here"),
        ("swapped", 403, "another resource than the patient that was asked for"),
        (":e1", 403, "no patient is open there"),
        ("gone", 403, "it refused a request (status 404)"),
    ],
)
def test_a_doubtful_patient_is_never_opened(
    ehr: str, rosa: TestClient, launch: str, status: int, words: str
) -> None:
    answer = launched(rosa, ehr, launch)
    assert answer.status_code == status
    assert words in text_of(answer.text)
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("iss", "launch", "status", "words"),
    [
        ("http://evil.example/fhir", "six", 403, "is not known here"),
        ("", "six", 403, "is not known here"),
        ("http://127.0.0.1:9/plain", "six", 403, "is not known here"),
        ("http://127.0.0.1:9/fhir", "six", 502, "dead could not be asked: it does not answer"),
        ("EHR", "", 403, "said nothing of what is open there"),
        ("EHR", "x" * 5000, 403, "said nothing of what is open there"),
    ],
)
def test_another_ehr_is_not_asked(
    site: Filled, ehr: str, rosa: TestClient, iss: str, launch: str, status: int, words: str
) -> None:
    before = len(told(site, "refuse launch"))
    answer = rosa.get("/launch", params={"iss": iss.replace("EHR", ehr), "launch": launch})
    assert answer.status_code == status
    assert words in text_of(answer.text)
    assert len(told(site, "refuse launch")) == before + 1


def test_who_comes_back_twice_is_refused(site: Filled, ehr: str, rosa: TestClient) -> None:
    back = set_out(rosa, ehr, "clear")
    assert rosa.get(back).status_code == 303
    again = rosa.get(back)
    assert again.status_code == 403
    assert "did not set out for it" in text_of(again.text)


def test_a_code_of_another_browser_is_refused(
    ehr: str, rosa: TestClient, browser: Callable[[str], TestClient]
) -> None:
    """A forged request would else open a patient of the attacker's choice."""
    attacker = browser("rosa")
    back = set_out(attacker, ehr, "clear")
    set_out(rosa, ehr, "six")
    assert rosa.get(back).status_code == 403
    code = parse_qs(urlsplit(back).query)["code"][0]
    mine = parse_qs(urlsplit(set_out(rosa, ehr, "six")).query)["state"][0]
    mixed = rosa.get("/launch/back", params={"code": code, "state": mine})
    assert mixed.status_code == 403  # the verifier is not that of the code
    assert "it refused the code (status 400)" in text_of(mixed.text)


@pytest.mark.parametrize("query", ["", "state=x&code=y", "state=&code=", "error=access_denied"])
def test_who_never_set_out_is_refused(browser: Callable[[str], TestClient], query: str) -> None:
    client = browser("rosa")
    client.cookies.set("overread-launch", "bm8ganNvbg==")
    assert client.get(f"/launch/back?{query}").status_code == 403


def test_who_denies_it_is_told(ehr: str, rosa: TestClient) -> None:
    state = parse_qs(urlsplit(set_out(rosa, ehr, "six")).query)["state"][0]
    answer = rosa.get("/launch/back", params={"state": state, "error": "access_denied"})
    assert answer.status_code == 403
    assert "did not allow it" in text_of(answer.text)


def test_who_is_not_signed_in_signs_in_first(site: Filled, ehr: str) -> None:
    client = TestClient(build(site.site), follow_redirects=False)
    away = client.get("/launch", params={"iss": ehr, "launch": "clear"})
    assert away.headers["location"].startswith("/sign-in?next=%2Flaunch")


def test_nothing_of_the_patient_is_told(site: Filled) -> None:
    with site.database.read() as session:
        for row in session.scalars(select(Audit)):
            said = f"{row.subject} {row.detail}"
            assert "PH-" not in said
            assert "PHANTOM" not in said
