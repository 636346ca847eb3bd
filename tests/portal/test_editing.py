"""A reader's segmentation comes in by STOW-RS: kept as a version, or refused with nothing left."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from pydicom import Dataset, dcmread
from sqlalchemy import func, select
from starlette.testclient import TestClient

from overread.portal.app import build
from overread.store.tables import Audit, ExamInstance, Instance, Job, Result, User
from tests.drawn import drawn
from tests.portal.conftest import post_sign_in
from tests.portal.dicomweb.web import stow_body
from tests.portal.filled import PASSWORDS, TUMOUR, Filled, fill, lesion, make_site

SHAPE = lesion(9.0)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """A site of their own: what is edited here would be the overlay of other tests' cases."""
    return fill(make_site(tmp_path_factory.mktemp("edited")))


@pytest.fixture(scope="module")
def app(filled: Filled) -> FastAPI:
    return build(filled.site)


def signed_in(app: FastAPI, name: str) -> TestClient:
    client = TestClient(app, follow_redirects=False)
    assert post_sign_in(client, name, PASSWORDS[name]).status_code == 303
    return client


@pytest.fixture(scope="module")
def reader(app: FastAPI) -> TestClient:
    return signed_in(app, "rosa")


@pytest.fixture(scope="module")
def engineer(app: FastAPI) -> TestClient:
    return signed_in(app, "egon")


@pytest.fixture
def anonymous(app: FastAPI) -> TestClient:
    return TestClient(app, follow_redirects=False)


def images(filled: Filled, name: str = "six") -> list[Dataset]:
    """The images that a case's result was made from, as they lie in the archive."""
    with filled.database.read() as session:
        rows = session.scalars(
            select(Instance)
            .join(ExamInstance, ExamInstance.instance_id == Instance.id)
            .where(ExamInstance.exam_id == filled.cases[name])
        ).all()
        return [dcmread(filled.archive.path(row.key)) for row in rows]


def store(client: TestClient, files: list[bytes], case: str = "") -> Any:
    body, headers = stow_body(*files)
    at = f"/cases/{case}/dicom-web/studies" if case else "/dicom-web/studies"
    return client.post(at, content=body, headers=headers)


def counted(filled: Filled) -> dict[str, int]:
    """How much there is of all that an edit leaves."""
    with filled.database.read() as session:
        return {
            table.__name__: session.scalar(select(func.count()).select_from(table)) or 0
            for table in (Instance, Result, Job, Audit)
        } | {"files": sum(1 for one in filled.archive.root.rglob("*.dcm"))}


