"""``overread audit``: what was done, and whether the record of it was touched."""

from __future__ import annotations

import getpass
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from overread.cli.terminal import JsonOption, SiteOption, console, open_settings, table
from overread.errors import UsageError
from overread.settings import Settings
from overread.store import audit, seal
from overread.store.audit import Wanted, record
from overread.store.audit_export import FORMATS, as_json
from overread.store.audit_export import export as write
from overread.store.database import Database

app = typer.Typer(no_args_is_help=True, help="What was done, and by whom.")

ActorOption = Annotated[str, typer.Option(help="Only what this person did.")]
ActionOption = Annotated[str, typer.Option(help="Only this action, such as 'open case'.")]
SubjectOption = Annotated[
    str, typer.Option(help="Only what was done to this, such as 'case 3f…', or to any 'case'.")
]
SinceOption = Annotated[
    datetime | None, typer.Option(help="From then (UTC).", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"])
]
UntilOption = Annotated[
    datetime | None, typer.Option(help="Before then (UTC).", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"])
]


def _wanted(
    actor: str, action: str, subject: str, since: datetime | None, until: datetime | None
) -> Wanted:
    return Wanted(
        actor,
        action,
        subject,
        since.replace(tzinfo=UTC) if since else None,
        until.replace(tzinfo=UTC) if until else None,
    )


def _database(settings: Settings) -> Database:
    database = Database(settings.database_url)
    database.upgrade()
    return database


@app.command("list")
def list_(
    *,
    actor: ActorOption = "",
    action: ActionOption = "",
    subject: SubjectOption = "",
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most.")] = 50,
    site: SiteOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """List what was done, the newest first."""
    wanted = _wanted(actor, action, subject, since, until)
    with _database(open_settings(site)).read() as session:
        found = audit.newest(session, wanted, limit=limit)
        standing = seal.standing(session)
    columns = ["id", "at", "actor", "action", "subject", "address", "sealed", "detail"]
    rows = [_row(one) | {"sealed": standing.holds(one.id)} for one in found]
    table(rows, columns, as_json=as_json, empty="Nothing was told as asked for.")


def _row(one: audit.Entry) -> dict[str, object]:
    return as_json(one) | {"at": one.at}


@app.command()
def export(
    *,
    out: Annotated[Path, typer.Option(help="A new file.")],
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "jsonl",
    actor: ActorOption = "",
    action: ActionOption = "",
    subject: SubjectOption = "",
    since: SinceOption = None,
    until: UntilOption = None,
    site: SiteOption = Path(),
) -> None:
    """Write rows to a file, the oldest first; that is told, too."""
    kind = next((one for one in FORMATS if one == form), None)
    if kind is None:
        raise UsageError(f"there is no format {form!r}; expected one of {', '.join(FORMATS)}")
    settings = open_settings(site)
    database = _database(settings)
    asked = {"actor": actor, "action": action, "subject": subject, "since": since, "until": until}
    with database.write() as session:
        by = f"{getpass.getuser()} at the command line"
        filtered = sorted(name for name, value in asked.items() if value)
        detail = {"format": kind, "filtered_by": filtered}
        record(session, datetime.now(UTC), by, "export audit", "audit", detail)
        session.flush()
        last = audit.newest(session, Wanted(), limit=1)[0].id
    number = 0
    try:
        with out.open("x", encoding="utf-8", newline="") as file, database.read() as session:
            wanted = _wanted(actor, action, subject, since, until)
            for line in write(session, wanted, kind, until=last, site=settings.site.name):
                file.write(line)
                number += 1
    except OSError as error:
        raise UsageError(f"{out}: {error.strerror}; expected a new file") from error
    console.print(f"{number - (kind == 'csv')} rows are in {out}.")


@app.command()
def verify(
    *,
    heads: Annotated[
        Path | None,
        typer.Option(
            help="The file that heads were exported to, or a copy of it from another machine.",
            show_default="audit/head.jsonl below the storage folder",
        ),
    ] = None,
    site: SiteOption = Path(),
) -> None:
    """Recompute the chain over the audit, and compare it with the heads that were exported."""
    settings = open_settings(site)
    file = heads or settings.data / "audit" / "head.jsonl"
    if heads is not None and not heads.is_file():
        raise UsageError(f"there is no file {heads}; expected the file that heads are exported to")
    try:
        said = list(seal.exported(file.read_text().splitlines())) if file.is_file() else []
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from error
    with _database(settings).read() as session:
        found = seal.verify(session, said)
    for fault in found.faults:
        console.print(f"[red]{fault}[/red]", highlight=False)
    if found.faults:
        console.print(
            f"The audit was tampered with, or damaged; what holds is {found.rows} rows in "
            f"{found.blocks} blocks before that.",
            highlight=False,
        )
        sys.exit(1)
    compared = f"compared with {len(dict(said))} exported heads" if said else "no head was exported"
    console.print(
        f"{found.rows} rows in {found.blocks} blocks hold ({compared}); "
        f"{found.unsealed} are not sealed yet.",
        highlight=False,
    )
