"""``overread exam``: what has gathered for the pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from overread.cli.terminal import JsonOption, SiteOption, open_settings, reading, table
from overread.store import exams
from overread.store.tables import Exam

app = typer.Typer()


@app.callback()
def root() -> None:
    """Exams: the instances of one Study, or of one Patient's window, for one pipeline."""


@app.command("list")
def list_exams(
    site: SiteOption = Path(),
    state: Annotated[
        Literal["open", "closed", "held"] | None,
        typer.Option(help="Only those in this state.", show_default="any"),
    ] = None,
    pipeline: Annotated[str, typer.Option(help="Only those of this pipeline.")] = "",
    accession: Annotated[str, typer.Option(help="Only those of this accession number.")] = "",
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, the newest first.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List exams, the newest first."""
    with reading(open_settings(site)) as session:
        found = exams.exams(
            session, state=state or "", pipeline=pipeline, accession=accession, limit=limit
        )
        rows = [
            {
                **exams.summary(one),
                "instances": len(exams.members(session, one.id)),
                "because": _because(one),
            }
            for one in found
        ]
    narrowed = " of this kind" if state or pipeline or accession else ""
    table(
        rows,
        [
            *("id", "accession", "pipeline", "revision", "state", "because"),
            *("instances", "opened_at", "closed_at"),
        ],
        as_json=as_json,
        empty=f"No exam{narrowed} has gathered yet.",
        spare=["closed_at", "instances", "revision", "opened_at"],
    )


def _because(one: Exam) -> str:
    """Say what closed an exam, what an open one waits for, or why it is held."""
    evidence: dict[str, Any] = one.evidence
    return one.held_reason or str(evidence.get("decided_by", ""))
