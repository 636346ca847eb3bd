from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.store import failures
from overread.store.database import Database
from overread.store.tables import FailedSignIn

NOW = datetime(2026, 6, 2, 9, tzinfo=UTC)
NONE = timedelta(0)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    database = Database(f"sqlite:///{tmp_path / 'store.sqlite'}")
    database.upgrade()
    with database.write() as session:
        yield session
    database.close()


def test_five_failures_make_a_name_wait_at_that_address_only(session: Session) -> None:
    for second in range(5):
        assert failures.wait(session, NOW, "ada", "10.0.0.1") == NONE
        failures.add(session, NOW + timedelta(seconds=second), "ada", "10.0.0.1")
    later = NOW + timedelta(seconds=10)
    assert failures.wait(session, later, "ada", "10.0.0.1") == timedelta(minutes=5, seconds=-10)
    assert failures.wait(session, later, "ada", "10.0.0.2") == NONE
    assert failures.wait(session, later, "bob", "10.0.0.1") == NONE
    assert failures.wait(session, NOW + timedelta(minutes=6), "ada", "10.0.0.1") == NONE


def test_an_address_that_tries_many_names_waits_for_all_of_them(session: Session) -> None:
    for number in range(50):
        failures.add(session, NOW, f"name{number}", "10.0.0.1")
    assert failures.wait(session, NOW, "ada", "10.0.0.1") > NONE
    assert failures.wait(session, NOW, "ada", "10.0.0.2") == NONE


def test_what_is_kept_has_an_end_and_holds_no_name(session: Session) -> None:
    failures.add(session, NOW, "a password by mistake", "10.0.0.1")
    failures.add(session, NOW + timedelta(minutes=6), "eve", "10.0.0.3")
    kept = session.scalars(select(FailedSignIn)).all()
    assert [one.address for one in kept] == ["10.0.0.3"]
    assert "eve" not in kept[0].pair


def test_signing_in_forgets_the_failures(session: Session) -> None:
    for _ in range(5):
        failures.add(session, NOW, "ada", "10.0.0.1")
    failures.clear(session, "ada", "10.0.0.1")
    assert failures.wait(session, NOW, "ada", "10.0.0.1") == NONE
