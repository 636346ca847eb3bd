"""``/open``: the one link from the PACS. It never picks silently.

Whoever follows it sees what they may see, and nothing else: a case of somebody else's project is as
if it were not there, and is not counted. A link may be signed (`overread.validation.links`); where
the site asks for that, it has to be.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from overread.portal.advice import advice
from overread.portal.auth import require, tell
from overread.portal.state import Here, Portal
from overread.portal.told import tell_once
from overread.store import cases, studies
from overread.store.choices import Choice, arriving, choices, is_one_person, people
from overread.store.comings import Comings, comings
from overread.store.studies import Found
from overread.store.users import Signed
from overread.store.way import Refusal, refusals
from overread.validation import links
from overread.validation.links import Standing
from overread.validation.permissions import Reach, reach

router = APIRouter(include_in_schema=False)

MaySee = Annotated[Signed, Depends(require("case.see"))]

_LONGEST = 64
"""Characters of an accession number, a PatientID, a name: more than DICOM allows of any."""
_WAITS = timedelta(hours=12)
"""How long a page that waits for an exam goes on."""


@dataclass(frozen=True)
class Wanted:
    """What a link asks for.

    Attributes
    ----------
    accession, pipeline, project, patient : str
        Accession number, names, PatientID; empty for any.
    """

    accession: str = ""
    pipeline: str = ""
    project: str = ""
    patient: str = ""

    @property
    def said(self) -> dict[str, str]:
        """What is not empty, as a link has it."""
        return {name: value for name, value in self.__dict__.items() if value}

    @property
    def fault(self) -> str:
        """What is wrong with it; empty where nothing is."""
        for name, value in self.said.items():
            if len(value) > _LONGEST:
                return f"Its {name} has {len(value)} characters; {_LONGEST} are allowed."
            if not value.isprintable():
                return f"Its {name} has characters that cannot be printed."
        return ""


@dataclass(frozen=True)
class Whereabouts:
    """Where the images of an exam are that has no case.

    Attributes
    ----------
    study : Found
        What came.
    comings : list of Comings
        Where to, and what became of it.
    refusals : list of Refusal
        For each series the routes to pipelines that did not take it, and why.
    """

    study: Found
    comings: list[Comings]
    refusals: list[Refusal]


@router.get("/open")
def open_case(
    request: Request,
    portal: Here,
    signed: MaySee,
    *,
    accession: str = "",
    pipeline: str = "",
    project: str = "",
    patient: str = "",
) -> Response:
    """Go to the one case that is meant; else let the person choose, or say where the exam is."""
    wanted = Wanted(accession.strip(), pipeline.strip(), project.strip(), patient.strip())
    standing = _standing(request, portal)
    refused = _refusal(portal, standing)
    if refused:
        with portal.database.write() as session:
            tell(session, request, "refuse link", "link", {"why": standing.value})
        return _message(request, portal, signed, "This link does not open", refused, 403)
    if wanted.fault:
        return _message(request, portal, signed, "This link is not sound", wanted.fault, 400)
    with portal.database.read() as session:
        return _answer(request, portal, session, signed, wanted, standing)


def _standing(request: Request, portal: Portal) -> Standing:
    key = portal.site.settings.portal.link_key
    secret = key.get_secret_value() if key is not None else ""
    pairs = request.query_params.multi_items()
    return links.standing(pairs, secret, portal.now().timestamp())


def _refusal(portal: Portal, standing: Standing) -> str:
    if standing is Standing.FORGED:
        return "Its signature is not that of the PACS: the link was changed, or made elsewhere."
    if standing is Standing.EXPIRED:
        return "It was good for a short time, and that is over."
    required = portal.site.settings.portal.signed_links == "require"
    if standing is Standing.UNSIGNED and required:
        return "This site opens links from the PACS only where the PACS has signed them."
    return ""


def _message(  # noqa: PLR0917 - a page, for whom, and what it says
    request: Request, portal: Portal, signed: Signed, title: str, text: str, status: int
) -> Response:
    return portal.templates.TemplateResponse(
        request,
        "message.html",
        {
            "signed": signed,
            "title": title,
            "text": text,
            "next_steps": [
                "Press the button in the PACS again.",
                "Or look for the case among the cases.",
            ],
        },
        status_code=status,
    )


def _answer(  # noqa: PLR0917 - a request, by whom, for what, and how it came
    request: Request,
    portal: Portal,
    session: Session,
    signed: Signed,
    wanted: Wanted,
    standing: Standing,
) -> Response:
    where = reach(signed.actor, "case.see")
    found = (
        cases.under_accession(session, wanted.accession, wanted.pipeline, wanted.patient)
        if wanted.accession
        else []
    )
    listed = choices(session, found, where, wanted.project)
    came = _came(session, wanted, where)
    caseless = _caseless(session, came, [one.case for one in listed]) if came else []
    if len(listed) == 1 and not caseless:
        return go(request, listed[0])
    context: dict[str, Any] = {
        "signed": signed,
        "wanted": wanted,
        "caseless": caseless,
        "again": _again(portal, wanted, standing),
        **of_choices(portal, listed),
    }
    if listed:
        tell_once(request, "find case", *(f"case {one.id}" for one in listed))
        context["is_one_person"] = is_one_person(listed) and not _of_others(listed, caseless)
        return portal.templates.TemplateResponse(request, "choose.html", context)
    mine = _pipelines(portal, where, wanted)
    context["arriving"] = arriving(session, found, mine)
    context["elsewhere"] = choices(session, found, where) if wanted.project else []
    context["whereabouts"] = [_whereabouts(portal, session, study) for study in came]
    if came:
        tell_once(request, "list images", "studies")
    # What asks again by itself is no error to the page that waits.
    known = came or context["arriving"] or context["elsewhere"] or "hx-request" in request.headers
    return portal.templates.TemplateResponse(
        request, "nowhere.html", context, status_code=200 if known else 404
    )


def go(request: Request, choice: Choice) -> Response:
    """Go to a case; a page that asks by itself goes as a whole."""
    address = f"/cases/{choice.id}"
    if request.headers.get("hx-request"):
        return Response(headers={"HX-Redirect": address})
    return RedirectResponse(address, status_code=303)


def of_choices(portal: Portal, listed: list[Choice]) -> dict[str, Any]:
    """Return what the list of choices needs."""
    return {
        "choices": listed,
        "advice": advice,
        "titles": {name: one.title or name for name, one in portal.site.pipelines.items()},
        "project_titles": {name: one.title or name for name, one in portal.site.projects.items()},
    }


def _again(portal: Portal, wanted: Wanted, standing: Standing) -> str:
    """Return the address that a waiting page asks again; signed anew where it had to be signed."""
    key = portal.site.settings.portal.link_key
    said = wanted.said
    if standing is Standing.SIGNED and key is not None:
        until = int((portal.now() + _WAITS).timestamp())
        said = links.sign(said, key.get_secret_value(), until)
    return f"/open?{urlencode(said)}"


def _came(session: Session, wanted: Wanted, where: Reach) -> list[Found]:
    """List the studies that came, for those who see what is in no project."""
    if not where.everywhere:
        return []
    return [
        study
        for study in studies.under_accession(session, wanted.accession)
        if not wanted.patient or study.values["patient_id"] == wanted.patient
    ]


def _pipelines(portal: Portal, where: Reach, wanted: Wanted) -> set[str]:
    """Return the pipelines whose exams become cases of projects within reach."""
    return {
        pipeline
        for project in portal.site.projects.values()
        if (where.everywhere or project.name in where.projects)
        and wanted.project in ("", project.name)
        for pipeline in project.pipelines
    }


def _of_others(listed: list[Choice], caseless: list[Found]) -> bool:
    known = {patient for patient, _ in people(listed)}
    return any(study.values["patient_id"] not in known for study in caseless)


def _caseless(session: Session, came: list[Found], found: list[cases.Case]) -> list[Found]:
    covered = cases.studies_of(session, [case.exam.id for case in found])
    return [
        study
        for study in came
        if (study.values["study_uid"], study.values["patient_id"]) not in covered
    ]


def _whereabouts(portal: Portal, session: Session, study: Found) -> Whereabouts:
    study_uid, patient_id = study.values["study_uid"], study.values["patient_id"]
    came = [
        one
        for one in studies.instances(session, study_uid)
        if one.patient_id == patient_id and one.standing != "ours"
    ]
    return Whereabouts(
        study,
        comings(session, study_uid, patient_id),
        refusals(
            session,
            portal.archive,
            portal.site.routes,
            {pipeline.ae_title for pipeline in portal.site.pipelines.values()},
            came,
        ),
    )
