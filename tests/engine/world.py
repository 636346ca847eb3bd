"""A small site with a worker process of its own, for tests that stop it at bad moments."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydicom import Dataset, dcmwrite
from sqlalchemy import func, select

from overread.dicom.study import Origin
from overread.routing.rules import decide
from overread.site import SiteFolder, load
from overread.store import exams, instances, jobs
from overread.store.archive import Archive
from overread.store.database import Database
from overread.store.tables import Arrival, Association, Exam, Job, StepRun
from tests.dicom.series import affine, ball, images

T = TypeVar("T")

OVERREAD = [sys.executable, "-m", "overread.cli.main"]

QUIET = 0.4

SLOW = '''
import time
import logging
from overread.dicom.volume import Volume

def slow(volume: Volume, *, seconds: float = 1.0) -> Volume:
    """Take a while."""
    logging.getLogger("slow").info("slow begins")
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(0.02)
    return volume
'''

THRESHOLD_STEPS: dict[str, Any] = {
    "t1": {"use": "select_series", "with": {"where": {"Modality": "MR"}}},
    "volume": {"use": "read_volume", "in": {"series": "t1"}},
    "mask": {"use": "threshold", "in": {"volume": "volume"}, "with": {"above": 500}},
    "volumes": {"use": "measure_volumes", "in": {"mask": "mask"}},
    "seg": {"use": "write_seg", "in": {"mask": "mask", "source": "t1"}},
}


def slow_steps(seconds: float, **more: Any) -> dict[str, Any]:
    """The threshold pipeline with a slow step of the site's own before the threshold."""
    steps = json.loads(json.dumps(THRESHOLD_STEPS))
    steps["slow"] = {
        "use": "slow",
        "in": {"volume": "volume"},
        "with": {"seconds": seconds},
        **more,
    }
    steps["mask"]["in"] = {"volume": "slow"}
    return dict(steps)


def pipeline(steps: Mapping[str, Any] = THRESHOLD_STEPS, **more: Any) -> dict[str, Any]:
    """A pipeline at the AE title BRIGHT."""
    return {
        "name": "bright-spots",
        "version": "1.0.0",
        "ae_title": "BRIGHT",
        "complete": {"by": "study", "quiet": f"{QUIET}s", "deadline": "60s"},
        "steps": dict(steps),
        "results": ["volumes", "seg"],
        **more,
    }


def exam_images(name: str = "one", slices: int = 6, **changes: Any) -> list[Dataset]:
    """A small MR series with a bright ball in it; ``changes`` are set on every image."""
    array = np.where(ball((slices, 24, 20)), 1000, 100).astype(np.int16)

    def edit(_index: int, image: Dataset) -> None:
        for keyword, value in changes.items():
            setattr(image, keyword, value)

    return images(array, affine(), name=name, edit=edit)


