"""``overread user``: who may sign in."""

from __future__ import annotations

import getpass
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from overread.cli.terminal import JsonOption, SiteOption, console, open_settings, table
from overread.errors import UsageError
from overread.identity.local import hash_password
from overread.store import users
from overread.store.database import Database
from overread.validation.permissions import ROLES

app = typer.Typer(no_args_is_help=True, help="Who may sign in.")

NameArgument = Annotated[str, typer.Argument(help="The name to sign in with.")]


def _database(site: Path) -> Database:
    database = Database(open_settings(site).database_url)
    database.upgrade()
    return database


def _by() -> str:
    return f"{getpass.getuser()} at the command line"


def _new_password(file: Path | None) -> str:
    if file is None:
        if not at_terminal():
            raise UsageError(
                "there is no terminal to ask for the password at; --password-file FILE names a "
                "file whose first line is the password"
            )
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    try:
        return file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"{file}: {why}; expected a file with the password") from error


def at_terminal() -> bool:
    """Say whether a person can be asked."""
    return sys.stdin.isatty()


@app.command()
def add(
    name: NameArgument,
    role: Annotated[str, typer.Option(help=f"One of {', '.join(ROLES)}.")] = "reader",
    password_file: Annotated[
        Path | None,
        typer.Option(help="A file whose first line is the password.", show_default="ask for it"),
    ] = None,
    site: SiteOption = Path(),
) -> None:
    """Add a user; the password is asked for, or read from a file, and kept only as its hash."""
    secret = hash_password(_new_password(password_file))
    with _database(site).write() as session:
        users.add_user(session, datetime.now(UTC), _by(), name=name, secret=secret, role=role)
    console.print(f"{name} may sign in as {role}.")


@app.command("list")
def list_(site: SiteOption = Path(), as_json: JsonOption = False) -> None:
    """List the users."""
    with _database(site).read() as session:
        rows = [
            {
                "name": user.name,
                "roles": [
                    f"{one.role} in {one.project}" if one.project else one.role
                    for one in sorted(users.held(session, user.id), key=str)
                ],
                "disabled": user.disabled,
                "created_at": user.created_at,
            }
            for user in users.list_users(session)
        ]
    table(
        rows,
        ["name", "roles", "disabled", "created_at"],
        as_json=as_json,
        empty="There are no users yet; `overread user add NAME` adds one.",
    )


@app.command()
def disable(name: NameArgument, site: SiteOption = Path()) -> None:
    """Refuse a user from now on, and end every sign-in of theirs."""
    with _database(site).write() as session:
        users.disable_user(session, datetime.now(UTC), _by(), name)
    console.print(f"{name} may not sign in any more.")


@app.command()
def token(
    name: NameArgument,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is good for.")] = 90,
    site: SiteOption = Path(),
) -> None:
    """Print a bearer token for a user's scripts; it is shown this once."""
    now = datetime.now(UTC)
    with _database(site).write() as session:
        user = users.find_user(session, name)
        if user.disabled:
            raise UsageError(f"{name} is disabled; a token would be refused")
        opened = users.open_bearer(session, now, _by(), user, timedelta(days=days))
    typer.echo(opened.token)
