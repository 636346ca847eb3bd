"""What may arrive, and what becomes of it: the engine's rows of the table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydicom import Dataset
from sqlalchemy import select

from overread.dicom.provenance import derive_uid
from overread.engine.arrivals import Gatherer
from overread.store import exams
from overread.store.tables import Exam, Job
from tests.engine.world import World, exam_images, pipeline

T0 = datetime(2026, 7, 15, 10, 0, tzinfo=UTC)


def seconds(number: float) -> datetime:
    """A time so many seconds after the first arrival."""
    return T0 + timedelta(seconds=number)


class Bench:
    """A world whose clock the test turns."""

    def __init__(self, world: World) -> None:
        self.world = world.build()
        self.gatherer = Gatherer(world.site, world.database, world.archive, "w1")

    def arrive(self, images: list[Dataset], at: float, **more: Any) -> None:
        """Let images arrive, and let the engine look at that moment."""
        self.world.arrive(images, at=seconds(at), **more)
        self.look(at)

    def look(self, at: float) -> int:
        """Let the engine look; return how many jobs it opened."""
        return len(self.gatherer.tick(seconds(at)))

    def members(self, exam: Exam) -> set[str]:
        """SOP Instance UIDs of an exam."""
        with self.world.database.read() as session:
            return {instance.sop_instance_uid for instance, _ in exams.members(session, exam.id)}


@pytest.fixture
def bench(world: World) -> Bench:
    return Bench(world)


def uids(images: list[Dataset]) -> set[str]:
    return {image.SOPInstanceUID for image in images}


def series(name: str, **changes: Any) -> list[Dataset]:
    """A further series of the exam ``one``."""
    changes.setdefault("StudyInstanceUID", derive_uid("one", "study"))
    return exam_images(name, 3, **changes)


def report() -> list[Dataset]:
    """A dose report in the exam's study: nothing selects it."""
    images = series("report", Modality="SR")[:1]
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(images[0], keyword)
    return images


def test_it_closes_after_the_quiet_time_and_not_before(bench: Bench) -> None:
    images = exam_images()
    bench.arrive(images[:3], 0)
    bench.arrive(images[3:], 0.3)
    assert bench.look(0.6) == 0  # 0.4 s after the first ones, 0.3 s after the last
    assert bench.look(0.71) == 1
    [exam] = bench.world.all_exams()
    assert (exam.state, exam.revision) == ("closed", 1)
    assert exam.evidence["decided_by"] == "quiet"
    assert bench.members(exam) == uids(images)
    assert bench.look(5) == 0


def test_a_required_series_is_waited_for_until_the_deadline(world: World) -> None:
    world.pipelines = [
        pipeline(
            complete={
                "quiet": "1s",
                "deadline": "60s",
                "require": [{"series": {"SeriesDescription": {"like": "*FLAIR*"}}}],
            }
        )
    ]
    bench = Bench(world)
    bench.arrive(exam_images(), 0)
    assert bench.look(10) == 0
    bench.arrive(series("flair", SeriesDescription="AX FLAIR"), 20)
    assert bench.look(20.5) == 0
    assert bench.look(21.1) == 1
    bench.arrive(exam_images("two"), 100)
    assert bench.look(159) == 0
    assert bench.look(160) == 1
    exam = next(one for one in world.all_exams() if one.study_uid == derive_uid("two", "study"))
    assert exam.evidence["decided_by"] == "deadline"
    assert exam.evidence["met"] is False


def test_a_repeat_changes_nothing(bench: Bench) -> None:
    images = exam_images()
    bench.arrive(images, 0)
    bench.arrive(images, 0.3)
    assert bench.look(0.41) == 1  # the repeats did not make it wait
    bench.arrive(images, 2)
    assert bench.look(10) == 0
    assert len(bench.world.all_exams()) == 1
    assert bench.world.count(Job) == 1


def test_a_late_image_that_a_step_selects_opens_a_revision(bench: Bench) -> None:
    images = exam_images()
    bench.arrive(images[:4], 0)
    assert bench.look(1) == 1
    bench.arrive(images[4:], 5)
    assert bench.look(6) == 1
    first, second = bench.world.all_exams()
    assert (first.state, second.state) == ("closed", "closed")
    assert second.revision == 2 and second.root_id == first.root_id
    assert bench.members(first) == uids(images[:4])
    assert bench.members(second) == uids(images)
    assert bench.world.count(Job) == 2


def test_a_late_report_leaves_the_exam_as_it_was(bench: Bench) -> None:
    images = exam_images()
    bench.arrive(images, 0)
    assert bench.look(1) == 1
    bench.arrive(report(), 5)
    assert bench.look(10) == 0
    [exam] = bench.world.all_exams()
    assert bench.members(exam) == uids(images)
    assert bench.world.dispositions()[-1] == "late: no step selects it"


def test_without_a_selecting_step_every_late_image_counts(world: World) -> None:
    world.operators["count"] = (
        "from overread.dicom.study import Exam\n"
        "from overread.validation.results import Measurements\n"
        "def count(exam: Exam) -> Measurements:\n    return Measurements(())\n"
    )
    world.pipelines = [pipeline({"count": {"use": "count"}}, results=["count"])]
    bench = Bench(world)
    bench.arrive(exam_images(), 0)
    bench.look(1)
    bench.arrive(report(), 5)
    bench.arrive(series("other", Modality="CT"), 6)
    assert bench.look(10) == 1
    assert [exam.revision for exam in world.all_exams()] == [1, 2]


