from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.store import enrolments, history
from overread.store.history import Visit
from overread.store.tables import Instance
from overread.store.visible import Sight
from overread.validation.permissions import Reach
from tests.portal.filled import AT, Filler, Patient, make_site
from tests.store.test_cases import case

EVERYWHERE = Sight("", Reach(everywhere=True), Reach(everywhere=True))
NOWHERE = Reach(everywhere=False)


@pytest.fixture
def filler(tmp_path: Path) -> Filler:
    return Filler(make_site(tmp_path / "site"))


def of(
    session: Session, filler: Filler, name: str, seen: Sight = EVERYWHERE, project: str = ""
) -> list[Visit]:
    archive = filler.filled.archive
    return history.history(session, archive, case(session, filler, name), seen, project)


def accessions(visits: list[Visit]) -> list[str]:
    return [visit.case.exam.accession for visit in visits]


def test_history_is_one_patients_by_acquisition(filler: Filler) -> None:
    filler.exam("second", accession="2", date="20260301", radius=12)
    filler.exam("first", accession="1", date="20250301", radius=10, at=AT + timedelta(days=9))
    filler.exam("refused", accession="3", date="20251001", state="refused")
    filler.exam("held", accession="4", date="20251101", state="", exam_state="held")
    filler.exam("other issuer", patient=Patient(issuer="ELSEWHERE"), accession="5")
    with filler.filled.database.read() as session:
        visits = of(session, filler, "second")
        assert accessions(visits) == ["1", "3", "2"]
        assert [len(visit.numbers) for visit in visits] == [1, 0, 1]
        point = visits[2].numbers[0].point
        assert str(point.at) == "2026-03-01 08:30:00"
        assert dict(point.how) == {
            "scanner": "Phantom, 3 T", "sequence": "2D SE", "spacing": "1.50 × 1.50 × 3.00",
        }  # fmt: skip


def test_the_acquisition_decides_and_not_the_study(filler: Filler) -> None:
    filler.exam("a", accession="a", header={"AcquisitionDateTime": "20260105120000.5+0100"})
    filler.exam("b", accession="b", date="20260104")
    filler.exam("c", accession="c", header={"AcquisitionDate": "20260103", "AcquisitionTime": "07"})
    with filler.filled.database.read() as session:
        visits = of(session, filler, "b")
        assert [(visit.case.exam.accession, f"{visit.at}") for visit in visits] == [
            ("c", "2026-01-03 07:00:00"),
            ("b", "2026-01-04 08:30:00"),
            ("a", "2026-01-05 12:00:00.500000"),
        ]


@pytest.mark.parametrize("date", ["", "20261340"])
def test_an_exam_without_a_date_comes_last(filler: Filler, date: str) -> None:
    filler.exam("undated", accession="0", date=date, radius=6)
    filler.exam("first", accession="1", date="20250301", radius=10)
    with filler.filled.database.read() as session:
        visits = of(session, filler, "first")
        assert accessions(visits) == ["1", "0"]
        assert visits[1].at is None
        assert history.before(session, case(session, filler, "undated"), EVERYWHERE) is None


def test_a_file_that_cannot_be_read_hides_no_exam(filler: Filler) -> None:
    filler.exam("first", accession="1", date="20250301")
    with filler.filled.database.read() as session:
        for image in session.scalars(select(Instance).where(Instance.standing == "kept")):
            filler.filled.archive.path(image.key).write_bytes(b"nothing that is DICOM")
        (visit,) = of(session, filler, "first")
        assert f"{visit.at}" == "2025-03-01 08:30:00"
        assert dict(visit.numbers[0].point.how) == {}


def test_a_held_exam_is_compared_with_nobody(filler: Filler) -> None:
    filler.exam("first", accession="1", date="20250301")
    filler.exam("held", accession="2", state="", exam_state="held")
    with filler.filled.database.read() as session:
        assert accessions(of(session, filler, "held")) == ["2"]


def test_empty_patient_ids_are_never_one_patient(filler: Filler) -> None:
    filler.exam("one", patient=Patient("A", ""), accession="1")
    filler.exam("two", patient=Patient("A", ""), accession="2")
    with filler.filled.database.read() as session:
        assert accessions(of(session, filler, "one")) == ["1"]


def test_a_project_sees_its_own_exams_and_links_to_its_own_cases(filler: Filler) -> None:
    for name, date in (("ours", "20250301"), ("theirs", "20250601"), ("now", "20260301")):
        filler.exam(name, accession=name, date=date)
    with filler.filled.database.write() as session:
        ids = {
            name: enrolments.enrol(
                session, AT, "theirs" if name == "theirs" else "ours",
                filler.filled.cases[name], "brain-tumour",
            ).id
            for name in ("ours", "theirs", "now")
        }  # fmt: skip
    with filler.filled.database.read() as session:
        limited = Sight("", Reach(everywhere=False, projects=frozenset({"ours"})), NOWHERE)
        visits = of(session, filler, "now", limited, "ours")
        assert [visit.link for visit in visits] == [ids["ours"], ids["now"]]
        every = of(session, filler, "now", EVERYWHERE, "ours")
        assert [visit.link for visit in every] == [
            ids["ours"], filler.filled.cases["theirs"], ids["now"],
        ]  # fmt: skip


def test_edits_are_seen_by_their_reader_and_by_who_sees_readings(filler: Filler) -> None:
    filler.exam("now", accession="1")
    filler.edit("now", "user-1", 7.0, version=1)
    filler.edit("now", "user-1", 8.0, version=2)
    filler.edit("now", "user-2", 9.0, version=1)
    whole = Reach(everywhere=True)
    with filler.filled.database.read() as session:

        def seen(sight: Sight) -> list[tuple[str, str, float]]:
            (visit,) = of(session, filler, "now", sight)
            return [
                (one.source.key, one.source.version, round(one.item.value, 1))
                for one in visit.numbers
            ]

        model = ("model brain-tumour 1.0.0", "1.0.0", 7.0)
        first = ("reader user-1", "v2", 8.0)
        second = ("reader user-2", "v1", 9.0)
        assert seen(Sight("user-1", whole, NOWHERE)) == [model, first]
        assert seen(Sight("user-3", whole, NOWHERE)) == [model]
        assert seen(Sight("", whole, NOWHERE)) == [model]
        assert sorted(seen(Sight("user-3", whole, whole))) == sorted([model, first, second])
        assert case(session, filler, "now").volumes[0].value == pytest.approx(7.0, abs=0.1)
        assert case(session, filler, "now").state == "done"


def test_the_exam_before(filler: Filler) -> None:
    for date in ("20250301", "20250601", "20260301"):
        filler.exam(date, accession=date, date=date)
    with filler.filled.database.read() as session:
        prior = history.before(session, case(session, filler, "20260301"), EVERYWHERE)
        assert prior is not None
        assert prior.accession == "20250601"
        assert history.before(session, case(session, filler, "20250301"), EVERYWHERE) is None
