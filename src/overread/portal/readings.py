"""The reading of a case: its form on the page, drafts as one types, submitted once, amended.

What a script of the page sends carries the sign-in's token in a header, and is answered with parts
of the page; without scripts the same routes answer with whole pages.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.datastructures import UploadFile

from overread.errors import UsageError
from overread.portal import opened, questions
from overread.portal.auth import require, tell
from overread.portal.opened import NoSuchCase, Opened
from overread.portal.questions import Group, Said
from overread.portal.state import Here, Portal, portal_of
from overread.store import cases, readings, worklist
from overread.store.cases import Case, Shown
from overread.store.tables import Audit, Reading
from overread.store.users import Signed
from overread.validation.answer_text import Difference, decode, differences
from overread.validation.answers import Problem, check_answers
from overread.validation.form_fields import Layout
from overread.validation.forms import Form
from overread.validation.permissions import may, reach
from overread.validation.reading import TO_DO, Outcome, ReadingState

router = APIRouter(include_in_schema=False)

MayRead = Annotated[Signed, Depends(require("reading.give"))]
MaySee = Annotated[Signed, Depends(require("case.see"))]


async def sent(request: Request) -> list[tuple[str, str]]:
    """Return what a form sends, names and values, files left out: a dependency."""
    form = await request.form()
    return [
        (name, value) for name, value in form.multi_items() if not isinstance(value, UploadFile)
    ]


Sent = Annotated[list[tuple[str, str]], Depends(sent)]


@dataclass(frozen=True)
class Submitted:
    """A submitted reading, in words.

    Attributes
    ----------
    reader : str
        Whose it is.
    said : list of Said
        Empty where the form that it answers is not the site's any more: `raw` then has it.
    is_amended : bool
        Whether a later one of the same reader takes its place.
    """

    reading: Reading
    reader: str
    said: list[Said]
    raw: Mapping[str, Any]
    is_amended: bool


@dataclass(frozen=True)
class ReadingView:
    """The own reading, as its page shows it.

    Attributes
    ----------
    case_id : str
        What addresses name the case by.
    reading : Reading
    form : Form
    groups : list of Group
        Its questions, with the answers so far.
    said : list of Said
        The answers in words, once submitted.
    problems : sequence of Problem
        Of what was just submitted.
    anchors : mapping
        Place of an answer to the id of its question.
    conflict : list of Difference or None
        What another window has saved, where that is in the way.
    notice : str
        What else has to be said.
    next_url : str
        Where the next case is.
    """

    case_id: str
    reading: Reading
    form: Form
    groups: list[Group]
    said: list[Said]
    problems: Sequence[Problem] = ()
    anchors: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    conflict: list[Difference] | None = None
    notice: str = ""
    next_url: str = "/"

    @property
    def is_to_do(self) -> bool:
        """Whether its questions can be answered."""
        return self.reading.state in TO_DO

    @property
    def url(self) -> str:
        """Where it is sent."""
        return f"/cases/{self.case_id}/reading"


@dataclass(frozen=True)
class _Asked:
    """The own reading that a request is about, and what its answers are checked against."""

    case: Opened
    reading: Reading
    form: Form
    layout: Layout
    regions: list[str]


def reading_context(
    portal: Portal, session: Session, signed: Signed, case: Opened, shown: Shown | None = None
) -> dict[str, Any]:
    """Return what ``_reading.html`` and ``_readings.html`` show on a case's page.

    Parameters
    ----------
    shown : Shown, optional
        What the page shows of the case; looked up where left out.

    Returns
    -------
    dict
        ``reading``: the own one, a `ReadingView`, or none. ``readings``: those of others that the
        person may see, a list of `Submitted`.
    """
    asked = _asked(portal, session, signed, case, shown)
    return {
        "reading": None if asked is None else _view(session, signed, asked),
        "readings": _of_others(portal, session, signed, case, asked),
    }


def note_opened(
    session: Session, request: Request, signed: Signed, case: Opened, shown: Collection[str]
) -> None:
    """Note that a reader's case page was shown: the reading begins with the first time.

    Parameters
    ----------
    session : Session
        A writing session: that of the page's own audit row.
    shown : collection of str
        Ids of the results on the page.
    """
    if case.enrolment is None or not may(signed.actor, "reading.give", projects=case.projects).yes:
        return
    reading = readings.mine(session, case.enrolment.id, signed.account.id)
    now = portal_of(request).now()
    if reading is not None and readings.opened(session, now, reading, shown):
        tell(session, request, "open reading", f"reading {reading.id}")


@router.get("/cases/{case_id}/reading")
def reading_page(request: Request, portal: Here, signed: MaySee, case_id: str) -> Response:
    """Show the own reading by itself, and the submitted ones of others, for who may see them."""
    with portal.database.read() as session:
        case = opened.find(portal, session, signed, case_id)
        context = reading_context(portal, session, signed, case)
        shown = [result.id for result in cases.shown(session, case.case.id).results]
    if context["reading"] is None and not context["readings"]:
        raise NoSuchCase("There is no reading of this case for this account")
    with portal.database.write() as writing:
        note_opened(writing, request, signed, case, shown)
    return _page(request, portal, signed, case, context)


@router.put("/cases/{case_id}/reading/draft")
def save_draft(
    request: Request, portal: Here, signed: MayRead, case_id: str, given: Sent
) -> Response:
    """Keep what was typed so far; 409 with both where another window has saved since."""
    with portal.database.read() as session:
        asked = own(portal, session, signed, case_id)
    answers, revision, digest = _given(asked, given)
    if digest != asked.form.digest:
        return _form_changed(request, portal, signed, asked, answers)
    now = portal.now()
    with portal.database.write() as session:
        outcome, row = readings.save(
            session, now, asked.reading.id, answers, revision=revision, form=asked.form
        )
        if outcome is Outcome.KEPT and not _is_told(session, "save draft", row, signed):
            tell(session, request, "save draft", f"reading {row.id}")
    if outcome is not Outcome.KEPT:
        return _in_the_way(request, portal, signed, replace(asked, reading=row), answers)
    return JSONResponse({"revision": row.revision, "saved_at": now.isoformat()})


@router.post("/cases/{case_id}/reading")
def submit(request: Request, portal: Here, signed: MayRead, case_id: str, given: Sent) -> Response:
    """Submit the reading, and go on to the next case; 422 with what is wrong with it."""
    with portal.database.read() as session:
        asked = own(portal, session, signed, case_id)
        answers, revision, digest = _given(asked, given)
        if digest != asked.form.digest:
            return _form_changed(request, portal, signed, asked, answers)
        marked = [one.get("sop_instance_uid") for one in answers.values() if isinstance(one, dict)]
        uids = [uid for uid in marked if isinstance(uid, str)]
        images = readings.image_sizes(session, asked.case.case.exam.root_id, uids)
    checked = check_answers(asked.form, answers, regions=asked.regions, images=images)
    if checked.problems and asked.reading.state in TO_DO:
        return _part(request, portal, signed, asked, answers, problems=checked.problems, status=422)
    now = portal.now()
    with portal.database.write() as session:
        outcome, row = readings.submit(
            session, now, asked.reading.id, checked.answers, revision=revision, form=asked.form
        )
        if outcome is Outcome.KEPT:
            action = "amend reading" if row.amends else "submit reading"
            tell(session, request, action, f"reading {row.id}")
        following = _next_url(session, signed, asked.case)
    if outcome not in (Outcome.KEPT, Outcome.REPEATED):
        return _in_the_way(request, portal, signed, replace(asked, reading=row), answers)
    return _go(request, following)


@router.post("/cases/{case_id}/reading/amend")
def amend(request: Request, portal: Here, signed: MayRead, case_id: str, given: Sent) -> Response:
    """Begin to correct the own submitted reading, with a reason."""
    with portal.database.read() as session:
        asked = own(portal, session, signed, case_id)
    reason = dict(given).get("reason", "")
    with portal.database.write() as session:
        try:
            row = readings.amend(session, portal.now(), asked.reading, reason)
        except UsageError as error:
            return _part(
                request, portal, signed, asked, asked.reading.answers,
                notice=f"{str(error)[0].upper()}{str(error)[1:]}.", status=422,
            )  # fmt: skip
        tell(session, request, "begin amendment", f"reading {row.id}")
    return _go(request, f"/cases/{asked.case.id}")


@router.post("/cases/{case_id}/reading/discard")
def discard(request: Request, portal: Here, signed: MayRead, case_id: str) -> Response:
    """Give an amendment up: the reading stays as it was submitted."""
    with portal.database.read() as session:
        asked = own(portal, session, signed, case_id)
    with portal.database.write() as session:
        try:
            outcome = readings.discard(session, asked.reading.id)
        except UsageError as error:
            return _part(
                request, portal, signed, asked, asked.reading.answers,
                notice=f"{str(error)[0].upper()}{str(error)[1:]}.", status=409,
            )  # fmt: skip
        if outcome is Outcome.KEPT:
            tell(session, request, "discard amendment", f"reading {asked.reading.id}")
    return _go(request, f"/cases/{asked.case.id}")


def own(portal: Portal, session: Session, signed: Signed, case_id: str) -> _Asked:
    """Return the own reading of a case.

    Raises
    ------
    NoSuchCase
        There is no such case, or it is not this person's to read.
    """
    case = opened.find(portal, session, signed, case_id, "reading.give")
    asked = _asked(portal, session, signed, case, None)
    if asked is None:
        raise NoSuchCase("There is no reading of this case for this account")
    return asked


def _asked(
    portal: Portal, session: Session, signed: Signed, case: Opened, shown: Shown | None
) -> _Asked | None:
    """Return the own reading, with its form; none where there is none to give."""
    if case.enrolment is None or case.project is None:
        return None
    if not may(signed.actor, "reading.give", projects=case.projects).yes:
        return None
    form = portal.site.forms.get(case.project.form)
    reading = readings.mine(session, case.enrolment.id, signed.account.id)
    if form is None or reading is None:
        return None
    regions = _regions(case.case, shown or cases.shown(session, case.case.id))
    return _Asked(case, reading, form, form.layout.on(regions), regions)


def _regions(case: Case, shown: Shown) -> list[str]:
    """List the regions of a case's results: what was segmented, measured, detected, in order."""
    named = [
        str(segment.get("label", ""))
        for result in shown.results
        if not result.author
        for segment in result.data.get("segments", ())
        if isinstance(segment, dict)
    ]
    named += [item.region for item in case.measurements]
    named += [item.label for item in case.detections]
    return [name for name in dict.fromkeys(named) if name.strip()]


