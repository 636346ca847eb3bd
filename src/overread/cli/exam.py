"""``overread exam``: what has gathered for the pipelines."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from overread.cli.terminal import (
    JsonOption,
    PortalOption,
    SiteOption,
    TokenOption,
    open_portal,
    open_settings,
    reading,
    table,
)
from overread.store import exams
from overread.store.tables import Exam

app = typer.Typer()

_SPARE = ("closed_at", "instances", "revision", "opened_at")
"""Columns that a narrow window goes without."""


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
    portal: PortalOption = "",
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List exams, the newest first."""
    wanted = {"state": state or "", "pipeline": pipeline, "accession": accession}
    if portal:
        with open_portal(portal, token_file) as client:
            found = client.exams(
                state=state or "", pipeline=pipeline, accession=accession, page=min(limit, 1000)
            )
            listed = [
                {
                    **one.model_dump(),
                    "because": one.held_reason or one.evidence.get("decided_by", ""),
                }
                for one in islice(found, limit)
            ]
    else:
        listed = _listed(site, limit, **wanted)
    narrowed = " of this kind" if any(wanted.values()) else ""
    table(
        listed,
        [
            *("id", "accession", "pipeline", "revision", "state", "because"),
            *(() if portal else ("instances",)),
            *("opened_at", "closed_at"),
        ],
        as_json=as_json,
        empty=f"No exam{narrowed} has gathered yet.",
        spare=[one for one in _SPARE if one != "instances" or not portal],
    )


def _listed(site: Path, limit: int, **wanted: str) -> list[dict[str, Any]]:
    with reading(open_settings(site)) as session:
        return [
            {
                **exams.summary(one),
                "instances": len(exams.members(session, one.id)),
                "because": _because(one),
            }
            for one in exams.exams(session, **wanted, limit=limit)
        ]


def _because(one: Exam) -> str:
    """Say what closed an exam, what an open one waits for, or why it is held."""
    evidence: dict[str, Any] = one.evidence
    return one.held_reason or str(evidence.get("decided_by", ""))
