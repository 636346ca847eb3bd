"""Exams and instances: what arrived, and where it went."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from sqlalchemy import select

from overread import nouns
from overread.portal.api.conventions import (
    LINK,
    After,
    Limit,
    Since,
    Text,
    Until,
    listed,
    new_router,
    refusals,
    refusing,
    there,
)
from overread.portal.auth import require, sight_of
from overread.portal.engineering import why
from overread.portal.state import Here
from overread.store import by_time, visible
from overread.store import exams as exams_kept
from overread.store.tables import Exam, Instance
from overread.store.users import Signed
from overread.validation.permissions import reach

router = new_router("exams")

MayList = Annotated[Signed, Depends(require("exam.list"))]


@router.get("/exams", responses=LINK)
def list_exams(
    request: Request,
    response: Response,
    portal: Here,
    signed: MayList,
    *,
    state: Text = "",
    pipeline: Text = "",
    accession: Text = "",
    study: Text = "",
    since: Since = None,
    until: Until = None,
    after: After = "",
    limit: Limit = 100,
) -> list[nouns.Exam]:
    """List exams, the newest first."""
    query = exams_kept.find(
        state=state, pipeline=pipeline, accession=accession, study=study, since=since, until=until
    ).where(visible.exams(reach(signed.actor, "exam.list")))
    with portal.database.read() as session, refusing(422):
        page = by_time.newest(session, query, Exam.opened_at, Exam.id, after=after, limit=limit)
    return listed(request, response, page, nouns.Exam)


@router.get("/exams/{exam_id}", responses=refusals(404))
def get_exam(portal: Here, signed: MayList, exam_id: str) -> nouns.Exam:
    """Give one exam revision."""
    within = visible.exams(reach(signed.actor, "exam.list"))
    with portal.database.read() as session:
        found = session.scalar(select(Exam).where(Exam.id == exam_id, within))
        return nouns.Exam.model_validate(there(found, "exam"))


@router.get("/why", responses=refusals(404))
def get_why(
    portal: Here,
    signed: Annotated[Signed, Depends(require("exam.why"))],
    accession: Annotated[str, Query(min_length=1, max_length=64, pattern=r"^[^\x00]*$")],
) -> dict[str, Any]:
    """Tell the whole way of what came under one accession number, or where and why it stopped."""
    with refusing(404):
        return why.way_of(portal, signed, accession)


@router.get("/instances", responses={**LINK, **refusals(404)})
def list_instances(
    request: Request,
    response: Response,
    portal: Here,
    signed: MayList,
    *,
    study: Text = "",
    series: Text = "",
    accession: Text = "",
    standing: Text = "",
    since: Since = None,
    until: Until = None,
    after: After = "",
    limit: Limit = 1000,
) -> list[nouns.Instance]:
    """List instances as the index knows them, the newest first."""
    asked = {
        Instance.study_uid: study,
        Instance.series_uid: series,
        Instance.accession: accession,
        Instance.standing: standing,
    }
    query = select(Instance).where(*(column == value for column, value in asked.items() if value))
    if since is not None:
        query = query.where(Instance.received_at >= since)
    if until is not None:
        query = query.where(Instance.received_at < until)
    if not reach(signed.actor, "exam.list").everywhere:
        query = query.where(visible.instances(sight_of(request)))
    with portal.database.read() as session, refusing(422):
        page = by_time.newest(
            session, query, Instance.received_at, Instance.id, after=after, limit=limit
        )
    return listed(request, response, page, nouns.Instance)
