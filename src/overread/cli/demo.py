"""``overread demo``: a simulated hospital, played before your eyes."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from overread.cli.terminal import console, notes
from overread.errors import OverreadError, Unavailable
from overread.simulator.hospital import Hospital, make_site, running
from overread.simulator.pacs import counts
from overread.simulator.reference import (
    Agreement,
    RealCase,
    agreement,
    fetch_real_cases,
    read_segmentation,
)
from overread.simulator.scanner import Answer, send
from overread.simulator.story import Ending, Scene, Taken, scenes
from overread.store import cases
from overread.store.archive import Archive
from overread.store.cases import UNDER_WAY, CaseState
from overread.store.database import Database

_LOOK_EVERY = 0.5
_PATIENCE = 600.0
"""Seconds without any change after which what has not ended counts as failed."""
_ENDS = {
    Ending.RESULT: {CaseState.DONE, CaseState.NOTHING_FOUND},
    Ending.REFUSED: {CaseState.REFUSED},
}


@dataclass(eq=False)
class _Played:
    """A scene, and how it goes."""

    scene: Scene
    taken: Taken | None = None
    sent: int = 0
    state: str = "waiting for the scanner"
    reason: str = ""
    volume: float | None = None
    compared: Agreement | None = None
    case_id: str = ""
    ended: bool = False
    failed: str = ""

    def count(self, answer: Answer) -> None:
        """Hear what became of one image."""
        self.sent += answer.accepted


@dataclass
class _Play:
    """The whole: what is played, and whether the scanner is through."""

    played: list[_Played]
    stop: threading.Event = field(default_factory=threading.Event)
    broken: str = ""


def demo(
    site: Annotated[Path, typer.Option(help="The demo's site folder; made if absent.")] = Path(
        "demo-site"
    ),
    once: Annotated[
        bool, typer.Option("--once", help="End when all results are there; print one JSON line.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(min=0, help="The scanner's pause between two images.")
    ] = 0.1,
    exams: Annotated[
        int | None,
        typer.Option(min=1, help="Play only so many exams.", show_default="the whole story"),
    ] = None,
) -> None:
    """Play a simulated hospital: a scanner, a PACS, and the site between them."""
    begun = time.monotonic()
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was begun is ended
    make_site(site)
    play = _Play([_Played(scene) for scene in scenes(_real_cases(site), exams)])
    with running(site) as hospital, tempfile.TemporaryDirectory(prefix="overread-") as work:
        _introduce(hospital)
        with _scanner(play, hospital, Path(work), seconds):
            _watch(play, hospital)
        _print_table(play.played, hospital)
        failed = [f"{one.scene.order.accession}: {one.failed}" for one in play.played if one.failed]
        if once:
            print(json.dumps(_summary(play.played, hospital, time.monotonic() - begun, failed)))
        else:
            _stay(hospital)
    if failed:
        for line in failed:
            notes.print(f"[red]{line}[/red]", soft_wrap=True)
        raise typer.Exit(1)


def _real_cases(site: Path) -> Callable[[], list[RealCase]]:
    def real() -> list[RealCase]:
        notes.print("Fetching two real brain MR exams (the test data of pyradiomics 3.0.1) …")
        try:
            return fetch_real_cases(site / "data" / "real-cases")
        except Unavailable as error:
            notes.print(f"The real exams cannot be had here ({error}); going on without them.")
            return []

    return real


def _introduce(hospital: Hospital) -> None:
    console.print(f"The portal is at {hospital.portal}")
    for name, password in hospital.passwords.items():
        console.print(f"  sign in as [bold]{name}[/bold] with [bold]{password}[/bold]")
    console.print(
        f"The scanner sends to {hospital.router}; the PACS is {hospital.pacs}.", soft_wrap=True
    )


@contextmanager
def _scanner(play: _Play, hospital: Hospital, work: Path, pause: float) -> Iterator[None]:
    """Scan and send in a thread, one exam after the other, while the block runs."""

    def scan() -> None:
        try:
            for number, one in enumerate(play.played):
                if play.stop.is_set():
                    return
                one.state = "scanning"
                one.taken = one.scene.take(work / str(number))
                one.state = "sending"
                answers = send(
                    one.taken.files, hospital.router, pause=pause, told=one.count, stop=play.stop
                )
                refused = [answer.sentence for answer in answers if not answer.accepted]
                if refused:
                    one.failed, one.ended = f"not accepted: {refused[0]}", True
        except OverreadError as error:
            play.broken = str(error)

    thread = threading.Thread(target=scan, name="scanner")
    thread.start()
    try:
        yield
    finally:
        play.stop.set()
        thread.join()


def _watch(play: _Play, hospital: Hospital) -> None:
    """Follow the exams until all have ended, or nothing has changed for too long."""
    database = Database(hospital.site.settings.database_url)
    bar = Progress(
        TextColumn("exams"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=notes
    )
    task = bar.add_task("exams", total=len(play.played))
    told: dict[str, str] = {}
    changed = time.monotonic()
    with Live(console=notes, auto_refresh=False, transient=notes.is_terminal) as live:
        while not all(one.ended for one in play.played):
            hospital.check()
            if play.broken:
                raise Unavailable(play.broken)
            _look(play.played, hospital, database)
            bar.update(task, completed=sum(one.ended for one in play.played))
            now = {one.scene.order.accession: _state_of(one) for one in play.played}
            if now != told:
                changed = time.monotonic()
                _tell(now, told)
                told = now
            if notes.is_terminal:
                live.update(Group(_states(play.played), bar), refresh=True)
            if time.monotonic() - changed > _PATIENCE:
                for one in play.played:
                    if not one.ended:
                        one.failed, one.ended = f"still {one.state}, without any change", True
            time.sleep(_LOOK_EVERY)
    database.close()


def _tell(now: dict[str, str], told: dict[str, str]) -> None:
    """Without a terminal to draw on, say what has changed, a line each."""
    if notes.is_terminal:
        return
    for accession, state in now.items():
        if state != told.get(accession) and not state.startswith(("sending", "waiting for")):
            notes.print(f"{accession} {state}", highlight=False, soft_wrap=True)


def _look(played: Sequence[_Played], hospital: Hospital, database: Database) -> None:
    """See in the database, and at the PACS, how the exams that are sent go."""
    at_pacs = counts(hospital.pacs_folder)
    with database.read() as session:
        found = {case.exam.study_uid: case for case in cases.list_cases(session, limit=500)}
        for one in played:
            if one.taken is None or one.ended or one.sent < len(one.taken.files):
                continue
            study = str(one.scene.order.study_uid)
            missing = len(one.taken.files) - at_pacs.get(study, 0)
            case = found.get(study)
            if case is None:
                one.state = "sent" if missing > 0 else "in the PACS"
                one.ended = one.scene.ending is Ending.PACS_ONLY and missing <= 0
                continue
            one.case_id, one.reason = case.id, case.reason
            one.state = f"running: {case.step}" if case.step else str(case.state)
            if case.state in UNDER_WAY:
                continue
            if case.state not in _ENDS.get(one.scene.ending, ()):
                one.failed = f"{case.state} instead of {one.scene.ending}: {case.reason}"
            elif one.scene.ending is Ending.RESULT:
                one.volume = sum(item.value for item in case.volumes)
                one.compared = _compare(one.taken, cases.shown(session, case.id), hospital)
            one.ended = bool(one.failed) or missing <= 0


def _compare(taken: Taken, shown: cases.Shown, hospital: Hospital) -> Agreement | None:
    if taken.reference is None:
        return None
    if shown.segmentation is None:
        return agreement(0 * taken.reference.array, taken.reference)
    archive = Archive(hospital.site.settings.data / "archive")
    found = read_segmentation(archive.path(shown.segmentation.key), taken.uids)
    return agreement(found, taken.reference)


def _state_of(one: _Played) -> str:
    if one.state == "sending" and one.taken is not None:
        return f"sending {one.sent} of {len(one.taken.files)}"
    return one.state


def _states(played: Sequence[_Played]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("accession", "patient", "what it is", "state"):
        table.add_column(column)
    for one in played:
        order = one.scene.order
        table.add_row(order.accession, order.patient_name, one.scene.about, _state_of(one))
    return table


def _print_table(played: Sequence[_Played], hospital: Hospital) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("accession", "patient", "state"):
        table.add_column(column)
    for column in ("model mL", "reference mL", "Dice"):
        table.add_column(column, justify="right")
    for one in played:
        order, numbers = one.scene.order, ["", "", ""]
        if one.compared is not None and one.taken is not None and one.volume is not None:
            numbers[0] = f"{one.volume:.1f}"
            numbers[1] = f"{one.taken.reference_ml:.1f}"
            numbers[2] = f"{one.compared.dice:.2f}"
        table.add_row(order.accession, order.patient_name, one.state, *numbers)
    console.print(table)
    for one in played:
        if one.reason:
            console.print(f"{one.scene.order.accession} {one.state}: {one.reason}", soft_wrap=True)
    for one in played:
        console.print(_link(one, hospital), soft_wrap=True)
    console.print(f"Cases to read, for reader and reader2: {hospital.portal}/", soft_wrap=True)


def _link(one: _Played, hospital: Hospital) -> str:
    return f"{hospital.portal}/open?accession={one.scene.order.accession}"


def _summary(
    played: Sequence[_Played], hospital: Hospital, took: float, failed: list[str]
) -> dict[str, Any]:
    wanted = [one for one in played if one.scene.ending is Ending.RESULT]
    return {
        "cases": len(wanted),
        "results": sum(one.volume is not None for one in wanted),
        "seconds": round(took, 1),
        "portal": hospital.portal,
        "exams": [
            {
                "accession": one.scene.order.accession,
                "patient": one.scene.order.patient_name,
                "state": one.state,
                "model_ml": one.volume,
                "reference_ml": one.taken.reference_ml if one.compared and one.taken else None,
                "dice": one.compared.dice if one.compared else None,
                "open": _link(one, hospital),
            }
            for one in played
        ],
        "failed": failed,
    }


def _stay(hospital: Hospital) -> None:
    try:
        console.print("It stays up until Ctrl-C.")
        while True:
            hospital.check()
            time.sleep(_LOOK_EVERY)
    except KeyboardInterrupt:
        console.print("Ending.")
