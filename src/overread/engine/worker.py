"""The worker: one process that gathers exams, runs jobs and delivers."""

from __future__ import annotations

import fcntl
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event, Thread

import structlog

from overread.dicom.encoded import keep_values_out_of_logs
from overread.engine.arrivals import Gatherer
from overread.engine.deliveries import Deliveries
from overread.engine.enrolment import Enroller
from overread.engine.folders import JobFolders
from overread.engine.janitor import Janitor
from overread.engine.jobs import QUEUE, Jobs, box_folder, work_folder
from overread.engine.notices import Notices
from overread.engine.opening import operator_folder
from overread.engine.outside import clean
from overread.engine.reloading import OwnOperators
from overread.engine.sandbox import Box, Children
from overread.engine.sealing import Sealer, heads_file
from overread.engine.workflows import Workflows
from overread.errors import UsageError
from overread.site import SiteFolder
from overread.site.digests import note_site
from overread.store.archive import Archive
from overread.store.database import Database
from overread.store.tables import new_id

_log = structlog.get_logger(__name__)

_TICK = 0.05


@dataclass
class _Task:
    """Something that is done again and again."""

    name: str
    every: float
    do: Callable[[datetime], object]
    next_at: float = 0.0

    def look(self) -> None:
        """Do it where it is time; what goes wrong is logged, and done again later."""
        if time.monotonic() < self.next_at:
            return
        try:
            self.do(datetime.now(UTC))
            pause = self.every
        except Exception:  # noqa: BLE001, the edge of the worker's loop: recorded, and it goes on
            _log.error("a task of the worker failed", task=self.name, error=traceback.format_exc())
            pause = max(self.every, 1.0)
        self.next_at = time.monotonic() + pause


def box(site: SiteFolder) -> Box:
    """Return what the site lets model code use."""
    engine = site.settings.engine
    files = {file for model in site.models.values() for file in (model.file, *model.folds)}
    return Box(
        isolation=engine.isolation,
        memory=engine.memory,
        threads=max(1, (os.cpu_count() or 1) // engine.concurrency),
        work=box_folder(site),
        readable=(
            *sorted({file.parent for file in files}),
            operator_folder(site),
        ),
        hidden=(site.settings.root, site.settings.data),
        disk=engine.disk,
        tasks=engine.tasks,
    )


def serve(site: SiteFolder, stop: Event, *, name: str = "") -> None:
    """Work until ``stop`` is set.

    Parameters
    ----------
    site : SiteFolder
        The site.
    stop : Event
        Set it to stop; a step that runs is killed, and resumes at the next start.
    name : str
        The worker's name, stable and unique among workers of one database; the host's name where
        it is empty.

    Raises
    ------
    UsageError
        A worker of that name runs on this machine already, or bubblewrap does not work here.
    """
    keep_values_out_of_logs()
    name = name or socket.gethostname()
    data = site.settings.data
    for folder in (data, work_folder(site), box_folder(site), operator_folder(site)):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    limits = box(site)
    problem = limits.problem()
    if problem:
        raise UsageError(
            f"model code cannot be kept apart here: {problem}; engine.isolation: none in "
            "overread.yaml runs it with this user's rights and network"
        )
    with _only_one(site, name):
        _work(site, stop, name, limits)


def _work(site: SiteFolder, stop: Event, name: str, limits: Box) -> None:
    boot = new_id()
    database = Database(site.settings.database_url)
    database.upgrade()
    note_site(database, site.root, datetime.now(UTC))
    archive = Archive(site.settings.data / "archive")
    children = Children(limits, name, site.settings.engine.concurrency)
    folders = JobFolders(work_folder(site), box_folder(site))
    clean(site, children.boxes)
    for place in children.boxes:  # before a child starts: a worker that was killed left jobs there
        folders.empty(place)
    workflows = Workflows(site.settings, name)
    jobs = Jobs(
        site,
        database,
        archive,
        workflows=workflows,
        children=children,
        folders=folders,
        boot=boot,
    )
    deliveries = Deliveries(site, database, archive, workflows)
    gatherer = Gatherer(site, database, archive, name)
    janitor = Janitor(
        database,
        workflows,
        worker=name,
        boot=boot,
        work=work_folder(site),
        keep_work=site.settings.engine.keep_work,
    )
    sealer = Sealer(database, name, heads_file(site.settings.data))
    janitor.sign_in(datetime.now(UTC))
    children.warm()
    workflows.launch({QUEUE: jobs.queue(), **deliveries.queues()})

    def gather(now: datetime) -> None:
        for ticket in gatherer.tick(now):
            jobs.enqueue(ticket)

    def sweep(_now: datetime) -> None:
        for ticket in jobs.queued():
            jobs.enqueue(ticket)

    tasks = [
        _Task("gather", _TICK, gather),
        _Task("operators", 1.0, OwnOperators(site, jobs, gatherer).look),
        _Task("settle", 1.0, gatherer.settle),
        _Task("deliver", 0.1, deliveries.tick),
        _Task("enqueue", 1.0, sweep),
        _Task("seal the audit", 0.5, sealer.round),
        _Task("sign of life", 5.0, janitor.beat),
        _Task("take over", 10.0, janitor.round),
        _Task("unknown destinations", 60.0, deliveries.give_up_unknown),
        _Task("enrol", 2.0, Enroller(site, database, archive, name).tick),
        _Task("tidy", 600.0, janitor.tidy),
    ]
    telling = Thread(target=Notices(site, database).serve, args=(stop,), name="notices")
    telling.start()  # on its own: a mail server that is silent keeps nothing else waiting
    _log.info("worker is up", worker=name, isolation=limits.isolation)
    while not stop.wait(_TICK):
        for task in tasks:
            task.look()
    jobs.stopping.set()
    deliveries.stopping.set()
    workflows.close()
    children.stop()
    telling.join()
    database.close()


@contextmanager
def _only_one(site: SiteFolder, name: str) -> Iterator[None]:
    """Hold the lock of a worker's name on this machine."""
    with (site.settings.data / f"worker-{name}.lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"a worker named {name} runs here already; two of one name would run each "
                "other's jobs (--name gives another name)"
            ) from None
        yield
