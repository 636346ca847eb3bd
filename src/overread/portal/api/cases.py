"""Cases and readings: what clinicians see and answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field, field_validator
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread import nouns
from overread.portal import drawn, opened
from overread.portal import readings as reading_pages
from overread.portal.api.conventions import (
    LINK,
    After,
    Limit,
    Since,
    Text,
    Until,
    link_next,
    new_router,
    refusals,
    refusing,
    there,
)
from overread.portal.api.jobs import with_steps
from overread.portal.auth import require, tell
from overread.portal.compare import compared
from overread.portal.measured import Entry, courses
from overread.portal.opened import NoSuchCase, Opened, SeveralCases
from overread.portal.state import Here, Portal
from overread.store import by_time, history, readings
from overread.store import cases as cases_kept
from overread.store.tables import Enrolment, Exam, Reading
from overread.store.users import Signed
from overread.validation.answers import check_answers
from overread.validation.permissions import may, reach
from overread.validation.reading import Outcome

router = new_router("cases and readings")

MaySee = Annotated[Signed, Depends(require("case.see"))]
MayRead = Annotated[Signed, Depends(require("reading.give"))]


def _case(enrolment: Enrolment, case: cases_kept.Case) -> dict[str, Any]:
    exam = case.exam
    return {
        "id": enrolment.id,
        "project": enrolment.project,
        "pipeline": enrolment.pipeline,
        "exam": exam.id,
        "accession": exam.accession,
        "patient_id": exam.patient_id,
        "study_date": exam.study_date,
        "study_description": exam.study_description,
        "state": str(case.state),
        "reason": case.reason,
        "urgent": enrolment.urgent,
        "enrolled_at": enrolment.enrolled_at,
        "ready_at": enrolment.ready_at,
    }


@router.get("/cases", responses=LINK)
def list_cases(
    request: Request,
    response: Response,
    portal: Here,
    signed: Annotated[Signed, Depends(require("case.list"))],
    *,
    project: Text = "",
    pipeline: Text = "",
    accession: Text = "",
    ready: Annotated[bool | None, Query(description="Whether it has its results.")] = None,
    since: Since = None,
    until: Until = None,
    after: After = "",
    limit: Limit = 100,
) -> list[nouns.Case]:
    """List the cases of the caller's projects, those enrolled last first."""
    where = reach(signed.actor, "case.list")
    query = select(Enrolment)
    if not where.everywhere:
        query = query.where(Enrolment.project.in_(sorted(where.projects)))
    if accession:
        exams = select(Exam.root_id).where(Exam.accession == accession)
        query = query.where(Enrolment.root_id.in_(exams))
    for column, value in ((Enrolment.project, project), (Enrolment.pipeline, pipeline)):
        if value:
            query = query.where(column == value)
    if ready is not None:
        has = Enrolment.ready_at.is_not(None)
        query = query.where(has if ready else ~has)
    if since is not None:
        query = query.where(Enrolment.enrolled_at >= since)
    if until is not None:
        query = query.where(Enrolment.enrolled_at < until)
    with portal.database.read() as session:
        with refusing(422):
            page = by_time.newest(
                session, query, Enrolment.enrolled_at, Enrolment.id, after=after, limit=limit
            )
        link_next(request, response, page.next)
        root_ids = [one.root_id for one in page.rows]
        by_root = {
            one.id: one for one in cases_kept.list_cases(session, root_ids=root_ids, limit=limit)
        }
        return [
            nouns.Case(**_case(one, by_root[one.root_id]))
            for one in page.rows
            if one.root_id in by_root
        ]


@router.get("/cases/{case_id}", responses=refusals(404))
def get_case(request: Request, portal: Here, signed: MaySee, case_id: str) -> nouns.CaseInFull:
    """Give one case: its results, the patient's numbers over time, the job that made them.

    For a reader this is to see the case: it is told to the audit, and the reading is open from now.
    """
    with portal.database.write() as session:
        found = _find(portal, session, signed, case_id)
        enrolment = there(found.enrolment, "case")
        shown = cases_kept.shown(session, found.case.id, found.sight)
        told = nouns.CaseInFull(
            **_case(enrolment, found.case),
            results=[nouns.Result.model_validate(one) for one in (*shown.results, *shown.edits)],
            job=with_steps(session, shown.job) if shown.job is not None else None,
            numbers=_numbers(portal, session, found),
        )
        tell(session, request, "open case", f"case {found.id}")
        ids = [one.id for one in told.results]
        reading_pages.note_opened(session, request, signed, found, ids)
        return told


