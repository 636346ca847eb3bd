"""``/open``: the one link from the PACS. It never picks silently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from overread.portal.advice import advice
from overread.portal.auth import require
from overread.portal.state import Here, Portal
from overread.store import cases, studies
from overread.store.comings import Comings, comings
from overread.store.studies import Found
from overread.store.users import Signed
from overread.store.way import Refusal, refusals

router = APIRouter(include_in_schema=False)


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
    *,
    signed: Annotated[Signed, Depends(require("case.see"))],
    accession: str = "",
    pipeline: str = "",
    patient: str = "",
) -> Response:
    """Go to the one case that is meant; else let the person choose, or say where the exam is."""
    accession, patient = accession.strip(), patient.strip()
    with portal.database.read() as session:
        found = cases.under_accession(session, accession, pipeline, patient) if accession else []
        came = [
            study
            for study in studies.under_accession(session, accession)
            if not patient or study.values["patient_id"] == patient
        ]
        people = {(one.exam.patient_id, one.exam.issuer) for one in found} | {
            (study.values["patient_id"], study.values["issuer"]) for study in came
        }
        caseless = _caseless(session, came, found)
        if len(found) == 1 and len(people) == 1 and not caseless:
            return RedirectResponse(f"/cases/{found[0].id}", status_code=303)
        context: dict[str, Any] = {
            "signed": signed,
            "accession": accession,
            "pipeline": pipeline,
            "patient": patient,
            "cases": found,
            "people": people,
            "advice": advice,
            "now": portal.now(),
            "titles": {name: one.title or name for name, one in portal.site.pipelines.items()},
        }
        if found:
            context["caseless"] = caseless
            return portal.templates.TemplateResponse(request, "choose.html", context)
        context["whereabouts"] = [_whereabouts(portal, session, study) for study in came]
        return portal.templates.TemplateResponse(
            request, "nowhere.html", context, status_code=200 if came else 404
        )


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
