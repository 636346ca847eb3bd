"""The whole way of what came under one accession number, or where and why it stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.errors import UsageError
from overread.pipelines.job import JobState
from overread.store import jobs
from overread.store.deliveries import of_instances
from overread.store.exams import members
from overread.store.tables import Arrival, Association, Delivery, Exam, Instance, Quarantine


def way(session: Session, accession: str, ae_titles: Collection[str]) -> dict[str, Any]:
    """Gather everything that is known of an accession number.

    Parameters
    ----------
    accession : str
        AccessionNumber.
    ae_titles : collection of str
        The AE titles that the site answers for now.

    Returns
    -------
    dict
        ``verdict``, a sentence; ``studies``, ``routes``, ``exams`` with their jobs, steps and
        results; ``deliveries``; ``quarantined``, what came by the same associations and could not
        be taken.

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
    if not accession or not rows:
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
        "verdict": _verdict(rows, exams, deliveries, ae_titles),
        "studies": _studies(rows),
        "routes": _routes(rows),
        "exams": exams,
        "deliveries": deliveries,
        "quarantined": _quarantined(session, rows),
    }


_Row = tuple[Instance, Arrival, Association | None]


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
                "came_by": [f"{who}: {count} instances" for who, count in came_by.items()],
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
    for _, arrival, _ in rows:
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
            route["instances"] += 1
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


def _quarantined(session: Session, rows: Sequence[_Row]) -> list[dict[str, Any]]:
    """List what came by the same associations and could not be taken as an instance."""
    associations = {association.id for _, _, association in rows if association is not None}
    found = session.scalars(
        select(Quarantine)
        .where(Quarantine.association_id.in_(associations))
        .order_by(Quarantine.at)
    )
    return [{"id": one.id, "at": one.at, "reason": one.reason} for one in found]


def _verdict(
    rows: Sequence[_Row],
    exams: Sequence[dict[str, Any]],
    deliveries: Sequence[dict[str, Any]],
    ae_titles: Collection[str],
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
    return "its results are there" if exams else _without_exam(rows, ae_titles)


def _without_exam(rows: Sequence[_Row], ae_titles: Collection[str]) -> str:
    waiting = {arrival.ae_title for _, arrival, _ in rows if arrival.disposition == "new"}
    gone = sorted(waiting - set(ae_titles))
    if gone:
        return f"stopped: it came to {gone[0]}, which no pipeline of the site has any more"
    if waiting:
        return "it has arrived and not been gathered; is the worker running?"
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
