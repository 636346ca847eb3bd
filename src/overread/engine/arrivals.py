"""Arrivals become exams; an exam that is whole is closed, and a job opened on it.

All of it is state in the database, and each look is one transaction: a worker may die at any
instruction, and the next look goes on from what was committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset
from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from overread.dicom.match import Condition, parse
from overread.dicom.study import Origin
from overread.engine.enrolment import exam_closed
from overread.engine.headers import Headers, origin_of
from overread.engine.leases import hold
from overread.engine.opening import Ticket, open_job
from overread.engine.revisions import Group, group_of, new_exam, next_revision
from overread.pipelines.definition import Pipeline
from overread.pipelines.job import ON_DEMAND, ROUTED
from overread.routing.completeness import Seen, look
from overread.site import SiteFolder
from overread.store import instances
from overread.store.archive import Archive
from overread.store.database import Database
from overread.store.patients import are_one_patient, patients_of_study
from overread.store.tables import Arrival, Association, Exam, ExamInstance, Instance

_BATCH = 300
"""Arrivals taken in one transaction; receivers wait for it on SQLite, so it is kept short."""


@dataclass(frozen=True)
class _Coming:
    """An arrival with all that is known of it."""

    arrival: Arrival
    instance: Instance
    association: Association | None

    @property
    def origin(self) -> Origin:
        return origin_of(self.arrival, self.association)

    def known_in(self, group: Group) -> int:
        """Return the id of the copy that is a member."""
        return group.members[self.instance.sop_instance_uid]


class Gatherer:
    """Gathers arrivals into exams and closes those that are whole.

    Parameters
    ----------
    site : SiteFolder
        Its pipelines say what gathers, and when it is whole.
    database : Database
        Arrivals, exams and jobs.
    archive : Archive
        Where headers are read.
    worker : str
        The worker's name, for the lease.
    """

    def __init__(self, site: SiteFolder, database: Database, archive: Archive, worker: str) -> None:
        self.site = site
        self.database = database
        self.archive = archive
        self.worker = worker
        self._headers = Headers(archive)
        self._ae_titles = [pipeline.ae_title for pipeline in site.pipelines.values()]
        self._selects = {
            pipeline.name: [
                parse(step.with_["where"])
                for step in pipeline.steps.values()
                if step.use == "select_series" and "where" in step.with_
            ]
            for pipeline in site.pipelines.values()
        }

    def tick(self, now: datetime) -> list[Ticket]:
        """Look once; return the jobs that were opened and are to be put into the queue.

        Where nothing is new and nothing due, this reads two indexes and writes nothing.
        """
        with self.database.read() as session:
            new = session.scalar(select(exists().where(*self._new())))
            due = session.scalar(select(exists().where(Exam.state == "open", Exam.due_at <= now)))
        if not new and not due:
            return []
        if new:
            self.settle()
        with self.database.write() as session:
            if not hold(session, "gather", self.worker, now):
                return []
            batch = self._batch(session)
            opened = self._gather(session, batch, now)
            if len(batch) < _BATCH:  # never close an exam while a part of it waits to be gathered
                opened += self._close_due(session, now)
        return opened

    def _new(self) -> tuple[ColumnElement[bool], ...]:
        return (Arrival.ae_title.in_(self._ae_titles), Arrival.disposition == "new")

    def settle(self, _now: datetime | None = None) -> None:
        """Compare second copies that nobody has compared yet; it decodes, so before any lock."""
        with self.database.read() as session:
            unsettled = session.scalars(
                select(Instance.id).where(Instance.standing == "unsettled")
            ).all()
        for instance_id in unsettled:
            instances.settle(self.database, self.archive, instance_id)

    def _batch(self, session: Session) -> list[_Coming]:
        query = (
            select(Arrival, Instance, Association)
            .join(Instance, Instance.id == Arrival.instance_id)
            .outerjoin(Association, Association.id == Arrival.association_id)
            .where(*self._new(), Instance.standing != "unsettled")
            .order_by(Arrival.id)
            .limit(_BATCH)
        )
        return [_Coming(*row) for row in session.execute(query)]

    def _gather(self, session: Session, batch: Sequence[_Coming], now: datetime) -> list[Ticket]:
        opened: list[Ticket] = []
        groups: dict[tuple[str, str, str, str], list[_Coming]] = {}
        for coming in batch:
            pipeline = self.site.pipeline_for(coming.arrival.ae_title)
            instance = coming.instance
            if pipeline is None:
                continue
            key = (pipeline.name, group_of(pipeline, instance), instance.patient_id)
            groups.setdefault((*key, instance.study_uid), []).append(coming)
        for (name, *_key), comings in groups.items():
            pipeline = self.site.pipelines[name]
            group = Group.of(session, pipeline, comings[0].instance, comings[0].arrival.at)
            for coming in comings:
                opened += self._take(session, pipeline, group, coming, now)
            session.flush()
        return opened

    def _take(
        self, session: Session, pipeline: Pipeline, group: Group, coming: _Coming, now: datetime
    ) -> list[Ticket]:
        """Decide what becomes of one arrival."""
        arrival, instance = coming.arrival, coming.instance
        if group.exam is None:
            group.exam = new_exam(pipeline, instance, arrival)
            session.add(group.exam)
            session.flush()
        arrival.exam_id = group.exam.id
        if instance.sop_instance_uid in group.members:
            return self._take_known(session, pipeline, group, coming, now)
        if group.exam.state == "closed":
            if not self._selected(pipeline, coming):
                arrival.disposition = "late: no step selects it"
                return []
            group.exam = next_revision(session, group.exam, arrival)
        _join(session, pipeline, group.exam, group, coming)
        return []

    def _take_known(
        self, session: Session, pipeline: Pipeline, group: Group, coming: _Coming, now: datetime
    ) -> list[Ticket]:
        """Decide about a copy of what is a member already; only one that a person sends counts."""
        exam, arrival, known = group.exam, coming.arrival, coming.known_in(group)
        same = known == coming.instance.id
        arrival.disposition = "repeat" if same else "repeat: another copy of a member"
        if exam is None or arrival.origin != "sent":
            return []
        if exam.state == "closed" and same:
            exam.priority = ON_DEMAND
            ticket = open_job(session, self.site, exam, pipeline, now)
            return [ticket] if ticket else []
        if exam.state == "closed":
            group.exam = next_revision(session, exam, arrival, without=known)
        elif not same and _inherited(session, exam, known):
            member = session.get_one(ExamInstance, (exam.id, known))
            session.delete(member)
        else:
            return []
        _join(session, pipeline, group.exam or exam, group, coming)
        return []

    def _selected(self, pipeline: Pipeline, coming: _Coming) -> bool:
        """Say whether a step of the pipeline would select this instance."""
        conditions: list[Condition] = self._selects[pipeline.name]
        if not conditions:
            return coming.instance.rows is not None
        header = self._headers.of(coming.instance)
        return any(condition.explain(header, coming.origin).true for condition in conditions)

    def _close_due(self, session: Session, now: datetime) -> list[Ticket]:
        opened: list[Ticket] = []
        due = session.scalars(
            select(Exam).where(Exam.state == "open", Exam.due_at <= now).order_by(Exam.due_at)
        ).all()
        for exam in due:
            pipeline = self.site.pipelines.get(exam.pipeline)
            if pipeline is None:
                exam.state = "held"
                exam.held_reason = f"the site has no pipeline {exam.pipeline} any more"
                continue
            if _two_patients(session, exam):
                exam.state = "held"
                exam.held_reason = (
                    "a StudyInstanceUID of it came under two patients; a person must decide"
                )
                continue
            verdict = look(
                pipeline.complete,
                self._seen(session, exam, bool(pipeline.complete.require)),
                exam.opened_at,
                exam.last_arrival_at,
                now,
                exam.revision,
            )
            exam.evidence = {"decided_by": verdict.decided_by, **verdict.evidence}
            exam.due_at = verdict.look_again_at
            if verdict.closed:
                exam.state, exam.closed_at = "closed", now
                exam_closed(session, self.site, self.archive, exam, now)
                ticket = open_job(session, self.site, exam, pipeline, now)
                opened += [ticket] if ticket else []
        return opened

    def _seen(self, session: Session, exam: Exam, with_headers: bool) -> list[Seen]:
        """Describe the series of an exam; headers only where a condition will ask for them."""
        first: dict[str, _Coming] = {}
        count: dict[str, int] = {}
        query = (
            select(Arrival, Instance, Association)
            .join(ExamInstance, ExamInstance.arrival_id == Arrival.id)
            .join(Instance, Instance.id == ExamInstance.instance_id)
            .outerjoin(Association, Association.id == Arrival.association_id)
            .where(ExamInstance.exam_id == exam.id)
            .order_by(Instance.id)
        )
        for row in session.execute(query):
            coming = _Coming(*row)
            first.setdefault(coming.instance.series_uid, coming)
            count[coming.instance.series_uid] = count.get(coming.instance.series_uid, 0) + 1
        return [
            Seen(
                uid,
                self._headers.of(coming.instance) if with_headers else Dataset(),
                count[uid],
                coming.origin,
            )
            for uid, coming in first.items()
        ]


def _join(session: Session, pipeline: Pipeline, exam: Exam, group: Group, coming: _Coming) -> None:
    """Make an instance a member of the group's exam."""
    arrival, instance = coming.arrival, coming.instance
    session.add(ExamInstance(exam_id=exam.id, instance_id=instance.id, arrival_id=arrival.id))
    group.members[instance.sop_instance_uid] = instance.id
    arrival.exam_id, arrival.disposition = exam.id, "gathered"
    exam.last_arrival_at = max(exam.last_arrival_at, arrival.at)
    exam.priority = min(exam.priority, ON_DEMAND if arrival.origin == "sent" else ROUTED)
    exam.due_at = min(
        exam.last_arrival_at + pipeline.complete.quiet,
        exam.opened_at + pipeline.complete.deadline,
    )


def _inherited(session: Session, exam: Exam, instance_id: int) -> bool:
    """Say whether a member of an open revision was one of the revision before."""
    member = session.get_one(ExamInstance, (exam.id, instance_id))
    return session.get_one(Arrival, member.arrival_id).at < exam.opened_at


def _two_patients(session: Session, exam: Exam) -> bool:
    """Say whether a study of this exam came under two patients, here or anywhere else."""
    studies = session.scalars(
        select(Instance.study_uid)
        .join(ExamInstance, ExamInstance.instance_id == Instance.id)
        .where(ExamInstance.exam_id == exam.id)
        .distinct()
    )
    return not all(are_one_patient(patients_of_study(session, study)) for study in studies)
