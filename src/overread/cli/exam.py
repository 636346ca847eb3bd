"""``overread exam``: what has gathered for the pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from overread.cli.terminal import JsonOption, SiteOption, open_site, table
from overread.store import exams
from overread.store.database import Database

app = typer.Typer()


@app.callback()
def root() -> None:
    """Exams: the instances of one Study, or of one Patient's window, for one pipeline."""


@app.command("list")
def list_exams(
    site: SiteOption = Path(),
    state: Annotated[str, typer.Option(help="open, closed or held.")] = "",
    pipeline: Annotated[str, typer.Option(help="Only those of this pipeline.")] = "",
    accession: Annotated[str, typer.Option(help="Only those of this accession number.")] = "",
    *,
    limit: Annotated[int, typer.Option(help="How many at most, the newest first.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List exams, the newest first."""
    with Database(open_site(site).settings.database_url).read() as session:
        found = exams.exams(
            session, state=state, pipeline=pipeline, accession=accession, limit=limit
        )
        rows = [
            {**exams.summary(one), "instances": len(exams.members(session, one.id))}
            for one in found
        ]
    table(
        rows,
        ["id", "accession", "pipeline", "revision", "state", "instances", "opened_at", "closed_at"],
        as_json=as_json,
        empty="No exam has gathered yet.",
    )
