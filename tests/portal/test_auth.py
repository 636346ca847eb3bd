from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.portal.app import build
from overread.portal.sign_in import own_path
from overread.store import users
from overread.store.tables import Audit
from tests.portal.conftest import csrf_of, post_sign_in
from tests.portal.filled import AT, PASSWORDS, Filled


@pytest.mark.parametrize(
    ("target", "goes"),
    [
        ("/", "/"),
        ("/open?accession=A%2F1&pipeline=b", "/open?accession=A%2F1&pipeline=b"),
        ("/cases/3f?x=https://elsewhere.example", "/cases/3f?x=https://elsewhere.example"),
        ("https://elsewhere.example/", "/"),
        ("//elsewhere.example/", "/"),
        ("/\\elsewhere.example/", "/"),
        ("\\\\elsewhere.example", "/"),
        ("javascript:alert(1)", "/"),
        ("cases", "/"),
        ("", "/"),
        ("/\t/elsewhere.example", "/"),
        ("/\n/elsewhere.example", "/"),
        ("/x\r\nSet-Cookie: a=b", "/"),
    ],
)
def test_after_sign_in_only_own_paths(target: str, goes: str) -> None:
    assert own_path(target) == goes


DOORS = ["/", "/open?accession=X", "/cases/abc", "/jobs", "/jobs/abc", "/exams", "/viewer/viewer"]
MACHINE_DOORS = [
    "/dicom-web/studies",
    "/dicom-web/series",
    "/dicom-web/instances",
    "/dicom-web/studies/1.2",
    "/dicom-web/studies/1.2/metadata",
    "/dicom-web/studies/1.2/series",
    "/dicom-web/studies/1.2/instances",
    "/dicom-web/studies/1.2/series/1.3",
    "/dicom-web/studies/1.2/series/1.3/metadata",
    "/dicom-web/studies/1.2/series/1.3/instances",
    "/dicom-web/studies/1.2/series/1.3/instances/1.4",
    "/dicom-web/studies/1.2/series/1.3/instances/1.4/metadata",
    "/dicom-web/studies/1.2/series/1.3/instances/1.4/frames/1",
    "/dicom-web/studies/1.2/series/1.3/instances/1.4/bulkdata/7FE00010",
    "/api/v1/exams",
    "/api/v1/jobs",
    "/api/v1/results",
    "/api/v1/instances?study=1.2",
]


@pytest.mark.parametrize("door", DOORS)
def test_pages_lead_to_the_form_and_back(anonymous: TestClient, door: str) -> None:
    answer = anonymous.get(door)
    assert answer.status_code == 303
    assert answer.headers["location"] in ("/sign-in", f"/sign-in?next={quote(door, safe='')}")


@pytest.mark.parametrize("door", MACHINE_DOORS)
def test_machine_doors_answer_401(anonymous: TestClient, door: str) -> None:
    answer = anonymous.get(door)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "sign in" in answer.json()["detail"]


def test_storing_needs_a_sign_in(anonymous: TestClient) -> None:
    assert anonymous.post("/dicom-web/studies", content=b"x").status_code == 401


def test_sign_in_lands_where_it_was_asked_for(anonymous: TestClient) -> None:
    answer = post_sign_in(anonymous, "rosa", PASSWORDS["rosa"], "/open?accession=PH-A-0106")
    assert (answer.status_code, answer.headers["location"]) == (303, "/open?accession=PH-A-0106")
    cookie = next(
        line for line in answer.headers.get_list("set-cookie") if line.startswith("overread=")
    )
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert anonymous.get("/").status_code == 200


def test_over_tls_the_cookie_is_secure_and_bound_to_the_host(filled: Filled) -> None:
    client = TestClient(build(filled.site), base_url="https://portal", follow_redirects=False)
    answer = post_sign_in(client, "rosa", PASSWORDS["rosa"])
    cookies = answer.headers.get_list("set-cookie")
    cookie = next(line for line in cookies if line.startswith("__Host-overread="))
    assert "Secure" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie
    assert client.get("/").headers["strict-transport-security"]


