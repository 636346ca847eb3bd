from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, select, text, update
from sqlalchemy.orm import Session

from overread.store import enrolments, listing, search, signs, worklist
from overread.store.database import Database
from overread.store.listing import Listing
from overread.store.paging import Days, Place, place
from overread.store.tables import Enrolment, Exam, Reading, Tally, User, name_key
from overread.store.worklist import Count, Wanted
from overread.validation.permissions import Reach
from tests.store.case_rows import AT, exam, ready_case, user

EVERYWHERE = Reach(everywhere=True)
URGENT = 7
"""Every how many cases one is urgent."""


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(f"sqlite:///{tmp_path / 'o.sqlite'}")
    made.upgrade()
    return made


def set_state(session: Session, case: Enrolment, reader: User, state: str) -> None:
    session.execute(
        update(Reading)
        .where(Reading.enrolment_id == case.id, Reading.reader_id == reader.id)
        .values(state=state)
    )


def filled(session: Session, number: int = 30) -> tuple[User, list[Enrolment]]:
    """A reader's cases in two projects, each seventh urgent; another reader has them too."""
    rosa, otto = user(session, "rosa"), user(session, "otto")
    cases = [
        ready_case(
            session, exam(session, one), rosa, otto, urgent=one % URGENT == 3,
            project="glioma" if one % 3 else "liver",
        )
        for one in range(number)
    ]  # fmt: skip
    return rosa, cases


def in_order(cases: list[Enrolment]) -> list[str]:
    return [one.id for one in sorted(cases, key=lambda one: (not one.urgent, one.ready_at))]


def test_urgent_ones_come_first_then_the_oldest(database: Database) -> None:
    with database.write() as session:
        rosa, cases = filled(session)
        page = worklist.queue(session, rosa.id)
    assert [row.enrolment.id for row in page.rows] == in_order(cases)
    assert page.next == ""


@pytest.mark.parametrize("limit", [1, 4, 7, 29, 30, 31])
def test_pages_follow_each_other(database: Database, limit: int) -> None:
    with database.write() as session:
        rosa, cases = filled(session)
        listed: list[str] = []
        after = ""
        for _ in range(40):
            page = worklist.queue(session, rosa.id, after=after, limit=limit)
            assert len(page.rows) <= limit
            listed += [row.enrolment.id for row in page.rows]
            after = page.next
            if not after:
                break
    assert listed == in_order(cases)


def test_a_page_holds_while_cases_before_it_are_read(database: Database) -> None:
    with database.write() as session:
        rosa, cases = filled(session)
        order = in_order(cases)
        first = worklist.queue(session, rosa.id, limit=10)
        for case in cases:
            if case.id in order[:5]:
                set_state(session, case, rosa, "submitted")
        second = worklist.queue(session, rosa.id, after=first.next, limit=10)
    assert [row.enrolment.id for row in second.rows] == order[10:20]


def test_done_ones_come_newest_first_and_page(database: Database) -> None:
    with database.write() as session:
        rosa, cases = filled(session)
        for case in cases:
            set_state(session, case, rosa, "submitted")
        wanted = Wanted(state="submitted")
        first = worklist.queue(session, rosa.id, wanted, limit=20)
        second = worklist.queue(session, rosa.id, wanted, after=first.next, limit=20)
    expected = [one.id for one in sorted(cases, key=lambda one: one.enrolled_at, reverse=True)]
    assert [row.enrolment.id for row in (*first.rows, *second.rows)] == expected


def test_what_is_asked_for_is_listed_and_nothing_else(database: Database) -> None:
    with database.write() as session:
        rosa, cases = filled(session)
        set_state(session, cases[4], rosa, "draft")
        noon = Days(AT + timedelta(minutes=10), AT + timedelta(minutes=13))
        asked = {
            Wanted("liver"): [one for one in cases if one.project == "liver"],
            Wanted(pipeline="brain"): cases,
            Wanted(pipeline="liver"): [],
            Wanted(state="draft"): [cases[4]],
            Wanted(days=noon): cases[10:13],
            Wanted(projects=("liver",)): [one for one in cases if one.project == "liver"],
            Wanted("glioma", projects=("liver",)): [],
            Wanted(projects=()): [],
        }
        for wanted, expected in asked.items():
            page = worklist.queue(session, rosa.id, wanted)
            assert [row.enrolment.id for row in page.rows] == in_order(expected), wanted


