from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from overread.errors import UsageError
from overread.store import readings
from overread.store.database import Database
from overread.store.tables import Enrolment, Reading, User
from overread.validation.forms import Form
from overread.validation.reading import Outcome

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FORM = Form("f", {"type": "object", "properties": {"a": {"type": "string"}}})


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path: Path, postgresql_databases: Callable[[], str]
) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path / 'o.sqlite'}"
    made = Database(url if request.param == "sqlite" else postgresql_databases())
    made.upgrade()
    with made.write() as session:
        for name in ("rosa", "robin"):
            session.add(User(id=name, name=name, password="", disabled=False, created_at=NOW))
        session.add(
            Enrolment(id="c", project="p", root_id="e", pipeline="x", enrolled_at=NOW, ready_at=NOW)
        )
        session.flush()
        session.add_all(reading(name) for name in ("rosa", "robin"))
    yield made
    made.close()


def reading(reader: str) -> Reading:
    return Reading(
        id=f"of {reader}", enrolment_id="c", project="p", pipeline="x", reader_id=reader,
        state="open", ready_at=NOW, due_at=None, opened_at=None, saved_at=None, submitted_at=None,
    )  # fmt: skip


def kept(database: Database, reader: str = "rosa") -> Reading:
    with database.read() as session:
        found = readings.mine(session, "c", reader)
    assert found is not None
    return found


def save(database: Database, revision: int, **answers: str) -> Outcome:
    with database.write() as session:
        return readings.save(session, NOW, "of rosa", answers, revision=revision, form=FORM)[0]


def submit(database: Database, revision: int, reader: str = "rosa", **answers: str) -> Outcome:
    with database.write() as session:
        row = readings.mine(session, "c", reader)
        assert row is not None
        return readings.submit(session, NOW, row.id, answers, revision=revision, form=FORM)[0]


def amend(database: Database, reason: str = "wrong side") -> Reading:
    with database.write() as session:
        row = readings.mine(session, "c", "rosa")
        assert row is not None
        return readings.amend(session, NOW, row, reason)


def test_it_is_opened_once_and_remembers_what_was_shown(database: Database) -> None:
    with database.write() as session:
        row = readings.mine(session, "c", "rosa")
        assert row is not None
        assert readings.opened(session, NOW, row, ["r1"])
        assert not readings.opened(session, NOW + timedelta(hours=1), row, ["r2", "r1"])
    assert (kept(database).opened_at, kept(database).shown) == (NOW, ["r1", "r2"])
    submit(database, 0, a="x")
    with database.write() as session:
        assert not readings.opened(session, NOW, kept(database), ["r3"])
    assert kept(database).shown == ["r1", "r2"]


def test_a_draft_counts_its_revisions_and_a_stale_page_changes_nothing(database: Database) -> None:
    assert save(database, 0, a="one") is Outcome.KEPT
    assert save(database, 0, a="stale") is Outcome.STALE
    assert submit(database, 0, a="stale") is Outcome.STALE
    row = kept(database)
    assert (row.state, row.revision, row.answers, row.saved_at) == ("draft", 1, {"a": "one"}, NOW)
    assert (row.form, row.form_digest) == (FORM.name, FORM.digest)


def test_it_is_submitted_once(database: Database) -> None:
    assert submit(database, 0, a="x") is Outcome.KEPT
    assert submit(database, 0, a="x") is Outcome.REPEATED
    assert submit(database, 1, a="y") is Outcome.CLOSED
    assert save(database, 1, a="y") is Outcome.CLOSED
    row = kept(database)
    assert (row.answers, row.submitted_at, row.revision) == ({"a": "x"}, NOW, 1)