def _given(asked: _Asked, given: Sequence[tuple[str, str]]) -> tuple[dict[str, Any], int, str]:
    """Return the answers of what was sent, the revision, and the form that the page was made of."""
    told = dict(given)
    revision = told.get("revision", "")
    number = (
        int(revision) if revision.isascii() and revision.isdigit() and len(revision) < 9 else -1
    )
    return decode(asked.layout, given), number, told.get("form", "")


def _is_told(session: Session, action: str, row: Reading, signed: Signed) -> bool:
    """Say whether the audit has this of this sign-in already: a draft is saved very often."""
    subject = f"reading {row.id}"
    query = select(Audit.id).where(
        Audit.subject == subject, Audit.action == action, Audit.session == signed.session_id
    )
    return session.scalar(query.limit(1)) is not None


def _next_url(session: Session, signed: Signed, case: Opened) -> str:
    """Return where a reader goes on: to the next case of the project, of any, or to the list."""
    assert case.enrolment is not None  # noqa: S101 - a reading is of a project's case
    where = reach(signed.actor, "reading.give")
    within = None if where.everywhere else where.projects
    here, me = case.enrolment, signed.account.id
    following = worklist.next_reading(session, me, here.project, here.id, projects=within)
    following = following or worklist.next_reading(session, me, None, here.id, projects=within)
    return f"/cases/{following}" if following else "/"


