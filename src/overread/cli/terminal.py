"""What every command shares: the site it works on, how it lists, how it says no."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from overread.site import SiteFolder, load

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
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def open_site(path: Path) -> SiteFolder:
    """Load the site folder.

    Raises
    ------
    SiteError
        With every fault of the folder.
    """
    return load(path.resolve(), os.environ)


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
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S") + (" UTC" if value.tzinfo else "")
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return str(value)


def table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    as_json: bool,
    empty: str = "Nothing to list.",
) -> None:
    """Print a listing: a table for people, or every field as JSON.

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
    """
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        console.print(empty)
        return
    out = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        out.add_column(column.replace("_", " "))
    for row in rows:
        out.add_row(*(_cell(row.get(column)) for column in columns))
    console.print(out)
