"""``overread why``: an exam's whole way, or where and why it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from overread.cli.terminal import (
    JsonOption,
    PortalOption,
    SiteOption,
    TokenOption,
    console,
    count,
    notes,
    open_portal,
    open_settings,
    open_site,
    print_json,
    reading,
)
from overread.errors import SiteError
from overread.routing.rules import Route
from overread.store.archive import Archive
from overread.store.way import way


def why(
    accession: Annotated[str, typer.Argument(help="The exam's accession number.")],
    site: SiteOption = Path(),
    portal: PortalOption = "",
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell an exam's whole way, or where and why it stopped.

    Raises
    ------
    UsageError
        Nothing of that accession number has arrived.
    """
    if portal:
        with open_portal(portal, token_file) as client:
            told = client.why(accession)
    else:
        told = _way(site, accession)
    if as_json:
        print_json(told)
        return
    for line in lines(told):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _way(site: Path, accession: str) -> dict[str, Any]:
    settings = open_settings(site)
    routes, pipelines = _routing(site)
    with reading(settings) as session:
        return way(session, accession, Archive(settings.data / "archive"), routes, pipelines)


def _routing(site: Path) -> tuple[tuple[Route, ...], frozenset[str] | None]:
    """Return the site's routes and the AE titles of its pipelines; none if it has faults."""
    try:
        folder = open_site(site)
    except SiteError:
        notes.print("The site has faults, so nothing is said of its routes; see overread check.")
        return (), None
    return folder.routes, frozenset(one.ae_title for one in folder.pipelines.values())


def lines(told: dict[str, Any]) -> list[str]:
    """Put a way into words, one fact a line, what belongs to a fact indented below it."""
    out = [f"Accession {told['accession']}: {told['verdict']}"]
    for study in told["studies"]:
        out.append(
            f"Study {study['study_uid']}: {count(study['instances'], 'instance')} in "
            f"{study['series']} series, {', '.join(study['modalities'])}"
        )
        out += [f"  {association}" for association in study["came_by"]]
        out += [f"  {number} × {what}" for what, number in study["standings"].items()]
    for route in told["routes"]:
        out.append(
            f"Route {route['route']} → {route['to']}: {count(route['instances'], 'instance')}"
        )
        out.append(f"  {route['reason']}")
    for refusal in told["refusals"]:
        reason, *condition = refusal["lines"]
        out.append(f"Route {refusal['route']} did not take {refusal['series']}: {reason}")
        out += [f"  {line}" for line in condition]
    for exam in told["exams"]:
        out += _exam(exam)
    for delivery in told["deliveries"]:
        out.append(
            f"Delivery to {delivery['destination']} ({delivery['cause']}): "
            f"{delivery['instances']} × {delivery['state']}"
        )
        out += [f"  {error}" for error in delivery["errors"]]
    for one in told["quarantined"]:
        out.append(f"Quarantined {one['at']:%Y-%m-%d %H:%M:%S} UTC: {one['reason']}")
        out.append(f"  kept as {one['key']}")
    return out


def words(value: Any) -> str:
    """Write plain data on one line as YAML has it, with the braces of its outside left out."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_inner(item)}" for key, item in value.items())
    return _inner(value)


def _inner(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{words(value)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_inner(item) for item in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _exam(exam: dict[str, Any]) -> list[str]:
    out = [
        f"Exam {exam['id'][:8]} revision {exam['revision']} for {exam['pipeline']}: {exam['state']}"
    ]
    if exam["held_reason"]:
        out.append(f"  {exam['held_reason']}")
    if exam["state"] == "open":
        out.append(f"  looked at again {exam['due_at']:%H:%M:%S} UTC")
    if exam["evidence"]:
        decided_by = exam["evidence"].get("decided_by", "")
        out.append(f"  {decided_by}, {count(exam['instances'], 'instance')}")
        out += [
            f"  required {words(need['series'])}: {need['found']} of {need['at_least']}"
            for need in exam["evidence"].get("required", [])
        ]
    out += [f"  {number} × {what}" for what, number in exam["arrivals"].items()]
    for job in exam["jobs"]:
        reason = f": {job['reason']}" if job["reason"] else ""
        out.append(f"  Job {job['id'][:8]} ({job['origin']}) {job['state']}{reason}")
        out += [
            f"    {step['name']} ({step['operator']}) {step['state']}"
            + (f": {step['error']}" if step["error"] else "")
            for step in job["steps"]
        ]
        out += [
            f"    result {result['name']} ({result['kind']}) version {result['version']}"
            + (", superseded" if result["superseded_by"] else "")
            for result in job["results"]
        ]
    return out
