from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from overread.errors import UsageError
from overread.store.by_time import newest
from overread.store.database import Database
from overread.store.tables import Instance, Worker

AT = datetime(2026, 6, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('by-time') / 'x.sqlite'}")
    database.upgrade()
    with database.write() as session:
        for number in range(23):  # several at one time
            at = AT + timedelta(seconds=number // 4)
            session.add(Worker(name=f"w{number:02}", boot="", started_at=at, seen_at=at))
    return database


@settings(max_examples=20, deadline=None)
@given(limit=st.integers(1, 30))
def test_pages_are_the_whole_list(database: Database, limit: int) -> None:
    order = (Worker.seen_at.desc(), Worker.name.desc())
    with database.read() as session:
        whole = list(session.scalars(select(Worker).order_by(*order)))
        seen: list[Worker] = []
        after = ""
        while True:
            page = newest(
                session, select(Worker), Worker.seen_at, Worker.name, after=after, limit=limit
            )
            assert 0 < len(page.rows) <= limit
            seen += page.rows
            after = page.next
            if not after:
                break
    assert [one.name for one in seen] == [one.name for one in whole]


def test_what_comes_meanwhile_moves_nothing(database: Database) -> None:
    with database.write() as session:
        first = newest(session, select(Worker), Worker.seen_at, Worker.name, limit=5)
        late = AT + timedelta(days=1)
        session.add(Worker(name="new", boot="", started_at=late, seen_at=late))
        session.flush()
        second = newest(
            session, select(Worker), Worker.seen_at, Worker.name, after=first.next, limit=5
        )
        names = {one.name for one in first.rows} | {one.name for one in second.rows}
        assert len(names) == 10 and "new" not in names
        session.rollback()


@pytest.mark.parametrize(
    "after", ["x", "0", "0.1", "0.1.", "0.x.y", "9" * 40, "0.-1.a", "0.1.\x00"]
)
def test_what_is_no_place_is_refused(database: Database, after: str) -> None:
    with database.read() as session, pytest.raises(UsageError, match="no place"):
        newest(session, select(Worker), Worker.seen_at, Worker.name, after=after)


@pytest.mark.parametrize("after", ["0.1.x", "0.1.99999999999999999999"])
def test_a_number_is_asked_for_where_the_key_is_one(database: Database, after: str) -> None:
    with database.read() as session, pytest.raises(UsageError, match="number"):
        newest(session, select(Instance), Instance.received_at, Instance.id, after=after)
