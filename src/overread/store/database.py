"""The database: one SQLAlchemy URL, SQLite by default, PostgreSQL where there are more machines.

A write transaction on SQLite begins with ``BEGIN IMMEDIATE``: it waits for its turn at the start
and never fails in the middle because another writer came first. What was committed is on disk
(``synchronous=FULL``).

Errors leave out the values of their statement (``hide_parameters``): they are logged, and the
values are patients'.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.orm import Session

_BUSY_SECONDS = 60.0
_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """The store's database.

    Each process makes its own; it may be used from several threads.

    Parameters
    ----------
    url : str
        SQLAlchemy URL, such as ``sqlite:////var/lib/overread/overread.sqlite`` or
        ``postgresql+psycopg://user@host/overread``. The folder of an SQLite file is made, readable
        by its owner only.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            if not self.url.database or self.url.database == ":memory:":
                raise ValueError(f"{url!r} names no file; an SQLite database needs one")
            Path(self.url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.engine: Engine = create_engine(
                self.url, connect_args={"timeout": _BUSY_SECONDS}, hide_parameters=True
            )
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            self.engine = create_engine(self.url, pool_pre_ping=True, hide_parameters=True)
        self._writing = self.engine.execution_options(writing=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session to read with; whatever it changed is rolled back."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a session to write with: one transaction, committed on exit, rolled back on error.

        Objects stay usable after the commit.
        """
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            session.connection()
            yield session

    def upgrade(self) -> None:
        """Bring the schema to the newest revision. Safe when several processes do it at once."""
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        with self._writing.begin() as connection:
            if not self.is_sqlite:
                _lock(connection, "schema")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def one_at_a_time(session: Session, what: str) -> None:
    """Wait until no other transaction does ``what``; held until this one ends.

    SQLite has one writer at any time, so there it costs nothing.
    """
    connection = session.connection()
    if connection.dialect.name != "sqlite":
        _lock(connection, what)


def _lock(connection: Connection, what: str) -> None:
    connection.execute(
        text("SELECT pg_advisory_xact_lock(:key)"), {"key": crc32(f"overread {what}".encode())}
    )


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see _begin_sqlite
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA wal_autocheckpoint=4000")  # pages; a checkpoint delays its commit


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