def _view(
    session: Session,
    signed: Signed,
    asked: _Asked,
    answers: Mapping[str, Any] | None = None,
    *,
    problems: Sequence[Problem] = (),
    conflict: list[Difference] | None = None,
    notice: str = "",
) -> ReadingView:
    kept = asked.reading.answers if answers is None else answers
    groups = questions.lay_out(asked.layout, kept, problems)
    is_done = asked.reading.state == ReadingState.SUBMITTED
    return ReadingView(
        case_id=asked.case.id,
        reading=asked.reading,
        form=asked.form,
        groups=groups,
        said=questions.said(asked.layout, asked.reading.answers) if is_done else [],
        problems=problems,
        anchors=questions.anchors(groups),
        conflict=conflict,
        notice=notice,
        next_url=_next_url(session, signed, asked.case) if is_done else "/",
    )


def _of_others(
    portal: Portal, session: Session, signed: Signed, case: Opened, asked: _Asked | None
) -> list[Submitted]:
    if case.enrolment is None:
        return []
    others = may(signed.actor, "reading.see", projects=case.projects).yes
    found = readings.of_case(session, case.enrolment.id, signed.account.id, others=others)
    submitted = [one for one in found if one[0].state == ReadingState.SUBMITTED]
    amended = {row.amends for row, _ in submitted}
    listed = []
    for row, name in submitted:
        if asked is not None and row.id == asked.reading.id:
            continue
        form = portal.site.forms.get(row.form)
        is_same = form is not None and form.digest == row.form_digest
        regions = [key for one in row.answers.values() if isinstance(one, dict) for key in one]
        said = questions.said(form.layout.on(regions), row.answers) if form and is_same else []
        listed.append(Submitted(row, name, said, row.answers, row.id in amended))
    return listed


