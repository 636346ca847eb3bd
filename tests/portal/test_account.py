"""The own account and the administrator's pages: sign-ins, tokens, roles."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.portal.app import build
from overread.store import sessions, users
from overread.store.database import Database
from overread.store.tables import Audit, User
from overread.store.users import SignIn
from overread.validation.permissions import Grant
from overread.validation.project import Project
from tests.portal.filled import make_site

NOW = datetime.now(UTC)


class House:
    """A portal with some people, each in a browser."""

    def __init__(self, root: Path) -> None:
        site = make_site(root / "site")
        project = Project(name="liver", pipelines=("brain-tumour",))
        object.__setattr__(site, "projects", {"liver": project})
        self.app = build(site)
        self.database: Database = self.app.state.portal.database

    def add(self, name: str, *grants: Grant) -> str:
        """Add a user, and return the id."""
        with self.database.write() as session:
            user = users.add_user(session, NOW, "test", name=name, secret="", role="reader")
            users.revoke(session, NOW, "test", user, Grant("reader"))
            for one in grants:
                users.grant(session, NOW, "test", user, one)
            return user.id

    def browser(self, user_id: str, address: str = "10.0.0.1") -> tuple[TestClient, SignIn]:
        """Sign a user in, in a browser of its own."""
        with self.database.write() as session:
            account = users.account_of(session.get_one(User, user_id))
            opened = users.open_session(
                session, NOW, account, timedelta(hours=1), most=timedelta(hours=12), address=address
            )
        client = TestClient(self.app, follow_redirects=False)
        client.cookies.set("overread", opened.token, domain="testserver.local")
        client.headers["x-csrf-token"] = opened.csrf
        client.headers["accept"] = "text/html"
        return client, opened

    def audited(self) -> list[str]:
        """What was done, in its order."""
        with self.database.read() as session:
            return [row.action for row in session.scalars(select(Audit).order_by(Audit.id))]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_one_sees_and_ends_the_own_sign_ins(house: House) -> None:
    ada = house.add("ada", Grant("reader"))
    here, _ = house.browser(ada)
    there, _ = house.browser(ada, "10.0.0.2")
    page = here.get("/account").text
    assert "10.0.0.1" in page
    (path,) = re.findall(r'action="(/account/sessions/[0-9a-f]{32}/end)"', page)
    assert here.post(path).status_code == 303
    assert there.get("/account").status_code == 401
    assert here.get("/account").status_code == 200
    others = [house.browser(ada)[0] for _ in range(2)]
    assert here.post("/account/sessions/end").status_code == 303
    assert [one.get("/account").status_code for one in others] == [401, 401]
    assert here.get("/account").status_code == 200
    assert house.audited()[-1] == "end sign-ins"


def test_nobody_ends_anothers_sign_in(house: House) -> None:
    here, _ = house.browser(house.add("ada", Grant("reader")))
    bob = house.add("bob", Grant("reader"))
    there, _ = house.browser(bob)
    with house.database.read() as session:
        (theirs,) = sessions.listed(session, NOW, bob)
    answer = here.post(f"/account/sessions/{theirs.id}/end")
    assert answer.status_code == 400
    assert "ada has no such sign-in" in answer.text
    assert there.get("/account").status_code == 200


def test_a_token_is_shown_once_listed_and_ended(house: House) -> None:
    here, _ = house.browser(house.add("ada", Grant("engineer")))
    form = {"label": "a monitor", "days": "7", "scope": ["job.*"]}
    made = here.post("/account/tokens", data=form)
    assert made.status_code == 200
    found = re.search(r'<code class="secret">([\w-]{43})</code>', made.text)
    assert found
    token = found[1]
    page = here.get("/account").text
    assert token not in page
    assert "a monitor" in page
    script = TestClient(house.app, headers={"authorization": f"Bearer {token}"})
    assert script.get("/api/v1/jobs").status_code == 200
    assert script.get("/api/v1/exams").status_code == 403
    paths = re.findall(r'action="(/account/sessions/[0-9a-f]{32}/end)"', page)
    assert here.post(paths[-1]).status_code == 303
    assert script.get("/api/v1/jobs").status_code == 401


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"label": "", "scope": ["job.*"]}, "Say what the token is for"),
        ({"label": "x"}, "Choose what the token may do"),
        ({"label": "x", "scope": ["everything"]}, "is no scope"),
    ],
)
def test_what_is_wrong_with_a_token_is_said(
    house: House, form: dict[str, object], words: str
) -> None:
    here, _ = house.browser(house.add("ada", Grant("engineer")))
    answer = here.post("/account/tokens", data=form)
    assert answer.status_code == 400
    assert words in answer.text
    assert here.post("/account/tokens", data={**form, "days": "9999"}).status_code == 422


def test_administrators_grant_and_revoke_at_once(house: House) -> None:
    boss, _ = house.browser(house.add("boss", Grant("administrator")))
    ada = house.add("ada")
    there, _ = house.browser(ada)
    assert there.get("/cases").status_code == 403
    form = {"role": "reader", "project": "liver"}
    assert boss.post(f"/users/{ada}/grant", data=form).status_code == 303
    assert there.get("/cases").status_code == 200
    assert "reader in liver" in boss.get("/users").text
    assert boss.post(f"/users/{ada}/revoke", data=form).status_code == 303
    assert there.get("/cases").status_code == 403
    assert [one for one in house.audited() if "role" in one][-2:] == ["grant role", "revoke role"]
    with house.database.read() as session:
        revoked = select(Audit).where(Audit.action == "revoke role").order_by(Audit.id.desc())
        row = session.scalars(revoked).first()
    assert row is not None
    assert (row.actor, row.address, len(row.session)) == ("boss", "testclient", 32)


@pytest.mark.parametrize(
    ("path", "form", "words"),
    [
        ("grant", {"role": "boss"}, "is no role"),
        ("grant", {"role": "reader", "project": "lung"}, "there is no project"),
        ("revoke", {"role": "reader"}, "was not made reader"),
        ("sessions/0/end", {}, "has no such sign-in"),
    ],
)
def test_what_cannot_be_done_to_a_user_is_said(
    house: House, path: str, form: dict[str, str], words: str
) -> None:
    boss, _ = house.browser(house.add("boss", Grant("administrator")))
    ada = house.add("ada")
    answer = boss.post(f"/users/{ada}/{path}", data=form)
    assert answer.status_code == 400
    assert words in answer.text
    assert boss.get("/users/nobody").status_code == 404


def test_a_user_is_disabled_and_let_in_again(house: House) -> None:
    boss, _ = house.browser(house.add("boss", Grant("administrator")))
    ada = house.add("ada", Grant("reader"))
    there, _ = house.browser(ada)
    assert boss.post(f"/users/{ada}/sessions/end").status_code == 303
    assert there.get("/").status_code == 401
    there, _ = house.browser(ada)
    assert boss.post(f"/users/{ada}/disable").status_code == 303
    assert there.get("/").status_code == 401
    assert "disabled" in boss.get("/users").text
    assert boss.post(f"/users/{ada}/enable").status_code == 303
    assert house.browser(ada)[0].get("/").status_code == 200


def test_nobody_locks_oneself_out(house: House) -> None:
    own = house.add("boss", Grant("administrator"))
    boss, _ = house.browser(own)
    assert "lock yourself out" in boss.post(f"/users/{own}/disable").text
    form = {"role": "administrator", "project": ""}
    assert "lock yourself out" in boss.post(f"/users/{own}/revoke", data=form).text
    assert boss.get("/users").status_code == 200


def test_a_sign_in_ends_however_active(house: House) -> None:
    ada = house.add("ada", Grant("reader"))
    client, opened = house.browser(ada)
    with house.database.write() as session:
        for minutes in range(30, 12 * 60, 30):
            users.touch_session(
                session, NOW + timedelta(minutes=minutes), opened.token, timedelta(hours=1)
            )
    with house.database.read() as session:
        almost = NOW + timedelta(hours=11, minutes=59)
        assert users.find_session(session, almost, opened.token) is not None
        assert users.find_session(session, NOW + timedelta(hours=12), opened.token) is None
    assert client.get("/").status_code == 200


def test_what_a_page_asks_by_itself_keeps_nobody_signed_in(house: House) -> None:
    client, _ = house.browser(house.add("ada", Grant("reader")))

    def seen() -> datetime:
        with house.database.read() as session:
            return sessions.listed(session, NOW, users.find_user(session, "ada").id)[0].seen_at

    object.__setattr__(house.app.state.portal, "now", lambda: NOW + timedelta(minutes=5))
    client.get("/cases", headers={"hx-request": "true"})
    client.get("/cases", headers={"accept": "text/event-stream"})
    assert seen() == NOW
    client.get("/cases")
    assert seen() == NOW + timedelta(minutes=5)
    object.__setattr__(house.app.state.portal, "now", lambda: NOW + timedelta(minutes=10))
    client.post("/account/tokens", headers={"hx-request": "true"})  # as a draft is saved
    assert seen() == NOW + timedelta(minutes=10)
