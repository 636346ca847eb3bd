"""``overread form``: what readers are asked, checked before anybody is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from overread.cli.terminal import JsonOption, SiteOption, print_json
from overread.errors import Fault, UsageError
from overread.site.projects import read_form

app = typer.Typer()


@app.callback()
def _noun() -> None:
    """Look at what readers are asked."""


@app.command()
def check(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Forms (JSON Schema); all of the site's where none is named."),
    ] = None,
    site: SiteOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Check forms, and list every fault as ``file:line: what; expected …``."""
    root = site.resolve()
    asked = files or sorted(file.relative_to(root) for file in root.glob("forms/*.json"))
    if not asked:
        raise UsageError(f"there is no form in {root / 'forms'}; name a file")
    faults: list[Fault] = []
    for file in asked:
        form, wrong = read_form(Path.cwd() if files else root, file)
        faults += wrong
        if form is not None and not as_json:
            count = len(form.layout.fields)
            typer.echo(f"{file}: no fault. {count} question{'s' * (count != 1)}.")
    if as_json:
        print_json([asdict(fault) for fault in faults])
    else:
        for fault in faults:
            typer.echo(str(fault))
    if faults:
        raise typer.Exit(2)
