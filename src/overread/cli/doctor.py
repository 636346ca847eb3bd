"""``overread doctor``: whether everything that a site needs is there and answers."""

from __future__ import annotations

from pathlib import Path

import typer

from overread.cli.terminal import JsonOption, SiteOption, open_settings, open_site, table
from overread.errors import SiteError
from overread.site import SiteFolder


def doctor(site: SiteOption = Path(), as_json: JsonOption = False) -> None:
    """Check what a site needs: system, disk, database, models, services, destinations.

    Exits with 1 if something is wrong; a notice is not.
    """
    from overread.engine.checks import checks, examine  # the engine takes a while to import

    settings = open_settings(site)
    folder: SiteFolder | None = None
    rows: list[dict[str, str]] = []
    try:
        folder = open_site(site)
    except SiteError as error:
        rows += [{"check": "site", "state": "wrong", "said": str(one)} for one in error.faults]
    rows += [examine(name, find) for name, find in checks(settings, folder)]
    told = [{**row, "well": row["state"] != "wrong"} for row in rows]
    table(told, ["check", "state", "said"], as_json=as_json)
    if not all(row["well"] for row in told):
        raise typer.Exit(1)
