from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from overread.store import append_only, seal
from overread.store.audit import record
from overread.store.database import Database
from overread.store.seal import Block
from overread.store.tables import Audit

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path: Path, postgresql_databases: Callable[[], str]
) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path / 'o.sqlite'}"
    made = Database(url if request.param == "sqlite" else postgresql_databases())
    made.upgrade()
    yield made
    made.close()


def tell(session: Session, number: int, detail: dict[str, object] | None = None) -> None:
    record(
        session, NOW, "rosa", "open case", f"case {number}", detail or {"über": [1.5, None]},
        address="127.0.0.1", sign_in="5e",
    )  # fmt: skip


def told(database: Database, *numbers: int) -> None:
    for number in numbers:
        with database.write() as session:
            tell(session, number)


def seal_all(database: Database, now: datetime = NOW) -> list[Block]:
    made: list[Block] = []
    while True:
        with database.read() as session:
            block = seal.next_block(session, now)
        if block is None:
            return made
        with database.write() as session:
            assert seal.keep(session, block)
        made.append(block)


def verified(database: Database, *exported: Block) -> seal.Verified:
    with database.read() as session:
        return seal.verify(session, [(one.number, one.head) for one in exported])


def tampered(database: Database, *statements: str) -> None:
    """Change what is stored, as one who may change the schema can."""
    dialect = database.engine.dialect.name
    with database.write() as session:
        for one in (
            *append_only.without_triggers(dialect), *statements, *append_only.triggers(dialect),
        ):  # fmt: skip
            session.execute(text(one))


@pytest.mark.parametrize("table", ["audit", "audit_seal"])
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET id = id + 100", "DELETE FROM {}", "UPDATE {} SET at = at"]
)
def test_the_database_refuses_to_change_a_row(
    database: Database, table: str, statement: str
) -> None:
    told(database, 1, 2)
    seal_all(database)
    told(database, 3)
    with (
        pytest.raises(DatabaseError, match=f"rows of {table} are only ever appended"),
        database.write() as session,
    ):
        session.execute(text(statement.format(table)))
    assert not verified(database).faults


def test_a_row_cannot_be_replaced_either(database: Database) -> None:
    told(database, 1)
    columns = (
        "(id, at, actor, action, subject, detail) VALUES (1, '2026-01-01', 'a', 'b', 'c', '{}')"
    )
    way = "INSERT OR REPLACE INTO" if database.is_sqlite else "TRUNCATE"
    with pytest.raises(DatabaseError, match="only ever appended"), database.write() as session:
        session.execute(text(f"{way} audit {columns if database.is_sqlite else ''}"))


def test_a_chain_that_nobody_touched_holds(database: Database) -> None:
    told(database, 1, 2, 3)
    first = seal_all(database)
    told(database, 4)
    second = seal_all(database)
    assert [len(one.rows) for one in first + second] == [3, 1]
    assert second[0].previous == first[0].head
    assert seal_all(database) == []
    told(database, 5)
    found = verified(database, *first, *second)
    assert (found.faults, found.blocks, found.rows, found.unsealed) == ([], 2, 4, 1)
    assert found.head == second[0].head


def test_a_large_number_is_sealed_in_blocks(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal, "BLOCK", 4)
    with database.write() as session:
        for number in range(10):
            tell(session, number)
    assert [len(one.rows) for one in seal_all(database)] == [4, 4, 2]
    assert verified(database).rows == 10


