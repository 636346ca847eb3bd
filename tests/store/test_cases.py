from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.store import cases
from overread.store.cases import Case, CaseState
from overread.store.tables import Exam, ExamInstance, Instance, Job, Result, new_id
from tests.portal.filled import AT, Filler, Patient, make_site


@pytest.fixture
def filler(tmp_path: Path) -> Filler:
    return Filler(make_site(tmp_path / "site"))


def case(session: Session, filler: Filler, name: str) -> Case:
    found = cases.find_case(session, filler.filled.cases[name])
    assert found is not None
    return found


def revise(session: Session, filler: Filler, name: str, job_state: str) -> None:
    """Open a second revision of an exam, with a job in some state."""
    first = session.get_one(Exam, filler.filled.cases[name])
    columns = {column.key: getattr(first, column.key) for column in Exam.__table__.columns}
    second = Exam(**columns | {"id": new_id(), "revision": 2, "opened_at": AT + timedelta(hours=1)})
    session.add(second)
    job = session.get_one(Job, filler.filled.jobs[name])
    columns = {column.key: getattr(job, column.key) for column in Job.__table__.columns}
    created = job.created_at + timedelta(hours=1)
    session.flush()
    session.add(
        Job(**columns | {
            "id": new_id(), "exam_id": second.id, "state": job_state, "created_at": created,
            "reason": "too few slices" if job_state == "refused" else "",
        })
    )  # fmt: skip
    session.flush()


def test_states_follow_from_exam_job_and_volumes(filler: Filler) -> None:
    filler.exam("done", accession="1")
    filler.exam("empty", patient=Patient(id="2"), accession="2", radius=0)
    filler.exam("open", patient=Patient(id="3"), accession="3", state="", exam_state="open")
    filler.exam("closed", patient=Patient(id="4"), accession="4", state="")
    filler.exam("held", patient=Patient(id="5"), state="", exam_state="held", reason="two patients")
    filler.exam("cancelled", patient=Patient(id="6"), state="cancelled", reason="stopped by egon")
    filler.exam("running", patient=Patient(id="7"), state="running")
    expected = {
        "done": (CaseState.DONE, ""),
        "empty": (CaseState.NOTHING_FOUND, ""),
        "open": (CaseState.ARRIVING, ""),
        "closed": (CaseState.WAITING, ""),
        "held": (CaseState.HELD, "two patients"),
        "cancelled": (CaseState.CANCELLED, "stopped by egon"),
        "running": (CaseState.RUNNING, ""),
    }
    with filler.filled.database.read() as session:
        for name, (state, reason) in expected.items():
            one = case(session, filler, name)
            assert (one.state, one.reason) == (state, reason), name
        assert case(session, filler, "running").step == "mask"
        assert cases.count_states(session)["job", "done"] == 2


def test_a_late_revision_keeps_the_link_and_the_earlier_result(filler: Filler) -> None:
    filler.exam("six", accession="A")
    with filler.filled.database.write() as session:
        revise(session, filler, "six", "refused")
    with filler.filled.database.read() as session:
        one = case(session, filler, "six")
        assert (one.exam.revision, one.state, one.reason) == (2, "refused", "too few slices")
        assert one.is_newer_under_way
        shown = cases.shown(session, one.id)
        assert shown.exam is not None
        assert (shown.exam.revision, len(shown.results)) == (1, 2)
        assert shown.segmentation is not None
        assert [found.id for found in cases.under_accession(session, "A")] == [one.id]
        assert len(cases.list_cases(session)) == 1


def test_a_superseded_result_is_not_shown(filler: Filler) -> None:
    filler.exam("six", accession="A")
    with filler.filled.database.write() as session:
        for result in session.scalars(select(Result)):
            result.superseded_by = "a later one"
    with filler.filled.database.read() as session:
        assert cases.shown(session, filler.filled.cases["six"]) == cases.Shown()
        assert case(session, filler, "six").volumes == ()


def test_every_measurement_of_a_job_is_shown_and_of_no_other(filler: Filler) -> None:
    filler.exam("six", accession="A")
    with filler.filled.database.write() as session:
        one = session.scalars(select(Result).where(Result.name == "volumes")).one()
        columns = {column.key: getattr(one, column.key) for column in Result.__table__.columns}
        (item,) = columns["data"]["measurements"]
        data = {"measurements": [item | {"region": "Oedema"}]}
        session.add(Result(**columns | {"id": new_id(), "name": "more", "data": data}))
        revise(session, filler, "six", "done")
        later = session.scalars(select(Job).order_by(Job.created_at.desc())).first()
        assert later is not None
    with filler.filled.database.read() as session:
        regions = [item.region for item in case(session, filler, "six").volumes]
        assert sorted(regions) == ["Enhancing tumour", "Oedema"]
    with filler.filled.database.write() as session:
        session.add(Result(**columns | {
            "id": new_id(), "name": "renamed", "job_id": later.id, "exam_id": later.exam_id,
        }))  # fmt: skip
    with filler.filled.database.read() as session:
        found = case(session, filler, "six")
        assert [item.region for item in found.volumes] == ["Enhancing tumour"]
        assert found.result_exam_id == later.exam_id


def test_an_accession_is_found_in_any_image_of_the_exam(filler: Filler) -> None:
    filler.exam("one", accession="1")
    filler.without_case("2", pid="PH-0006")
    with filler.filled.database.write() as session:
        exam = session.get_one(Exam, filler.filled.cases["one"])
        for late in session.scalars(select(Instance).where(Instance.accession == "2")):
            session.add(ExamInstance(exam_id=exam.id, instance_id=late.id, arrival_id=1))
    with filler.filled.database.read() as session:
        for accession in ("1", "2"):
            (found,) = cases.under_accession(session, accession)
            assert found.id == filler.filled.cases["one"]
        assert cases.under_accession(session, "1", pipeline="liver") == []
        assert cases.under_accession(session, "1", patient_id="PH-7") == []


def test_the_viewer_gets_the_patients_images_and_nothing_drawn_on_them(filler: Filler) -> None:
    filler.exam("one", accession="1")
    filler.exam("other", patient=Patient("PHANTOM^OTHER", "PH-7"), accession="2", study="shared")
    with filler.filled.database.read() as session:
        (series,) = cases.images(session, case(session, filler, "one").exam)
        assert (series.modality, series.description, series.instances) == ("MR", "AX T1 POST", 16)


def test_siblings_are_other_pipelines_on_the_same_study(filler: Filler) -> None:
    filler.exam("one", accession="1")
    filler.exam("unrelated", patient=Patient(id="PH-7"), accession="2")
    with filler.filled.database.write() as session:
        first = session.get_one(Exam, filler.filled.cases["one"])
        columns = {column.key: getattr(first, column.key) for column in Exam.__table__.columns}
        twin = new_id()
        session.add(Exam(**columns | {"id": twin, "root_id": twin, "pipeline": "vessels"}))
    with filler.filled.database.read() as session:
        found = cases.siblings(session, case(session, filler, "one"))
        assert [one.exam.pipeline for one in found] == ["vessels"]
