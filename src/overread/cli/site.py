"""``overread init``, ``check`` and ``plugins``: a site folder, begun and looked through."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from overread import examples, registry
from overread.cli.terminal import JsonOption, SiteOption, console, print_json, table
from overread.errors import SiteError, UsageError
from overread.site import SiteFolder, load


def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make; new or empty.")],
    example: Annotated[
        str, typer.Option(help=f"An example that works: {', '.join(examples.NAMES)}.")
    ] = "",
) -> None:
    """Make a site folder: a minimal one, or an example that works."""
    if example and example not in examples.NAMES:
        raise UsageError(f"there is no example {example!r}; there is {', '.join(examples.NAMES)}")
    try:
        examples.copy(example or "plain", folder)
    except FileExistsError as error:
        raise UsageError(f"{folder} is not empty; init makes a new folder") from error
    console.print(
        f"Made {folder}. Next: read {folder / 'README.md'}.", markup=False, soft_wrap=True
    )


def check(site: SiteOption = Path(), as_json: JsonOption = False) -> None:
    """Check every file of the site, and list all faults as ``file:line: what; expected …``."""
    try:
        loaded = load(site.resolve(), os.environ, verify=True)
    except SiteError as error:
        if as_json:
            print_json([asdict(fault) for fault in error.faults])
        else:
            for fault in error.faults:
                typer.echo(str(fault))
        raise typer.Exit(2) from error
    if as_json:
        print_json([])
    else:
        typer.echo(f"{loaded.settings.site.name}: no fault. {_counted(loaded)}.")


def _counted(site: SiteFolder) -> str:
    own = sum(source is not None for source in site.operator_sources.values())
    counts = {
        "destination": len(site.settings.destinations),
        "route": len(site.routes),
        "pipeline": len(site.pipelines),
        "model": len(site.models),
        "own operator": own,
    }
    return ", ".join(f"{count} {noun}{'s' * (count != 1)}" for noun, count in counts.items())


def plugins(
    site: Annotated[
        Path | None,
        typer.Option(
            "--site", envvar="OVERREAD_SITE", help="List this site's own operators as well."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List what is installed, and what of it cannot run here and why."""
    rows = [
        {**asdict(plugin), "missing": registry.missing(plugin)} for plugin in registry.plugins()
    ]
    if site is not None:
        loaded_site = load(site.resolve(), os.environ)
        for name, source in sorted(loaded_site.operator_sources.items()):
            if source is not None:
                own = {"family": "operators", "name": name, "distribution": "this site"}
                rows.append(
                    {**own, "value": str(source.relative_to(loaded_site.root)), "missing": ""}
                )
    table(
        rows,
        ["family", "name", "distribution", "value", "missing"],
        as_json=as_json,
        spare=["distribution"],
    )
