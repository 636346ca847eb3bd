"""``overread why``: an exam's whole way, or where and why it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from overread.cli.terminal import JsonOption, SiteOption, console, open_site, print_json
from overread.store.database import Database
from overread.store.way import way


def why(
    accession: Annotated[str, typer.Argument(help="The exam's accession number.")],
    site: SiteOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Tell an exam's whole way, or where and why it stopped.

    Raises
    ------
    UsageError
        Nothing of that accession number has arrived.
    """
    folder = open_site(site)
    with Database(folder.settings.database_url).read() as session:
        told = way(session, accession, frozenset(folder.ae_titles))
    if as_json:
        print_json(told)
        return
    for line in lines(told):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def lines(told: dict[str, Any]) -> list[str]:
    """Put a way into words, one fact a line, what belongs to a fact indented below it."""
    out = [f"Accession {told['accession']}: {told['verdict']}"]
    for study in told["studies"]:
        out.append(
            f"Study {study['study_uid']}: {study['instances']} instances in "
            f"{study['series']} series, {', '.join(study['modalities'])}"
        )
        out += [f"  {association}" for association in study["came_by"]]
        out += [f"  {count} × {what}" for what, count in study["standings"].items()]
    for route in told["routes"]:
        out.append(f"Route {route['route']} → {route['to']}: {route['instances']} instances")
        out.append(f"  {route['reason']}")
    for exam in told["exams"]:
        out += _exam(exam)
    for delivery in told["deliveries"]:
        out.append(
            f"Delivery to {delivery['destination']} ({delivery['cause']}): "
            f"{delivery['instances']} × {delivery['state']}"
        )
        out += [f"  {error}" for error in delivery["errors"]]
    for one in told["quarantined"]:
        out.append(f"Quarantined {one['at']:%Y-%m-%d %H:%M:%S}: {one['reason']}")
    return out


def _exam(exam: dict[str, Any]) -> list[str]:
    out = [
        f"Exam {exam['id'][:8]} revision {exam['revision']} for {exam['pipeline']}: {exam['state']}"
    ]
    if exam["held_reason"]:
        out.append(f"  {exam['held_reason']}")
    if exam["state"] == "open":
        out.append(f"  looked at again {exam['due_at']:%H:%M:%S} UTC")
    if exam["evidence"]:
        out.append(f"  {exam['evidence'].get('decided_by', '')}, {exam['instances']} instances")
        out += [
            f"  required {need['series']}: {need['found']} of {need['at_least']}"
            for need in exam["evidence"].get("required", [])
        ]
    out += [f"  {count} × {what}" for what, count in exam["arrivals"].items()]
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
