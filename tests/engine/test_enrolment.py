"""Cases are enrolled, made ready and given to readers, from what the engine's transactions see."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from overread.engine.enrolment import Enroller, exam_closed, readers_of, results_kept
from overread.settings import Notify, Smtp, Webhook
from overread.site import SiteFolder
from overread.store import users, worklist
from overread.store.tables import Audit, Enrolment, Exam, Job, Notice, Reading, User
from overread.validation.permissions import Grant
from overread.validation.project import Project
from tests.engine.world import World, exam_images, wait
from tests.portal.filled import AT, Filler, make_site

GLIOMA: dict[str, Any] = {
    "name": "glioma",
    "title": "Glioma progression",
    "pipelines": ["brain-tumour"],
    "members": {"reader": {"users": ["rosa", "otto"], "groups": ["neuro"]}},
    "due": "2d",
    "urgent": [{"region": "Enhancing tumour", "above": 10}],
    "notify": {"ready": True},
}


def with_projects(site: SiteFolder, *projects: Mapping[str, Any], **notify: Any) -> SiteFolder:
    made = {one["name"]: Project.model_validate(one) for one in projects}
    settings = site.settings.model_copy(update={"notify": Notify(**notify)})
    return replace(site, projects=made, settings=settings)


class House:
    """A site's store with three exams, and readers."""

    def __init__(self, root: Path) -> None:
        self.filler = Filler(make_site(root))
        self.database = self.filler.filled.database
        self.archive = self.filler.filled.archive
        self.filler.exam("small", accession="A-1", radius=9)
        self.filler.exam("large", accession="A-2", radius=15, at=AT + timedelta(minutes=1))
        self.filler.exam("failed", accession="A-3", state="failed", at=AT + timedelta(minutes=2))
        self.site = with_projects(self.filler.filled.site, GLIOMA)
        with self.database.write() as session:
            for name in ("rosa", "otto", "eve"):
                users.add_user(
                    session, AT, "test", name=name, secret="", role="coordinator", project="other"
                )

    def tick(self, site: SiteFolder | None = None) -> Enroller:
        """Let a worker that has just begun look until it has nothing left to do."""
        enroller = Enroller(site or self.site, self.database, self.archive, "w")
        for _ in range(8):
            enroller.tick(AT + timedelta(hours=1))
        return enroller

    def rows(self) -> dict[str, set[str]]:
        """Reader to the accession numbers of what is to be done."""
        with self.database.read() as session:
            found = session.execute(
                select(User.name, Exam.accession)
                .join(Reading, Reading.reader_id == User.id)
                .join(Enrolment, Enrolment.id == Reading.enrolment_id)
                .join(Exam, Exam.root_id == Enrolment.root_id)
                .where(Reading.state.in_(("open", "draft")))
            )
            rows: dict[str, set[str]] = {}
            for name, accession in found:
                rows.setdefault(name, set()).add(accession)
            return rows

    def cases(self) -> dict[str, Enrolment]:
        """Accession number to enrolment."""
        with self.database.read() as session:
            rows = session.execute(
                select(Exam.accession, Enrolment).join(Enrolment, Enrolment.root_id == Exam.root_id)
            )
            return {accession: case for accession, case in rows}  # noqa: C416 - a Result is no dict

    def keep(self, name: str, site: SiteFolder | None = None) -> None:
        """What the engine does as it keeps the results of an exam's job."""
        with self.database.write() as session:
            job = session.get_one(Job, self.filler.filled.jobs[name])
            results_kept(session, site or self.site, self.archive, job, AT + timedelta(hours=2))


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


BOTH = {"rosa": {"A-1", "A-2"}, "otto": {"A-1", "A-2"}}


