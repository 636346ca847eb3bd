from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
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


def test_what_is_done_is_committed(database: Database) -> None:
    committer = Committer(database)
    outcome = committer.submit(add("a"))
    assert outcome.result(10) == "a"
    assert names(database) == ["a"]
    committer.close()


def test_what_waits_shares_one_transaction(database: Database) -> None:
    commits: list[int] = []
    event.listen(database.engine, "commit", lambda _connection: commits.append(1))
    committer = Committer(database)
    go_on = threading.Event()
    first = committer.submit(lambda _session: go_on.wait(10))
    rest = [committer.submit(add(f"{n:02}")) for n in range(20)]
    go_on.set()
    assert first.result(10)
    assert [outcome.result(10) for outcome in rest] == [f"{n:02}" for n in range(20)]
    committer.close()
    assert len(commits) <= 2  # the first may have waited for the rest
    assert len(names(database)) == 20


def test_one_that_fails_spoils_only_itself(database: Database) -> None:
    committer = Committer(database)
    go_on = threading.Event()
    committer.submit(lambda _session: go_on.wait(10))
    rest = [committer.submit(add(name)) for name in ("a", "b", "a", "c")]
    go_on.set()
    committer.close()
    assert [outcome.exception(10) is None for outcome in rest] == [True, True, False, True]
    with pytest.raises(IntegrityError):
        rest[2].result()
    assert names(database) == ["a", "b", "c"]


def test_closing_commits_what_was_handed_in(database: Database) -> None:
    committer = Committer(database)
    for n in range(100):
        committer.submit(add(f"{n:03}"))
    committer.close()
    assert len(names(database)) == 100
