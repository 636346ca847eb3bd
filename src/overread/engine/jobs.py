"""Jobs: a durable workflow that runs a pipeline's steps on an exam and keeps the results.

What a step made is recorded before the next one begins, so a job that was cut off goes on after
its last finished step. Every write of a job is conditional on the worker's boot id, which the job
carries while it runs: a worker that was given up for dead, and comes back, finds the job another's
and lets go.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from overread.engine import fhir, site_tables
from overread.engine.edits import lay_out_edited
from overread.engine.enrolment import results_kept
from overread.engine.folders import JobFolders, digests
from overread.engine.headers import origin_of
from overread.engine.keeping import keep_results
from overread.engine.opening import Ticket
from overread.engine.outside import launch
from overread.engine.requests import step_request, weights
from overread.engine.sandbox import Child, Children
from overread.engine.sources import foreign_code
from overread.engine.weights import verify
from overread.engine.workflows import Interrupted, Queue, Workflows
from overread.errors import Refused, StepFailed
from overread.pipelines.check import order
from overread.pipelines.definition import Pipeline
from overread.pipelines.job import JobState, StepState
from overread.pipelines.ports import Progress
from overread.site import SiteFolder
from overread.store.archive import Archive
from overread.store.database import Database
from overread.store.exams import members
from overread.store.tables import (
    Arrival,
    Association,
    ExamInstance,
    Instance,
    Job,
    StepRun,
)

_log = structlog.get_logger(__name__)

QUEUE = "jobs"
_WORKFLOW = "job"
_WATCH_SECONDS = 0.5


class Cancelled(Exception):
    """A person has cancelled the job; the row says so already."""


class Jobs:
    """Runs jobs in one worker.

    Parameters
    ----------
    site : SiteFolder
        Says where the work folder, the models and the operators are.
    database : Database
        Jobs, steps and results.
    archive : Archive
        Where the exam's files are, and objects go.
    workflows : Workflows
        Before its launch.
    children : Children
        One for each job at once.
    folders : JobFolders
        The work folders of jobs.
    boot : str
        New at each start of this worker.
    """

    def __init__(
        self,
        site: SiteFolder,
        database: Database,
        archive: Archive,
        *,
        workflows: Workflows,
        children: Children,
        folders: JobFolders,
        boot: str,
    ) -> None:
        self.site = site
        self.database = database
        self.archive = archive
        self.workflows = workflows
        self.children = children
        self.folders = folders
        self.boot = boot
        self.stopping = threading.Event()
        workflows.register(_WORKFLOW, self.run)

    def queue(self) -> Queue:
        """Return the queue that jobs wait in."""
        return Queue(self.site.settings.engine.concurrency, poll=0.05)

    def enqueue(self, ticket: Ticket) -> None:
        """Put a job into the queue; once for each attempt, however often asked."""
        self.workflows.enqueue(
            _WORKFLOW,
            QUEUE,
            workflow_id(ticket.job, ticket.attempt),
            ticket.job,
            ticket.attempt,
            priority=ticket.priority,
        )

    def queued(self) -> list[Ticket]:
        """List the jobs that are to be in the queue."""
        with self.database.read() as session:
            rows = session.execute(
                select(Job.id, Job.attempt, Job.priority).where(Job.state == JobState.QUEUED)
            )
            return [Ticket(*row) for row in rows]

    def run(self, job_id: str, attempt: int) -> str:
        """Run an attempt of a job: the workflow's body. Return the state it ends in."""
        names = self._claim(job_id, attempt)
        if names is None:
            return "not ours"

        def do(name: str, function: Callable[[str, int], None]) -> str:
            return str(self.workflows.step(name, self._guarded(function), job_id, attempt))

        outcome = do("stage", self._stage)
        code = self._foreign_code(job_id)
        with self.children.one(code) as child, self.folders.lent(job_id, child.box.work):
            for name in names:
                if outcome == "done":
                    outcome = do(name, self._step_of(name, child))
        # No child is by while the exam is laid out and the results are read.
        return do("keep", self._keep) if outcome == "done" else outcome

    def _claim(self, job_id: str, attempt: int) -> list[str] | None:
        """Make the job this worker's; return its steps in order, or none if it is not to run."""
        with self.database.write() as session:
            claimed = session.scalar(
                update(Job)
                .where(
                    Job.id == job_id,
                    Job.attempt == attempt,
                    Job.state.in_((JobState.QUEUED, JobState.RUNNING)),
                )
                .values(state=JobState.RUNNING, worker=self.boot)
                .returning(Job.id)
            )
            if claimed is None:
                return None
            job = session.get_one(Job, job_id, populate_existing=True)
            job.started_at = job.started_at or datetime.now(UTC)
            return order(Pipeline.model_validate(job.definition))

    def _foreign_code(self, job_id: str) -> str:
        with self.database.read() as session:
            job = session.get_one(Job, job_id)
            return foreign_code(job.operators, job.models)

    def _guarded(self, do: Callable[[str, int], None]) -> Callable[[str, int], str]:
        """Make a step's function say what became of it, and record it where it went wrong."""

        def guarded(job_id: str, attempt: int) -> str:
            try:
                do(job_id, attempt)
            except Cancelled:
                return JobState.CANCELLED
            except Refused as error:
                return self._end(job_id, attempt, JobState.REFUSED, str(error))
            except StepFailed as error:
                return self._end(job_id, attempt, JobState.FAILED, str(error))
            except Exception as error:  # noqa: BLE001, the job's edge: recorded for a person
                _log.error("job failed by a defect", job=job_id, error=traceback.format_exc())
                reason = f"a defect of ours: {type(error).__name__}: {error}"
                return self._end(job_id, attempt, JobState.FAILED, reason)
            return "done"

        return guarded

    def _end(self, job_id: str, attempt: int, state: JobState, reason: str) -> str:
        with self.database.write() as session:
            job = self._own(session, job_id, attempt)
            job.state, job.reason, job.ended_at = state, reason, datetime.now(UTC)
        return state

    def _own(self, session: Session, job_id: str, attempt: int) -> Job:
        """Return the job, if it is still this worker's and this attempt is still running.

        Raises
        ------
        Cancelled
            A person has cancelled this attempt, and may have asked for the next one.
        Interrupted
            Another worker has it, or this worker stops.
        """
        if self.stopping.is_set():  # what goes wrong now, as children are killed, is no failure
            raise Interrupted
        job = session.get_one(Job, job_id, populate_existing=True, with_for_update=True)
        if job.state == JobState.CANCELLED or job.attempt != attempt:
            raise Cancelled
        if job.worker != self.boot or job.state != JobState.RUNNING:
            raise Interrupted
        return job

    def _stage(self, job_id: str, _attempt: int) -> None:
        """Lay out the exam's files, and compare the models with their digests."""
        with self.database.read() as session:
            job = session.get_one(Job, job_id)
            rows = session.execute(
                select(Instance, Arrival, Association)
                .join(ExamInstance, ExamInstance.instance_id == Instance.id)
                .join(Arrival, Arrival.id == ExamInstance.arrival_id)
                .outerjoin(Association, Association.id == Arrival.association_id)
                .where(ExamInstance.exam_id == job.exam_id)
                .order_by(Instance.study_uid, Instance.series_uid, Instance.id)
            ).all()
        for model in job.models:
            for file, digest in weights(self.site, model):
                verify(file, digest)
        folder = self.folders.fetch(job_id)
        folder.lay_out(
            (self.archive.path(instance.key), origin_of(arrival, association))
            for instance, arrival, association in rows
        )
        with self.database.read() as session:
            lay_out_edited(session, self.archive, folder, session.get_one(Job, job_id))

    def _step_of(self, name: str, child: Child) -> Callable[[str, int], None]:
        def step(job_id: str, attempt: int) -> None:
            self._step(job_id, attempt, name, child)

        return step

    def _step(self, job_id: str, attempt: int, name: str, child: Child) -> None:
        """Run one step, unless what it makes is there already."""
        request = self._begin(job_id, attempt, name)
        if request is None:
            return
        try:
            site_tables.hand_over(request, self.database, self.archive, self.site.settings.tables)
            self._ask(job_id, attempt, name, request)
            answer = child.run(
                request,
                request["timeout"],
                self._watch(job_id, attempt),
                self._progress(job_id, attempt, name),
                launch(request, child.box, self.site.settings),
            )
            outputs = {
                "type": answer["type"],
                "files": digests(self.folders.of(job_id).unfinished(name)),
                "instances": answer["instances"],
            }
        except (Refused, StepFailed) as error:
            refused = isinstance(error, Refused)
            state = StepState.REFUSED if refused else StepState.FAILED
            self._finish(job_id, attempt, name, state, error=str(error))
            raise type(error)(f"step {name}: {error}") if not refused else error from None
        except Cancelled:
            self._cancelled(job_id, attempt, name)
            raise
        self._finish(
            job_id, attempt, name, StepState.DONE, outputs=outputs, report=answer["account"]
        )

    def _ask(self, job_id: str, attempt: int, name: str, request: dict[str, Any]) -> None:
        """Ask FHIR servers for what the step names, and keep with the step what they said."""
        values = fhir.asked(request)
        if not values or request["context"]["fhir"]:
            return
        with self.database.read() as session:
            images = [
                {key: getattr(image, key) for key in fhir.SAID_BY_IMAGES}
                for image, _ in members(session, session.get_one(Job, job_id).exam_id)
            ]
        look = self._watch(job_id, attempt)
        told = fhir.ask(values, images, self.site.settings, request["timeout"], look)
        request["context"]["fhir"] = told
        with self.database.write() as session:
            self._own(session, job_id, attempt)
            run = _step_run(session, job_id, attempt, name)
            run.inputs = {**run.inputs, fhir.KEPT_AS: told}

    def _watch(self, job_id: str, attempt: int) -> Callable[[], None]:
        """Return a check, to be called while a step runs, that raises when it must not go on."""
        looked = time.monotonic()

        def watch() -> None:
            nonlocal looked
            if self.stopping.is_set():
                raise Interrupted
            if time.monotonic() - looked < _WATCH_SECONDS:
                return
            looked = time.monotonic()
            with self.database.read() as session:
                row = session.execute(
                    select(Job.state, Job.worker, Job.attempt).where(Job.id == job_id)
                ).one()
            if row.state == JobState.CANCELLED or row.attempt != attempt:
                raise Cancelled
            if row.worker != self.boot:
                raise Interrupted

        return watch

    def _progress(self, job_id: str, attempt: int, name: str) -> Progress:
        """Return what keeps a step's progress with it, not more often than anyone would look."""
        kept = time.monotonic()

        def progress(done: int, of: int, what: str) -> None:
            nonlocal kept
            if time.monotonic() - kept < _WATCH_SECONDS:
                return
            kept = time.monotonic()
            with self.database.write() as session:
                session.execute(
                    update(StepRun)
                    .where(
                        StepRun.job_id == job_id,
                        StepRun.attempt == attempt,
                        StepRun.name == name,
                        StepRun.worker == self.boot,
                    )
                    .values(progress={"done": done, "of": of, "what": what})
                )

        return progress

    def _begin(self, job_id: str, attempt: int, name: str) -> dict[str, Any] | None:
        """Record that a step begins; return the request for the child, none if it is done."""
        folder = self.folders.of(job_id)
        with self.database.write() as session:
            job = self._own(session, job_id, attempt)
            run = self._run_row(session, job, name)
            if run.state == StepState.DONE and folder.whole(name, run.outputs["files"]):
                return None
            run.state, run.runs, run.worker = StepState.RUNNING, run.runs + 1, self.boot
            run.started_at, run.ended_at, run.error, run.log = datetime.now(UTC), None, "", ""
            told = fhir.told_before(session, job, name)
            run.inputs, run.progress = {**_inputs(session, job, name), **told}, {}
            request = step_request(self.site, job, name, folder)
            request["context"]["fhir"] = told.get(fhir.KEPT_AS, {})
        folder.fresh(name)
        return request

    def _run_row(self, session: Session, job: Job, name: str) -> StepRun:
        """Return the step's row of this attempt; made from an earlier attempt where that may be.

        An attempt that begins at a step takes what the steps before it made from the attempt
        before, if that is still there.
        """
        rows = session.scalars(
            select(StepRun)
            .where(StepRun.job_id == job.id, StepRun.name == name)
            .order_by(StepRun.attempt.desc())
        ).all()
        if rows and rows[0].attempt == job.attempt:
            return rows[0]
        names = order(Pipeline.model_validate(job.definition))
        taken = next((row for row in rows if row.state == StepState.DONE), None)
        if not job.from_step or names.index(name) >= names.index(job.from_step):
            taken = None
        row = StepRun(
            job_id=job.id,
            name=name,
            attempt=job.attempt,
            runs=0,
            position=names.index(name),
            operator=job.definition["steps"][name]["use"],
            state=StepState.DONE if taken else StepState.RUNNING,
            inputs=taken.inputs if taken else {},
            outputs=taken.outputs if taken else {},
            settings=job.definition["steps"][name]["with"],
            report=taken.report if taken else {},
            error="",
            log=f"taken from attempt {taken.attempt}" if taken else "",
            worker=self.boot,
            started_at=taken.started_at if taken else datetime.now(UTC),
            ended_at=taken.ended_at if taken else None,
        )
        session.add(row)
        return row

    def _finish(
        self,
        job_id: str,
        attempt: int,
        name: str,
        state: StepState,
        *,
        outputs: dict[str, Any] | None = None,
        report: dict[str, Any] | None = None,
        error: str = "",
    ) -> None:
        folder = self.folders.of(job_id)
        with self.database.write() as session:
            self._own(session, job_id, attempt)
            run = _step_run(session, job_id, attempt, name)
            run.state, run.error, run.ended_at = state, error, datetime.now(UTC)
            run.outputs, run.report, run.log = outputs or {}, report or {}, folder.log(name)
            if state == StepState.DONE:
                folder.finish(name)  # before the commit: a row that says done has its files

    def _cancelled(self, job_id: str, attempt: int, name: str) -> None:
        with self.database.write() as session:
            run = _step_run(session, job_id, attempt, name)
            run.state, run.ended_at = StepState.CANCELLED, datetime.now(UTC)
            run.log = self.folders.of(job_id).log(name)

    def _keep(self, job_id: str, attempt: int) -> None:
        """Keep the results and end the job, in one transaction."""
        now = datetime.now(UTC)
        with self.database.write() as session:
            job = session.get_one(Job, job_id)
            if job.state == JobState.DONE:
                return  # kept before, and cut off before the workflow library knew it
            job = self._own(session, job_id, attempt)
            runs = {
                run.name: run
                for run in session.scalars(
                    select(StepRun).where(StepRun.job_id == job_id, StepRun.attempt == attempt)
                )
            }
            folder = self.folders.of(job_id)
            keep_results(session, self.archive, folder, job=job, runs=runs, now=now)
            results_kept(session, self.site, self.archive, job, now)
            job.state, job.reason, job.ended_at = JobState.DONE, "", now


def workflow_id(job_id: str, attempt: int) -> str:
    """Return the id of the workflow that runs an attempt of a job."""
    return f"job-{job_id}-{attempt}"


def work_folder(site: SiteFolder) -> Path:
    """Return the folder below which jobs have their work folders."""
    return site.settings.data / "work"


def box_folder(site: SiteFolder) -> Path:
    """Return the folder below which children have their boxes."""
    return site.settings.data / "boxes"


def _step_run(session: Session, job_id: str, attempt: int, name: str) -> StepRun:
    return session.scalars(
        select(StepRun).where(
            StepRun.job_id == job_id, StepRun.attempt == attempt, StepRun.name == name
        )
    ).one()


def _inputs(session: Session, job: Job, name: str) -> dict[str, Any]:
    """Say what a step is given: port to step, with the files and digests it made."""
    made = {
        run.name: run.outputs.get("files", {})
        for run in session.scalars(
            select(StepRun).where(StepRun.job_id == job.id, StepRun.attempt == job.attempt)
        )
    }
    return {
        port: {"step": source, "files": made.get(source, {})}
        for port, source in job.definition["steps"][name]["in"].items()
    }
