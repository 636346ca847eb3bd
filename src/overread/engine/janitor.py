"""The janitor: signs of life, the work of dead workers, what was left lying about."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy import select

from overread.engine.folders import remove
from overread.engine.jobs import workflow_id
from overread.engine.leases import hold
from overread.engine.workflows import Workflows
from overread.pipelines.job import ENDED, JobState
from overread.store.audit import forget_given
from overread.store.database import Database
from overread.store.tables import Job, Worker

_log = structlog.get_logger(__name__)

DEAD_AFTER = timedelta(seconds=30)
"""A worker that has not been seen for so long is given up; its jobs go to the others."""


class Janitor:
    """Keeps one worker's sign of life fresh, and cleans up after all of them.

    Parameters
    ----------
    database : Database
        Workers and jobs.
    workflows : Workflows
        Launched.
    worker, boot : str
        The worker's name, and this start of it.
    work : Path
        Folder below which jobs have their work folders.
    keep_work : timedelta
        How long a work folder stays after its job has ended.
    """

    def __init__(
        self,
        database: Database,
        workflows: Workflows,
        *,
        worker: str,
        boot: str,
        work: Path,
        keep_work: timedelta,
    ) -> None:
        self.database = database
        self.workflows = workflows
        self.worker = worker
        self.boot = boot
        self.work = work
        self.keep_work = keep_work

    def sign_in(self, now: datetime) -> None:
        """Record that this worker has started."""
        with self.database.write() as session:
            session.merge(Worker(name=self.worker, boot=self.boot, started_at=now, seen_at=now))

    def beat(self, now: datetime) -> None:
        """Give a sign of life."""
        with self.database.write() as session:
            session.get_one(Worker, self.worker).seen_at = now

    def round(self, now: datetime) -> None:
        """Hand on what dead workers left, and end jobs whose workflow has ended without a word."""
        with self.database.write() as session:
            if not hold(session, "janitor", self.worker, now):
                return
            dead = session.scalars(
                select(Worker.name).where(
                    Worker.seen_at < now - DEAD_AFTER, Worker.name != self.worker
                )
            ).all()
        for name in dead:
            taken = self.workflows.take_over(name)
            if taken:
                _log.warning("took over the work of a dead worker", dead=name, workflows=len(taken))
        self._end_stranded(now)

    def _end_stranded(self, now: datetime) -> None:
        with self.database.read() as session:
            open_jobs = session.execute(
                select(Job.id, Job.attempt).where(Job.state.not_in(ENDED))
            ).all()
        for job_id, attempt in open_jobs:
            if self.workflows.state(workflow_id(job_id, attempt)) != "ended":
                continue
            with self.database.write() as session:
                # A job ends before its workflow does; so one that runs on has lost it.
                job = session.get_one(Job, job_id)
                if job.state not in ENDED and job.attempt == attempt:
                    job.state, job.ended_at = JobState.FAILED, now
                    job.reason = "a defect of ours: its workflow ended without a word; see the log"

    def tidy(self, now: datetime) -> None:
        """Remove what is left of jobs that ended long enough ago, and of sign-ins that are over."""
        with self.database.write() as session:
            forget_given(session)
        if not self.work.is_dir():
            return
        names = {folder.name for folder in self.work.iterdir() if folder.is_dir()}
        with self.database.read() as session:
            kept = {
                job_id
                for job_id, state, ended_at in session.execute(
                    select(Job.id, Job.state, Job.ended_at).where(Job.id.in_(names))
                )
                if state not in ENDED or ended_at is None or ended_at > now - self.keep_work
            }
        for name in names - kept:
            remove(self.work / name)
        self.workflows.forget(now - self.keep_work)
