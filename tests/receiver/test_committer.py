from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from overread.receiver.committer import Committer
from overread.store.database import Database
from overread.store.tables import Lease

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'o.sqlite'}")
    made.upgrade()
    yield made
    made.close()


def add(name: str) -> Callable[[Session], str]:
    def work(session: Session) -> str:
        session.add(Lease(name=name, holder="me", expires_at=NOW))
        session.flush()
        return name

    return work


def names(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(Lease.name).order_by(Lease.name)))


class Many:
    """Threads that each hand in a piece of work while the committer is busy."""

    def __init__(self, database: Database, works: list[Callable[[Session], object]]) -> None:
        self.committer = Committer(database)
        go_on, busy = threading.Event(), threading.Event()

        def wait(_session: Session) -> None:
            busy.set()
            go_on.wait(10)

        with ThreadPoolExecutor(len(works) + 1) as pool:
            first = pool.submit(self.committer.run, wait)
            assert busy.wait(10)
            self.outcomes = [pool.submit(self.committer.run, work) for work in works]
            ends = time.monotonic() + 10
            while len(self.committer._items) < len(works) and time.monotonic() < ends:
                time.sleep(0.01)
            go_on.set()
            first.result(10)


def test_what_is_done_is_committed(database: Database) -> None:
    assert Committer(database).run(add("a")) == "a"
    assert names(database) == ["a"]


def test_what_waits_shares_one_transaction(database: Database) -> None:
    commits: list[int] = []
    event.listen(database.engine, "commit", lambda _connection: commits.append(1))
    many = Many(database, [add(f"{n:02}") for n in range(20)])
    assert [outcome.result() for outcome in many.outcomes] == [f"{n:02}" for n in range(20)]
    assert len(commits) == 2
    assert len(names(database)) == 20


def test_one_that_fails_spoils_only_itself(database: Database) -> None:
    many = Many(database, [add("a"), add("b"), add("a"), add("c")])
    errors = [outcome.exception() for outcome in many.outcomes]
    assert [type(error) for error in errors].count(IntegrityError) == 1
    assert errors[1] is errors[3] is None
    assert names(database) == ["a", "b", "c"]


def test_one_alone_that_fails_gets_its_error(database: Database) -> None:
    committer = Committer(database)
    with pytest.raises(ZeroDivisionError):
        committer.run(lambda _session: 1 // 0)
    assert committer.run(add("a")) == "a"
