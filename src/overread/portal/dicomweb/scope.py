"""What a DICOMweb request is about: all that its sender may see, or one case of it.

The service answers at two addresses. ``/dicom-web`` is everything that one may see;
``/cases/ID/dicom-web`` is the same service for one case: its study, the study before it, and what
was made of them. The viewer is given the second.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from fastapi import Request
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from overread.portal import opened
from overread.portal.auth import NotSignedIn, sight_of, signed_in
from overread.portal.opened import Opened
from overread.portal.state import portal_of
from overread.store import history, visible

CASE = "/cases/{case_id}"
"""Stands before the service's address where it is that of one case."""


def service(request: Request) -> str:
    """Return the address of the DICOMweb service, as the client sees it."""
    case_id = request.path_params.get("case_id")
    before = f"cases/{case_id}/" if case_id else ""
    return f"{request.base_url}{before}dicom-web"


def case_of(request: Request, session: Session, action: str = "image.see") -> Opened | None:
    """Return the case that a request's address names; none where it names none.

    Raises
    ------
    NoSuchCase
        There is none, or the one who is signed in may not do this to it.
    """
    case_id = request.path_params.get("case_id")
    if not case_id:
        return None
    signed = signed_in(request)
    if signed is None:
        raise NotSignedIn("nobody is signed in")
    return opened.find(portal_of(request), session, signed, case_id, action)


def seen(request: Request, session: Session) -> ColumnElement[bool]:
    """Return the condition that an instance is what a request may be given.

    Raises
    ------
    NoSuchCase
        The address names a case that there is not, or that is not for the one who asks.
    """
    within = visible.instances(sight_of(request))
    if not request.path_params.get("case_id"):
        return within
    return within & visible.of_exams(_exams(request, session))


def _exams(request: Request, session: Session) -> list[str]:
    """Return the exams, by root, that the case of a request's address shows.

    A viewer asks for a thousand frames one by one: which exams a case shows is known for some
    seconds, to the same sign-in with the same roles. What each of them may see is asked anew.
    """
    signed, portal = signed_in(request), portal_of(request)
    grants = signed.grants if signed is not None else frozenset()
    sign_in = signed.session_id if signed is not None else ""
    key = (id(portal.database), sign_in, grants, request.path_params["case_id"])
    now = portal.now()
    roots, until = _KNOWN.get(key, ([], now))
    if now < until:
        return roots
    case = case_of(request, session)
    assert case is not None  # noqa: S101 - the address names one
    before = history.before(session, case.case, case.sight)
    roots = [case.case.id] + ([before.root_id] if before is not None else [])
    if len(_KNOWN) >= _MOST_KNOWN:
        _KNOWN.clear()
    _KNOWN[key] = roots, now + _KNOWN_FOR
    return roots


_KNOWN: dict[tuple[object, ...], tuple[list[str], datetime]] = {}
_KNOWN_FOR, _MOST_KNOWN = timedelta(seconds=10), 1000
