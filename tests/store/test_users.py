from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from overread.errors import UsageError
from overread.identity import Account
from overread.store import users
from overread.store.database import Database
from overread.store.tables import Audit
from overread.store.tables import Session as SessionRow
from overread.validation.permissions import Grant

NOW = datetime(2026, 6, 2, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path / 'store.sqlite'}")
    database.upgrade()
    return database


def add(database: Database, name: str = "ada", role: str = "reader") -> Account:
    with database.write() as session:
        users.add_user(session, NOW, "test", name=name, secret="$hash", role=role)
    account = users.StoredAccounts(database).find(name)
    assert account is not None
    return account


def audited(database: Database) -> list[tuple[str, str]]:
    with database.read() as session:
        return [(row.action, row.subject) for row in session.scalars(select(Audit))]


def test_a_user_is_added_once(database: Database) -> None:
    ada = add(database)
    assert (ada.secret, ada.disabled) == ("$hash", False)
    with database.read() as session:
        assert users.held(session, ada.id) == {Grant("reader")}
    with pytest.raises(UsageError, match="there is a user 'ada' already"):
        add(database)
    assert audited(database) == [("add user", f"user {ada.id}")]


@pytest.mark.parametrize(
    ("name", "role", "message"),
    [
        ("a b", "reader", "is no user name"),
        ("", "reader", "is no user name"),
        ("ada", "boss", "is no role; expected one of reader, screener"),
    ],
)
def test_what_is_no_user_is_refused(database: Database, name: str, role: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        add(database, name, role)


def test_a_sign_in_is_found_by_its_token_only(database: Database) -> None:
    ada = add(database)
    with database.write() as session:
        opened = users.open_session(session, NOW, ada, HOUR)
    with database.read() as session:
        signed = users.find_session(session, NOW, opened.token)
        assert signed is not None
        assert (signed.account.name, signed.csrf) == ("ada", opened.csrf)
        assert signed.account.secret == ""
        assert users.find_session(session, NOW, opened.token + "x") is None
        kept = session.scalars(select(SessionRow)).one()
        assert opened.token not in (kept.token_digest, kept.csrf)


def test_a_sign_in_ends_by_idling_and_not_by_use(database: Database) -> None:
    ada = add(database)
    with database.write() as session:
        token = users.open_session(session, NOW, ada, HOUR, most=12 * HOUR).token
    late = NOW + timedelta(minutes=50)
    with database.write() as session:
        users.touch_session(session, late, token, HOUR)
    with database.read() as session:
        assert users.find_session(session, NOW + timedelta(minutes=70), token) is not None
        assert users.find_session(session, late + HOUR, token) is None


def test_disabling_ends_every_sign_in(database: Database) -> None:
    ada = add(database)
    with database.write() as session:
        token = users.open_session(session, NOW, ada, HOUR).token
        users.disable_user(session, NOW, "test", "ada")
    with database.read() as session:
        assert users.find_session(session, NOW, token) is None
        assert session.scalars(select(SessionRow)).all() == []
    account = users.StoredAccounts(database).find("ada")
    assert account is not None
    assert account.disabled


def test_disabling_nobody_says_so(database: Database) -> None:
    with database.write() as session, pytest.raises(UsageError, match="there is no user 'eve'"):
        users.disable_user(session, NOW, "test", "eve")


def test_signing_out_ends_the_sign_in(database: Database) -> None:
    ada = add(database)
    with database.write() as session:
        token = users.open_session(session, NOW, ada, HOUR).token
        users.close_session(session, NOW, token, ada)
    with database.read() as session:
        assert users.find_session(session, NOW, token) is None
    assert [action for action, _ in audited(database)] == ["add user", "sign in", "sign out"]


def test_opening_a_sign_in_sweeps_out_the_expired(database: Database) -> None:
    ada = add(database)
    with database.write() as session:
        users.open_session(session, NOW, ada, HOUR)
        users.open_session(session, NOW + 2 * HOUR, ada, HOUR)
    with database.read() as session:
        assert len(session.scalars(select(SessionRow)).all()) == 1


def test_a_bearer_token_answers_no_form_and_is_not_prolonged(database: Database) -> None:
    add(database)
    with database.write() as session:
        user = users.find_user(session, "ada")
        token = users.open_bearer(session, NOW, "test", user, HOUR).token
        users.touch_session(session, NOW + HOUR / 2, token, HOUR)
    with database.read() as session:
        signed = users.find_session(session, NOW + HOUR / 2, token)
        assert signed is not None
        assert signed.csrf == ""
        assert users.find_session(session, NOW + HOUR, token) is None


def test_the_audit_does_not_repeat_an_unknown_name(database: Database) -> None:
    ada = add(database)
    with database.write() as session:
        users.record_failure(session, NOW, "my secret password", "127.0.0.1")
        users.record_failure(session, NOW, "ada", "127.0.0.1")
    assert audited(database)[1:] == [
        ("fail to sign in", "user unknown"),
        ("fail to sign in", f"user {ada.id}"),
    ]


def test_has_users(database: Database) -> None:
    with database.read() as session:
        assert not users.has_users(session)
    add(database)
    with database.read() as session:
        assert users.has_users(session)
