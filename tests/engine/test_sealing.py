from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from overread.engine.sealing import Sealer, heads_file
from overread.store import append_only, seal
from overread.store.audit import record
from overread.store.database import Database

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path: Path, postgresql_databases: Callable[[], str]
) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path / 'o.sqlite'}"
    made = Database(url if request.param == "sqlite" else postgresql_databases())
    made.upgrade()
    yield made
    made.close()


def tell(database: Database, number: int = 1) -> None:
    for one in range(number):
        with database.write() as session:
            record(session, NOW, "rosa", "open case", f"case {one}")


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def heads(database: Database) -> list[tuple[int, str]]:
    with database.read() as session:
        return [(block.number, block.head) for block in seal.blocks(session)]


def test_each_head_is_exported_once_and_told(database: Database, tmp_path: Path) -> None:
    file = heads_file(tmp_path)
    sealer = Sealer(database, "one", file)
    with capture_logs() as logs:
        sealer.round(NOW)
        assert not file.exists()
        tell(database, 3)
        sealer.round(NOW)
        sealer.round(NOW + timedelta(seconds=1))
        tell(database)
        sealer.round(NOW + timedelta(seconds=2))
        sealer.round(NOW + timedelta(seconds=70))
    assert [(one["block"], one["head"]) for one in lines(file)] == heads(database)
    assert [one["last_id"] for one in lines(file)] == [3, 4]
    assert [(one["block"], one["head"]) for one in logs] == [
        (str(number), head) for number, head in heads(database)
    ]


def test_one_that_starts_again_exports_what_a_crash_left(
    database: Database, tmp_path: Path
) -> None:
    file = heads_file(tmp_path)
    tell(database)
    Sealer(database, "one", file).round(NOW)
    tell(database)
    Sealer(database, "one", tmp_path / "elsewhere.jsonl").round(NOW)  # sealed, not exported
    with file.open("a") as broken:
        broken.write('{"block": 2, "he')
    Sealer(database, "one", file).round(NOW)
    assert [(one["block"], one["head"]) for one in lines(file)] == heads(database)


def test_only_who_holds_the_lease_seals(database: Database, tmp_path: Path) -> None:
    one = Sealer(database, "one", tmp_path / "one.jsonl")
    other = Sealer(database, "other", tmp_path / "other.jsonl")
    tell(database)
    one.round(NOW)
    tell(database)
    other.round(NOW + timedelta(seconds=1))
    assert len(heads(database)) == 1
    other.round(NOW + timedelta(seconds=60))  # the first is gone
    assert len(heads(database)) == 2
    assert len(lines(tmp_path / "other.jsonl")) == 2


@pytest.mark.parametrize(
    "lost", ["DELETE FROM audit_seal WHERE id = 2", "UPDATE audit_seal SET head = '00'"]
)
def test_a_database_that_lost_its_end_is_told(
    database: Database, tmp_path: Path, lost: str
) -> None:
    file = heads_file(tmp_path)
    tell(database)
    Sealer(database, "one", file).round(NOW)
    tell(database)
    Sealer(database, "one", file).round(NOW)
    dialect = database.engine.dialect.name
    with database.write() as session:
        for statement in append_only.without_triggers(dialect):
            session.execute(text(statement))
        session.execute(text(lost))
    with capture_logs() as logs:
        Sealer(database, "one", file).round(NOW)
    assert "not the one that was exported" in logs[0]["event"]


def test_what_is_told_while_others_write_is_sealed_within_a_second(
    database: Database, tmp_path: Path
) -> None:
    sealer, stop = Sealer(database, "one", tmp_path / "heads.jsonl"), threading.Event()
    waits: list[float] = []

    def sealing() -> None:
        while not stop.wait(0.25):
            sealer.round(datetime.now(UTC))

    def watching() -> None:
        while not stop.wait(0.2):
            with database.read() as session:
                oldest = seal.standing(session).oldest
            if oldest is not None:
                waits.append((datetime.now(UTC) - oldest).total_seconds())

    def writing() -> None:
        while not stop.is_set():
            with database.write() as session:
                record(session, datetime.now(UTC), "rosa", "open case", "case 1")
            time.sleep(0.005)  # so that four of them are a busy site, not a broken one

    threads = [threading.Thread(target=one) for one in (sealing, watching, *[writing] * 4)]
    for one in threads:
        one.start()
    time.sleep(3)  # how long it is looked at
    stop.set()
    for one in threads:
        one.join()
    assert len(waits) > 3
    assert sorted(waits)[len(waits) // 2] < 1
    sealer.round(datetime.now(UTC))
    with database.read() as session:
        found = seal.verify(session, heads(database))
    assert (found.faults, found.unsealed) == ([], 0)
    assert found.rows > 50
