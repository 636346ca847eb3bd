"""``overread job``: what has run, what it said, and another run."""

from __future__ import annotations

from datetime import UTC, datetime
from getpass import getuser
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.orm import Session

from overread.cli.terminal import JsonOption, SiteOption, console, open_site, print_json, table
from overread.errors import UsageError
from overread.store import jobs
from overread.store.database import Database
from overread.store.tables import Result, StepRun

app = typer.Typer()

JobArgument = Annotated[str, typer.Argument(help="The job's id, or its beginning.")]


def _database(site: Path) -> Database:
    return Database(open_site(site).settings.database_url)


@app.command("list")
def list_jobs(
    site: SiteOption = Path(),
    state: Annotated[str, typer.Option(help="Only those in this state.")] = "",
    pipeline: Annotated[str, typer.Option(help="Only those of this pipeline.")] = "",
    limit: Annotated[int, typer.Option(help="How many at most, the newest first.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List jobs, the newest first."""
    with _database(site).read() as session:
        found = jobs.jobs(session, state=state, pipeline=pipeline, limit=limit)
        table(
            [jobs.summary(one) for one in found],
            ["id", "pipeline", "pipeline_version", "state", "attempt", "created_at", "reason"],
            as_json=as_json,
            empty="No job has been opened yet.",
        )


@app.command()
def show(job: JobArgument, site: SiteOption = Path(), as_json: JsonOption = False) -> None:
    """Show one job: what it was pinned to, its steps, its results."""
    with _database(site).read() as session:
        told = describe(session, job)
    if as_json:
        print_json(told)
        return
    for key in ("id", "exam", "pipeline", "pipeline_version", "stage", "origin", "state", "reason"):
        console.print(f"{key.replace('_', ' '):17} {told[key]}", markup=False, soft_wrap=True)
    for model in told["models"]:
        console.print(
            f"{'model':17} {model['name']} {model['version']} sha256 {model['digest']}",
            soft_wrap=True,
        )
    table(
        told["steps"],
        ["attempt", "name", "operator", "state", "runs", "seconds", "made", "error"],
        as_json=False,
        empty="No step has begun.",
    )
    table(
        told["results"],
        ["name", "kind", "version", "model", "digest", "superseded_by"],
        as_json=False,
        empty="It has no result.",
    )


def describe(session: Session, job_id: str) -> dict[str, Any]:
    """Tell all of a job in plain values.

    Raises
    ------
    UsageError
        There is no such job.
    """
    one = jobs.job(session, job_id)
    return {
        **jobs.summary(one),
        "pipeline_digest": one.pipeline_digest,
        "models": [
            {key: model[key] for key in ("name", "version", "digest")} for model in one.models
        ],
        "operators": one.operators,
        "overread_version": one.overread_version,
        "worker": one.worker,
        "steps": [_step(run) for run in jobs.steps(session, one.id)],
        "results": [_result(result) for result in jobs.results(session, one.id)],
    }


def _step(run: StepRun) -> dict[str, Any]:
    return {
        "attempt": run.attempt,
        "name": run.name,
        "operator": run.operator,
        "state": run.state,
        "runs": run.runs,
        "seconds": (
            round((run.ended_at - run.started_at).total_seconds(), 3) if run.ended_at else None
        ),
        "made": run.outputs.get("type", ""),
        "error": run.error,
        "settings": run.settings,
        "inputs": run.inputs,
        "outputs": run.outputs,
        "report": run.report,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
    }


def _result(result: Result) -> dict[str, Any]:
    return {
        "id": result.id,
        "name": result.name,
        "kind": result.kind,
        "data": result.data,
        "digest": result.digest,
        "model": f"{result.model}@{result.model_version}" if result.model else "",
        "model_digest": result.model_digest,
        "version": result.version,
        "supersedes": result.supersedes,
        "superseded_by": result.superseded_by,
        "sources": result.sources,
    }


@app.command()
def logs(
    job: JobArgument,
    site: SiteOption = Path(),
    step: Annotated[str, typer.Option(help="Only this step's.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Print what the steps of a job logged and printed.

    Raises
    ------
    UsageError
        There is no such job, or it has not begun such a step.
    """
    with _database(site).read() as session:
        one = jobs.job(session, job)
        runs = [run for run in jobs.steps(session, one.id) if step in ("", run.name)]
    if step and not runs:
        raise UsageError(f"job {one.id} has not begun a step {step!r}")
    if as_json:
        print_json([{"attempt": run.attempt, "name": run.name, "log": run.log} for run in runs])
        return
    for run in runs:
        console.print(f"[bold]{run.name}[/bold] (attempt {run.attempt}, {run.state})")
        typer.echo(run.log.rstrip() or "(nothing)")


@app.command()
def retry(
    job: JobArgument,
    site: SiteOption = Path(),
    from_step: Annotated[
        str, typer.Option("--from", help="Begin at this step and use what those before it made.")
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Run a job that is done again, as a new job.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a job again that was refused, failed or cancelled."""
    with _database(site).write() as session:
        queued = jobs.summary(
            jobs.retry(
                session,
                job,
                at=datetime.now(UTC),
                actor=getuser(),
                from_step=from_step,
                force=force,
            )
        )
    table([queued], ["id", "state", "attempt", "from_step"], as_json=as_json)


@app.command()
def cancel(job: JobArgument, site: SiteOption = Path(), as_json: JsonOption = False) -> None:
    """Stop a job that is queued or running."""
    with _database(site).write() as session:
        stopped = jobs.summary(jobs.cancel(session, job, at=datetime.now(UTC), actor=getuser()))
    table([stopped], ["id", "state", "reason"], as_json=as_json)
