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
from overread.site.projects import read_projects
from overread.store import sessions, users
from overread.store.database import Database
from overread.validation.permissions import EVERY_PROJECT, ROLES, Grant

app = typer.Typer(no_args_is_help=True, help="Who may sign in.")

NameArgument = Annotated[str, typer.Argument(help="The name to sign in with.")]
RoleArgument = Annotated[str, typer.Argument(help=f"One of {', '.join(ROLES)}.")]
RoleOption = Annotated[str, typer.Option(help=f"One of {', '.join(ROLES)}.")]
ProjectOption = Annotated[
    str, typer.Option(help="The project that it is held for.", show_default="the whole site")
]


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


def _check_project(site: Path, project: str) -> None:
    """Refuse a project that the site does not have; whatever else is wrong with the site."""
    if not project:
        return
    known, _ = read_projects(site.resolve(), None)
    if project not in known:
        there = ", ".join(sorted(known)) or "none yet"
        raise UsageError(f"there is no project {project!r}; the site has {there}")


def _where(project: str) -> str:
    return f"in {project}" if project else "for the whole site"


@app.command()
def add(
    name: NameArgument,
    role: RoleOption = "reader",
    project: ProjectOption = EVERY_PROJECT,
    password_file: Annotated[
        Path | None,
        typer.Option(help="A file whose first line is the password.", show_default="ask for it"),
    ] = None,
    site: SiteOption = Path(),
) -> None:
    """Add a user; the password is asked for, or read from a file, and kept only as its hash."""
    _check_project(site, project)
    secret = hash_password(_new_password(password_file))
    with _database(site).write() as session:
        users.add_user(
            session, datetime.now(UTC), _by(),
            name=name, secret=secret, role=role, project=project,
        )  # fmt: skip
    console.print(f"{name} may sign in as {role}{f' in {project}' if project else ''}.")


@app.command()
def grant(
    name: NameArgument,
    role: RoleArgument,
    project: ProjectOption = EVERY_PROJECT,
    site: SiteOption = Path(),
) -> None:
    """Give a user a role."""
    _check_project(site, project)
    with _database(site).write() as session:
        user = users.find_user(session, name)
        users.grant(session, datetime.now(UTC), _by(), user, Grant(role, project))
    console.print(f"{name} is {role} {_where(project)}.")


@app.command()
def revoke(
    name: NameArgument,
    role: RoleArgument,
    project: ProjectOption = EVERY_PROJECT,
    site: SiteOption = Path(),
) -> None:
    """Take a role from a user, from the next click on."""
    with _database(site).write() as session:
        user = users.find_user(session, name)
        users.revoke(session, datetime.now(UTC), _by(), user, Grant(role, project))
    console.print(f"{name} is no longer {role} {_where(project)}.")


@app.command("list")
def list_(site: SiteOption = Path(), as_json: JsonOption = False) -> None:
    """List the users, with the roles that they were given here; the site's files may give more."""
    with _database(site).read() as session:
        rows = [
            {
                "name": user.name,
                "origin": user.origin,
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
        ["name", "origin", "roles", "disabled", "created_at"],
        as_json=as_json,
        empty="There are no users yet; `overread user add NAME` adds one.",
    )


@app.command()
def disable(name: NameArgument, site: SiteOption = Path()) -> None:
    """Refuse a user from now on, and end every sign-in and token of theirs."""
    with _database(site).write() as session:
        users.disable_user(session, datetime.now(UTC), _by(), name)
    console.print(f"{name} may not sign in any more.")


@app.command()
def enable(name: NameArgument, site: SiteOption = Path()) -> None:
    """Let a user that was disabled sign in again."""
    with _database(site).write() as session:
        users.enable_user(session, datetime.now(UTC), _by(), name)
    console.print(f"{name} may sign in again.")


@app.command()
def token(
    name: NameArgument,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is good for.")] = 90,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="An action that it may do, such as case.see, or NOUN.* for all of a noun's; "
            "may be given several times.",
            show_default="all that the user may",
        ),
    ] = None,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    site: SiteOption = Path(),
) -> None:
    """Print a bearer token for a user's scripts; it is shown this once."""
    now = datetime.now(UTC)
    with _database(site).write() as session:
        user = users.find_user(session, name)
        if user.disabled:
            raise UsageError(f"{name} is disabled; a token would be refused")
        opened = users.open_bearer(
            session, now, _by(), user, timedelta(days=days),
            label=label, scopes=frozenset(scope) if scope else None,
        )  # fmt: skip
    typer.echo(opened.token)


@app.command("sessions")
def sessions_(name: NameArgument, site: SiteOption = Path(), as_json: JsonOption = False) -> None:
    """List where a user is signed in, and the user's tokens."""
    with _database(site).read() as session:
        user = users.find_user(session, name)
        rows = [
            {
                "id": one.id,
                "kind": "sign-in" if one.csrf else "token",
                "label": one.label,
                "address": one.address,
                "scopes": one.scopes,
                "seen_at": one.seen_at,
                "ends_at": one.ends_at,
            }
            for one in sessions.listed(session, datetime.now(UTC), user.id)
        ]
    table(
        rows,
        ["id", "kind", "label", "address", "scopes", "seen_at", "ends_at"],
        as_json=as_json,
        empty=f"{name} is signed in nowhere, and has no token.",
    )


@app.command()
def sign_out(
    name: NameArgument,
    session_id: Annotated[
        str | None,
        typer.Option("--session", help="Id of one sign-in or token.", show_default="every sign-in"),
    ] = None,
    site: SiteOption = Path(),
) -> None:
    """End a user's sign-ins; tokens stay, unless one is named."""
    now = datetime.now(UTC)
    with _database(site).write() as session:
        user = users.find_user(session, name)
        if session_id:
            sessions.end(session, now, _by(), user, session_id)
            said = "1 was ended"
        else:
            said = f"{sessions.end_all(session, now, _by(), user)} were ended"
    console.print(f"{name}: {said}.")
