from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from overread.store.history import history
from overread.store.tables import Instance
from tests.portal.filled import AT, Filler, Patient, make_site
from tests.store.test_cases import case


@pytest.fixture
def filler(tmp_path: Path) -> Filler:
    return Filler(make_site(tmp_path / "site"))


def test_history_is_one_patients_by_acquisition(filler: Filler) -> None:
    filler.exam("second", accession="2", date="20260301", radius=12)
    filler.exam("first", accession="1", date="20250301", radius=10, at=AT + timedelta(days=9))
    filler.exam("refused", accession="3", date="20251001", state="refused")
    filler.exam("held", accession="4", date="20251101", state="", exam_state="held")
    filler.exam("other issuer", patient=Patient(issuer="ELSEWHERE"), accession="5")
    with filler.filled.database.read() as session:
        points = history(session, case(session, filler, "second"))
        assert [point.case.exam.accession for point in points] == ["1", "3", "2"]
        first, refused, second = points
        assert first.changes == {"Enhancing tumour": None}
        assert refused.changes == {}
        change = second.changes["Enhancing tumour"]
        ratio = second.volumes["Enhancing tumour"].value / first.volumes["Enhancing tumour"].value
        assert change == pytest.approx((ratio - 1) * 100)


def test_exams_of_one_day_follow_one_another_by_time(filler: Filler) -> None:
    for number, name in enumerate(("evening", "noon", "morning")):
        filler.exam(name, accession=name, at=AT + timedelta(hours=number))
    times = {"evening": "19:30:00", "noon": "1200", "morning": "083000.5"}
    with filler.filled.database.write() as session:
        for one in session.scalars(select(Instance).where(Instance.standing == "kept")):
            one.study_time = times[one.accession]
    with filler.filled.database.read() as session:
        points = history(session, case(session, filler, "noon"))
        accessions = [point.case.exam.accession for point in points]
        assert accessions == ["morning", "noon", "evening"]


@pytest.mark.parametrize("date", ["", "20261340"])
def test_an_exam_without_a_date_is_no_baseline(filler: Filler, date: str) -> None:
    filler.exam("undated", accession="0", date=date, radius=6)
    filler.exam("first", accession="1", date="20250301", radius=10)
    filler.exam("second", accession="2", date="20260301", radius=10)
    with filler.filled.database.read() as session:
        points = history(session, case(session, filler, "second"))
        assert [point.case.exam.accession for point in points] == ["1", "2", "0"]
        changes = [point.changes["Enhancing tumour"] for point in points]
        assert changes == [None, 0.0, None]


def test_a_held_exam_is_compared_with_nobody(filler: Filler) -> None:
    filler.exam("first", accession="1", date="20250301")
    filler.exam("held", accession="2", state="", exam_state="held")
    with filler.filled.database.read() as session:
        points = history(session, case(session, filler, "held"))
        assert [point.case.exam.accession for point in points] == ["2"]


def test_there_is_no_change_from_nothing(filler: Filler) -> None:
    filler.exam("first", accession="1", date="20250301", radius=0)
    filler.exam("second", accession="2", date="20260301")
    with filler.filled.database.read() as session:
        points = history(session, case(session, filler, "second"))
        assert points[1].changes == {"Enhancing tumour": None}


def test_empty_patient_ids_are_never_one_patient(filler: Filler) -> None:
    filler.exam("one", patient=Patient("A", ""), accession="1")
    filler.exam("two", patient=Patient("A", ""), accession="2")
    with filler.filled.database.read() as session:
        points = history(session, case(session, filler, "one"))
        assert [point.case.exam.accession for point in points] == ["1"]