def test_of_many_submits_at_once_one_is_kept(database: Database) -> None:
    outcomes: list[Outcome] = []
    start = threading.Barrier(4)

    def act(number: int) -> None:
        start.wait()
        outcomes.append(submit(database, 0, a=f"{number % 2}"))

    threads = [threading.Thread(target=act, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["closed", "closed", "kept", "repeated"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE reading SET answers = '{}' WHERE id = 'of rosa'",
        "UPDATE reading SET state = 'draft' WHERE id = 'of rosa'",
        "UPDATE reading SET submitted_at = NULL",
        "UPDATE reading SET reader_id = 'robin', amends = 'x' WHERE id = 'of rosa'",
        "DELETE FROM reading",
    ],
)
def test_the_database_itself_keeps_a_submitted_one(database: Database, statement: str) -> None:
    submit(database, 0, a="x")
    with (
        pytest.raises(DatabaseError, match="a submitted reading is never changed"),
        database.write() as session,
    ):
        session.execute(text(statement))
    assert kept(database).answers == {"a": "x"}
    with database.write() as session:  # what is not submitted can be
        session.execute(text("UPDATE reading SET rank = 0 WHERE id = 'of robin'"))


def test_neither_is_it_replaced_nor_emptied_away(database: Database) -> None:
    submit(database, 0, a="x")
    by_replacing = (
        "INSERT OR REPLACE INTO reading SELECT * FROM reading WHERE id = 'of rosa'"
        if database.is_sqlite
        else "TRUNCATE reading CASCADE"
    )
    with pytest.raises(DatabaseError, match="never changed"), database.write() as session:
        session.execute(text(by_replacing))


def test_an_amendment_is_a_reading_of_its_own(database: Database) -> None:
    with pytest.raises(UsageError, match="not submitted yet"):
        amend(database)
    submit(database, 0, a="x")
    with pytest.raises(UsageError, match="needs its reason"):
        amend(database, " a ")
    row = amend(database)
    assert (row.amends, row.state, row.answers, row.reason) == (
        "of rosa", "draft", {"a": "x"}, "wrong side",
    )  # fmt: skip
    assert amend_of(database, row).id == row.id  # the one that was begun already
    assert submit(database, row.revision, a="y") is Outcome.KEPT
    assert kept(database).answers == {"a": "y"}
    with database.read() as session:
        first = session.get(Reading, "of rosa")
        assert first is not None and first.answers == {"a": "x"}
    assert amend(database, "once more").amends == row.id


def amend_of(database: Database, row: Reading) -> Reading:
    with database.write() as session:
        first = session.get(Reading, row.amends)
        assert first is not None
        return readings.amend(session, NOW, first, "wrong side")


def test_an_amendment_that_is_given_up_leaves_the_reading_as_it_was(database: Database) -> None:
    submit(database, 0, a="x")
    row = amend(database)
    with database.write() as session:
        assert readings.discard(session, row.id) is Outcome.KEPT
    assert kept(database).id == "of rosa"
    again = amend(database, "after all")
    assert (again.id, again.reason, again.state) == (row.id, "after all", "draft")
    with pytest.raises(UsageError, match="no amendment"), database.write() as session:
        readings.discard(session, "of robin")


def test_a_withdrawn_one_is_nobody_s(database: Database) -> None:
    with database.write() as session:
        session.get_one(Reading, "of rosa").state = "withdrawn"
    with database.read() as session:
        assert readings.mine(session, "c", "rosa") is None
    assert save(database, 0, a="x") is Outcome.WITHDRAWN


def seen(database: Database, reader: str, *, others: bool) -> list[tuple[str, str]]:
    with database.read() as session:
        found = readings.of_case(session, "c", reader, others=others)
    return [(name, row.state) for row, name in found]


def test_whose_readings_somebody_sees(database: Database) -> None:
    submit(database, 0, a="x")
    mine = ("rosa", "submitted")
    assert seen(database, "robin", others=False) == [("robin", "open")]
    # Who sees the readings of others reads first, where there is something to read.
    assert seen(database, "robin", others=True) == [("robin", "open")]
    assert seen(database, "cora", others=True) == [mine]
    assert seen(database, "cora", others=False) == []
    submit(database, 0, "robin", a="z")
    assert seen(database, "robin", others=False) == [("robin", "submitted")]
    assert set(seen(database, "robin", others=True)) == {mine, ("robin", "submitted")}


def test_it_is_written_as_plain_json(database: Database) -> None:
    submit(database, 0, a="x")
    written = readings.to_json(kept(database), reader="rosa")
    assert written["answers"] == {"a": "x"} and written["reader"] == "rosa"
    assert written["submitted_at"] == NOW.isoformat() and written["amends"] is None