def test_an_exam_is_enrolled_where_it_closes(house: House) -> None:
    with house.database.write() as session:
        exam = session.get_one(Exam, house.filler.filled.cases["failed"])
        first = exam_closed(session, house.site, house.archive, exam, AT)
        again = exam_closed(session, house.site, house.archive, exam, AT)
        assert [one.id for one in first] == [one.id for one in again]
        assert (first[0].project, first[0].ready_at) == ("glioma", None)
        told = session.scalars(select(Audit).where(Audit.action == "enrol case")).all()
        assert [(one.subject, one.detail) for one in told] == [
            (f"case {first[0].id}", {"project": "glioma"})
        ]
    assert house.rows() == {}


def test_with_its_results_a_case_is_given_to_every_reader(house: House) -> None:
    for _ in range(2):  # a job may be retried
        house.keep("small")
        house.keep("large")
    assert house.rows() == BOTH
    cases = house.cases()
    assert {name: case.urgent for name, case in cases.items()} == {"A-1": False, "A-2": True}
    with house.database.read() as session:
        for one in session.scalars(select(Reading)):
            assert one.pipeline == "brain-tumour"
            assert one.due_at == AT + timedelta(hours=2, days=2)
            assert one.rank == (0 if one.enrolment_id == cases["A-2"].id else 1)
        rosa = users.find_user(session, "rosa")
        assert worklist.next_reading(session, rosa.id) == cases["A-2"].id


def test_a_later_urgent_result_moves_a_case_up(house: House) -> None:
    calm = with_projects(house.site, {**GLIOMA, "urgent": []})
    house.keep("large", calm)
    assert not house.cases()["A-2"].urgent
    house.keep("large")
    case = house.cases()["A-2"]
    assert case.urgent
    with house.database.read() as session:
        assert {one.rank for one in session.scalars(select(Reading))} == {0}
    house.keep("large", calm)
    assert house.cases()["A-2"].urgent


def test_what_measures_an_edit_makes_nothing_ready(house: House) -> None:
    with house.database.write() as session:
        job = session.get_one(Job, house.filler.filled.jobs["small"])
        job.edits, job.origin = "result", "edit"
        results_kept(session, house.site, house.archive, job, AT)
        session.rollback()
    assert house.rows() == {}


def test_exams_of_before_the_project_are_its_cases_too(house: House) -> None:
    house.tick()
    assert house.rows() == BOTH
    cases = house.cases()
    assert set(cases) == {"A-1", "A-2", "A-3"}
    assert cases["A-3"].ready_at is None
    with house.database.read() as session:
        assert (
            cases["A-2"].ready_at
            == session.scalars(
                select(Job.ended_at).where(Job.id == house.filler.filled.jobs["large"])
            ).one()
        )
    house.tick()
    assert len(house.cases()) == 3


def test_batches_end_where_all_is_done(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overread.engine.enrolment._BATCH", 1)
    house.tick()
    assert house.rows() == BOTH
    assert len(house.cases()) == 3


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"StudyDescription": {"like": "*BRAIN*"}}, {"A-1", "A-2", "A-3"}),
        ({"AccessionNumber": "A-2"}, {"A-2"}),
        ({"Modality": "CT"}, set()),
    ],
)
def test_a_condition_says_which_are(house: House, condition: Any, expected: set[str]) -> None:
    site = with_projects(house.site, {**GLIOMA, "enrol": condition})
    house.tick(site)
    assert set(house.cases()) == expected
    house.keep("small", site)
    assert set(house.cases()) == expected


def test_a_changed_condition_looks_through_them_again(house: House) -> None:
    house.tick(with_projects(house.site, {**GLIOMA, "enrol": {"Modality": "CT"}}))
    assert house.cases() == {}
    house.tick()
    assert len(house.cases()) == 3


