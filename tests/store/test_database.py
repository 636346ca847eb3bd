from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, OperationalError, StatementError

from overread.store.database import Database
from overread.store.tables import Arrival, Base, Lease

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(f"sqlite:///{tmp_path / 'below' / 'o.sqlite'}")
    made.upgrade()
    return made


def lease(name: str) -> Lease:
    return Lease(name=name, holder="me", expires_at=NOW)


def test_the_migrated_schema_is_the_one_of_the_tables(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_several_may_upgrade_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'o.sqlite'}"
    failures: list[BaseException] = []

    def upgrade() -> None:
        try:
            Database(url).upgrade()
        except BaseException as error:  # noqa: BLE001 - asserted on below
            failures.append(error)

    threads = [threading.Thread(target=upgrade) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_write_is_committed_and_a_read_is_not(database: Database) -> None:
    with database.write() as session:
        session.add(lease("kept"))
    with database.read() as session:
        session.add(lease("lost"))
        session.flush()
    with database.read() as session:
        assert [row.name for row in session.scalars(select(Lease))] == ["kept"]
        assert session.get_one(Lease, "kept").expires_at == NOW


def test_an_error_rolls_everything_back(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as session:
        session.add(lease("lost"))
        session.flush()
        raise ZeroDivisionError
    with database.read() as session:
        assert session.scalars(select(Lease)).all() == []


def test_writers_take_turns_and_none_fails(database: Database) -> None:
    """BEGIN IMMEDIATE: two that read first and write then would otherwise fail as locked."""
    with database.write() as session:
        session.add(lease("0"))

    def count_up() -> None:
        for _ in range(10):
            with database.write() as session:
                row = session.get_one(Lease, "0")
                number = int(row.holder) if row.holder.isdigit() else 0
                time.sleep(0.001)
                row.holder = str(number + 1)

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert session.get_one(Lease, "0").holder == "40"


def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    with database.write() as writing:
        writing.add(lease("later"))
        writing.flush()
        with database.read() as reading:
            assert reading.scalars(select(Lease)).all() == []


def test_references_are_enforced(database: Database) -> None:
    arrival = Arrival(
        instance_id=99, ae_title="A", origin="sent", route="", why={}, at=NOW, disposition="new"
    )
    with pytest.raises(IntegrityError), database.write() as session:
        session.add(arrival)


def test_what_is_committed_is_on_disk(database: Database) -> None:
    with database.engine.connect() as connection:
        pragma = connection.exec_driver_sql
        assert pragma("PRAGMA journal_mode").scalar() == "wal"
        assert pragma("PRAGMA synchronous").scalar() == 2  # FULL


def test_a_naive_time_is_refused(database: Database) -> None:
    naive = Lease(name="x", holder="me", expires_at=NOW.replace(tzinfo=None))
    with pytest.raises(StatementError, match="no time zone"), database.write() as session:
        session.add(naive)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_an_error_quotes_no_value(tmp_path: Path, backend: str) -> None:
    url = {"sqlite": f"sqlite:///{tmp_path / 'o.sqlite'}", "postgresql": "postgresql+psycopg://h/d"}
    database = Database(url[backend])
    assert database.engine.hide_parameters
    if database.is_sqlite:
        with pytest.raises(OperationalError) as caught, database.read() as session:
            session.execute(text("SELECT * FROM nowhere WHERE name = :name"), {"name": "Doe^Jane"})
        assert "nowhere" in str(caught.value) and "Doe" not in str(caught.value)


def test_an_sqlite_url_names_a_file() -> None:
    with pytest.raises(ValueError, match="names no file"):
        Database("sqlite://")


def test_its_folder_is_for_its_owner_only(database: Database) -> None:
    assert database.url.database is not None
    assert Path(database.url.database).parent.stat().st_mode & 0o777 == 0o700
