from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from overread.store import enrolments, listing, search
from overread.store.database import Database
from overread.store.listing import Listing
from overread.store.paging import Days
from overread.validation.permissions import Reach
from tests.store.case_rows import AT, exam, job, ready_case

EVERYWHERE = Reach(everywhere=True)
GLIOMA = Reach(everywhere=False, projects=frozenset({"glioma"}))
BOTH = Reach(everywhere=False, projects=frozenset({"glioma", "liver"}))
NOWHERE = Reach(everywhere=False)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(f"sqlite:///{tmp_path / 'o.sqlite'}")
    made.upgrade()
    return made


def filled(session: Session) -> None:
    """Twelve exams: each third is in liver, the others in glioma, the last two in none."""
    for number in range(12):
        one = exam(session, number, pipeline="liver" if number % 3 == 0 else "brain")
        if number < 10:
            ready_case(session, one, project="liver" if number % 3 == 0 else "glioma")
        job(session, one, {4: "failed", 7: "running", 11: "queued"}.get(number, "done"))


def numbers(session: Session, what: Listing, limit: int = 50) -> list[int]:
    """Numbers of the exams of all pages, in order."""
    found: list[int] = []
    after = ""
    for _ in range(30):
        page = listing.listed(session, what, after=after, limit=limit)
        found += [int(row.case.exam.id[-6:]) for row in page.rows]
        after = page.next
        if not after:
            break
    return found


@pytest.mark.parametrize("limit", [1, 3, 12, 50])
@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (Listing(EVERYWHERE), [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        (Listing(BOTH), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        (Listing(GLIOMA), [8, 7, 5, 4, 2, 1]),
        (Listing(NOWHERE), []),
        (Listing(EVERYWHERE, "liver"), [9, 6, 3, 0]),
        (Listing(GLIOMA, "liver"), []),
        (Listing(EVERYWHERE, pipeline="liver"), [9, 6, 3, 0]),
        (Listing(BOTH, pipeline="brain"), [8, 7, 5, 4, 2, 1]),
        (Listing(EVERYWHERE, state="failed"), [4]),
        (Listing(GLIOMA, state="running"), [7]),
        (Listing(BOTH, state="queued"), []),
        (Listing(EVERYWHERE, state="queued"), [11]),
        (Listing(BOTH, state="done"), [9, 8, 6, 5, 3, 2, 1, 0]),
        (Listing(EVERYWHERE, state="held"), []),
        (
            Listing(BOTH, days=Days(AT + timedelta(minutes=2), AT + timedelta(minutes=5))),
            [4, 3, 2],
        ),
    ],
)
def test_pages_hold_what_is_asked_for(
    database: Database, what: Listing, expected: list[int], limit: int
) -> None:
    with database.write() as session:
        filled(session)
        assert numbers(session, what, limit) == expected


def test_the_state_is_that_of_the_latest_job_and_revision(database: Database) -> None:
    with database.write() as session:
        first = exam(session, 1)
        job(session, first, "failed")
        job(session, first, "done", created_at=AT + timedelta(hours=1))
        job(session, first, "failed", created_at=AT + timedelta(hours=2), edits="result")
        second = exam(session, 2)
        job(session, second, "failed")
        exam(session, 3, root_id=second.root_id, revision=2, state="open", closed_at=None)
        assert numbers(session, Listing(EVERYWHERE, state="failed")) == []
        assert numbers(session, Listing(EVERYWHERE, state="done")) == [1]
        assert numbers(session, Listing(EVERYWHERE, state="arriving")) == [3]
        assert numbers(session, Listing(EVERYWHERE)) == [3, 1]


def test_a_row_leads_to_the_one_case_of_who_looks(database: Database) -> None:
    with database.write() as session:
        one = exam(session, 1)
        cases = [ready_case(session, one, project=name) for name in ("glioma", "liver")]
        exam(session, 2)
        rows = listing.listed(session, Listing(EVERYWHERE)).rows
        assert [row.link for row in rows] == ["exam000002", one.root_id]
        assert [row.link for row in listing.listed(session, Listing(GLIOMA)).rows] == [cases[0].id]
        both = listing.listed(session, Listing(BOTH)).rows
        assert {row.link for row in both} == {case.id for case in cases}
        found = search.find(session, "PH-1", GLIOMA)
        assert [row.link for row in listing.found(session, Listing(GLIOMA), found)] == [cases[0].id]


def test_what_is_found_is_narrowed_too(database: Database) -> None:
    with database.write() as session:
        filled(session)
        found = search.find(session, "phantom", EVERYWHERE)

        def of(what: Listing) -> list[int]:
            return [int(one.case.exam.id[-6:]) for one in listing.found(session, what, found)]

        assert of(Listing(EVERYWHERE)) == list(range(11, -1, -1))
        assert of(Listing(GLIOMA, state="failed")) == [4]
        assert of(Listing(BOTH, pipeline="liver")) == [9, 6, 3, 0]
        assert of(Listing(NOWHERE)) == []


def test_the_newest_without_results_are_on_their_way(database: Database) -> None:
    with database.write() as session:
        for number in range(8):
            one = exam(session, number)
            enrolments.enrol(session, one.opened_at, "glioma", one.root_id, one.pipeline)
        ready_case(session, exam(session, 9))
        rows = listing.on_their_way(session, ["glioma", "liver"], 3)
        assert [int(row.case.exam.id[-6:]) for row in rows] == [7, 6, 5]
        assert listing.on_their_way(session, []) == []