def test_readers_come_and_go(house: House) -> None:
    enroller = house.tick()
    with house.database.write() as session:
        eve = users.find_user(session, "eve")
        eve.groups = ["neuro"]
    enroller.tick(AT)
    assert house.rows() == {**BOTH, "eve": {"A-1", "A-2"}}
    with house.database.write() as session:
        users.disable_user(session, AT, "test", "rosa")
        case = house.cases()["A-1"].id
        session.execute(
            update(Reading)
            .where(Reading.reader_id == eve.id, Reading.enrolment_id == case)
            .values(state="draft", saved_at=AT, answers={"grade": 3})
        )
        session.get_one(User, eve.id).groups = []
    enroller.tick(AT)
    assert house.rows() == {"otto": {"A-1", "A-2"}}
    with house.database.write() as session:
        session.get_one(User, eve.id).groups = ["neuro"]
    enroller.tick(AT)
    assert house.rows() == {"otto": {"A-1", "A-2"}, "eve": {"A-1", "A-2"}}
    with house.database.read() as session:
        row = session.scalars(select(Reading).where(Reading.saved_at.is_not(None))).one()
        assert (row.state, row.answers) == ("draft", {"grade": 3})


def test_who_may_read_is_by_name_group_or_site(house: House) -> None:
    with house.database.write() as session:
        site_wide = users.find_user(session, "eve")
        users.grant(session, AT, "test", site_wide, Grant("reader"))
        ids = {users.find_user(session, name).id for name in ("rosa", "otto", "eve")}
        assert readers_of(session, house.site) == {"glioma": ids}


def test_another_worker_that_holds_the_lease_is_not_disturbed(house: House) -> None:
    Enroller(house.site, house.database, house.archive, "first").tick(AT)
    second = Enroller(house.site, house.database, house.archive, "second")
    with house.database.write() as session:
        users.find_user(session, "eve").groups = ["neuro"]
    second.tick(AT + timedelta(seconds=1))
    assert "eve" not in house.rows()
    second.tick(AT + timedelta(minutes=1))
    assert "eve" in house.rows()


def test_who_is_to_be_told_is_written_down_once(house: House) -> None:
    smtp = Smtp.model_validate(
        {"host": "localhost", "from": "overread@here.example", "tls": "none"}
    )
    hook = Webhook.model_validate({"url": "http://localhost:1/x", "secret": "s"})
    site = with_projects(house.site, GLIOMA, smtp=smtp, webhook=hook)
    with house.database.write() as session:
        users.find_user(session, "rosa").email = "rosa@here.example"
    for _ in range(2):
        house.keep("large", site)
    house.keep("small", with_projects(site, {**GLIOMA, "notify": {"ready": False}}, smtp=smtp))
    with house.database.read() as session:
        rosa = users.find_user(session, "rosa").id
        told = session.execute(select(Notice.channel, Notice.user_id, Notice.urgent, Notice.state))
        assert sorted(map(tuple, told)) == [
            ("mail", rosa, True, "waiting"),
            ("webhook", "", True, "waiting"),
        ]
    house.tick(site)  # what is made up for is not told of
    with house.database.read() as session:
        assert len(session.scalars(select(Notice)).all()) == 2


def test_a_workers_job_ends_in_a_reading(world: World) -> None:
    world.build()
    project = {"name": "bright", "pipelines": ["bright-spots"], "urgent": [{"above": 0}]}
    (world.root / "projects").mkdir()
    (world.root / "projects" / "bright.yaml").write_text(json.dumps(project))
    with world.database.write() as session:
        rosa = users.add_user(
            session, AT, "test", name="rosa", secret="", role="reader", project="bright"
        ).id
    world.start()
    world.arrive(exam_images())
    job = world.wait_for_job("done", "failed", "refused")
    assert job.state == "done", job.reason
    with world.database.read() as session:
        reading = session.scalars(select(Reading)).one()
        case = session.get_one(Enrolment, reading.enrolment_id)
        assert (reading.reader_id, reading.state, reading.rank) == (rosa, "open", 0)
        assert (case.project, case.urgent) == ("bright", True)
        ready = case.ready_at
        assert ready is not None
        assert case.enrolled_at < ready
    with world.database.write() as session:
        otto = users.add_user(
            session, AT, "test", name="otto", secret="", role="reader", project="bright"
        ).id

    def given() -> bool:
        with world.database.read() as session:
            return worklist.next_reading(session, otto) == case.id

    assert wait(given, 20)
    assert world.stop() < 10
