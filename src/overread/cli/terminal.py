"""What every command shares: the site it works on, how it lists, how it says no."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from overread.client import Client
from overread.errors import Unavailable, UsageError
from overread.settings import Settings
from overread.site import SiteFolder, load, load_settings
from overread.store.database import Database

console = Console()
"""Where answers go."""

notes = Console(stderr=True)
"""Where progress and errors go, so that a listing can be piped."""

SiteOption = Annotated[
    Path,
    typer.Option(
        "--site",
        envvar="OVERREAD_SITE",
        help="The site folder.",
        show_default="the current folder",
    ),
]
PortalOption = Annotated[
    str,
    typer.Option(
        "--portal",
        envvar="OVERREAD_PORTAL",
        help="Ask a running portal at this address, instead of the site folder.",
        show_default="the site folder is asked",
    ),
]
TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        envvar="OVERREAD_TOKEN_FILE",
        help="File with the token for --portal.",
        show_default="none",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def open_site(path: Path, *, verify: bool = False) -> SiteFolder:
    """Load the site folder.

    Parameters
    ----------
    path : Path
        The folder.
    verify : bool
        Also compare each model's file with its digest.

    Raises
    ------
    SiteError
        With every fault of the folder.
    """
    return load(path.resolve(), os.environ, verify=verify)


def open_settings(path: Path) -> Settings:
    """Load only the site's settings: enough to look at what it keeps, whatever else is wrong.

    Raises
    ------
    SiteError
        With every fault of ``overread.yaml``.
    """
    return load_settings(path.resolve(), os.environ)


def open_portal(address: str, token_file: Path | None) -> Client:
    """Open a client of a running portal.

    Raises
    ------
    UsageError
        There is no token to ask it with.
    """
    if token_file is None or not token_file.is_file():
        raise UsageError(
            f"{token_file or 'no file'} holds no token for {address}; `overread user token` makes "
            "one, and --token-file names the file that it stands in"
        )
    return Client(address, token_file.read_text(encoding="utf-8").strip())


@contextmanager
def reading(settings: Settings) -> Iterator[Session]:
    """Open a session to read the site's database with.

    Raises
    ------
    Unavailable
        The database is away, or no service has made its tables yet.
    """
    database = Database(settings.database_url)
    try:
        with database.read() as session:
            yield session
    except (OperationalError, ProgrammingError) as error:
        raise Unavailable(
            f"the site's database cannot be read: {error.orig}; starting a service makes its "
            "tables or upgrades them, and overread doctor says what is wrong"
        ) from error
    finally:
        database.close()


def plain(value: Any) -> Any:
    """Turn what a row holds into what JSON holds; times become ISO 8601 with their offset."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value


def print_json(value: Any) -> None:
    """Print JSON, one document, without colour or wrapping."""
    typer.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S") + (" UTC" if value.tzinfo else "")
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return str(value)


_LONG = 24
"""Characters from which on a column's text may go on in the next line."""


def short(id_: str | None) -> str:
    """Cut an id to what a table shows, and what is enough to name it in a command."""
    return (id_ or "")[:8]


def count(number: int, noun: str) -> str:
    """Say how many, with the noun's plural where it is not one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    as_json: bool,
    empty: str = "Nothing to list.",
    spare: Sequence[str] = (),
) -> None:
    """Print a listing: a table for people, or every field as JSON.

    Ids are shown by their beginning. Text that is too long for the window goes on in the next
    line; nothing is cut off.

    Parameters
    ----------
    rows : sequence of mapping
        One each line; JSON gets every key, the table only ``columns``.
    columns : sequence of str
        Keys to show, in order.
    as_json : bool
        Whether ``--json`` was given.
    empty : str
        What to say when there are no rows.
    spare : sequence of str
        Columns to leave out where the window is too narrow, the first ones first.
    """
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        console.print(empty)
        return
    cells = {
        column: [
            short(row.get(column)) if column == "id" else _cell(row.get(column)) for row in rows
        ]
        for column in columns
    }
    wanted = {
        column: max(len(column), *(len(cell) for cell in cells[column])) for column in columns
    }

    def fits() -> bool:
        return sum(min(width, _LONG) + 1 for width in wanted.values()) <= console.width

    for column in spare:
        if fits():
            break
        del wanted[column]
    whole = fits()
    out = Table(box=None, header_style="bold", pad_edge=False)
    for column, width in wanted.items():
        out.add_column(column.replace("_", " "), overflow="fold", no_wrap=whole and width <= _LONG)
    for row in zip(*(cells[column] for column in wanted), strict=True):
        out.add_row(*(escape(cell) for cell in row))
    console.print(out)
