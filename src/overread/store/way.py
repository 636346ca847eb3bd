"""The whole way of what came under one accession number, or where and why it stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from pydicom import Dataset, dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.dicom.encoded import UNREADABLE, text
from overread.dicom.study import Origin
from overread.errors import UsageError
from overread.pipelines.job import JobState
from overread.routing.rules import Route, decide
from overread.store import jobs
from overread.store.archive import Archive
from overread.store.comings import association
from overread.store.deliveries import of_instances
from overread.store.exams import members
from overread.store.tables import Arrival, Association, Delivery, Exam, Instance, Quarantine

_SERIES_EXPLAINED = 12
"""Series of which the routes are explained; more of them say nothing new."""

_QUARANTINED_READ = 500
"""Quarantined objects whose headers are read in search of an accession number, the newest ones."""


class Refusal(NamedTuple):
    """A route to a pipeline that did not take a series.

    Attributes
    ----------
    series : str
        SeriesDescription, or the series' number.
    route : str
        Name of the route.
    lines : list of str
        The reason, then the condition with what was found, for people.
    """

    series: str
    route: str
    lines: list[str]


def way(
    session: Session,
    accession: str,
    archive: Archive,
    routes: Sequence[Route] = (),
    pipelines: Collection[str] | None = None,
) -> dict[str, Any]:
    """Gather everything that is known of an accession number.

    Parameters
    ----------
    accession : str
        AccessionNumber.
    archive : Archive
        Where headers are read from.
    routes : sequence of Route
        The site's routes, as they are now.
    pipelines : collection of str, optional
        The AE titles of the site's pipelines now; none where the site cannot be read, and then
        nothing is said of routes.

    Returns
    -------
    dict
        ``verdict``, a sentence; ``studies``, ``routes``, ``exams`` with their jobs, steps and
        results; ``deliveries``; ``refusals``, for studies that came to no pipeline: the routes to
        one that did not take them, and why; ``quarantined``, what could not be taken and says that
        it is of this accession number, or came by the same associations and does not say of which.

    Raises
    ------
    UsageError
        Nothing of that accession number has arrived.
    """
    rows = [
        (instance, arrival, association)
        for instance, arrival, association in session.execute(
            select(Instance, Arrival, Association)
            .join(Arrival, Arrival.instance_id == Instance.id)
            .outerjoin(Association, Association.id == Arrival.association_id)
            .where(Instance.accession == accession, Instance.standing != "ours")
            .order_by(Arrival.id)
        )
    ]
    quarantined = _quarantined(session, archive, accession, rows)
    if not accession or not (rows or quarantined):
        raise UsageError(
            f"nothing has arrived under accession number {accession!r}; "
            "overread exam list shows what has"
        )
    exams = [_exam(session, exam) for exam in _exams(session, rows)]
    made = [
        result["instance_id"]
        for exam in exams
        for job in exam["jobs"]
        for result in job["results"]
        if result["instance_id"] is not None
    ]
    ids = sorted({instance.id for instance, _, _ in rows} | set(made))
    deliveries = _deliveries(of_instances(session, ids))
    return {
        "accession": accession,
        "verdict": _verdict(rows, exams, deliveries, pipelines, routes)
        if rows
        else f"stopped: what came is in quarantine: {quarantined[-1]['reason']}",
        "studies": _studies(rows),
        "routes": _routes(rows),
        "refusals": []
        if pipelines is None
        else [
            refusal._asdict()
            for refusal in refusals(session, archive, routes, pipelines, _untaken(rows, pipelines))
        ],
        "exams": exams,
        "deliveries": deliveries,
        "quarantined": quarantined,
    }


def refusals(
    session: Session,
    archive: Archive,
    routes: Sequence[Route],
    pipelines: Collection[str],
    instances: Sequence[Instance],
) -> list[Refusal]:
    """Say of the first instance of each series which routes to a pipeline do not take it, and why.

    Parameters
    ----------
    routes : sequence of Route
        The site's routes, as they are now.
    pipelines : collection of str
        The AE titles of the site's pipelines.
    instances : sequence of Instance
        What came, the first one first.
    """
    first: dict[str, Instance] = {}
    for one in instances:
        first.setdefault(one.series_uid, one)
    told = []
    for one in list(first.values())[:_SERIES_EXPLAINED]:
        name = one.series_description or f"series {one.series_number or '?'}"
        header = _header(archive, one.key)
        if header is None:
            continue
        came = association(session, one.id)
        origin = Origin(came.calling_ae, came.called_ae, came.peer_address) if came else Origin()
        when = {route.name: route.when for route in routes}
        for decision in decide(routes, header, origin):
            if decision.ae_title in pipelines and not decision.send:
                lines = when[decision.route].explain(header, origin).lines()
                told.append(Refusal(name, decision.route, [decision.why["reason"], *lines]))
    return told


def _header(archive: Archive, key: str) -> Dataset | None:
    """Read the header of a file in the archive; none where there is none to be read."""
    try:
        return dcmread(archive.path(key), stop_before_pixels=True, force=True)
    except UNREADABLE:
        return None


_Row = tuple[Instance, Arrival, Association | None]


def _untaken(rows: Sequence[_Row], pipelines: Collection[str]) -> list[Instance]:
    """Pick the instances of the studies that came to no pipeline."""
    taken = {
        instance.study_uid
        for instance, arrival, _ in rows
        if arrival.exam_id is not None or arrival.ae_title in pipelines
    }
    return [instance for instance, _, _ in rows if instance.study_uid not in taken]


def _studies(rows: Sequence[_Row]) -> list[dict[str, Any]]:
    studies: dict[str, list[_Row]] = {}
    for row in rows:
        studies.setdefault(row[0].study_uid, []).append(row)
    told = []
    for uid, of_study in studies.items():
        instances = {instance.id: instance for instance, _, _ in of_study}.values()
        came_by = Counter(
            f"{association.calling_ae} ({association.peer_address}) → {association.called_ae}, "
            f"{association.opened_at:%Y-%m-%d %H:%M:%S} UTC, {association.ended or 'open'}"
            for _, arrival, association in of_study
            if association is not None and arrival.origin == "sent"
        )
        told.append(
            {
                "study_uid": uid,
                "instances": len(instances),
                "series": len({instance.series_uid for instance in instances}),
                "modalities": sorted({instance.modality for instance in instances}),
                "came_by": [
                    f"{who}: {count} instance{'' if count == 1 else 's'}"
                    for who, count in came_by.items()
                ],
                "standings": dict(
                    Counter(
                        f"{instance.standing} {instance.standing_reason}".strip()
                        for instance in instances
                    )
                ),
            }
        )
    return told


def _routes(rows: Sequence[_Row]) -> list[dict[str, Any]]:
    told: dict[tuple[str, str], dict[str, Any]] = {}
    seen: set[tuple[str, str, int]] = set()
    for instance, arrival, _ in rows:
        if arrival.origin == "routed":
            route = told.setdefault(
                (arrival.route, arrival.ae_title),
                {
                    "route": arrival.route,
                    "to": arrival.ae_title,
                    "instances": 0,
                    "reason": arrival.why.get("reason", ""),
                    "why": arrival.why,
                },
            )
            # what was sent twice was routed twice, and is one instance all the same
            once = (arrival.route, arrival.ae_title, instance.id)
            route["instances"] += once not in seen
            seen.add(once)
    return list(told.values())


def _exams(session: Session, rows: Sequence[_Row]) -> Sequence[Exam]:
    seen = {arrival.exam_id for _, arrival, _ in rows if arrival.exam_id}
    roots = select(Exam.root_id).where(Exam.id.in_(seen))
    return session.scalars(
        select(Exam).where(Exam.root_id.in_(roots)).order_by(Exam.pipeline, Exam.opened_at)
    ).all()


def _exam(session: Session, exam: Exam) -> dict[str, Any]:
    arrivals = Counter(
        session.scalars(select(Arrival.disposition).where(Arrival.exam_id == exam.id))
    )
    return {
        "id": exam.id,
        "root": exam.root_id,
        "revision": exam.revision,
        "pipeline": exam.pipeline,
        "state": exam.state,
        "held_reason": exam.held_reason,
        "opened_at": exam.opened_at,
        "last_arrival_at": exam.last_arrival_at,
        "due_at": exam.due_at,
        "closed_at": exam.closed_at,
        "evidence": exam.evidence,
        "instances": len(members(session, exam.id)),
        "arrivals": dict(arrivals),
        "jobs": [_job(session, job.id) for job in reversed(jobs.jobs(session, exam_id=exam.id))],
    }


def _job(session: Session, job_id: str) -> dict[str, Any]:
    job = jobs.job(session, job_id)
    return {
        **jobs.summary(job),
        "steps": [
            {
                "name": step.name,
                "attempt": step.attempt,
                "operator": step.operator,
                "state": step.state,
                "runs": step.runs,
                "error": step.error,
                "started_at": step.started_at,
                "ended_at": step.ended_at,
            }
            for step in jobs.steps(session, job_id)
            if step.attempt == job.attempt
        ],
        "results": [
            {
                "id": result.id,
                "name": result.name,
                "kind": result.kind,
                "version": result.version,
                "superseded_by": result.superseded_by,
                "instance_id": result.instance_id,
            }
            for result in jobs.results(session, job_id)
        ],
    }


def _deliveries(found: Sequence[Delivery]) -> list[dict[str, Any]]:
    told: dict[tuple[str, str, str], dict[str, Any]] = {}
    for delivery in found:
        one = told.setdefault(
            (delivery.destination, delivery.cause, delivery.state),
            {
                "destination": delivery.destination,
                "cause": delivery.cause,
                "state": delivery.state,
                "instances": 0,
                "errors": [],
                "next_at": delivery.next_at,
            },
        )
        one["instances"] += 1
        if delivery.error and delivery.error not in one["errors"]:
            one["errors"].append(delivery.error)
    return list(told.values())


def _quarantined(
    session: Session, archive: Archive, accession: str, rows: Sequence[_Row]
) -> list[dict[str, Any]]:
    """List what could not be taken and is of this accession number, or may well be."""
    associations = {association.id for _, _, association in rows if association is not None}
    newest = session.scalars(
        select(Quarantine).order_by(Quarantine.at.desc()).limit(_QUARANTINED_READ)
    ).all()
    told = []
    for one in reversed(newest):
        header = _header(archive, one.key)
        says = "" if header is None else text(header, "AccessionNumber")
        if says == accession or (not says and one.association_id in associations):
            told.append(
                {
                    "id": one.id,
                    "at": one.at,
                    "reason": one.reason,
                    "sop_instance_uid": one.affected_sop_instance_uid,
                    "key": one.key,
                }
            )
    return told


def _verdict(
    rows: Sequence[_Row],
    exams: Sequence[dict[str, Any]],
    deliveries: Sequence[dict[str, Any]],
    pipelines: Collection[str] | None,
    routes: Sequence[Route],
) -> str:
    """Say in a sentence how far it came, or where it stopped and what to do."""
    held = [exam for exam in exams if exam["state"] == "held"]
    if held:
        return f"stopped: an exam is held, as {held[0]['held_reason']}"
    stopped = [arrival.disposition for _, arrival, _ in rows if arrival.disposition[:4] == "held"]
    latest = {exam["root"]: exam for exam in exams}
    unfinished = [said for exam in latest.values() if (said := _unfinished(exam))]
    if unfinished:
        return unfinished[0]
    failed = [one for one in deliveries if one["state"] == "failed"]
    if failed:
        return f"stopped: {failed[0]['destination']} did not take it: {failed[0]['errors'][0]}"
    if stopped:
        return f"a part of it is {stopped[0]}"
    return "its results are there" if exams else _without_exam(rows, pipelines, routes)


def _without_exam(
    rows: Sequence[_Row], pipelines: Collection[str] | None, routes: Sequence[Route]
) -> str:
    waiting = {arrival.ae_title for _, arrival, _ in rows if arrival.disposition == "new"}
    gone = sorted(waiting - set(waiting if pipelines is None else pipelines))
    if gone:
        return f"stopped: it came to {gone[0]}, which no pipeline of the site has any more"
    if waiting:
        return "it has arrived and not been gathered; is the worker running?"
    if pipelines is not None and not any(set(route.send_to) & set(pipelines) for route in routes):
        return "kept; nobody sent it to a pipeline, and the site has no route to one"
    return "kept; nobody sent it to a pipeline, and no route did"


def _unfinished(exam: dict[str, Any]) -> str:
    """Say why an exam has no results yet; empty if it has."""
    if exam["state"] == "open":
        decided_by = exam["evidence"].get("decided_by", "waits for quiet")
        return f"an exam is still open: it {decided_by}"
    if not exam["jobs"]:
        return "stopped: the exam is closed and no job is there; overread doctor says why"
    job = exam["jobs"][-1]
    if job["state"] == JobState.DONE:
        return ""
    if job["state"] in (JobState.QUEUED, JobState.RUNNING):
        return f"its job is {job['state']}"
    return f"stopped: the job is {job['state']}: {job['reason']}"