@pytest.mark.parametrize(
    "odd", ["", "x", "1", "1.2", "1..", "-1.2.x", "9.9" * 40, "1.9" * 12, "é.1.a"]
)
def test_a_place_that_is_none_begins_anew(database: Database, odd: str) -> None:
    with database.write() as session:
        rosa, cases = filled(session, 5)
        page = worklist.queue(session, rosa.id, after=odd)
    assert [row.enrolment.id for row in page.rows] == in_order(cases)


@given(st.integers(0, 9), st.datetimes(min_value=AT.replace(tzinfo=None, year=1971)), st.text("a0"))
def test_a_place_is_read_back(rank: int, at: datetime, row_id: str) -> None:
    made = Place(rank, at.replace(tzinfo=UTC), f"x{row_id}")
    assert place(str(made)) == made


def test_the_next_case_is_the_one_after_and_then_the_first(database: Database) -> None:
    with database.write() as session:
        rosa, cases = filled(session, 6)
        order = in_order(cases)
        assert worklist.next_reading(session, rosa.id) == order[0]
        assert worklist.next_reading(session, rosa.id, after=order[2]) == order[3]
        assert worklist.next_reading(session, rosa.id, after=order[-1]) == order[0]
        assert worklist.previous_reading(session, rosa.id, before=order[2]) == order[1]
        assert worklist.previous_reading(session, rosa.id, before=order[0]) is None
        by_id = {one.id: one for one in cases}
        for case_id in order[3:]:
            set_state(session, by_id[case_id], rosa, "submitted")
        assert worklist.next_reading(session, rosa.id, after=order[4]) == order[0]
        assert worklist.next_reading(session, rosa.id, after="nowhere") == order[0]
        assert worklist.next_reading(session, rosa.id, "liver") in {
            one.id for one in cases if one.project == "liver"
        }
        assert worklist.next_reading(session, rosa.id, projects=()) is None
        for case_id in order[:2]:
            set_state(session, by_id[case_id], rosa, "submitted")
        assert worklist.next_reading(session, rosa.id, after=order[2]) is None
        assert worklist.position(session, rosa.id) == (5, 6)


def test_what_was_begun_last_is_gone_on_with(database: Database) -> None:
    with database.write() as session:
        rosa, cases = filled(session, 6)
        assert worklist.resume(session, rosa.id) is None
        for number, at in ((1, 5), (4, 9), (2, 7)):
            set_state(session, cases[number], rosa, "draft")
            session.execute(
                update(Reading)
                .where(Reading.enrolment_id == cases[number].id)
                .values(saved_at=AT + timedelta(hours=at))
            )
        found = worklist.resume(session, rosa.id)
    assert found is not None
    assert found.enrolment.id == cases[4].id


def tallied(session: Session) -> dict[tuple[object, ...], int]:
    rows = session.scalars(select(Tally).where(Tally.count != 0))
    return {
        (one.reader_id, one.state, one.project, one.pipeline, one.rank): one.count for one in rows
    }


def counted(session: Session) -> dict[tuple[object, ...], int]:
    found: dict[tuple[object, ...], int] = {}
    for one in session.scalars(select(Reading).where(Reading.amends == "")):
        key = (one.reader_id, one.state, one.project, one.pipeline, one.rank)
        found[key] = found.get(key, 0) + 1
    return found