class World:
    """A site folder, its database and archive, and a worker process that can be killed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings: dict[str, Any] = {
            "site": {"name": "Test"},
            "storage": {"path": "data", "watermark": "1MB"},
            "senders": [{"ae_title": "SCANNER"}],
            "engine": {"memory": "4GB"},
        }
        self.routes: list[dict[str, Any]] = []
        self.pipelines = [pipeline()]
        self.operators = {"slow": SLOW}
        self.worker: subprocess.Popen[bytes] | None = None
        self.site: SiteFolder
        self.database: Database
        self.archive: Archive

    def build(self) -> World:
        """Write the site folder (JSON is YAML) and make the database."""
        for folder in ("pipelines", "operators", "models"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "overread.yaml").write_text(json.dumps(self.settings))
        (self.root / "routes.yaml").write_text(json.dumps({"routes": self.routes}))
        for one in self.pipelines:
            (self.root / "pipelines" / f"{one['name']}.yaml").write_text(json.dumps(one))
        for name, source in self.operators.items():
            (self.root / "operators" / f"{name}.py").write_text(source)
        self.site = load(self.root, {})
        self.database = Database(self.site.settings.database_url)
        self.database.upgrade()
        self.archive = Archive(self.site.settings.data / "archive")
        return self

    def arrive(
        self,
        datasets: Sequence[Dataset],
        *,
        called: str = "BRIGHT",
        calling: str = "SCANNER",
        at: datetime | None = None,
    ) -> None:
        """Let images arrive as the receiver would have them arrive."""
        origin = Origin(calling, called, "127.0.0.1")
        at = at or datetime.now(UTC)
        pipelines = [one.ae_title for one in self.site.pipelines.values()]
        taken = [instances.take(self.archive, _file(one), at) for one in datasets]
        with self.database.write() as session:
            association = Association(
                calling_ae=calling,
                called_ae=called,
                peer_address="127.0.0.1",
                opened_at=at,
                closed_at=at,
                ended="released",
                receiver="test",
            )
            session.add(association)
            session.flush()
            for incoming in taken:
                instances.keep(
                    session,
                    self.archive,
                    incoming,
                    at=at,
                    origin=origin,
                    association_id=association.id,
                    decisions=decide(self.site.routes, incoming.encoded.header, origin),
                    pipelines=pipelines,
                )

    def start(self, *, name: str = "w1") -> None:
        """Start the worker."""
        self.worker = subprocess.Popen(
            [*OVERREAD, "worker", "--site", str(self.root), "--name", name],
            env={**os.environ, "OVERREAD_ALLOW_ROOT": "1"},
        )

    def kill(self) -> None:
        """Kill the worker with SIGKILL."""
        assert self.worker is not None
        self.worker.send_signal(signal.SIGKILL)
        self.worker.wait()

    def stop(self) -> float:
        """Stop the worker with SIGTERM; return how long it took."""
        assert self.worker is not None
        began = time.monotonic()
        self.worker.terminate()
        self.worker.wait(20)
        return time.monotonic() - began

    def close(self) -> None:
        """End what still runs."""
        if self.worker is not None and self.worker.poll() is None:
            self.kill()
        if hasattr(self, "database"):
            self.database.close()

    def job(self) -> Job | None:
        """The newest job."""
        with self.database.read() as session:
            return next(iter(jobs.jobs(session, limit=1)), None)

    def all_jobs(self) -> list[Job]:
        """All jobs, the oldest first."""
        with self.database.read() as session:
            return list(reversed(jobs.jobs(session)))

    def folder(self, job: Job) -> Path:
        """Where a job's work folder lies: with the others, or in a box."""
        data = self.root / "data"
        return next(iter([*data.glob(f"work/{job.id}"), *data.glob(f"boxes/*/{job.id}")]))

    def all_exams(self) -> list[Exam]:
        """All exams, the oldest first."""
        with self.database.read() as session:
            return list(reversed(exams.exams(session)))

    def steps(self, job: Job) -> dict[str, StepRun]:
        """The steps of the latest attempt."""
        with self.database.read() as session:
            return {run.name: run for run in jobs.steps(session, job.id)}

    def dispositions(self) -> list[str]:
        """What became of each arrival."""
        with self.database.read() as session:
            return list(session.scalars(select(Arrival.disposition).order_by(Arrival.id)))

    def count(self, table: Any) -> int:
        """How many rows a table has."""
        with self.database.read() as session:
            return int(session.scalar(select(func.count()).select_from(table)) or 0)

    def wait_for_job(self, *states: str, seconds: float = 90.0) -> Job:
        """Wait until the newest job is in one of these states."""

        def there() -> Job | None:
            job = self.job()
            return job if job and job.state in states else None

        return wait(there, seconds)

    def wait_for_step(self, name: str, state: str = "running", seconds: float = 90.0) -> Job:
        """Wait until the newest job has a step in that state."""

        def there() -> Job | None:
            job = self.job()
            run = self.steps(job).get(name) if job else None
            return job if run and run.state == state else None

        return wait(there, seconds)


def wait(look: Callable[[], T | None], seconds: float = 90.0) -> T:
    """Wait until something is true, and return it."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"it did not come about in {seconds} s")


def _file(image: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, image, enforce_file_format=True)
    return buffer.getvalue()
