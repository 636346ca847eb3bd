"""What the platform adds to a model: waiting, and time of its own.

Two figures, each from real processes:

- *start*: from the end of the quiet time after the last image to the start of the job, with a
  worker that is otherwise idle. Aim: 0.5 s at most.
- *job*: from the start of a job to its end, beside a bare script that reads the same files, runs
  the same functions on them and writes the same segmentation, without database, archive, files
  between steps or a sandbox. Both are warm: packages imported and weights loaded, as each had an
  exam before. They take turns, so that what else the machine does meets both. Aim: the bare time
  and 10 %, and 1 s.

``python -m bench.overhead [--exams N] [--slices N] [--pipeline brain-tumour|threshold] [--dry]``
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from tests.dicom.series import affine, ball, images
from tests.engine.world import THRESHOLD_STEPS, World, pipeline, wait

import overread.examples
from overread.dicom.study import Exam, Origin
from overread.engine.child import read_exam
from overread.engine.folders import JobFolder
from overread.operators.run import run
from overread.pipelines.check import order
from overread.pipelines.definition import Pipeline
from overread.pipelines.ports import Context, Model, signature
from overread.site import load

RESULTS = Path(__file__).parent / "results"
SITE = Path(overread.examples.__file__).parent / "bts"


def series(name: str, slices: int) -> list[Dataset]:
    """Make a noisy head-sized MR series of 256 × 256 images with a bright ball in it."""
    rng = np.random.default_rng(0)
    shape = (slices, 256, 256)
    array = 200 + 40 * rng.standard_normal(shape) + 600 * ball(shape, 0.15)
    array *= ball(shape, 0.95) | ball(shape, 0.15)
    grid = affine(spacing=(160 / slices, 0.9, 0.9))
    return images(np.clip(array, 0, 2000).astype(np.int16), grid, name=name)


class Bare:
    """The same functions on the same files, in one process, with nothing around them."""

    def __init__(self, world: World, definition: Pipeline) -> None:
        self.site = world.site
        self.definition = definition
        self.folder = JobFolder(world.root.parent / "bare")

    def lay_out(self, instances: list[Path]) -> None:
        """Put the exam's files where it reads them; not a part of its time."""
        shutil.rmtree(self.folder.root, ignore_errors=True)
        self.folder.lay_out((file, Origin()) for file in instances)

    def time(self) -> float:
        """Run once; return the seconds."""
        began = time.monotonic()
        made: dict[str, object] = {"exam": read_exam(self.folder.exam)}
        models = {name: Model(one.card, one.file) for name, one in self.site.models.items()}
        for name in order(self.definition):
            step = self.definition.steps[name]
            function = self.site.operators[step.use]
            ports = signature(step.use, function)
            given = {port: "exam" for port, kind in ports.inputs.items() if kind is Exam}
            inputs = {port: made[source] for port, source in {**given, **step.in_}.items()}
            context = Context("bare", name, datetime.now(UTC), self.definition.name, "1.0.0")
            made[name], _ = run(function, ports, inputs, step.with_, context, models)
        seg: Any = made["seg"]
        (self.folder.root / "seg.dcm").write_bytes(seg.encode())
        return time.monotonic() - began


def build(root: Path, which: str) -> tuple[World, Pipeline]:
    """Make a site with the example's model, or with a threshold in its place."""
    world = World(root / "site")
    if which == "threshold":
        definition = pipeline(THRESHOLD_STEPS)
    else:
        shutil.copytree(SITE / "models", world.root / "models")
        example = load(SITE, {}).pipelines["brain-tumour"].model_dump(mode="json", by_alias=True)
        definition = {**example, "ae_title": "BRIGHT", "complete": {"quiet": "400ms"}, "send": {}}
        definition["steps"]["t1c"]["with"] = {"where": {"Modality": "MR"}}
    world.pipelines = [definition]
    world.build()
    return world, Pipeline.model_validate(definition)


def measure(world: World, bare: Bare, slices: int, exams: int) -> dict[str, Any]:
    """Send exams one after the other; time each job, and the bare script on the same files."""
    starts, jobs, alone = [], [], []
    for number in range(exams + 1):
        datasets = series(f"exam {number}", slices)
        world.arrive(datasets)
        count = number + 1
        wait(lambda count=count: len(world.all_jobs()) == count, 60)  # type: ignore[misc]  # default
        job = world.wait_for_job("done", "failed", "refused", seconds=600)
        if job.state != "done":
            raise SystemExit(f"the job is {job.state}: {job.reason}")
        exam = world.all_exams()[-1]
        if number == 0:
            bare.lay_out(sorted((world.root / "data" / "work" / job.id / "_exam").glob("*.dcm")))
            bare.time()
            continue  # the first one is for warmth
        quiet = exam.last_arrival_at + bare.definition.complete.quiet
        assert job.started_at is not None and job.ended_at is not None
        starts.append((job.started_at - quiet).total_seconds())
        jobs.append((job.ended_at - job.started_at).total_seconds())
        alone.append(bare.time())
    steps = world.steps(world.all_jobs()[-1])
    return {
        "exams": exams,
        "slices": slices,
        "start_s": spread(starts),
        "job_s": spread(jobs),
        "bare_s": spread(alone),
        "aim_s": round(statistics.median(alone) * 1.1 + 1, 3),
        "steps_s": {
            name: round((run.ended_at - run.started_at).total_seconds(), 3)
            for name, run in steps.items()
            if run.ended_at is not None
        },
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    named: dict[str, Callable[[list[float]], float]] = {
        "median": statistics.median,
        "least": min,
        "most": max,
    }
    return {name: round(of(values), 3) for name, of in named.items()}


def report(which: str, told: dict[str, Any]) -> str:
    """Say it as a page."""
    start, job, bare = told["start_s"], told["job_s"], told["bare_s"]
    lines = [
        f"# Overhead, {which}",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end.",
        "",
        f"{told['exams']} exams of {told['slices']} MR images (256 × 256), one after another, each "
        "run by a worker and by a bare script in turn; both warm. The job's time is from its start "
        "to its end: files copied out of the archive, steps in their sandbox, files between them "
        "written and digested, every step and the results committed. The bare script reads those "
        "files, calls the same functions and writes the segmentation.",
        "",
        "| what, in seconds | median | least | most | aim |",
        "| --- | --- | --- | --- | --- |",
        f"| end of quiet time → job start | {_row(start)} | 0.5 |",
        f"| job | {_row(job)} | {told['aim_s']} |",
        f"| bare script | {_row(bare)} | |",
        "",
        "Steps of the last job, in seconds: "
        + ", ".join(f"{name} {seconds}" for name, seconds in told["steps_s"].items())
        + ".",
    ]
    return "\n".join(lines) + "\n"


def _row(values: dict[str, float]) -> str:
    return " | ".join(str(value) for value in values.values())


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.overhead")
    parser.add_argument("--exams", type=int, default=5)
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--pipeline", choices=("brain-tumour", "threshold"), default="brain-tumour")
    parser.add_argument("--dry", action="store_true", help="print, and write no page")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        world, definition = build(Path(folder), chosen.pipeline)
        world.start()
        try:
            told = measure(world, Bare(world, definition), chosen.slices, chosen.exams)
        finally:
            world.close()
    page = report(chosen.pipeline, told)
    print(page)
    if not chosen.dry:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"overhead-{chosen.pipeline}.md").write_text(page)


if __name__ == "__main__":
    main()