@pytest.mark.parametrize("form", ["binary", "labelmap"])
@pytest.mark.parametrize("scoped", [True, False])
def test_an_edit_is_a_new_version_beside_the_models(
    reader: TestClient, filled: Filled, form: Any, scoped: bool
) -> None:
    name = f"kept {form} {scoped}"
    case = filled.cases["six"]
    file = drawn(images(filled), SHAPE, name=name, form=form, label=TUMOUR.label.upper())
    before = counted(filled)
    answer = store(reader, [file], case if scoped else "")
    assert answer.status_code == 200, answer.text
    (kept,) = answer.json()["00081199"]["Value"]
    root = f"/cases/{case}/dicom-web" if scoped else "/dicom-web"
    assert root in kept["00081190"]["Value"][0]
    with filled.database.read() as session:
        result = session.scalars(
            select(Result)
            .join(Instance, Instance.id == Result.instance_id)
            .where(Instance.sop_instance_uid == kept["00081155"]["Value"][0])
        ).one()
        assert session.get_one(User, result.author).name == "rosa"
        model = session.get_one(Result, result.edits)
        assert (model.author, model.name, model.superseded_by) == ("", "seg", None)
        assert (result.name, result.superseded_by) == ("seg", None)
        job = session.get_one(Job, result.job_id)
        assert (job.origin, job.edits, job.state) == ("edit", result.id, "queued")
        assert job.definition["results"] == ["volumes"] and job.definition["send"] == {}
        assert set(job.definition["steps"]) == {"t1c", "mask", "volumes"}
        told = session.scalars(select(Audit).order_by(Audit.id.desc()).limit(1)).one()
        assert (told.actor, told.action) == ("rosa", "edit segmentation")
        assert told.subject == f"result {result.id}"
        instance = session.get_one(Instance, result.instance_id)
        assert filled.archive.path(instance.key).is_file() and instance.standing == "ours"
    after = counted(filled)
    assert {key: after[key] - before[key] for key in ("Instance", "Result", "Job", "files")} == {
        "Instance": 1, "Result": 1, "Job": 1, "files": 1,
    }  # fmt: skip
    # Saved twice by a double click, it is one version.
    assert store(reader, [file], case).status_code == 200
    assert {**counted(filled), "Audit": 0} == {**after, "Audit": 0}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another patient": ({"PatientID": "PH-0011"}, "PatientID is not that of the images"),
    "another space": ({"FrameOfReferenceUID": "2.25.99"}, "frame of reference 2.25.99"),
    "another size": ({"Rows": 64}, "frames of 64 × 128 pixels, its images 128 × 128"),
    "probabilities": ({"SegmentationType": "FRACTIONAL"}, "holds probabilities"),
    "no segmentation": ({"Modality": "MR"}, "is no Segmentation"),
    "no frames": ({"PerFrameFunctionalGroupsSequence": []}, "another number of frames"),
    "no pixels": ({"PixelData": b""}, "has no pixels"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_belong_is_refused_and_leaves_nothing(
    reader: TestClient, filled: Filled, what: str
) -> None:
    changes, words = REFUSED[what]
    file = drawn(images(filled), SHAPE, name=what, label=TUMOUR.label, **changes)
    before = counted(filled)
    answer = store(reader, [file], filled.cases["six"])
    assert answer.status_code == 409
    (failed,) = answer.json()["00081198"]["Value"]
    assert failed["00081197"]["Value"] == [0xA900]
    assert words in failed["00000902"]["Value"][0]
    assert counted(filled) == before


def test_a_segment_that_the_result_has_not_is_named(reader: TestClient, filled: Filled) -> None:
    file = drawn(images(filled), SHAPE, name="unknown", label="Oedema")
    (failed,) = store(reader, [file]).json()["00081198"]["Value"]
    assert (
        "“Oedema” is none of the result's own (“Enhancing tumour”)"
        in failed["00000902"]["Value"][0]
    )


def test_an_edit_of_the_images_of_another_case_is_refused(
    reader: TestClient, filled: Filled
) -> None:
    file = drawn(images(filled, "empty"), SHAPE, name="elsewhere", label=TUMOUR.label)
    answer = store(reader, [file], filled.cases["six"])
    assert answer.status_code == 409
    assert "open the viewer from the case" in answer.text


def test_bytes_that_are_nothing_leave_nothing(reader: TestClient, filled: Filled) -> None:
    before = counted(filled)
    for junk in (b"", b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 64):
        answer = store(reader, [junk], filled.cases["six"])
        assert answer.status_code == 409
        assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xC000]
    assert counted(filled) == before


def test_one_bad_object_among_good_ones_is_told_apart(reader: TestClient, filled: Filled) -> None:
    good = drawn(images(filled), SHAPE, name="good of two", label=TUMOUR.label)
    answer = store(reader, [good, b"junk"], filled.cases["six"])
    assert answer.status_code == 202
    assert len(answer.json()["00081199"]["Value"]) == len(answer.json()["00081198"]["Value"]) == 1


def test_a_case_that_there_is_not_takes_nothing(reader: TestClient, filled: Filled) -> None:
    file = drawn(images(filled), SHAPE, name="no case", label=TUMOUR.label)
    assert store(reader, [file], "0" * 32).status_code == 404


def test_nobody_stores_without_signing_in(anonymous: TestClient, filled: Filled) -> None:
    file = drawn(images(filled), SHAPE, name="nobody", label=TUMOUR.label)
    assert store(anonymous, [file], filled.cases["six"]).status_code == 401


def test_an_engineer_may_not_edit(engineer: TestClient, filled: Filled) -> None:
    file = drawn(images(filled), SHAPE, name="egon", label=TUMOUR.label)
    assert store(engineer, [file], filled.cases["six"]).status_code == 403