def lives(session: Session) -> Iterator[None]:
    """Readings in all that may happen to them."""
    rosa, cases = filled(session, 8)
    yield
    set_state(session, cases[0], rosa, "draft")
    yield
    session.execute(update(Reading).values(revision=Reading.revision + 1))
    yield
    session.execute(update(Reading).where(Reading.reader_id == rosa.id).values(state="submitted"))
    yield
    first = session.scalars(select(Reading).where(Reading.reader_id == rosa.id)).first()
    assert first is not None
    session.add(
        Reading(
            enrolment_id=first.enrolment_id, project=first.project, pipeline=first.pipeline,
            reader_id=rosa.id, state="draft", ready_at=first.ready_at, amends=first.id,
        )
    )  # fmt: skip
    session.flush()
    yield
    enrolments.make_ready(session, AT, cases[1], urgent=True)
    yield
    session.execute(delete(Reading).where(Reading.state == "open"))
    yield


def test_the_tally_is_right_whoever_writes(database: Database) -> None:
    with database.write() as session:
        changes = -1
        for _ in lives(session):
            session.expire_all()
            assert tallied(session) == counted(session)
            now = sum(session.scalars(select(Tally.changes)))
            assert now >= changes
            changes = now


def test_counts_are_by_project(database: Database) -> None:
    with database.write() as session:
        rosa, cases = filled(session, 12)
        set_state(session, cases[0], rosa, "submitted")
        set_state(session, cases[6], rosa, "draft")
        session.expire_all()
        assert worklist.counts(session, rosa.id, ["liver"]) == [
            Count("liver", to_read=3, begun=1, urgent=1, done=1)
        ]
        assert worklist.position(session, rosa.id, "liver") == (1, 4)
        assert worklist.position(session, rosa.id) == (1, 12)
        both = worklist.progress(session, "liver")
        assert [(one.name, one.count.done) for one in both] == [("otto", 0), ("rosa", 1)]
        assert worklist.enrolled(session, "liver") == worklist.Enrolled(4, 4)


def test_another_reader_sees_none_of_it(database: Database) -> None:
    with database.write() as session:
        _, cases = filled(session, 3)
        eve = user(session, "eve")
        assert worklist.queue(session, eve.id).rows == []
        assert worklist.counts(session, eve.id) == []
        found = search.find(session, "A-1", EVERYWHERE)
        assert worklist.search(session, eve.id, found) == []
        assert worklist.next_reading(session, eve.id, after=cases[0].id) is None


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("A-1", {1}), ("a-1", {1}), (" A-1 ", {1}), ("PH-2", {2}), ("ph-2", {2}),
        ("Müller", {1}), ("muller", {1}), ("MULLER^A", {1}), ("müller, anna", {1}), ("mul", {1}),
        ("phantom", {2}), ("anna", set()), ("", set()), ("^", set()), ("%", set()), ("A-", set()),
        ("'; DROP TABLE exam", set()),
    ],
)  # fmt: skip
def test_search(database: Database, asked: str, found: set[int]) -> None:
    with database.write() as session:
        exam(session, 1, patient_name="MÜLLER^Anna")
        exam(session, 2)
        roots = search.find(session, asked, EVERYWHERE).root_ids
    assert {int(one[-1]) for one in roots} == found


def test_search_finds_only_what_is_within_reach(database: Database) -> None:
    with database.write() as session:
        ready_case(session, exam(session, 1))
        exam(session, 2)
        reach = Reach(everywhere=False, projects=frozenset({"glioma"}))
        assert search.find(session, "PHANTOM", reach).root_ids == ("exam000001",)


def test_a_search_that_is_cut_says_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST", 3)
    with database.write() as session:
        for number in range(5):
            exam(session, number)
        found = search.find(session, "phantom", EVERYWHERE)
    assert len(found.root_ids) == 3
    assert found.is_cut


def test_what_is_not_seen_neither_fills_a_search_nor_is_told_of(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST", 1)
    with database.write() as session:
        for number in range(3):
            exam(session, number)
        ready_case(session, exam(session, 3))
        reach = Reach(everywhere=False, projects=frozenset({"glioma"}))
        found = search.find(session, "phantom", reach)
    assert (found.root_ids, found.is_cut) == (("exam000003",), False)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=30))