def _go(request: Request, url: str) -> Response:
    """Send on: a script is told where to, a browser is redirected."""
    if _is_script(request):
        return Response(status_code=204, headers={"HX-Redirect": url})
    return RedirectResponse(url, status_code=303)


def _is_script(request: Request) -> bool:
    return "x-csrf-token" in request.headers


def _form_changed(
    request: Request, portal: Portal, signed: Signed, asked: _Asked, answers: Mapping[str, Any]
) -> Response:
    notice = (
        "The form was changed since this page was loaded. What you had answered stands below, as "
        "far as the new form asks it; look it through, then submit again."
    )
    return _part(request, portal, signed, asked, answers, notice=notice, status=409)


def _in_the_way(
    request: Request, portal: Portal, signed: Signed, asked: _Asked, answers: Mapping[str, Any]
) -> Response:
    """Answer 409: say what has happened to the reading meanwhile, and show both."""
    row = asked.reading
    notice = {
        ReadingState.SUBMITTED: (
            "This reading was submitted already, with other answers: those below. To change it, "
            "amend it and say why."
        ),
        ReadingState.WITHDRAWN: "This case is no longer yours to read. Nothing was kept.",
    }.get(ReadingState(row.state), "")
    conflict = differences(asked.layout, answers, row.answers)
    return _part(
        request, portal, signed, asked, answers, conflict=conflict, notice=notice, status=409
    )


def _part(
    request: Request,
    portal: Portal,
    signed: Signed,
    asked: _Asked,
    answers: Mapping[str, Any],
    *,
    problems: Sequence[Problem] = (),
    conflict: list[Difference] | None = None,
    notice: str = "",
    status: int = 200,
) -> Response:
    """Show the reading with what has to be said of it: alone, or on a page of its own."""
    with portal.database.read() as session:
        view = _view(
            session, signed, asked, answers, problems=problems, conflict=conflict, notice=notice
        )
    if _is_script(request):
        context = {"signed": signed, "reading": view}
        return portal.templates.TemplateResponse(request, "_reading.html", context, status)
    return _page(
        request, portal, signed, asked.case, {"reading": view, "readings": []}, status=status
    )


def _page(
    request: Request,
    portal: Portal,
    signed: Signed,
    case: Opened,
    context: Mapping[str, Any],
    *,
    status: int = 200,
) -> Response:
    return portal.templates.TemplateResponse(
        request,
        "reading.html",
        {
            "signed": signed,
            "id": case.id,
            "project": case.project,
            "exam": case.case.exam,
            **context,
        },
        status,
    )