CHANGES = {
    "an actor": ("UPDATE audit SET actor = 'egon' WHERE id = 5", "row 5 of block 2 was changed"),
    "a time": (
        "UPDATE audit SET at = '2026-01-02 03:04:05.678902+00:00' WHERE id = 2",
        "row 2 of block 1 was changed",
    ),
    "an address": ("UPDATE audit SET address = '' WHERE id = 9", "row 9 of block 3 was changed"),
    "a row less": ("DELETE FROM audit WHERE id = 1", "row 1 of block 1 is gone"),
    "the last row less": ("DELETE FROM audit WHERE id = 9", "row 9 of block 3 is gone"),
    "a block less": ("DELETE FROM audit_seal WHERE id = 2", "block 2 is gone"),
    "another head": (
        "UPDATE audit_seal SET head = '00' WHERE id = 3",
        "block 3 was changed",
    ),
    "another digest": (
        "UPDATE audit_seal SET at = '2026-01-02 03:04:05.678902+00:00' WHERE id = 1",
        "block 1 was changed",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_is_found_and_named(database: Database, case: str) -> None:
    for start in (1, 4, 7):
        told(database, *range(start, start + 3))
        seal_all(database)
    assert not verified(database).faults
    statement, fault = CHANGES[case]
    tampered(database, statement)
    assert verified(database).faults[0] == fault


def test_a_whole_new_chain_is_found_by_what_was_exported(database: Database) -> None:
    told(database, 1, 2)
    before = seal_all(database)
    told(database, 3)
    before += seal_all(database)
    tampered(database, "UPDATE audit SET actor = 'egon' WHERE id = 2", "DELETE FROM audit_seal")
    seal_all(database)
    assert not verified(database).faults
    fault = "block 1 has another head than the one that was exported"
    assert verified(database, *before).faults == [fault]


def test_an_end_that_was_cut_off_is_found_by_what_was_exported(database: Database) -> None:
    told(database, 1)
    before = seal_all(database)
    told(database, 2)
    before += seal_all(database)
    tampered(database, "DELETE FROM audit WHERE id = 2", "DELETE FROM audit_seal WHERE id = 2")
    assert not verified(database).faults
    assert verified(database, *before).faults == ["block 2 was exported, and is not here any more"]


def test_a_row_that_is_committed_late_is_in_a_later_block(postgresql: str) -> None:
    """PostgreSQL gives ids before the commit, so that a higher one can be seen first."""
    database = Database(postgresql)
    database.upgrade()
    with Session(database.engine) as slow:
        tell(slow, 1)
        slow.flush()  # has its id now
        told(database, 2, 3)
        (block,) = seal_all(database)
        assert [number for number, _ in block.rows] == [2, 3]
        assert [gap[:2] for gap in block.gaps] == [(1, 1)]
        assert not verified(database).faults
        slow.commit()
    with database.read() as session:
        standing = seal.standing(session)
    assert (standing.unsealed, standing.holds(1), standing.holds(3)) == (1, False, True)
    assert verified(database).unsealed == 1
    told(database, 4)
    (late,) = seal_all(database)
    assert [number for number, _ in late.rows] == [1, 4]
    assert late.gaps == ()
    assert verified(database).rows == 4
    database.close()


def test_a_gap_of_an_act_that_never_was_closes(postgresql: str) -> None:
    database = Database(postgresql)
    database.upgrade()
    with Session(database.engine) as undone:
        tell(undone, 1)
        undone.flush()
        undone.rollback()
    told(database, 2)
    seal_all(database)
    told(database, 3)
    (block,) = seal_all(database, NOW + timedelta(hours=23))
    assert [gap[:2] for gap in block.gaps] == [(1, 1)]
    told(database, 4)
    (block,) = seal_all(database, NOW + timedelta(hours=25))
    assert block.gaps == ()
    assert not verified(database).faults
    with database.write() as session:
        session.add(Audit(id=1, at=NOW, actor="a", action="b", subject="c", detail={}))
    assert verified(database).faults == ["row 1 is in no block, and came too late to be in one"]
    database.close()


def test_writers_at_once_lose_no_row(database: Database) -> None:
    """While others write and roll back, whatever was committed is sealed exactly once."""
    kept, stop = [], threading.Event()
    failures: list[BaseException] = []

    def write(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(40):
                with Session(database._writing) as session, session.begin():
                    tell(session, seed)
                    session.flush()
                    number = session.query(Audit.id).order_by(Audit.id.desc()).first()
                    assert number is not None
                    if chance.random() < 0.2:
                        session.rollback()
                    else:
                        kept.append(seed)
        except BaseException as error:  # noqa: BLE001 - asserted on below
            failures.append(error)

    def sealing() -> None:
        try:
            while not stop.is_set():
                seal_all(database)
        except BaseException as error:  # noqa: BLE001 - asserted on below
            failures.append(error)

    sealer = threading.Thread(target=sealing)
    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for one in (sealer, *writers):
        one.start()
    for one in writers:
        one.join()
    stop.set()
    sealer.join()
    seal_all(database)
    found = verified(database)
    assert (failures, found.faults, found.unsealed) == ([], [], 0)
    assert found.rows == len(kept) > 100


@given(st.lists(st.integers(1, 40), unique=True, min_size=1), st.data())
def test_what_is_missing_is_what_has_not_come(ids: list[int], data: st.DataObject) -> None:
    """However rows come, the gaps are the ids below the highest that have not."""
    gaps: list[seal.Gap] = []
    last, came = 0, set[int]()
    while ids:
        cut = data.draw(st.integers(1, len(ids)))
        batch, ids = sorted(ids[:cut]), ids[cut:]
        gaps = seal.without(gaps, last, batch, "now")
        came |= {*batch}
        last = max(last, batch[-1])
        listed = [one for low, high, _ in gaps for one in range(low, high + 1)]
        assert listed == sorted({*range(1, last + 1)} - came)


def test_the_exported_file_is_read_back() -> None:
    block = Block(3, NOW, ((1, "ab"),), 1, (), "", "cafe")
    line = seal.export_line(block)
    assert list(seal.exported([line, "\n"])) == [(3, "cafe")]
    with pytest.raises(ValueError, match="line 2 is no head of a block"):
        list(seal.exported([line, "{}"]))
