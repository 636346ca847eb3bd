from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from overread.dicom.study import Origin
from overread.routing.rules import Decision
from overread.store.archive import Archive
from overread.store.database import Database
from overread.store.instances import keep, take
from overread.store.refusals import has_key, quarantine, turn_away, withdraw
from overread.store.tables import Arrival, Delivery, Exam, Instance, Quarantine, Turned
from tests.store.objects import as_file, ct

NOW = datetime(2026, 1, 2, 23, 0, tzinfo=UTC)
STRANGER = Origin("STRANGER", "OVERREAD", "10.0.0.9")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(f"sqlite:///{tmp_path / 'o.sqlite'}")
    made.upgrade()
    return made


def test_what_is_turned_away_is_counted_by_day_and_reason(database: Database) -> None:
    for reason, hours in (("a", 0), ("a", 0), ("b", 0), ("a", 2)):
        with database.write() as session:
            turn_away(session, STRANGER, reason, NOW + timedelta(hours=hours))
    with database.read() as session:
        rows = session.scalars(select(Turned).order_by(Turned.id)).all()
    assert [(row.day, row.reason, row.count) for row in rows] == [
        ("2026-01-02", "a", 2),
        ("2026-01-02", "b", 1),
        ("2026-01-03", "a", 1),
    ]
    assert rows[0].calling_ae == "STRANGER"


def test_quarantine_keeps_what_was_answered_and_why(database: Database) -> None:
    with database.write() as session:
        row_id = quarantine(
            session,
            at=NOW,
            association_id=None,
            key="quarantine/x",
            size=3,
            status=0xC000,
            reason="truncated",
        )
    with database.read() as session:
        row = session.get_one(Quarantine, row_id)
    assert (row.status, row.reason, row.size) == (0xC000, "truncated", 3)


def test_withdrawing_takes_everything_back_but_what_an_exam_has(
    database: Database, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "archive")
    kept = []
    for uid in ("1.2.1", "1.2.2"):
        incoming = take(archive, as_file(ct(SOPInstanceUID=uid)), NOW)
        with database.write() as session:
            kept.append(
                keep(
                    session,
                    archive,
                    incoming,
                    at=NOW,
                    origin=Origin("SCANNER", "BRIGHT", ""),
                    association_id=None,
                    decisions=[Decision("all", "PACS", True, {})],
                    pipelines=("BRIGHT",),
                )
            )
    with database.write() as session:
        session.add(exam())
        session.flush()
        taken = session.scalars(select(Arrival).where(Arrival.instance_id == kept[1].instance_id))
        taken.one().exam_id = "e"
    with database.write() as session:
        for one in kept:
            assert has_key(session, one.key)
            withdraw(session, one.instance_id)
    with database.read() as session:
        (left,) = session.scalars(select(Instance)).all()
        assert (left.id, left.standing) == (kept[1].instance_id, "conflict")
        assert [row.instance_id for row in session.scalars(select(Delivery))] == [left.id]
        assert not has_key(session, kept[0].key)


def exam() -> Exam:
    texts = dict.fromkeys(
        (
            "pipeline", "ae_title", "group", "patient_id", "issuer", "patient_name", "study_uid",
            "accession", "study_date", "study_description", "modality", "held_reason",
        ),
        "",
    )  # fmt: skip
    return Exam(
        id="e", root_id="e", revision=1, state="open", opened_at=NOW, last_arrival_at=NOW,
        due_at=NOW, evidence={}, priority=10, **texts,
    )  # fmt: skip