def test_a_wrong_password_is_told_and_counted(filled: Filled) -> None:
    # From an address of its own: the failures are counted for every portal of the site.
    anonymous = TestClient(build(filled.site), follow_redirects=False, client=("10.0.0.9", 1))
    for _ in range(5):
        answer = post_sign_in(anonymous, "rosa", "not the password")
        assert answer.status_code == 401
        assert "Name or password is wrong" in answer.text
    answer = post_sign_in(anonymous, "rosa", PASSWORDS["rosa"])
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 301
    with filled.database.read() as session:
        failed = session.scalars(select(Audit).where(Audit.action == "fail to sign in")).all()
        assert len(failed) >= 5


def test_the_form_needs_its_token(anonymous: TestClient) -> None:
    right = {"name": "rosa", "password": PASSWORDS["rosa"]}
    anonymous.get("/sign-in")
    for csrf in ("", "wrong"):
        assert anonymous.post("/sign-in", data={**right, "csrf": csrf}).status_code == 403
    assert anonymous.get("/").status_code == 303


def test_another_site_cannot_send_our_forms(sign_in: Callable[[str], TestClient]) -> None:
    reader = sign_in("rosa")
    csrf = csrf_of(reader.get("/").text)
    for headers in (
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ):
        answer = reader.post("/sign-out", data={"csrf": csrf}, headers=headers)
        assert answer.status_code == 403
    assert reader.get("/").status_code == 200


def test_sign_out_needs_the_token_and_ends_the_sign_in(
    sign_in: Callable[[str], TestClient],
) -> None:
    reader = sign_in("rosa")
    assert reader.post("/sign-out", data={"csrf": "wrong"}).status_code == 403
    token = reader.cookies["overread"]
    csrf = csrf_of(reader.get("/").text)
    assert reader.post("/sign-out", data={"csrf": csrf}).headers["location"] == "/sign-in"
    reader.cookies.set("overread", token)
    assert reader.get("/").status_code == 303


def test_a_disabled_user_is_out_at_once(
    filled: Filled, sign_in: Callable[[str], TestClient]
) -> None:
    from overread.identity.local import hash_password

    PASSWORDS["otto"] = "a guest's password"
    with filled.database.write() as session:
        secret = hash_password(PASSWORDS["otto"])
        users.add_user(session, AT, "test", name="otto", secret=secret, role="reader")
    client = sign_in("otto")
    assert client.get("/").status_code == 200
    with filled.database.write() as session:
        users.disable_user(session, AT, "test", "otto")
    assert client.get("/").status_code == 303
    assert post_sign_in(client, "otto", PASSWORDS["otto"]).status_code == 401


def test_a_polling_page_is_sent_to_the_form_whole(anonymous: TestClient) -> None:
    for more in ({}, {"x-csrf-token": "of a sign-in that has ended"}):
        answer = anonymous.get("/", headers={"hx-request": "true", **more})
        assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/sign-in")


def test_a_script_that_saves_is_told_and_keeps_what_was_typed(anonymous: TestClient) -> None:
    answer = anonymous.put("/cases/1/reading/draft", headers={"x-csrf-token": "x"})
    assert answer.status_code == 401
    assert "hx-redirect" not in answer.headers


@pytest.mark.parametrize("door", ["/exams", "/jobs", "/aside"])
def test_readers_are_told_why_not(reader: TestClient, door: str) -> None:
    answer = reader.get(door)
    assert answer.status_code == 403
    assert "rosa is reader" in answer.text


def test_sign_in_and_out_are_audited(filled: Filled, reader: TestClient) -> None:
    with filled.database.read() as session:
        actions = session.scalars(select(Audit.action).where(Audit.actor == "rosa")).all()
    assert "sign in" in actions
