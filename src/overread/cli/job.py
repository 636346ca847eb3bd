"""``overread job``: what has run, what it said, and another run."""

from __future__ import annotations

from datetime import UTC, datetime
from getpass import getuser
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.orm import Session

from overread.cli.terminal import (
    JsonOption,
    PortalOption,
    SiteOption,
    TokenOption,
    console,
    count,
    open_portal,
    open_settings,
    print_json,
    reading,
    table,
)
from overread.errors import UsageError
from overread.pipelines.job import JobState
from overread.store import jobs
from overread.store.database import Database
from overread.store.tables import Result, StepRun

app = typer.Typer()

JobArgument = Annotated[str, typer.Argument(help="The job's id, or its beginning.")]


@app.command("list")
def list_jobs(
    site: SiteOption = Path(),
    state: Annotated[
        JobState | None, typer.Option(help="Only those in this state.", show_default="any")
    ] = None,
    pipeline: Annotated[str, typer.Option(help="Only those of this pipeline.")] = "",
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, the newest first.")] = 100,
    portal: PortalOption = "",
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, the newest first."""
    if portal:
        with open_portal(portal, token_file) as client:
            every = client.jobs(state=state or "", pipeline=pipeline, page=min(limit, 1000))
            rows = [one.model_dump() for one in islice(every, limit)]
    else:
        with reading(open_settings(site)) as session:
            found = jobs.jobs(session, state=state or "", pipeline=pipeline, limit=limit)
            rows = [jobs.summary(one) for one in found]
    narrowed = " of this kind" if state or pipeline else " yet"
    table(
        rows,
        ["id", "pipeline", "pipeline_version", "state", "attempt", "created_at", "reason"],
        as_json=as_json,
        empty=f"No job has been opened{narrowed}.",
        spare=["attempt", "pipeline_version"],
    )


@app.command()
def show(job: JobArgument, site: SiteOption = Path(), as_json: JsonOption = False) -> None:
    """Show one job: what it was pinned to, its steps, its results."""
    with reading(open_settings(site)) as session:
        told = describe(session, job)
    if as_json:
        print_json(told)
        return
    for line in lines(told):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def lines(told: dict[str, Any]) -> list[str]:
    """Put a job into words, one fact a line, what belongs to a fact indented below it."""
    keys = ("id", "exam", "pipeline", "pipeline_version", "stage", "origin", "state", "reason")
    times = ("created_at", "started_at", "ended_at")
    facts = {key: str(told[key]) for key in keys} | {key: _time(told[key]) for key in times}
    out = [f"{key.replace('_', ' '):17} {fact}".rstrip() for key, fact in facts.items()]
    out += [
        f"{'model':17} {model['name']} {model['version']} sha256 {model['digest']}"
        for model in told["models"]
    ]
    for step in told["steps"]:
        out += _step_lines(step)
    for result in told["results"]:
        by = f" by {result['model']}" if result["model"] else ""
        out.append(f"Result {result['name']} ({result['kind']}) version {result['version']}{by}")
        out.append(f"  sha256 {result['digest']}")
        if result["superseded_by"]:
            out.append(f"  superseded by {result['superseded_by']}")
    return out


def _step_lines(step: dict[str, Any]) -> list[str]:
    again = f", begun {step['runs']} times" if step["runs"] > 1 else ""
    took = f", {step['seconds']} s" if step["seconds"] is not None else ""
    out = [
        f"Step {step['name']} ({step['operator']}) attempt {step['attempt']}: {step['state']}, "
        f"began {_time(step['started_at'])}{took}{again}"
    ]
    for port, source in step["inputs"].items():
        files = source["files"]
        out.append(
            f"  in {port}: {source['step']}" + (f", {count(len(files), 'file')}" * bool(files))
        )
        out += _files(files)
    if step["made"]:
        files = step["outputs"].get("files", {})
        out += [f"  made {step['made']}, {count(len(files), 'file')}", *_files(files)]
    if step["error"]:
        out.append(f"  {step['error']}")
    return out


def _files(files: dict[str, dict[str, Any]]) -> list[str]:
    return [f"    {name} sha256 {file['sha256']}" for name, file in files.items()]


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else ""


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
    with reading(open_settings(site)) as session:
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
    with Database(open_settings(site).database_url).write() as session:
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
    with Database(open_settings(site).database_url).write() as session:
        stopped = jobs.summary(jobs.cancel(session, job, at=datetime.now(UTC), actor=getuser()))
    table([stopped], ["id", "state", "reason"], as_json=as_json)
