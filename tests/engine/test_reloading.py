"""A site's own operator that changes: used at once in development, after a restart otherwise."""

from __future__ import annotations

import hashlib
import time
from types import SimpleNamespace

import structlog

from overread.engine.reloading import OwnOperators
from overread.store.tables import Job
from tests.engine.world import SLOW, World, exam_images, pipeline, slow_steps, wait

FIRST = SLOW
SECOND = SLOW.replace("slow begins", "changed begins")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def jobs_on_two_exams(world: World) -> tuple[Job, Job]:
    """Run an exam, change the operator, and run another."""
    world.pipelines = [pipeline(slow_steps(0))]
    world.build()
    world.start()
    world.arrive(exam_images("one"))
    first = world.wait_for_job("done", "failed")
    assert first.state == "done", first.reason
    (world.root / "operators" / "slow.py").write_text(SECOND)
    if world.settings["site"].get("development"):
        time.sleep(2.5)  # it looks once a second
    world.arrive(exam_images("two"))
    wait(lambda: len(world.all_jobs()) == 2 and world.all_jobs()[1].ended_at)
    second = world.all_jobs()[1]
    assert second.state == "done", second.reason
    return first, second


def test_in_development_new_exams_use_what_the_file_holds_now(world: World) -> None:
    world.settings["site"]["development"] = True
    first, second = jobs_on_two_exams(world)
    assert first.operators["slow"] == {"sha256": sha256(FIRST)}
    assert second.operators["slow"] == {"sha256": sha256(SECOND)}
    assert first.pipeline_digest != second.pipeline_digest
    assert "changed begins" in world.steps(second)["slow"].log


def test_in_production_it_counts_after_a_restart(world: World) -> None:
    first, second = jobs_on_two_exams(world)
    assert second.operators["slow"] == first.operators["slow"] == {"sha256": sha256(FIRST)}
    assert first.pipeline_digest == second.pipeline_digest
    assert "slow begins" in world.steps(second)["slow"].log
    world.stop()
    world.start()
    world.arrive(exam_images("three"))
    wait(lambda: len(world.all_jobs()) == 3 and world.all_jobs()[2].ended_at)
    third = world.all_jobs()[2]
    assert third.operators["slow"] == {"sha256": sha256(SECOND)}
    assert third.pipeline_digest != first.pipeline_digest


def test_a_change_is_told_once_and_a_fault_keeps_what_there_was(world: World) -> None:
    world.settings["site"]["development"] = True
    world.pipelines = [pipeline(slow_steps(0))]
    world.build()
    holder = SimpleNamespace(site=world.site)
    own = OwnOperators(world.site, holder)
    file = world.root / "operators" / "slow.py"
    own.look()
    with structlog.testing.capture_logs() as logs:
        file.write_text("def slow(:\n")
        own.look()
        own.look()
    (log,) = logs
    assert log["log_level"] == "error" and "operators/slow.py:1: syntax error" in log["faults"]
    file.write_text(SECOND.replace("1.0", "2.0"))
    assert holder.site is world.site
    own.look()
    assert holder.site.operator_texts[file] == file.read_bytes()
    assert holder.site.pipelines is world.site.pipelines
    assert holder.site.operators["slow"].__kwdefaults__ == {"seconds": 2.0}


def test_in_production_a_change_is_told_and_not_used(world: World) -> None:
    world.pipelines = [pipeline(slow_steps(0))]
    world.build()
    holder = SimpleNamespace(site=world.site)
    own = OwnOperators(world.site, holder)
    (world.root / "operators" / "slow.py").write_text(SECOND)
    with structlog.testing.capture_logs() as logs:
        own.look()
        own.look()
    (log,) = logs
    assert (
        holder.site is world.site and log["log_level"] == "warning" and log["files"] == ["slow.py"]
    )
    assert world.site.operator_texts[world.root / "operators" / "slow.py"] == FIRST.encode()
