"""Somebody who means harm, or only looks where they should not: what they get, and what they leave.

Two projects share an exam. Whatever is edited, answered or counted in one is not for the other.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from fastapi import FastAPI
from pydicom import Dataset, dcmread, dcmwrite
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.dicom.provenance import derive_uid
from overread.portal.app import build
from overread.portal.dicomweb.metadata import instance_url
from overread.store import enrolments, users
from overread.store.tables import Held, Instance, Job, Reading, Result, StepRun, User
from overread.validation.permissions import Grant
from overread.validation.project import Project
from tests.drawn import drawn
from tests.portal.dicomweb.web import stow_body
from tests.portal.filled import AT, TUMOUR, Filled, Filler, Patient, lesion, make_site
from tests.portal.reading_site import ReadingSite, reading_site

NOW = datetime.now(UTC)
SHARED = Patient("PHANTOM^SHARED", "PH-I-1")
PEOPLE = {
    "rosa": [Grant("reader", "liver"), Grant("reader", "lung")],
    "robin": [Grant("reader", "liver")],
    "lena": [Grant("reader", "lung")],
    "cora": [Grant("coordinator", "liver")],
    "carl": [Grant("coordinator", "lung")],
    "both": [Grant("reader", "liver"), Grant("coordinator", "liver")],
    "dana": [Grant("data scientist", "liver"), Grant("reader", "lung")],
    "egon": [Grant("engineer")],
    "whole": [Grant("reader")],
}


@dataclass
class World:
    """An exam in two projects, the one before it in one of them, and people."""

    filled: Filled
    app: FastAPI
    cases: dict[str, str]
    clients: dict[str, TestClient]

    def images(self, name: str) -> list[Dataset]:
        """The images of an exam."""
        with self.filled.database.read() as session:
            rows = session.scalars(
                select(Instance).where(
                    Instance.study_uid == self.filled.studies[name], Instance.standing != "ours"
                )
            ).all()
            return [dcmread(self.filled.archive.path(row.key)) for row in rows]

    def store(self, who: str, at: str, file: bytes) -> Any:
        """Store an object as somebody, at an address."""
        body, headers = stow_body(file)
        return self.clients[who].post(f"{at}/dicom-web/studies", content=body, headers=headers)

    def edit(self, who: str, case: str, name: str, **changes: Any) -> Any:
        """Store an edit of the shared exam, at the address of one of its cases."""
        file = drawn(self.images("shared"), lesion(9), name=name, label=TUMOUR.label, **changes)
        return self.store(who, f"/cases/{self.cases[case]}" if case else "", file)

    def result(self, name: str) -> Result:
        """The edit of that name."""
        with self.filled.database.read() as session:
            row = session.scalar(
                select(Result)
                .join(Instance, Instance.id == Result.instance_id)
                .where(Instance.sop_instance_uid == derive_uid("drawn", name))
            )
        assert row is not None
        return row

    def sees(self, who: str, name: str) -> bool:
        """Whether somebody is given that edit: as a result, and as an object; both or neither."""
        edit, client = self.result(name), self.clients[who]
        with self.filled.database.read() as session:
            made = session.get_one(Instance, edit.instance_id)
        as_result: bool = client.get(f"/api/v1/results/{edit.id}").status_code == 200
        as_object = client.get(f"{url_of_row(made)}/metadata").status_code == 200
        assert as_result == as_object, (who, name)
        return as_result


def url_of_row(row: Instance) -> str:
    """The address of an instance."""
    return instance_url("/dicom-web", row)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    site = make_site(tmp_path_factory.mktemp("intruder"))
    named = {
        name: Project.model_validate({"name": name, "pipelines": ["brain-tumour"]})
        for name in ("liver", "lung")
    }
    filler = Filler(replace(site, projects=named))
    filler.exam("shared", patient=SHARED, accession="PH-I-1", date="20260602")
    filler.exam("before", patient=SHARED, accession="PH-I-0", date="20260102", radius=10)
    filler.exam("other", patient=Patient("PHANTOM^OTHER", "PH-I-2"), accession="PH-I-2")
    filled = filler.filled
    cases = {}
    with filled.database.write() as session:
        for case, project in (("shared", "liver"), ("shared", "lung"), ("before", "lung")):
            row = enrolments.enrol(session, AT, project, filled.cases[case], "brain-tumour")
            cases[f"{case} {project}"] = row.id
            row.ready_at = AT
    app = build(filled.site)
    clients = {}
    with filled.database.write() as session:
        for name, grants in PEOPLE.items():
            user = User(name=name, password="", disabled=False, created_at=NOW)
            session.add(user)
            session.flush()
            for one in grants:
                session.add(Held(user_id=user.id, role=one.role, project=one.project))
            token = users.open_bearer(session, NOW, "test", user, timedelta(days=1)).token
            clients[name] = TestClient(
                app, follow_redirects=False, headers={"Authorization": f"Bearer {token}"}
            )
    yield World(filled, app, cases, clients)


def why(answer: Any) -> str:
    """What is said of an object that was not kept."""
    (failed,) = answer.json()["00081198"]["Value"]
    return str(failed["00000902"]["Value"][0])


@pytest.fixture(scope="module")
def edited(world: World) -> World:
    """Rosa has edited the shared exam, as the case of either project."""
    for project in ("liver", "lung"):
        assert world.edit("rosa", f"shared {project}", f"in {project}").status_code == 200
    return world


def test_an_edit_is_of_the_project_as_whose_case_it_was_drawn(edited: World) -> None:
    who = {name: [edited.sees(name, f"in {one}") for one in ("liver", "lung")] for name in PEOPLE}
    assert who == {
        "rosa": [True, True],
        "robin": [False, False],
        "lena": [False, False],
        "cora": [True, False],
        "carl": [False, True],
        "both": [True, False],
        "dana": [True, False],
        "egon": [False, False],
        "whole": [False, False],
    }
    # The page of a case shows its project's own, to the reader, too; each has versions of its own.
    for project, other in (("liver", "lung"), ("lung", "liver")):
        page = edited.clients["rosa"].get(f"/cases/{edited.cases[f'shared {project}']}").text
        assert edited.result(f"in {project}").id in page
        assert edited.result(f"in {other}").id not in page
        here = edited.result(f"in {project}")
        assert (here.version, here.superseded_by) == (1, None)


def test_whose_edit_it_is_is_not_guessed(edited: World) -> None:
    answer = edited.edit("rosa", "", "at no case")
    assert answer.status_code == 409
    assert "a case of several projects (liver, lung)" in why(answer)
    # Of one project only, it is clear.
    assert edited.edit("lena", "", "lena's").status_code == 200
    assert edited.result("lena's").project == "lung"
    # To edit in one project is not to edit in the other, though the exam is the same.
    refused = edited.edit("dana", "shared liver", "dana's")
    assert "no" in why(refused) and refused.status_code == 409
    # The same object is not had in both.
    assert "for another project" in why(edited.edit("rosa", "shared lung", "in liver"))


def test_who_has_to_read_a_case_is_not_led_by_its_edits(edited: World) -> None:
    def read(state: str) -> None:
        with edited.filled.database.write() as session:
            user = users.find_user(session, "both")
            row = session.scalar(select(Reading).where(Reading.reader_id == user.id))
            if row is None:
                row = Reading(
                    enrolment_id=edited.cases["shared liver"], project="liver",
                    pipeline="brain-tumour", reader_id=user.id, state=state, ready_at=AT,
                )  # fmt: skip
                session.add(row)
            row.state = state
            row.submitted_at = NOW if state == "submitted" else None

    for state in ("open", "draft"):
        read(state)
        assert not edited.sees("both", "in liver")
        page = edited.clients["both"].get(f"/cases/{edited.cases['shared liver']}")
        assert page.status_code == 200 and edited.result("in liver").id not in page.text
        assert edited.sees("cora", "in liver")
    read("submitted")
    assert edited.sees("both", "in liver")


def test_what_an_edits_job_has_made_is_as_hidden_as_the_edit(edited: World) -> None:
    with edited.filled.database.write() as session:
        job = session.get_one(Job, edited.result("in liver").job_id)
        run = StepRun(
                job_id=job.id,
                name="volumes",
                attempt=1,
                runs=1,
                position=0,
                operator="x",
                state="done",
                inputs={},
                settings={},
                report={},
                error="",
                log="",
                worker="",
                outputs={"type": "Measurements", "files": {"x.json": {"sha256": "0", "size": 1}}},
                started_at=AT,
                ended_at=AT,
        )  # fmt: skip
        session.add(run)
    for path in (f"/jobs/{job.id}/steps/volumes", f"/api/v1/jobs/{job.id}/steps/volumes/files/x"):
        answer = edited.clients["egon"].get(path)
        assert answer.status_code == 404
        assert "is for that reader" in html.unescape(answer.text)
    page = edited.clients["egon"].get(f"/jobs/{job.id}").text
    assert edited.result("in liver").id not in page


TAKEN = {
    "the images' own series": ("SeriesInstanceUID", "of", "series is that of other objects"),
    "a path": ("SeriesInstanceUID", "1.2/../3", "is no UID"),
    "markup": ("SeriesInstanceUID", "1.2<script>", "is no UID"),
    "too long": ("SeriesInstanceUID", "1." * 60 + "1", "is no UID"),
    "another accession number": ("AccessionNumber", "PH-I-2", "AccessionNumber is not that"),
    "another birth date": ("PatientBirthDate", "19000101", "PatientBirthDate is not that"),
    "another issuer": ("IssuerOfPatientID", "X", "IssuerOfPatientID is not that"),
}


@pytest.mark.parametrize("what", TAKEN)
def test_an_edit_does_not_pass_for_something_else(world: World, what: str) -> None:
    keyword, value, words = TAKEN[what]
    if value == "of":
        value = str(world.images("shared")[0].SeriesInstanceUID)
    answer = world.edit("robin", "shared liver", what, **{keyword: value})
    assert answer.status_code == 409
    assert words in why(answer)


def test_no_edit_stands_in_the_models_or_another_patients_series(world: World) -> None:
    with world.filled.database.read() as session:
        ours = select(Instance.series_uid).where(
            Instance.study_uid == world.filled.studies["shared"], Instance.standing == "ours"
        )
        model = session.scalars(ours.order_by(Instance.id)).first()
    for uid in (model, str(world.images("other")[0].SeriesInstanceUID)):
        answer = world.edit("robin", "shared liver", f"in {uid}", SeriesInstanceUID=uid)
        assert "series is that of other objects" in why(answer)


def test_a_study_is_not_found_under_what_an_edit_says(world: World) -> None:
    said = {"PatientName": "EVIL^NAME", "StudyDate": "19990101", "StudyDescription": "ZZZ"}
    assert world.edit("robin", "shared liver", "renamed", **said).status_code == 200
    (found,) = world.clients["robin"].get("/dicom-web/studies").json()
    assert found["00100010"]["Value"] == [{"Alphabetic": "PHANTOM^SHARED"}]
    assert found["00080020"]["Value"] == ["20260602"]
    asked = {"PatientName": "EVIL^NAME"}
    assert world.clients["robin"].get("/dicom-web/studies", params=asked).json() == []


def test_the_exam_before_is_not_named_to_who_may_not_see_it(world: World) -> None:
    before = world.filled.studies["before"]
    for who, case, sees in (("cora", "shared liver", False), ("carl", "shared lung", True)):
        link = world.clients[who].get(f"/cases/{world.cases[case]}/viewer").headers["location"]
        assert (before in link) == sees


def test_an_edit_is_as_large_as_it_may_be_and_no_larger(world: World, monkeypatch: Any) -> None:
    """Real ones have tens of megabytes; the viewer stores them at the address of the case."""
    at = f"/cases/{world.cases['shared liver']}"
    large = world.store("robin", at, b"x" * 3_000_000)
    assert large.status_code == 409, large.text
    monkeypatch.setattr("overread.portal.edits.LARGEST", 1_000_000)
    for address in (at, ""):
        assert world.store("robin", address, b"x" * 1_000_001).status_code == 413


def test_the_way_of_an_accession_number_with_images_of_others_is_not_told(world: World) -> None:
    cora = world.clients["cora"]
    assert cora.get("/api/v1/why?accession=PH-I-0").status_code == 404
    assert cora.get("/api/v1/why?accession=PH-I-1").status_code == 200
    with world.filled.database.write() as session:
        of_other = select(Instance).where(Instance.accession == "PH-I-2").limit(1)
        stray = session.scalars(of_other).one()
        stray.accession = "PH-I-1"
    try:
        assert cora.get("/api/v1/why?accession=PH-I-1").status_code == 404
    finally:
        with world.filled.database.write() as session:
            session.get_one(Instance, stray.id).accession = "PH-I-2"


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> ReadingSite:
    return reading_site(tmp_path_factory.mktemp("reading"))


@pytest.fixture(scope="module")
def rosa(reading: ReadingSite) -> TestClient:
    """A reader's script."""
    with reading.filled.database.write() as session:
        user = users.find_user(session, "rosa")
        token = users.open_bearer(session, NOW, "test", user, timedelta(days=1)).token
    return TestClient(build(reading.filled.site), headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize(
    "answers", ['{"a": NaN}', '{"a": 1e999}', r'{"a": "\ud800"}', r'{"\ud800": 1}']
)
def test_answers_that_no_database_takes_are_not_kept_half(
    reading: ReadingSite, rosa: TestClient, answers: str
) -> None:
    at = f"/api/v1/readings/{reading.reading('one', 'rosa').id}"
    body = f'{{"answers": {answers}, "revision": 0}}'
    for method, path in (("PUT", at), ("POST", f"{at}/submit")):
        answer = rosa.request(method, path, content=body, headers={"content-type": _JSON})
        assert answer.status_code == 422, answer.text
    assert rosa.get(at).json()["revision"] == 0
    # What was wrong is said, and what was sent is not said again.
    said = rosa.post(
        f"{at}/amend", content=r'{"reason": "\ud800"}', headers={"content-type": _JSON}
    )
    assert said.status_code == 422
    assert set(said.json()["detail"][0]) == {"type", "loc", "msg"}


_JSON = "application/json"


def _shift(made: Dataset) -> None:
    for frame in made.PerFrameFunctionalGroupsSequence:
        x, y, z = frame.PlanePositionSequence[0].ImagePositionPatient
        frame.PlanePositionSequence[0].ImagePositionPatient = [x, y, z + 3.0]


def _turn_over(made: Dataset) -> None:
    frames = made.PerFrameFunctionalGroupsSequence
    sources = [frame.DerivationImageSequence for frame in frames]
    for frame, other in zip(frames, reversed(sources), strict=True):
        frame.DerivationImageSequence = other


def _double(made: Dataset) -> None:
    one, two = made.PerFrameFunctionalGroupsSequence[:2]
    two.PlanePositionSequence = one.PlanePositionSequence


def _turn_one(made: Dataset) -> None:
    turned = Dataset()
    turned.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
    made.PerFrameFunctionalGroupsSequence[1].PlaneOrientationSequence = [turned]


def _widen_one(made: Dataset) -> None:
    wide = Dataset()
    wide.PixelSpacing = [9, 9]
    made.PerFrameFunctionalGroupsSequence[1].PixelMeasuresSequence = [wide]


def _nowhere(made: Dataset) -> None:
    place = made.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    place.ImagePositionPatient = ["nan", "nan", "nan"]


def _say_less(made: Dataset) -> None:
    made.NumberOfFrames = 1


def _cut(made: Dataset) -> None:
    made.PixelData = made.PixelData[:100]


MOVED = {
    "one image up": (_shift, "lies on another image"),
    "upside down": (_turn_over, "lies on another image"),
    "twice on one": (_double, "two frames"),
    "one frame turned": (_turn_one, "is turned against"),
    "one frame widened": (_widen_one, "pixels are 9"),
    "no number": (_nowhere, "says not where it is"),
    "fewer frames": (_say_less, "another number of frames"),
    "cut off": (_cut, "end before its last frame"),
}


@pytest.mark.parametrize("what", MOVED)
def test_no_volume_is_measured_at_another_place(world: World, what: str) -> None:
    change, words = MOVED[what]
    file = drawn(world.images("shared"), lesion(9), name=f"moved {what}", label=TUMOUR.label)
    made = dcmread(BytesIO(file))
    change(made)
    changed = BytesIO()
    dcmwrite(changed, made, enforce_file_format=True)
    answer = world.store("robin", f"/cases/{world.cases['shared liver']}", changed.getvalue())
    assert answer.status_code == 409
    assert words in why(answer)
