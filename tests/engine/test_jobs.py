"""Jobs, with a real worker process that is killed at bad moments."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select, update

from overread.errors import UsageError
from overread.pipelines.definition import Pipeline
from overread.store import jobs
from overread.store.tables import Exam, Instance, Job, Lease, Result, StepRun, Worker
from tests.engine.world import SLOW, World, exam_images, pipeline, slow_steps, wait

SLOW_FIRST = "slow begins"


def now() -> datetime:
    return datetime.now(UTC)


def ours(world: World) -> int:
    """How many objects we have made."""
    with world.database.read() as session:
        query = select(func.count()).select_from(Instance).where(Instance.standing == "ours")
        return int(session.scalar(query) or 0)


def results(world: World, job: Job) -> dict[str, Result]:
    with world.database.read() as session:
        return {result.name: result for result in jobs.results(session, job.id)}


def faster() -> dict[str, Any]:
    """The definition with a slow step that takes no time, as a job records it."""
    definition = Pipeline.model_validate(pipeline(slow_steps(0)))
    return definition.model_dump(mode="json", by_alias=True)


def test_an_exam_becomes_a_segmentation_and_volumes(world: World) -> None:
    world.build()
    world.start()
    world.arrive(exam_images())
    job = world.wait_for_job("done", "failed", "refused")
    assert job.state == "done", job.reason
    made = results(world, job)
    assert set(made) == {"volumes", "seg"}
    assert made["seg"].kind == "segmentation" and len(made["seg"].sources) == 6
    assert made["volumes"].data["measurements"][0]["value"] > 0
    with world.database.read() as session:
        assert session.get_one(Instance, made["seg"].instance_id).standing == "ours"
    steps = world.steps(job)
    assert [steps[name].state for name in job.definition["steps"]] == ["done"] * 5
    volume = steps["volume"]
    assert volume.inputs["series"]["files"] == steps["t1"].outputs["files"]
    assert volume.outputs["type"] == "Volume" and volume.outputs["files"]
    assert steps["t1"].report["used"]
    assert world.stop() < 10


def test_kill_in_a_step_and_earlier_steps_are_not_run_again(world: World) -> None:
    world.pipelines = [pipeline(slow_steps(1.5))]
    world.build()
    world.start()
    world.arrive(exam_images())
    job = world.wait_for_step("slow")
    before = world.steps(job)
    world.kill()
    (world.folder(job) / ".slow.unfinished" / "half").write_text("x")
    world.start()
    job = world.wait_for_job("done", "failed")
    assert job.state == "done", job.reason
    after = world.steps(job)
    assert {name: run.runs for name, run in after.items()} == {
        "t1": 1, "volume": 1, "slow": 2, "mask": 1, "volumes": 1, "seg": 1,
    }  # fmt: skip
    assert after["volume"].started_at == before["volume"].started_at
    assert world.count(Result) == 2 and ours(world) == 1
    assert not list(world.folder(job).rglob("half"))
    assert not list((world.root / "data" / "boxes").glob("*/*"))


def test_no_result_is_doubled_wherever_it_is_killed(world: World) -> None:
    world.build()
    world.arrive(exam_images())
    for pause in (0.6, 0.9, 1.2, 1.5):
        world.start()
        time.sleep(pause)
        world.kill()
    world.start()
    job = world.wait_for_job("done", "failed")
    assert job.state == "done", job.reason
    time.sleep(0.5)
    assert world.count(Job) == 1 and world.count(Result) == 2 and ours(world) == 1


def test_sigterm_stops_at_once_and_the_job_goes_on(world: World) -> None:
    world.pipelines = [pipeline(slow_steps(1.0))]
    world.build()
    world.start()
    world.arrive(exam_images())
    job = world.wait_for_step("slow")
    assert world.stop() < 10
    assert world.worker is not None and world.worker.returncode == 0
    job = world.job()  # type: ignore[assignment]  # it is there, or the test fails
    assert job.state == "running"
    world.start()
    assert world.wait_for_job("done", "failed").state == "done"


def test_a_step_that_takes_too_long_fails_and_says_so(world: World) -> None:
    world.pipelines = [pipeline(slow_steps(60, timeout="500ms"))]
    world.build()
    world.start()
    world.arrive(exam_images())
    job = world.wait_for_job("failed")
    assert job.reason.startswith("step slow: it ran longer than its 0.5 s")
    run = world.steps(job)["slow"]
    assert run.state == "failed" and SLOW_FIRST in run.log


def test_a_link_that_a_step_leaves_is_not_followed(world: World) -> None:
    planted = 'next(Path.cwd().glob("*/.slow.unfinished")).joinpath("x").symlink_to("/etc/passwd")'
    source = SLOW.replace("    ends =", f"    {planted}\n    ends =")
    world.operators = {"slow": f"from pathlib import Path\n{source}"}
    world.pipelines = [pipeline(slow_steps(0))]
    world.build()
    world.start()
    world.arrive(exam_images())
    job = world.wait_for_job("failed", "done")
    assert (job.state, job.reason) == ("failed", "step slow: x is no plain file")
    run = world.steps(job)["slow"]
    assert (run.state, run.outputs) == ("failed", {}) and SLOW_FIRST in run.log


def test_cancel_kills_the_step(world: World) -> None:
    world.pipelines = [pipeline(slow_steps(60))]
    world.build()
    world.start()
    world.arrive(exam_images())
    job = world.wait_for_step("slow")
    with world.database.write() as session:
        jobs.cancel(session, job.id, at=now(), actor="ann")
    wait(lambda: world.steps(job)["slow"].state == "cancelled", 5)
    world.arrive(exam_images("two", 3, SeriesDescription="x"))
    wait(lambda: len(world.all_jobs()) == 2 and world.steps(world.all_jobs()[1]))
    job = world.all_jobs()[0]
    assert (job.state, job.reason) == ("cancelled", "cancelled by ann")
    assert world.count(Result) == 0


def test_cancelled_and_asked_for_at_once_the_new_attempt_runs(world: World) -> None:
    world.pipelines = [pipeline(slow_steps(60))]
    world.build()
    world.start()
    world.arrive(exam_images())
    job = world.wait_for_step("slow")
    with world.database.write() as session:
        jobs.cancel(session, job.id, at=now(), actor="ann")
        jobs.retry(session, job.id, at=now(), actor="ann", from_step="slow")

    def slow() -> dict[int, str]:
        with world.database.read() as session:
            rows = session.scalars(select(StepRun).where(StepRun.name == "slow"))
            return {row.attempt: row.state for row in rows}

    wait(lambda: slow() == {1: "cancelled", 2: "running"}, 15)


def test_retry_from_a_step_takes_what_was_made_before_it(world: World) -> None:
    world.pipelines = [pipeline(slow_steps(60, timeout="300ms"))]
    world.build()
    world.start()
    world.arrive(exam_images())
    job = world.wait_for_job("failed")
    with world.database.write() as session:  # as if the slow step had become faster
        session.execute(update(Job).values(definition=faster()))
        jobs.retry(session, job.id, at=now(), actor="ann", from_step="slow")
    job = world.wait_for_job("done", "failed")
    assert job.state == "done", job.reason
    assert job.attempt == 2
    steps = world.steps(job)
    assert {steps[name].runs for name in ("t1", "volume")} == {0}
    assert {steps[name].runs for name in ("slow", "mask", "seg")} == {1}
    assert steps["t1"].log == "taken from attempt 1"


def test_done_is_run_again_only_by_force_and_supersedes(world: World) -> None:
    world.build()
    world.start()
    world.arrive(exam_images())
    job = world.wait_for_job("done")
    with world.database.write() as session, pytest.raises(UsageError, match="--force"):
        jobs.retry(session, job.id, at=now(), actor="ann")
    with world.database.write() as session:
        fresh = jobs.retry(session, job.id, at=now(), actor="ann", force=True).id
    wait(lambda: (one := world.job()) and one.id == fresh and one.state == "done")
    old, new = results(world, job), results(world, world.all_jobs()[1])
    for name in ("volumes", "seg"):
        assert old[name].superseded_by == new[name].id and new[name].supersedes == old[name].id
        assert (old[name].version, new[name].version) == (1, 2)
    assert old["volumes"].digest == new["volumes"].digest


def test_a_late_series_makes_a_revision_that_supersedes(world: World) -> None:
    world.build()
    world.start()
    world.arrive(exam_images("one", 8)[:6])
    first = world.wait_for_job("done")
    world.arrive(exam_images("one", 8)[6:])
    wait(lambda: len(world.all_jobs()) == 2 and world.all_jobs()[1].state == "done")
    old, new = results(world, first), results(world, world.all_jobs()[1])
    assert old["seg"].superseded_by == new["seg"].id
    assert (len(old["seg"].sources), len(new["seg"].sources)) == (6, 8)
    assert world.count(Exam) == 2


def test_on_demand_runs_before_routed(world: World) -> None:
    world.routes = [{"name": "r", "when": {"CalledAETitle": "OVERREAD"}, "send_to": ["BRIGHT"]}]
    world.pipelines = [pipeline(slow_steps(1.0))]
    world.build()
    for name in ("a", "b", "c"):
        world.arrive(exam_images(name), called="OVERREAD")
    world.start()
    wait(lambda: any(job.state == "running" for job in world.all_jobs()))
    world.arrive(exam_images("urgent"))
    wait(lambda: sum(job.state == "done" for job in world.all_jobs()) == 4, 40)
    order = sorted(world.all_jobs(), key=lambda job: job.started_at or now())
    assert [job.origin for job in order].index("on demand") <= 2
    assert order[-1].origin == "routed"


def test_what_the_pipeline_may_not_be_given_is_refused(world: World) -> None:
    world.build()
    world.start()
    images = exam_images()
    world.arrive([*images[:2], *images[3:]])
    job = world.wait_for_job("refused", "failed", "done")
    assert job.state == "refused"
    assert "missing slice" in job.reason
    assert world.steps(job)["volume"].state == "refused"


def test_a_job_ends_on_the_operators_it_began_with(world: World) -> None:
    world.pipelines = [pipeline(slow_steps(1.5))]
    world.build()
    world.start()
    world.arrive(exam_images())
    job = world.wait_for_step("slow")
    world.kill()
    source = world.root / "operators" / "slow.py"
    source.write_text(source.read_text().replace("return volume", "raise ValueError('new code')"))
    world.start()
    job = world.wait_for_job("done", "failed")
    assert job.state == "done", job.reason
    assert job.operators["slow"]["sha256"] and job.operators["threshold"]["distribution"]


def test_a_worker_given_up_for_dead_is_fenced_out(world: World) -> None:
    world.pipelines = [pipeline(slow_steps(1.0))]
    world.build()
    world.start()
    world.arrive(exam_images())
    job = world.wait_for_step("slow")
    with world.database.write() as session:  # as another worker does that takes the job over
        session.execute(update(Job).values(worker="another boot"))
    time.sleep(1.5)
    assert world.steps(job)["slow"].state == "running"
    assert "mask" not in world.steps(job)


def test_the_work_of_a_dead_worker_goes_to_another(world: World) -> None:
    world.pipelines = [pipeline(slow_steps(1.0))]
    world.build()
    world.start(name="w1")
    world.arrive(exam_images())
    job = world.wait_for_step("slow")
    world.kill()
    with world.database.write() as session:
        long_ago = datetime(2026, 1, 1, tzinfo=UTC)
        session.execute(update(Worker).values(seen_at=long_ago))
        session.execute(update(Lease).values(expires_at=long_ago))
    world.start(name="w2")
    job = world.wait_for_job("done", "failed")
    assert job.state == "done", job.reason
    assert world.steps(job)["volume"].runs == 1


def test_files_between_steps_that_are_gone_are_made_again_by_a_retry(world: World) -> None:
    world.pipelines = [pipeline(slow_steps(60, timeout="300ms"))]
    world.build()
    world.start()
    world.arrive(exam_images())
    job = world.wait_for_job("failed")
    kept = world.root / "data" / "work" / job.id
    wait(kept.is_dir)  # it leaves the child's box a moment after the job has failed
    shutil.rmtree(kept / "volume")
    with world.database.write() as session:
        session.execute(update(Job).values(definition=faster()))
        jobs.retry(session, job.id, at=now(), actor="ann", from_step="slow")
    job = world.wait_for_job("done", "failed")
    assert job.state == "done", job.reason
    assert world.steps(job)["volume"].runs == 1


def test_retry_says_what_is_wrong(world: World) -> None:
    world.build()
    with world.database.read() as session, pytest.raises(UsageError, match="no job"):
        jobs.job(session, "123")
