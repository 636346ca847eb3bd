from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from overread.store.audit import (
    Wanted,
    all_of,
    first_given,
    forget_given,
    known_files,
    newest,
    note_files,
    record,
    was_given,
)
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


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(f"sqlite:///{tmp_path / 'o.sqlite'}")
    made.upgrade()
    return made


ROWS = [
    ("ada", "retry job", "job 3f", NOW),
    ("ada", "open case", "case 3f", NOW + timedelta(days=1)),
    ("rosa", "open case", "case 4a", NOW + timedelta(days=2)),
    ("rosa", "list cases", "cases", NOW + timedelta(days=3)),
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), [4, 3, 2, 1]),
        (Wanted(actor="ada"), [2, 1]),
        (Wanted(action="open case"), [3, 2]),
        (Wanted(subject="case 3f"), [2]),
        (Wanted(subject="case"), [3, 2]),
        (Wanted(subject="cas"), []),
        (Wanted(subject="%"), []),
        (Wanted(since=NOW + timedelta(days=1), until=NOW + timedelta(days=3)), [3, 2]),
        (Wanted(actor="rosa", action="retry job"), []),
    ],
)
def test_rows_are_found(database: Database, wanted: Wanted, found: list[int]) -> None:
    with database.write() as session:
        for actor, action, subject, at in ROWS:
            record(session, at, actor, action, subject)
            session.flush()
    with database.read() as session:
        assert [row.id for row in newest(session, wanted)] == found
        assert [row.id for row in all_of(session, wanted, until=99)] == found[::-1]
        assert [row.id for row in newest(session, wanted, limit=1)] == found[:1]
        assert [row.id for row in newest(session, wanted, before=3)] == [
            one for one in found if one < 3
        ]


def test_a_series_is_given_for_the_first_time_once(database: Database) -> None:
    with database.write() as session:
        assert first_given(session, "5e", "1.2.3") is None  # no instance of that series is here
        assert was_given(session, "5e", "1.2.3")
        assert not was_given(session, "6f", "1.2.3")
        forget_given(session)  # no such sign-in is left
        assert not was_given(session, "5e", "1.2.3")


def test_only_changed_files_are_told(database: Database) -> None:
    told = [
        ({"a.yaml": "1", "b.yaml": "2"}, True),
        ({"a.yaml": "1", "b.yaml": "2"}, False),
        ({"a.yaml": "3"}, True),
        ({"a.yaml": "3"}, False),
    ]
    for files, changed in told:
        with database.write() as session:
            assert note_files(session, NOW, files, by="overread") is changed
    with database.read() as session:
        assert known_files(session) == {"a.yaml": "3"}
        rows = session.scalars(select(Audit).order_by(Audit.id)).all()
    assert [row.detail["files"] for row in rows] == [
        {"a.yaml": ["", "1"], "b.yaml": ["", "2"]},
        {"a.yaml": ["1", "3"], "b.yaml": ["2", ""]},
    ]
