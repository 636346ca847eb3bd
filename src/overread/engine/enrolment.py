"""Exams become cases of projects, and cases are given to their readers.

An exam is enrolled where it closes; with its results it becomes ready, and every reader of the
project is given it, in the transaction that keeps the results. What that cannot see is made up for
by a look every few seconds: exams that were there before their project, and readers that came
later. All of it may be done twice and changes nothing the second time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.engine import notices
from overread.engine.headers import Headers, origin_of
from overread.engine.leases import hold
from overread.site import SiteFolder
from overread.store import enrolments, users
from overread.store.archive import Archive
from overread.store.database import Database, one_at_a_time
from overread.store.paging import Place
from overread.store.tables import (
    Arrival,
    Association,
    Considered,
    Enrolment,
    Exam,
    ExamInstance,
    Instance,
    Job,
    Result,
    User,
)
from overread.validation.permissions import Actor, may
from overread.validation.project import Project
from overread.validation.results import Classification, Detections, Measurements
from overread.validation.urgency import Finding, is_urgent

_BATCH = 300
"""Exams or readings in one transaction; receivers wait for it on SQLite."""
_BEGINNING = Place(0, datetime(1970, 1, 1, tzinfo=UTC), "")
_KINDS: dict[str, Callable[[Mapping[str, Any]], Finding]] = {
    "measurements": Measurements.from_json,
    "detections": Detections.from_json,
    "classification": Classification.from_json,
}

Pairs = frozenset[tuple[str, str]]
"""Projects and their readers."""


def exam_closed(
    session: Session, site: SiteFolder, archive: Archive, exam: Exam, now: datetime
) -> list[Enrolment]:
    """Enrol an exam in the projects that take it, in the transaction that closes it."""
    takers = sorted(site.projects_of(exam.pipeline), key=lambda one: one.name)
    return [
        enrolments.enrol(session, now, project.name, exam.root_id, exam.pipeline)
        for project in takers
        if _takes(session, archive, project, exam)
    ]


def results_kept(
    session: Session, site: SiteFolder, archive: Archive, job: Job, now: datetime
) -> None:
    """Make a job's case ready in its projects, in the transaction that keeps the results.

    What measures a reader's edit makes nothing ready.
    """
    exam = session.get_one(Exam, job.exam_id)
    if job.edits is not None or not site.projects_of(exam.pipeline):
        return
    session.flush()
    readers = readers_of(session, site)
    for case in exam_closed(session, site, archive, exam, now):
        project = site.projects[case.project]
        if _make_ready(session, project, case, now):
            enrolments.assign(session, now, [case], readers[project.name], project.due)
            notices.add(session, site, case, readers[project.name], now)


def readers_of(session: Session, site: SiteFolder) -> Mapping[str, frozenset[str]]:
    """Return the ids of each project's readers: by name, by group, or for the whole site."""
    found: dict[str, set[str]] = {name: set() for name in site.projects}
    for user in session.scalars(select(User).where(User.disabled.is_(False))):
        grants = users.held(session, user.id) | site.grants(user.name, frozenset(user.groups))
        actor = Actor(user.name, grants, user.id)
        for name, readers in found.items():
            if may(actor, "reading.give", projects=[name]).yes:
                readers.add(user.id)
    return {name: frozenset(readers) for name, readers in found.items()}


def _make_ready(session: Session, project: Project, case: Enrolment, now: datetime) -> bool:
    """Note that a case has its results, if it has; say whether readers get something new."""
    results = enrolments.results_of(session, case.root_id)
    if not results:
        return False
    urgent = is_urgent(project.urgent, [one for result in results for one in _finding(result)])
    at = min(result.created_at for result in results)
    return enrolments.make_ready(session, min(at, now), case, urgent=urgent)


def _finding(result: Result) -> list[Finding]:
    kind = _KINDS.get(result.kind)
    return [] if kind is None else [kind(result.data)]


def _takes(session: Session, archive: Archive, project: Project, exam: Exam) -> bool:
    """Say whether a project's condition is true of an exam's first image."""
    if project.enrol is None:
        return True
    row = session.execute(
        select(Instance, Arrival, Association)
        .join(ExamInstance, ExamInstance.instance_id == Instance.id)
        .join(Arrival, Arrival.id == ExamInstance.arrival_id)
        .outerjoin(Association, Association.id == Arrival.association_id)
        .where(ExamInstance.exam_id == exam.id)
        .order_by(Instance.id)
        .limit(1)
    ).first()
    if row is None:
        return False
    instance, arrival, association = row
    header = Headers(archive).of(instance)
    return project.enrol.explain(header, origin_of(arrival, association)).true


class Enroller:
    """Makes up for what closing and keeping cannot see; one worker of a site at a time.

    Parameters
    ----------
    worker : str
        The worker's name, for the lease.
    """

    def __init__(self, site: SiteFolder, database: Database, archive: Archive, worker: str) -> None:
        self.site, self.database, self.archive, self.worker = site, database, archive, worker
        self._settled: Pairs | None = None

    def tick(self, now: datetime) -> None:
        """Look once. Where nobody came or went since all was settled, this reads the users only."""
        with self.database.read() as session:
            pairs = self._pairs(session)
        if pairs == self._settled:
            return
        with self.database.write() as session:
            if not hold(session, "enrol", self.worker, now):
                return
            considered = [self._consider(session, one, now) for one in self._projects()]
            is_done = self._give(session, pairs, now)
        self._settled = pairs if is_done and all(considered) else None

    def _projects(self) -> list[Project]:
        return [self.site.projects[name] for name in sorted(self.site.projects)]

    def _pairs(self, session: Session) -> Pairs:
        return frozenset(
            (project, reader)
            for project, readers in readers_of(session, self.site).items()
            for reader in readers
        )

    def _consider(self, session: Session, project: Project, now: datetime) -> bool:
        """Enrol exams that were there before the project; say whether that was all of them."""
        one_at_a_time(session, f"enrol in {project.name}")
        rule = _rule(project)
        mark = session.get(Considered, project.name)
        if mark is None:
            mark = Considered(project=project.name, rule="", at=now, exam_id="")
            session.add(mark)
        if mark.rule != rule:
            mark.rule, mark.at, mark.exam_id = rule, _BEGINNING.at, _BEGINNING.id
        found = enrolments.closed_after(
            session, project.pipelines, Place(0, mark.at, mark.exam_id), _BATCH
        )
        for exam in found:
            if _takes(session, self.archive, project, exam):
                case = enrolments.enrol(session, now, project.name, exam.root_id, exam.pipeline)
                _make_ready(session, project, case, now)
        if found:
            mark.at, mark.exam_id = found[-1].opened_at, found[-1].id
        return len(found) < _BATCH

    def _give(self, session: Session, pairs: Pairs, now: datetime) -> bool:
        """Give every reader what is theirs, and take back what is not; say whether that was all."""
        is_done = True
        for project, reader in sorted(enrolments.readers_with_work(session) - pairs):
            enrolments.withdraw(session, project, reader)
        given, ready = enrolments.given(session), enrolments.ready(session)
        for name, reader in sorted(pairs - (self._settled or frozenset())):
            enrolments.restore(session, name, reader)
            if given.get((name, reader), 0) >= ready.get(name, 0):
                continue
            one_at_a_time(session, f"enrol in {name}")
            missing = enrolments.not_given(session, name, reader, _BATCH)
            enrolments.assign(session, now, missing, [reader], self.site.projects[name].due)
            is_done &= len(missing) < _BATCH
        return is_done


def _rule(project: Project) -> str:
    said = project.model_dump(mode="json", include={"pipelines", "enrol"})
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
