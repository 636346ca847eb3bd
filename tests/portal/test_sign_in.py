"""Signing in by a real directory and at a real provider, and where it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.identity.local import hash_password
from overread.portal.app import build
from overread.settings import GroupRole, Identity
from overread.site import SiteFolder
from overread.store import users
from overread.store.database import Database
from overread.store.tables import Audit, User
from overread.store.tables import Session as SignInRow
from overread.validation.project import Members, Project
from tests.identity.provider import CLIENT, SECRET, provider, tell
from tests.identity.slapd import CHIEFS, PASSWORDS, READERS, directory, free_port
from tests.portal.conftest import csrf_of, post_sign_in
from tests.portal.filled import AT, make_site

ROLES = (
    GroupRole(group=CHIEFS, role="administrator"),
    GroupRole(group="readers", role="reader"),
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteFolder]:
    """A site whose people are here, in a directory, and at a provider."""
    with directory(tmp_path_factory.mktemp("slapd")) as here, provider() as issuer:
        made = make_site(tmp_path_factory.mktemp("site"))
        oidc = {"issuer": issuer, "client_id": CLIENT, "client_secret": SECRET, "title": "Hospital"}
        identity = Identity(
            use=("local", "ldap", "oidc"),
            with_={"ldap": here.settings(), "oidc": oidc},
            roles=ROLES,
        )
        project = Project(
            name="liver",
            pipelines=("brain-tumour",),
            members={"reader": Members(groups=(READERS,))},
        )
        yield replace(
            made,
            settings=made.settings.model_copy(update={"identity": identity}),
            projects={"liver": project},
        )


def issuer_of(site: SiteFolder) -> str:
    return str(site.settings.identity.with_["oidc"]["issuer"])


@pytest.fixture
def client(site: SiteFolder) -> TestClient:
    tell(issuer_of(site))
    return TestClient(build(site), follow_redirects=False)


def rows(site: SiteFolder, table: Any) -> list[Any]:
    with Database(site.settings.database_url).read() as session:
        return list(session.scalars(select(table)))


def user(site: SiteFolder, name: str) -> User:
    found: User = next(one for one in rows(site, User) if one.name == name)
    return found


def test_a_person_of_the_directory_becomes_a_user_with_the_roles_of_its_groups(
    site: SiteFolder, client: TestClient
) -> None:
    answer = post_sign_in(client, "ada", PASSWORDS["ada"], "/cases")
    assert (answer.status_code, answer.headers["location"]) == (303, "/cases")
    ada = user(site, "ada")
    assert (ada.origin, ada.password, ada.email) == ("ldap", "", "ada@hospital.example")
    assert sorted(ada.groups) == sorted([READERS, CHIEFS])
    assert client.get("/users").status_code == 200, "chiefs are administrators"
    page = client.get("/account").text
    assert "reader in liver" in page
    assert "Signs in by ldap" in page


def test_who_holds_no_role_is_told_so_and_found_by_administrators(
    site: SiteFolder, client: TestClient
) -> None:
    answer = post_sign_in(client, "idle", PASSWORDS["idle"])
    assert answer.status_code == 403
    assert "idle is known, but holds no role here" in answer.text
    assert client.get("/").status_code == 303
    assert user(site, "idle").origin == "ldap"
    why = [one.detail for one in rows(site, Audit) if one.action == "fail to sign in"]
    assert {"why": "no role"} in why


def test_a_directory_takes_no_local_account_over(site: SiteFolder, client: TestClient) -> None:
    with Database(site.settings.database_url).write() as session:
        secret = hash_password("rosa's password here")
        users.add_user(session, AT, "test", name="rosa", secret=secret, role="reader")
    assert post_sign_in(client, "rosa", PASSWORDS["rosa"]).status_code == 401
    assert post_sign_in(client, "rosa", "rosa's password here").status_code == 303
    other = TestClient(client.app, follow_redirects=False)
    answer = post_sign_in(other, "ROSA", PASSWORDS["rosa"])  # to the directory it is the same
    assert answer.status_code == 403
    assert "The name rosa is another person&#39;s here" in answer.text
    assert user(site, "rosa").origin == "local"


def test_a_directory_that_is_away_locks_nobody_out_whom_it_does_not_know(tmp_path: Path) -> None:
    made = make_site(tmp_path / "site")
    ldap = {
        "servers": [f"ldaps://localhost:{free_port()}"], "bind": "cn=x", "password": "x",
        "base": "dc=x", "timeout": "1s",
    }  # fmt: skip
    identity = Identity(use=("local", "ldap"), with_={"ldap": ldap})
    site = replace(made, settings=made.settings.model_copy(update={"identity": identity}))
    client = TestClient(build(site), follow_redirects=False)
    with Database(site.settings.database_url).write() as session:
        secret = hash_password("rosa's password here")
        users.add_user(session, AT, "test", name="rosa", secret=secret, role="reader")
    assert post_sign_in(client, "ada", "whatever it is").status_code == 503
    assert post_sign_in(client, "rosa", "rosa's password here").status_code == 303


def go(client: TestClient, target: str = "/cases") -> httpx.Response:
    """Go to the provider and come back, as a browser does."""
    set_out = client.get("/sign-in/oidc", params={"next": target})
    assert set_out.status_code == 303, set_out.text
    back = urlsplit(httpx.get(set_out.headers["location"]).headers["location"])
    answer: httpx.Response = client.get(f"{back.path}?{back.query}")
    return answer


def test_a_person_signs_in_at_the_provider_and_lands_where_it_was_asked_for(
    site: SiteFolder, client: TestClient
) -> None:
    tell(issuer_of(site), claims={"preferred_username": "olga", "sub": "olga-1"})
    assert "Sign in with Hospital" in client.get("/sign-in").text
    answer = go(client, "/open?accession=PH-1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/open?accession=PH-1")
    assert client.get("/cases").status_code == 200
    olga = user(site, "olga")
    assert (olga.origin, olga.groups) == ("oidc", ["readers"])
    assert olga.subject == f"{issuer_of(site)} olga-1"


def test_a_name_follows_the_person_and_not_the_other_way_round(
    site: SiteFolder, client: TestClient
) -> None:
    issuer = issuer_of(site)
    tell(issuer, claims={"preferred_username": "petra", "sub": "petra-1"})
    assert go(client).status_code == 303
    tell(issuer, claims={"preferred_username": "petra.married", "sub": "petra-1"})
    assert go(TestClient(client.app, follow_redirects=False)).status_code == 303
    tell(issuer, claims={"preferred_username": "petra", "sub": "another-1"})
    answer = go(TestClient(client.app, follow_redirects=False))
    assert answer.status_code == 403
    assert "The name petra is another person&#39;s here" in answer.text
    tell(issuer, claims={"preferred_username": "ada", "sub": "1234"})  # the directory's
    assert go(TestClient(client.app, follow_redirects=False)).status_code == 403


def test_only_the_browser_that_set_out_may_arrive(site: SiteFolder, client: TestClient) -> None:
    tell(issuer_of(site), claims={"preferred_username": "mallory", "sub": "mallory-1"})
    set_out = client.get("/sign-in/oidc")
    cookie = set_out.headers["set-cookie"]
    assert cookie.startswith("overread-way-")
    for part in ("HttpOnly", "Path=/", "SameSite=Lax", "Max-Age=600"):
        assert part in cookie
    back = urlsplit(httpx.get(set_out.headers["location"]).headers["location"])
    victim = TestClient(client.app, follow_redirects=False)
    answer = victim.get(f"{back.path}?{back.query}")  # a link that mallory sends
    assert answer.status_code == 401
    assert "this browser did not set out" in answer.text
    assert client.get(f"{back.path}?{back.query}").status_code == 303
    again = client.get(f"{back.path}?{back.query}")
    assert again.status_code == 401, "the way has been gone"
    assert client.get("/sign-in/nowhere").status_code == 404


def test_an_errand_goes_home_to_this_portal_only(site: SiteFolder, client: TestClient) -> None:
    tell(issuer_of(site), claims={"preferred_username": "olga", "sub": "olga-1"})
    assert go(client, "https://elsewhere.example/").headers["location"] == "/"
    assert go(client, "/" + "x" * 4000).headers["location"] == "/"
    set_out = client.get("/sign-in/oidc")
    asked = parse_qs(urlsplit(set_out.headers["location"]).query)
    assert asked["redirect_uri"] == ["http://testserver/sign-in/oidc/back"]


def test_what_the_provider_says_no_to_is_said(site: SiteFolder, client: TestClient) -> None:
    tell(issuer_of(site), error="access_denied<script>")
    answer = go(client)
    assert answer.status_code == 401
    assert "Hospital did not sign you in: it says access_denied&lt;script&gt;" in answer.text


def test_a_sign_in_gets_a_token_that_was_never_before(site: SiteFolder, client: TestClient) -> None:
    tell(issuer_of(site), claims={"preferred_username": "olga", "sub": "olga-1"})
    client.cookies.set("overread", "planted", domain="testserver.local")
    go(client)
    first = client.cookies["overread"]
    assert first != "planted"
    before = len(rows(site, SignInRow))
    go(client)
    assert client.cookies["overread"] != first
    assert len(rows(site, SignInRow)) == before, "the one before has ended"


def test_signing_out_says_how_to_leave_the_provider_too(
    site: SiteFolder, client: TestClient
) -> None:
    tell(issuer_of(site), claims={"preferred_username": "olga", "sub": "olga-1"})
    go(client)
    csrf = csrf_of(client.get("/account").text)
    answer = client.post("/sign-out", data={"csrf": csrf})
    assert answer.headers["location"] == "/sign-in?left=oidc"
    page = client.get("/sign-in?left=oidc").text
    assert f'href="{issuer_of(site)}/end?client_id=overread' in page
    assert client.get("/account").status_code == 303


def test_where_there_is_one_provider_and_nothing_else_it_is_gone_to_at_once(
    site: SiteFolder,
) -> None:
    settings = site.settings.identity.model_copy(update={"use": ("oidc",)})
    only = replace(site, settings=site.settings.model_copy(update={"identity": settings}))
    client = TestClient(build(only), follow_redirects=False)
    answer = client.get("/sign-in?next=/cases")
    assert answer.headers["location"] == "/sign-in/oidc?next=%2Fcases"
    assert client.get("/sign-in?left=oidc").status_code == 200
    assert 'id="password"' not in client.get("/sign-in?left=oidc").text


def test_a_page_signs_somebody_in_again_without_leaving(
    site: SiteFolder, client: TestClient
) -> None:
    wants = {"accept": "application/json"}
    asked = client.get("/sign-in", headers=wants).json()
    assert asked["providers"] == [{"title": "Hospital", "href": "/sign-in/oidc?next=%2F"}]
    form = {"name": "ada", "password": "wrong", "csrf": asked["csrf"]}
    answer = client.post("/sign-in", data=form, headers=wants)
    assert answer.status_code == 401
    assert answer.json()["problem"].startswith("Name or password is wrong")
    form["password"] = PASSWORDS["ada"]
    answer = client.post("/sign-in", data=form, headers=wants)
    assert answer.status_code == 200
    assert answer.json()["name"] == "ada"
    assert client.get("/sign-in", headers=wants).json() == answer.json()
    ended = client.post("/account/sessions/end", headers={"x-csrf-token": answer.json()["csrf"]})
    assert ended.status_code == 303