def _find(
    portal: Portal, session: Session, signed: Signed, case_id: str, action: str = "case.see"
) -> Opened:
    try:
        return opened.find(portal, session, signed, case_id, action)
    except (NoSuchCase, SeveralCases) as error:
        raise HTTPException(404, "there is no such case") from error


def _numbers(portal: Portal, session: Session, found: Opened) -> list[nouns.Number]:
    visits = history.history(
        session,
        portal.archive,
        found.case,
        found.sight,
        found.enrolment.project if found.enrolment is not None else "",
    )
    laid = courses(visits, found.case.id, found.page)
    return [_number(entry) for course in laid for entry in course.entries]


def _number(entry: Entry) -> nouns.Number:
    row, number = entry.row, entry.number
    return nouns.Number(
        exam=entry.visit.case.exam.id,
        case=entry.visit.link,
        acquired_at=row.point.at,
        accession=entry.visit.case.exam.accession,
        quantity=number.item.quantity,
        region=number.item.region,
        value=number.item.value,
        unit=number.item.unit,
        source=number.source.name,
        version=number.source.version,
        is_edit=number.source.is_edit,
        change_percent=row.percent,
        change_absolute=row.absolute,
        is_baseline=row.gap == "baseline",
        is_crossed=bool(row.crossed),
    )


@router.get(
    "/cases/{case_id}/compare",
    responses=refusals(404, 409),
    dependencies=[Depends(require("image.see"))],
)
def compare_versions(
    request: Request,
    portal: Here,
    signed: MaySee,
    case_id: str,
    *,
    a: Annotated[Text, Query(description="Id of a segmentation among the results.")],
    b: Annotated[Text, Query(description="Id of another version of it.")],
) -> list[nouns.Compared]:
    """Compare two versions of a segmentation, segment by segment."""
    with portal.database.read() as session:
        found = _find(portal, session, signed, case_id, "image.see")
        (_, one), (_, other) = (drawn.find(portal, session, found, each) for each in (a, b))
    rows = compared(one, other)
    with portal.database.write() as session:
        tell(session, request, "compare versions", f"case {found.id}", {"results": [a, b]})
    return [
        nouns.Compared(
            label=row.label,
            dice=row.dice,
            first_ml=row.first,
            second_ml=row.second,
            difference_ml=row.difference,
            surface_distance_mm=row.distance,
        )
        for row in rows
    ]


@router.get("/cases/{case_id}/readings", responses=refusals(404))
def list_readings_of_case(portal: Here, signed: MaySee, case_id: str) -> list[nouns.Reading]:
    """List the readings of a case that the caller may see: the own ones, drafts too.

    Those of others are there for who may see them, once submitted, and not before the caller's own
    reading of the case is.
    """
    with portal.database.read() as session:
        found = _find(portal, session, signed, case_id)
        enrolment = there(found.enrolment, "case")
        return _seen(session, signed, enrolment)


def _seen(session: Session, signed: Signed, enrolment: Enrolment) -> list[nouns.Reading]:
    others = may(signed.actor, "reading.see", projects=[enrolment.project]).yes
    found = readings.of_case(session, enrolment.id, signed.account.id, others=others)
    return [_reading(row, name) for row, name in found]


def _reading(row: Reading, reader: str) -> nouns.Reading:
    return nouns.Reading.model_validate(readings.to_json(row, reader=reader))


@router.get("/readings", responses=LINK)
def list_readings(
    request: Request,
    response: Response,
    portal: Here,
    signed: MayRead,
    *,
    project: Text = "",
    state: Text = "",
    after: After = "",
    limit: Limit = 100,
) -> list[nouns.Reading]:
    """List the caller's own readings, the newest case first."""
    where = reach(signed.actor, "reading.give")
    query = select(Reading).where(Reading.reader_id == signed.account.id)
    if not where.everywhere:
        query = query.where(Reading.project.in_(sorted(where.projects)))
    for column, value in ((Reading.project, project), (Reading.state, state)):
        if value:
            query = query.where(column == value)
    with portal.database.read() as session, refusing(422):
        page = by_time.newest(
            session, query, Reading.ready_at, Reading.id, after=after, limit=limit
        )
    link_next(request, response, page.next)
    return [_reading(row, signed.account.name) for row in page.rows]


@router.get("/readings/{reading_id}", responses=refusals(404))
def get_reading(portal: Here, signed: MaySee, reading_id: str) -> nouns.Reading:
    """Give one reading, where the caller may see it."""
    with portal.database.read() as session:
        row = there(session.get(Reading, reading_id), "reading")
        found = _find(portal, session, signed, row.enrolment_id)
        seen = _seen(session, signed, there(found.enrolment, "reading"))
    for one in seen:
        if one.id == reading_id:
            return one
    raise HTTPException(404, "there is no such reading")


