"""``overread route``: where images would go, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from overread.cli.terminal import (
    JsonOption,
    SiteOption,
    notes,
    open_settings,
    print_json,
    reading,
    table,
)
from overread.dicom.match import Explanation, text
from overread.dicom.study import Origin
from overread.errors import UsageError
from overread.routing.rules import Decision, Route, decide
from overread.site import load_routes
from overread.store.archive import Archive
from overread.store.replay import replay

app = typer.Typer()


@dataclass
class _Group:
    """Instances of one series that are decided alike."""

    series_uid: str
    study: str
    series: str
    modality: str
    decisions: list[Decision]
    instances: list[str] = field(default_factory=list)


@app.callback()
def _noun() -> None:
    """Where images go, and why."""


@app.command()
def explain(  # noqa: PLR0917  (typer makes options of them)
    paths: Annotated[list[Path], typer.Argument(help="DICOM files or folders of them.")],
    site: SiteOption = Path(),
    calling: Annotated[str, typer.Option(help="AE title of the sender, as if it sent.")] = "",
    called: Annotated[str, typer.Option(help="AE title that it calls.")] = "",
    peer: Annotated[str, typer.Option(help="Address that it comes from.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Say where files would go and why, by the site's routes; needs no server.

    What is not told of the association (--calling, --called, --peer) is absent.
    """
    origin = Origin(calling, called, peer)
    groups, skipped = _decide(load_routes(site.resolve()), paths, origin)
    if as_json:
        print_json({"series": [asdict(one) for one in groups], "skipped": skipped})
    else:
        for line in _lines(groups, skipped):
            typer.echo(line)
    if not groups:
        raise typer.Exit(1)


@app.command("replay")
def replay_routes(
    since: Annotated[datetime, typer.Option(help="What came since then: a day, or a time in UTC.")],
    site: SiteOption = Path(),
    *,
    changed: Annotated[bool, typer.Option(help="Only what would go elsewhere.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say where the present routes would send what came, against where it was sent."""
    settings = open_settings(site)
    with reading(settings) as session:
        told = replay(
            session,
            Archive(settings.data / "archive"),
            load_routes(site.resolve()),
            since.replace(tzinfo=UTC),
        )
    rows = [
        {
            "accession": one.instance.accession,
            "series": one.instance.series_description or one.instance.series_number,
            "received_at": one.instance.received_at,
            "did": one.did,
            "would": one.would,
            "added": one.added,
            "dropped": one.dropped,
        }
        for one in told.series
        if not changed or one.added or one.dropped
    ]
    if told.is_cut or told.unread:
        more = "; there are more: ask for a shorter time" if told.is_cut else ""
        notes.print(f"{told.unread} series cannot be read{more}")
    table(
        rows,
        ["accession", "series", "did", "would", "added", "dropped"],
        as_json=as_json,
        empty="No series would go elsewhere." if changed else "Nothing came since then.",
    )


def _decide(
    routes: Sequence[Route], paths: Sequence[Path], origin: Origin
) -> tuple[list[_Group], list[dict[str, str]]]:
    """Decide for every instance, and put together those of a series that are decided alike."""
    groups: dict[str, _Group] = {}
    skipped: list[dict[str, str]] = []
    for file in _files(paths):
        try:
            header = dcmread(file, stop_before_pixels=True)
        except (InvalidDicomError, OSError, EOFError, ValueError, AttributeError) as error:
            skipped.append({"file": str(file), "reason": f"not read as DICOM: {error}"})
            continue
        decisions = decide(routes, header, origin)
        series_uid = _first(header, "SeriesInstanceUID")
        # the key is all that a person would see, so that what differs is told apart
        group = groups.setdefault(
            repr((series_uid, decisions)),
            _Group(
                series_uid,
                _first(header, "StudyDescription"),
                _first(header, "SeriesDescription"),
                _first(header, "Modality"),
                decisions,
            ),
        )
        group.instances.append(_first(header, "SOPInstanceUID") or str(file))
    return list(groups.values()), skipped


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        elif path.is_file():
            yield path
        else:
            raise UsageError(f"there is no file or folder {path}")


def _first(header: Dataset, keyword: str) -> str:
    return next(iter(text(header, keyword)), "")


def _lines(groups: Sequence[_Group], skipped: Sequence[dict[str, str]]) -> Iterator[str]:
    for group in groups:
        count = len(group.instances)
        names = [part for part in (group.modality, group.study, group.series) if part]
        yield f"{' · '.join(names) or 'no description'} ({count} instance{'s' * (count != 1)})"
        yield f"  series {group.series_uid or 'without a UID'}"
        shown: set[str] = set()
        for decision in group.decisions:
            arrow = "→" if decision.send else "✗"
            reason = f"by route {decision.route!r}: {decision.why['reason']}"
            yield f"  {arrow} {decision.ae_title}  {reason}"
            if decision.route not in shown:
                shown.add(decision.route)
                explanation = Explanation.from_json(decision.why["condition"])
                yield from (f"      {line}" for line in explanation.lines())
        if not group.decisions:
            yield "  no route names anything"
        yield ""
    for one in skipped:
        yield f"{one['file']}: {one['reason']}"
    if not groups:
        yield "No DICOM file was found there."
