"""Exams as pages: what arrived, by which evidence it closed, where it went and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.portal.auth import require, sight_of
from overread.portal.engineering.missing import missing
from overread.portal.state import Here
from overread.store import by_time, cases, enrolments, visible
from overread.store import exams as exams_kept
from overread.store import jobs as jobs_kept
from overread.store.deliveries import of_instances
from overread.store.tables import Arrival, Association, Exam, Instance, Result
from overread.store.users import Signed
from overread.validation.permissions import reach

router = APIRouter(include_in_schema=False)

MayList = Annotated[Signed, Depends(require("exam.list"))]

ROWS = 50


@router.get("/exams")
def exams_page(
    request: Request,
    portal: Here,
    signed: MayList,
    *,
    q: str = "",
    state: str = "",
    pipeline: str = "",
    after: str = "",
) -> Response:
    """List the exams, every revision of them."""
    q = q.strip()[:64]
    query = exams_kept.find(state=state, pipeline=pipeline, accession=q).where(
        visible.exams(reach(signed.actor, "exam.list"))
    )
    with portal.database.read() as session:
        page = by_time.newest_or_first(
            session, query, Exam.opened_at, Exam.id, after=after, limit=ROWS
        )
        numbers = {exam.id: cases.count_instances(session, exam.id) for exam in page.rows}
    context = {
        "signed": signed,
        "exams": page.rows,
        "next": page.next,
        "after": after,
        "numbers": numbers,
        "q": q,
        "state": state,
        "pipeline": pipeline,
        "pipelines": sorted(portal.site.pipelines),
        "now": portal.now(),
    }
    return portal.templates.TemplateResponse(request, "exams.html", context)


@dataclass
class SeriesOfExam:
    """The instances of one series in an exam."""

    first: Instance
    count: int = 0
    standings: Counter[str] = field(default_factory=Counter)
    came_by: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Coming:
    """Arrivals of an exam that came alike."""

    origin: str
    route: str
    ae_title: str
    disposition: str
    sender: str
    why: dict[str, Any]
    count: int


@router.get("/exams/{exam_id}")
def exam_page(request: Request, portal: Here, signed: MayList, exam_id: str) -> Response:
    """Show one exam revision, and all that it led to."""
    within = visible.exams(reach(signed.actor, "exam.list"))
    with portal.database.read() as session:
        query = select(Exam).where(Exam.id.startswith(exam_id, autoescape=True), within).limit(2)
        found = session.scalars(query).all()
        if len(found) != 1:
            return missing(request, portal, signed, "exam")
        exam = found[0]
        members = exams_kept.members(session, exam.id)
        results = session.scalars(
            select(Result)
            .where(Result.exam_id == exam.id, visible.results(sight_of(request)))
            .order_by(Result.created_at, Result.name)
        ).all()
        made = [one.instance_id for one in results if one.instance_id is not None]
        context = {
            "signed": signed,
            "exam": exam,
            "revisions": exams_kept.revisions(session, exam.root_id),
            "series": _series(session, members),
            "comings": _comings(session, exam.id),
            "jobs": jobs_kept.jobs(session, exam_id=exam.id),
            "results": results,
            "cases": enrolments.of_exam(session, exam.root_id, _projects(signed)),
            "deliveries": of_instances(session, [one.id for one, _ in members] + made),
            "now": portal.now(),
        }
    return portal.templates.TemplateResponse(request, "exam.html", context)


def _projects(signed: Signed) -> frozenset[str] | None:
    where = reach(signed.actor, "case.see")
    return None if where.everywhere else where.projects


def _series(session: Session, members: Sequence[tuple[Instance, Arrival]]) -> list[SeriesOfExam]:
    ids = {arrival.association_id for _, arrival in members if arrival.association_id}
    senders = {
        one.id: one.calling_ae
        for one in session.scalars(select(Association).where(Association.id.in_(ids)))
    }
    found: dict[str, SeriesOfExam] = {}
    for instance, arrival in members:
        one = found.setdefault(instance.series_uid, SeriesOfExam(instance))
        one.count += 1
        one.standings[instance.standing] += 1
        one.came_by[senders.get(arrival.association_id or "", "") or arrival.origin] += 1
    return list(found.values())


def _comings(session: Session, exam_id: str) -> list[Coming]:
    """List an exam's arrivals, those that came alike as one."""
    rows = session.execute(
        select(Arrival, Association)
        .outerjoin(Association, Association.id == Arrival.association_id)
        .where(Arrival.exam_id == exam_id)
        .order_by(Arrival.id)
    ).all()
    found: dict[tuple[str, ...], list[Arrival]] = {}
    for arrival, came in rows:
        sender = came.calling_ae if came else ""
        key = (arrival.origin, arrival.route, arrival.ae_title, arrival.disposition, sender)
        found.setdefault(key, []).append(arrival)
    return [
        Coming(one.origin, one.route, one.ae_title, one.disposition, key[-1], one.why, len(alike))
        for key, alike in found.items()
        for one in alike[:1]
    ]
