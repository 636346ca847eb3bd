"""How heavy a case's page is, and how soon it is useful, in Chromium on loopback.

*Useful* is when the table and the plot are there: from the start of the navigation to the frame
that paints them. The viewer begins to load after that and is not counted; it is not held back
either. *Cold* is a browser that has kept nothing, *warm* the same tab once more. The page is one of
a project with a form, a threshold and the patient's exams over years.

``python -m bench.case_page [--exams N] [--runs N]``
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.portal.filled import AT, DEFINITION, Filler

from overread.identity.local import hash_password
from overread.portal import server
from overread.site import SiteFolder, load
from overread.store import enrolments, users
from overread.store.tables import Reading

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
AIM_S = 1.0
NAME, PASSWORD = "rosa", "a reader's password"

PROJECT = """
name: glioma
title: Glioma progression
pipelines: [brain-tumour]
form: progression
members: {reader: {users: [rosa]}}
page:
  series:
    - {quantity: volume, title: Tumour volume, threshold: {increase: 25%, words: progression},
       repeatability: 12%}
"""
FORM: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Progression",
    "type": "object",
    "properties": {
        "progression": {
            "title": "Does this exam show progression?",
            "enum": ["yes", "no", "cannot tell"],
        },
        "remark": {"title": "Anything the model missed", "type": "string", "maxLength": 2000},
    },
    "required": ["progression"],
}


def make_site(root: Path) -> SiteFolder:
    """Write the site folder."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    for folder, name, text in (
        (".", "overread.yaml", f"site: {{name: Phantom clinic}}\nportal: {{port: {port}}}\n"),
        ("pipelines", "brain-tumour.yaml", json.dumps(DEFINITION)),
        ("projects", "glioma.yaml", PROJECT),
        ("forms", "progression.json", json.dumps(FORM)),
    ):
        (root / folder).mkdir(exist_ok=True)
        (root / folder / name).write_text(text)
    return load(root, {})


def fill(site: SiteFolder, exams: int) -> str:
    """Fill the site with one patient's exams, two months apart; return the newest case."""
    filler = Filler(site)
    for number in range(exams):
        acquired = date(2020, 1, 1) + timedelta(days=60 * number)
        filler.exam(
            f"exam {number}",
            accession=f"PH-{number}",
            date=f"{acquired:%Y%m%d}",
            radius=8 + number % 7,
        )
    with filler.filled.database.write() as session:
        reader = users.add_user(
            session, AT, "bench", name=NAME, secret=hash_password(PASSWORD), role="reader"
        )
        cases = [
            enrolments.enrol(session, AT, "glioma", root_id, "brain-tumour").id
            for root_id in filler.filled.cases.values()
        ]
        session.add(
            Reading(
                enrolment_id=cases[-1], project="glioma", reader_id=reader.id, state="open",
                ready_at=AT,
            )
        )  # fmt: skip
    return cases[-1]


@contextmanager
def listening(site: SiteFolder) -> Iterator[str]:
    """Let a portal listen; give its origin."""
    stop = threading.Event()
    thread = threading.Thread(target=server.serve, args=(site, stop))
    thread.start()
    try:
        yield f"http://127.0.0.1:{site.settings.portal.port}"
    finally:
        stop.set()
        thread.join(20)


def measure(origin: str, case: str, runs: int, folder: Path) -> list[dict[str, Any]]:
    """Let Chromium open the page; what it saw of each run."""
    plan = folder / "plan.json"
    plan.write_text(
        json.dumps(
            {"origin": origin, "name": NAME, "password": PASSWORD, "case": case, "act": "time",
             "runs": runs}
        )
    )  # fmt: skip
    done = subprocess.run(
        ["node", str(ROOT / "tests" / "portal" / "case.mjs"), str(plan)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    seen = json.loads(done.stdout.splitlines()[-1])
    assert (seen["errors"], seen["refused"]) == ([], [])
    runs_seen: list[dict[str, Any]] = seen["runs"]
    return runs_seen


def weigh(run: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Sum a cold run's files by kind: files, bytes on the wire, bytes unpacked."""
    kinds: dict[str, list[tuple[int, int]]] = {"HTML": [], "CSS": [], "JS": []}
    for one in run["cold"]["bytes"]:
        kind = {"css": "CSS", "js": "JS"}.get(one["name"].rpartition(".")[2], "HTML")
        kinds[kind].append((one["sent"], one["size"]))
    return [
        (kind, len(of), sum(sent for sent, _ in of), sum(size for _, size in of))
        for kind, of in kinds.items()
    ]


def _row(what: str, times: list[float], aim: str = "") -> str:
    ms = [f"{value:.0f}" for value in (statistics.median(times), min(times), max(times))]
    return f"| {what} | {' | '.join(ms)} | {aim} |"


def report(runs: list[dict[str, Any]], exams: int) -> str:
    """Write the page of results."""
    weights = weigh(runs[0])
    total = [sum(one[place] for one in weights) for place in (1, 2, 3)]
    kept = [sum(one["sent"] for one in run["warm"]["bytes"]) for run in runs]
    load_now = os.getloadavg()[0]
    lines = [
        "# Case page",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, load {load_now:.1f} at the end.",
        "",
        f"One case of a project with form, threshold and plot over {exams} exams, in headless "
        f"Chromium on loopback, {len(runs)} runs. *Useful*: from the start of the navigation to "
        "the frame that paints table and plot. The viewer begins to load after it, and is "
        "counted neither in time nor in bytes.",
        "",
        "| what, in ms | median | least | most | aim |",
        "| --- | --- | --- | --- | --- |",
        _row(
            "useful, nothing kept", [run["cold"]["useful"] for run in runs], f"{AIM_S * 1000:.0f}"
        ),
        _row("useful, once more", [run["warm"]["useful"] for run in runs]),
        _row("of it: the server's answer whole", [run["warm"]["answered"] for run in runs]),
        "",
        "| part | files | KB sent | KB unpacked |",
        "| --- | --- | --- | --- |",
        *(
            f"| {kind} | {files} | {sent / 1000:.1f} | {size / 1000:.1f} |"
            for kind, files, sent, size in [*weights, ("all", *total)]
        ),
        "",
        f"Once more, with what the browser has kept: {statistics.median(kept) / 1000:.1f} KB sent.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run it, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.case_page")
    parser.add_argument("--exams", type=int, default=20)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--dry", action="store_true", help="print the results, and keep nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = make_site(Path(folder))
        case = fill(site, options.exams)
        with listening(site) as origin:
            runs = measure(origin, case, options.runs + 1, Path(folder))[1:]  # the first warms up
    text = report(runs, options.exams)
    print(text)
    if not options.dry:
        (RESULTS / "case-page.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