def test_a_variant_is_used_only_where_a_person_sends_it(world: World) -> None:
    world.settings["senders"].append({"ae_title": "PACS"})
    world.routes = [{"name": "r", "when": {"CalledAETitle": "OVERREAD"}, "send_to": ["BRIGHT"]}]
    bench = Bench(world)
    images, changed = exam_images(), exam_images(PatientName="Mueller^Jane")
    bench.arrive(images, 0, called="OVERREAD")
    assert bench.look(1) == 1
    bench.arrive(changed, 5, called="OVERREAD", calling="PACS")
    assert bench.look(10) == 0
    bench.arrive(exam_images(PatientName="Muller^Jane"), 20, calling="PACS")
    assert bench.look(21) == 1
    first, second = world.all_exams()
    assert (first.revision, second.revision) == (1, 2)
    assert bench.members(second) == uids(images)
    with world.database.read() as session:
        names = {one.patient_name for one, _ in exams.members(session, second.id)}
    assert names == {"Muller^Jane"}


def test_a_conflict_joins_no_exam(bench: Bench) -> None:
    images = exam_images()
    bench.arrive(images, 0)
    other = exam_images()[:1]
    other[0].PixelData = bytes(len(other[0].PixelData))
    bench.arrive(other, 0.1)
    assert bench.look(1) == 1
    [exam] = bench.world.all_exams()
    assert len(bench.members(exam)) == 6
    assert bench.world.dispositions()[-1].startswith("held: conflict")


def test_one_study_under_two_patients_is_held(bench: Bench) -> None:
    images = exam_images()
    bench.arrive(images, 0)
    strange = series("strange", PatientID="TEST-2")
    bench.arrive(strange, 0.1)
    assert bench.look(100) == 0
    [exam] = bench.world.all_exams()
    assert exam.state == "held" and "two patients" in exam.held_reason
    assert not uids(strange) & bench.members(exam)


def test_priority_is_that_of_a_person_where_one_sent_it(world: World) -> None:
    world.routes = [{"name": "r", "when": {"CalledAETitle": "OVERREAD"}, "send_to": ["BRIGHT"]}]
    bench = Bench(world)
    bench.arrive(exam_images("one"), 0, called="OVERREAD")
    bench.arrive(exam_images("two"), 0)
    assert bench.look(1) == 2
    assert {job.origin: job.priority for job in world.all_jobs()} == {"routed": 10, "on demand": 1}


def test_a_patient_window_takes_studies_in_and_then_ends(world: World) -> None:
    world.pipelines = [
        pipeline(complete={"by": "patient", "window": "60s", "quiet": "5s", "deadline": "100s"})
    ]
    bench = Bench(world)
    bench.arrive(exam_images("one"), 0)
    bench.arrive(exam_images("two"), 3)
    assert bench.look(9) == 1  # both studies, one exam
    bench.arrive(exam_images("three"), 40)  # within the window, and late: a revision
    assert bench.look(50) == 1
    bench.arrive(exam_images("four"), 90)  # after it: another exam
    assert bench.look(100) == 1
    one, two, four = world.all_exams()
    assert len(bench.members(one)) == 12
    assert two.root_id == one.root_id and len(bench.members(two)) == 18
    assert four.root_id == four.id and len(bench.members(four)) == 6


def test_empty_patient_ids_never_gather_together(world: World) -> None:
    world.pipelines = [pipeline(complete={"by": "patient", "window": "60s", "quiet": "1s"})]
    bench = Bench(world)
    bench.arrive(exam_images("one", PatientID=""), 0)
    bench.arrive(exam_images("two", PatientID=""), 0)
    assert bench.look(2) == 2
    assert [len(bench.members(exam)) for exam in world.all_exams()] == [6, 6]


def test_a_second_pipeline_has_an_exam_of_its_own(world: World) -> None:
    world.pipelines.append(pipeline(name="other", ae_title="OTHER"))
    world.routes = [
        {"name": "both", "when": {"CalledAETitle": "OVERREAD"}, "send_to": ["BRIGHT", "OTHER"]}
    ]
    bench = Bench(world)
    bench.arrive(exam_images(), 0, called="OVERREAD")
    assert bench.look(1) == 2
    assert {exam.pipeline for exam in world.all_exams()} == {"bright-spots", "other"}


def test_a_long_backlog_is_gathered_before_an_exam_is_closed(bench: Bench) -> None:
    images = exam_images("one", 320)
    bench.world.arrive(images, at=seconds(0))
    opened = [bench.look(3600 + number) for number in range(3)]
    assert opened == [0, 1, 0]
    [exam] = bench.world.all_exams()
    assert len(bench.members(exam)) == 320


def test_another_worker_that_holds_the_lease_is_left_alone(bench: Bench) -> None:
    other = Gatherer(bench.world.site, bench.world.database, bench.world.archive, "w2")
    bench.arrive(exam_images(), 0)
    assert other.tick(seconds(1)) == []
    assert len(other.tick(seconds(60))) == 1
    assert bench.look(61) == 0


def test_an_exam_of_a_pipeline_that_is_gone_is_held(bench: Bench) -> None:
    bench.arrive(exam_images(), 0)
    with bench.world.database.write() as session:
        session.scalars(select(Exam)).one().pipeline = "gone"
    assert bench.look(10) == 0
    assert "no pipeline gone" in bench.world.all_exams()[0].held_reason
