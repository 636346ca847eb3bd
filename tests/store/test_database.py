from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, Table, select, text
from sqlalchemy.exc import IntegrityError, OperationalError, StatementError

from overread.store import migrations
from overread.store.database import Database
from overread.store.tables import Arrival, Audit, Base, Exam, Held, Lease, Result, User
from overread.store.tables import Session as SignIn

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


def migrate(database: Database, run: Callable[[Config, str], None], revision: str) -> None:
    """Upgrade or downgrade, as `Database.upgrade` does to the newest."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__path__[0])))
    with database.engine.execution_options(writing=True).begin() as connection:
        config.attributes["connection"] = connection
        run(config, revision)


def fill(connection: Connection, table: Table, **said: Any) -> None:
    """Write one row; what is not said is as empty as its column allows."""
    empty: dict[type, Any] = {str: "", int: 1, bool: False, datetime: NOW, dict: {}, object: {}}
    row = {
        column.name: empty[column.type.python_type]
        for column in table.columns
        if not column.nullable and not (column.primary_key and column.type.python_type is int)
    }
    connection.execute(table.insert().values({**row, **said}))


def fill_first_release(database: Database) -> None:
    """Fill the schema of revision 0004: people, a sign-in, and an exam with a result."""
    tables = MetaData()
    tables.reflect(database.engine)
    with database.engine.execution_options(writing=True).begin() as connection:
        for name, role in (("rosa", "reader"), ("egon", "engineer"), ("ada", "admin")):
            fill(connection, tables.tables["user"], id=name, name=name, password="p", role=role)
        fill(connection, tables.tables["session"], token_digest="t", user_id="rosa")
        fill(
            connection, tables.tables["exam"], id="e", root_id="e", patient_name="Müller^Änne",
            state="closed",
        )  # fmt: skip
        fill(connection, tables.tables["job"], id="j", exam_id="e", state="done", origin="routed")
        fill(connection, tables.tables["result"], id="r", job_id="j", exam_id="e", data={"a": 1})
        fill(connection, tables.tables["audit"], actor="rosa", action="case.see", subject="exam e")


@pytest.fixture(params=["sqlite", "postgresql"])
def first_release(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A database of the release before there were projects, with something in it."""
    url = f"sqlite:///{tmp_path / 'o.sqlite'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql")
    made = Database(url)
    migrate(made, command.upgrade, "0004")
    fill_first_release(made)
    return made


def test_an_upgrade_keeps_what_is_there(first_release: Database) -> None:
    first_release.upgrade()
    with first_release.read() as session:
        roles = {(held.user_id, held.role, held.project) for held in session.scalars(select(Held))}
        assert roles == {
            ("rosa", "reader", ""), ("egon", "engineer", ""), ("ada", "administrator", "")
        }  # fmt: skip
        for user in session.scalars(select(User)):
            said = (user.password, user.origin, user.subject, user.groups, user.email)
            assert said == ("p", "local", "", [], "")
        assert session.scalars(select(SignIn)).all() == []  # everybody signs in again
        assert session.get_one(Exam, "e").name_key == "muller anne"
        result = session.get_one(Result, "r")
        assert (result.data, result.author, result.edits) == ({"a": 1}, "", None)
        row = session.scalars(select(Audit)).one()
        assert (row.actor, row.action, row.address, row.session) == ("rosa", "case.see", "", "")
    with first_release.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_a_downgrade_gives_back_the_roles(first_release: Database) -> None:
    first_release.upgrade()
    with first_release.write() as session:
        session.add(User(id="kai", name="kai", password="p", created_at=NOW, disabled=False))
        session.flush()
        session.add(Held(user_id="kai", role="reader", project="liver"))
    migrate(first_release, command.downgrade, "0004")
    with first_release.read() as session:
        rows = session.execute(text('SELECT name, role FROM "user"'))
        found = {name: role for name, role in rows}  # noqa: C416 - a Result is no dict
    assert found == {"rosa": "reader", "egon": "engineer", "ada": "admin", "kai": ""}
    first_release.upgrade()


def test_no_downgrade_makes_an_edit_the_models(first_release: Database) -> None:
    """The schema before knew no authors: a reader's edit would stand there as the model's."""
    first_release.upgrade()
    with first_release.write() as session:
        session.get_one(Result, "r").author = "rosa"
    with pytest.raises(ValueError, match="no place for 1 readings and readers' edits"):
        migrate(first_release, command.downgrade, "0004")
    with first_release.read() as session:
        assert session.get_one(Result, "r").author == "rosa"


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
