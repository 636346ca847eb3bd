from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from overread.cli.user import app
from overread.errors import UsageError
from overread.identity.local import Local
from overread.site import load
from overread.store import users
from overread.store.database import Database
from overread.store.users import StoredAccounts, find_session
from overread.validation.permissions import Grant

PASSWORD = "a password of length"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "overread.yaml").write_text("site: {name: Test}\n")
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    return tmp_path


def run(site: Path, *arguments: str, answers: str = "") -> str:
    result = CliRunner().invoke(app, [*arguments, "--site", str(site)], input=answers)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def database(site: Path) -> Database:
    return Database(load(site, {}).settings.database_url)


def test_a_user_with_a_password_file_may_sign_in(site: Path) -> None:
    said = run(site, "add", "egon", "--role", "engineer", "--password-file", f"{site}/password")
    assert "egon may sign in as engineer" in said
    signed = StoredAccounts(database(site)).find("egon")
    assert signed is not None
    with database(site).read() as session:
        assert users.held(session, signed.id) == {Grant("engineer")}


def test_the_password_is_asked_for_twice(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overread.cli.user.at_terminal", lambda: True)
    run(site, "add", "rosa", answers=f"{PASSWORD}\n{PASSWORD}\n")
    assert Local(StoredAccounts(database(site))).sign_in("rosa", PASSWORD) is not None


def test_without_a_terminal_a_file_is_asked_for(site: Path) -> None:
    with pytest.raises(UsageError, match="--password-file FILE names a file"):
        run(site, "add", "rosa")


def test_only_the_first_line_of_the_file_counts(site: Path) -> None:
    (site / "password").write_bytes(f"{PASSWORD}\r\nbought in May\n".encode())
    run(site, "add", "rosa", "--password-file", f"{site}/password")
    assert Local(StoredAccounts(database(site))).sign_in("rosa", PASSWORD) is not None


def test_list_and_disable(site: Path) -> None:
    assert "There are no users yet" in run(site, "list")
    run(site, "add", "rosa", "--password-file", f"{site}/password")
    run(site, "disable", "rosa")
    (row,) = json.loads(run(site, "list", "--json"))
    assert (row["name"], row["roles"], row["disabled"]) == ("rosa", ["reader"], True)
    assert "argon2" not in json.dumps(row)
    assert Local(StoredAccounts(database(site))).sign_in("rosa", PASSWORD) is None


def test_a_token_is_printed_once(site: Path) -> None:
    run(site, "add", "rosa", "--password-file", f"{site}/password")
    token = run(site, "token", "rosa", "--days", "1").strip()
    with database(site).read() as session:
        signed = find_session(session, datetime.now(UTC), token)
    assert signed is not None
    assert signed.account.name == "rosa"


def test_roles_are_granted_and_revoked_by_project(site: Path) -> None:
    (site / "projects").mkdir()
    (site / "projects" / "liver.yaml").write_text("name: liver\npipelines: [liver-donor]\n")
    run(site, "add", "rosa", "--project", "liver", "--password-file", f"{site}/password")
    assert "rosa is data scientist for the whole site" in run(
        site, "grant", "rosa", "data scientist"
    )
    (row,) = json.loads(run(site, "list", "--json"))
    assert sorted(row["roles"]) == ["data scientist", "reader in liver"]
    run(site, "revoke", "rosa", "reader", "--project", "liver")
    (row,) = json.loads(run(site, "list", "--json"))
    assert row["roles"] == ["data scientist"]
    with pytest.raises(UsageError, match="no project 'livre'; the site has liver"):
        run(site, "grant", "rosa", "reader", "--project", "livre")
    with pytest.raises(UsageError, match="was not made reader in liver here"):
        run(site, "revoke", "rosa", "reader", "--project", "liver")


def test_tokens_are_listed_and_ended(site: Path) -> None:
    run(site, "add", "rosa", "--password-file", f"{site}/password")
    assert "signed in nowhere" in run(site, "sessions", "rosa")
    token = run(site, "token", "rosa", "--scope", "job.*", "--label", "a monitor").strip()
    (row,) = json.loads(run(site, "sessions", "rosa", "--json"))
    assert (row["kind"], row["label"], row["scopes"]) == ("token", "a monitor", ["job.*"])
    assert "0 were ended" in run(site, "sign-out", "rosa")
    assert "1 was ended" in run(site, "sign-out", "rosa", "--session", row["id"])
    with database(site).read() as session:
        assert find_session(session, datetime.now(UTC), token) is None


def test_who_was_disabled_can_be_let_in_again(site: Path) -> None:
    run(site, "add", "rosa", "--password-file", f"{site}/password")
    run(site, "disable", "rosa")
    run(site, "enable", "rosa")
    assert Local(StoredAccounts(database(site))).sign_in("rosa", PASSWORD) is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "rosa", "--role", "boss", "--password-file", "password"], "is no role"),
        (["add", "rosa", "--password-file", "absent"], "expected a file with the password"),
        (["add", "rosa", "--password-file", "short"], "expected at least 8"),
        (["disable", "nobody"], "there is no user 'nobody'"),
        (["token", "nobody"], "there is no user 'nobody'"),
        (["token", "ada", "--scope", "jobs"], "'jobs' is no scope; expected an action such as"),
        (["sign-out", "ada", "--session", "1"], "ada has no such sign-in"),
        (["grant", "ada", "boss"], "'boss' is no role"),
    ],
)
def test_what_is_wrong_is_said(site: Path, arguments: list[str], message: str) -> None:
    run(site, "add", "ada", "--password-file", f"{site}/password")
    (site / "short").write_text("1234567")
    names = {"password", "absent", "short"}
    told = [str(site / word) if word in names else word for word in arguments]
    with pytest.raises(UsageError, match=message):
        run(site, *told)
