from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select

from overread.store.audit import record
from overread.store.database import Database
from overread.store.tables import Audit

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_rows_are_appended_in_the_transaction_of_what_they_tell_of(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'o.sqlite'}")
    database.upgrade()
    with database.write() as session:
        record(session, NOW, "ada", "retry job", "job 3f", {"from_step": "mask"})
        record(session, NOW, "overread", "close exam", "exam 4a")
    with database.write() as session:
        record(session, NOW, "ada", "cancel job", "job 3f")
        session.rollback()
    with database.read() as session:
        rows = session.scalars(select(Audit).order_by(Audit.id)).all()
    assert [(row.actor, row.action, row.subject, row.detail) for row in rows] == [
        ("ada", "retry job", "job 3f", {"from_step": "mask"}),
        ("overread", "close exam", "exam 4a", {}),
    ]
