"""``/launch``: an EHR opens the portal on the patient whose record is open there (SMART on FHIR).

The launch says which patient, and nothing about who looks: people sign in as always, and of the
patient's cases they see those that they may see.
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from overread.portal.auth import cookie_name, require, set_cookie, tell
from overread.portal.opening import go, of_choices
from overread.portal.smart import Context, Ehr, NotLaunched, launching
from overread.portal.state import Here, Portal
from overread.portal.told import tell_once
from overread.store import cases
from overread.store.choices import Choice, choices, is_one_person, of_patients
from overread.store.users import Signed
from overread.validation.permissions import reach

router = APIRouter(include_in_schema=False)

MaySee = Annotated[Signed, Depends(require("case.see"))]

_COOKIE = "overread-launch"
_LASTS, _AT_ONCE = timedelta(minutes=10), timedelta()
_LONGEST = 2048
"""Characters of what an EHR sends along."""


@router.get("/launch")
def launch(
    request: Request, portal: Here, signed: MaySee, *, iss: str = "", launch: str = ""
) -> Response:
    """Send the browser that an EHR has opened back to it, to be told which patient is open."""
    found = launching(portal.site.settings.fhir, iss)
    if found is None or not launch or len(launch) > _LONGEST:
        why = "is not known here" if found is None else "said nothing of what is open there"
        return _refused(request, portal, signed, why)
    name, server = found
    try:
        errand = Ehr(server, portal.site.root).send(launch, _back(request, portal))
    except NotLaunched as error:
        return _refused(request, portal, signed, f"{name} could not be asked: {error}", 502)
    answer = RedirectResponse(errand.url, status_code=303)
    packed = urlsafe_b64encode(json.dumps(dict(errand.kept)).encode()).decode()
    set_cookie(answer, request, _COOKIE, packed, lasts=_LASTS)
    return answer


@router.get("/launch/back")
def come_back(
    request: Request,
    portal: Here,
    signed: MaySee,
    *,
    state: str = "",
    code: str = "",
    error: str = "",
) -> Response:
    """Take in the browser that comes back from the EHR, and go to the patient's cases."""
    kept = _kept(request.cookies.get(cookie_name(request, _COOKIE), ""))
    try:
        name, context = _arrive(request, portal, kept, state=state, code=code, error=error)
    except NotLaunched as why:
        answer = _refused(request, portal, signed, str(why))
    else:
        answer = _opened(request, portal, signed, name, context)
    set_cookie(answer, request, _COOKIE, "", lasts=_AT_ONCE)  # it is good for one time
    return answer


def _arrive(
    request: Request,
    portal: Portal,
    kept: Mapping[str, str],
    *,
    state: str,
    code: str,
    error: str,
) -> tuple[str, Context]:
    known = kept.get("state", "")
    if not known or not hmac.compare_digest(known.encode(), state.encode()):
        raise NotLaunched("this browser did not set out for it within the last ten minutes")
    found = launching(portal.site.settings.fhir, kept.get("iss", ""))
    if found is None:
        raise NotLaunched("the EHR is not known here any more")
    if error or not code or len(code) > _LONGEST:
        raise NotLaunched("the EHR did not allow it")
    name, server = found
    ehr = Ehr(server, portal.site.root)
    return name, ehr.receive(code, kept.get("verifier", ""), _back(request, portal))


def _opened(
    request: Request, portal: Portal, signed: Signed, name: str, context: Context
) -> Response:
    where = reach(signed.actor, "case.see")
    with portal.database.read() as session:
        found = of_patients(session, context.identities)
        listed = choices(session, found, where)
        meant = [one for one in listed if one.case.exam.accession in context.accessions]
        births = {
            who.patient_birth_date
            for who in (cases.patient(session, one.case.exam) for one in listed)
            if who is not None and who.patient_birth_date
        }
        doubt = _doubt(listed, births, context)
        page = of_choices(portal, meant + [one for one in listed if one not in meant])
    subjects = [f"case {one.id}" for one in listed]
    with portal.database.write() as session:
        tell(session, request, "launch", f"fhir {name}", {"cases": len(listed)})
    chosen = meant if len(meant) == 1 else listed
    if len(chosen) == 1 and not doubt:
        return go(request, chosen[0])
    tell_once(request, "find case", *subjects)
    page |= {
        "signed": signed, "ehr": name, "doubt": doubt, "meant": len(meant), "caseless": [],
    }  # fmt: skip
    status = 200 if listed else 404
    return portal.templates.TemplateResponse(request, "launch.html", page, status_code=status)


def _doubt(listed: list[Choice], births: set[str], context: Context) -> str:
    """Say why what was found may not be of the one patient; nothing where it is."""
    if not is_one_person(listed):
        return "The EHR's identifiers lead to cases of different patients here."
    born = context.birth_date.replace("-", "")
    if len(births) > 1 or (len(born) == len("19700101") and births - {born}):
        return "The birth date in the images is not that in the EHR: the id may be of two people."
    return ""


def _refused(
    request: Request, portal: Portal, signed: Signed, why: str, status: int = 403
) -> Response:
    with portal.database.write() as session:
        tell(session, request, "refuse launch", "launch", {"why": why})
    return portal.templates.TemplateResponse(
        request,
        "message.html",
        {
            "signed": signed,
            "title": "The record could not be opened from there",
            "text": f"The EHR that opened this page: {why}.",
            "next_steps": [
                "Open it again from the patient's record.",
                "Or look for the case among the cases.",
                "If it happens again, tell an engineer of this site.",
            ],
        },
        status_code=status,
    )


def _back(request: Request, portal: Portal) -> str:
    address = portal.site.settings.portal.address or str(request.base_url)
    return f"{address.rstrip('/')}/launch/back"


def _kept(packed: str) -> dict[str, str]:
    try:
        said = json.loads(urlsafe_b64decode(packed.encode()))
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in said.items()} if isinstance(said, dict) else {}