def test_a_name_is_found_by_its_own_beginning(name: str) -> None:
    key = name_key(name)
    assert name_key(key) == key
    assert name_key(name.partition("^")[0]) == key[: len(name_key(name.partition("^")[0]))]


def asked_of(session: Session) -> None:
    """Ask for everything that lists ask for."""
    rosa = session.scalars(select(User).where(User.name == "rosa")).one()
    reach = Reach(everywhere=False, projects=frozenset({"glioma", "liver"}))
    for wanted in (
        Wanted(), Wanted("glioma"), Wanted(pipeline="brain"), Wanted(state="draft"),
        Wanted(state="submitted"), Wanted(days=Days(AT, AT + timedelta(days=1))),
    ):  # fmt: skip
        first = worklist.queue(session, rosa.id, wanted, limit=3)
        worklist.queue(session, rosa.id, wanted, after=first.next, limit=3)
    worklist.counts(session, rosa.id)
    worklist.resume(session, rosa.id)
    for where in (EVERYWHERE, reach):
        found = search.find(session, "PHANTOM^N1", where)
        worklist.search(session, rosa.id, found)
        listing.found(session, Listing(where), found)
        for what in (
            Listing(where), Listing(where, pipeline="brain"), Listing(where, "glioma"),
            Listing(where, days=Days(AT, AT + timedelta(days=1))),
            *(Listing(where, state=state) for state in listing.STATES),
        ):  # fmt: skip
            page = listing.listed(session, what, limit=3)
            listing.listed(session, what, after=page.next, limit=3)
    listing.on_their_way(session, ["glioma", "liver"])
    signs.of_lists(session, rosa.id)


_LONG = re.compile(
    r"SCAN (?!json_each)(reading|exam|enrolment|job|result|step_run)(_\d+)?\b(?! USING)"
)


def test_no_list_reads_a_whole_table(database: Database) -> None:
    """What grows with the readings is only ever looked up by an index."""
    with database.write() as session:
        filled(session, 60)
    with database.engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    asked: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, values: Any, *_: object) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, values))

    event.listen(database.engine, "before_cursor_execute", note)
    with database.read() as session:
        asked_of(session)
    event.remove(database.engine, "before_cursor_execute", note)
    assert len(asked) > 50
    with database.engine.connect() as connection:
        for statement, values in dict(asked).items():
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            plan = [row[3] for row in rows]
            assert not [step for step in plan if _LONG.search(step)], (statement, plan)


def test_all_of_it_on_postgresql(postgresql: str) -> None:
    database = Database(postgresql)
    database.upgrade()
    with database.write() as session:
        for _ in lives(session):
            session.expire_all()
            assert tallied(session) == counted(session)
        asked_of(session)
        session.execute(update(Reading).where(Reading.state != "submitted").values(state="open"))
        session.expire_all()
        assert tallied(session) == counted(session)
        exam(session, 90, patient_name="MÜLLER^Anna")
        exam(session, 91, patient_name="MULLER-B")
        exam(session, 92, patient_name="NULLER")
        found = search.find(session, "muller", EVERYWHERE)
        assert set(found.root_ids) == {"exam000090", "exam000091"}
        late = session.scalars(select(Exam).where(Exam.id == "exam000090")).one()
        otto = session.scalars(select(User).where(User.name == "otto")).one()
        case = ready_case(session, late, otto, urgent=True)
        assert worklist.next_reading(session, otto.id) == case.id
        every = [one.enrolment.id for one in worklist.queue(session, otto.id).rows]
        listed, after = [], ""
        for _ in range(20):
            page = worklist.queue(session, otto.id, after=after, limit=2)
            listed += [one.enrolment.id for one in page.rows]
            after = page.next
            if not after:
                break
        assert listed == every
    database.close()