class Answers(BaseModel):
    """Answers to the project's form."""

    answers: dict[str, Any] = Field(description="Question to answer.")
    revision: int = Field(ge=0, lt=10**9, description="Of the reading, as it was last given.")

    @field_validator("answers")
    @classmethod
    def _can_be_kept(cls, answers: dict[str, Any]) -> dict[str, Any]:
        """Refuse what Python reads and no database or browser takes: NaN, halves of characters."""
        try:
            json.dumps(answers, ensure_ascii=False, allow_nan=False).encode()
        except ValueError as error:
            raise ValueError("these are no numbers and texts that JSON has") from error
        return answers


class Reason(BaseModel):
    """Why a reading is corrected."""

    reason: str = Field(max_length=500)


@router.put("/readings/{reading_id}", responses=refusals(404, 409))
def save_reading(
    request: Request, portal: Here, signed: MayRead, reading_id: str, given: Answers
) -> nouns.Reading:
    """Keep a draft of the caller's own reading; whether it fits the form is asked on submission."""
    with portal.database.read() as session:
        asked = _own(portal, session, signed, reading_id)
    with portal.database.write() as session:
        outcome, row = readings.save(
            session, portal.now(), reading_id, given.answers, revision=given.revision,
            form=asked.form,
        )  # fmt: skip
        _kept(outcome, row)
        tell(session, request, "save draft", f"reading {row.id}")
        return _reading(row, signed.account.name)


@router.post("/readings/{reading_id}/submit", responses=refusals(404, 409))
def submit_reading(
    request: Request, portal: Here, signed: MayRead, reading_id: str, given: Answers
) -> nouns.Reading:
    """Submit the caller's own reading: from then on it never changes."""
    with portal.database.read() as session:
        asked = _own(portal, session, signed, reading_id)
        images = readings.image_sizes(
            session, asked.case.case.exam.root_id, _marked(given.answers.values())
        )
    checked = check_answers(asked.form, given.answers, regions=asked.regions, images=images)
    if checked.problems:
        said = {"/".join(one.path): one.words for one in checked.problems}
        raise HTTPException(422, {"problems": said})
    with portal.database.write() as session:
        outcome, row = readings.submit(
            session, portal.now(), reading_id, checked.answers, revision=given.revision,
            form=asked.form,
        )  # fmt: skip
        _kept(outcome, row)
        if outcome is Outcome.KEPT:
            action = "amend reading" if row.amends else "submit reading"
            tell(session, request, action, f"reading {row.id}")
        return _reading(row, signed.account.name)


@router.post("/readings/{reading_id}/amend", responses=refusals(404, 409))
def amend_reading(
    request: Request, portal: Here, signed: MayRead, reading_id: str, why: Reason
) -> nouns.Reading:
    """Begin to correct the caller's own submitted reading: a new one, with the answers of it."""
    with portal.database.read() as session:
        _own(portal, session, signed, reading_id)
    with portal.database.write() as session:
        with refusing(409):
            row = readings.amend(
                session, portal.now(), session.get_one(Reading, reading_id), why.reason
            )
        tell(session, request, "begin amendment", f"reading {row.id}")
        return _reading(row, signed.account.name)


def _own(portal: Portal, session: Session, signed: Signed, reading_id: str) -> Any:
    """Return the caller's own reading, with the form that it answers: the latest of its case."""
    row = session.get(Reading, reading_id)
    if row is None or row.reader_id != signed.account.id:
        raise HTTPException(404, "there is no such reading of yours")
    try:
        asked = reading_pages.own(portal, session, signed, row.enrolment_id)
    except NoSuchCase as error:
        raise HTTPException(404, "there is no such reading of yours") from error
    if asked.reading.id != reading_id:
        raise HTTPException(409, f"reading {asked.reading.id} has taken its place")
    return asked


def _marked(answers: Any) -> Sequence[str]:
    marks = [one.get("sop_instance_uid") for one in answers if isinstance(one, dict)]
    return [uid for uid in marks if isinstance(uid, str)]


_IN_THE_WAY = {
    Outcome.STALE: "it was saved since, as revision {0}; read it again before you write",
    Outcome.CLOSED: "it is submitted already; amend it to change it",
    Outcome.WITHDRAWN: "this case is no longer yours to read",
}


def _kept(outcome: Outcome, row: Reading) -> None:
    if outcome in _IN_THE_WAY:
        raise HTTPException(409, _IN_THE_WAY[outcome].format(row.revision))
