"""QIDO-RS (PS3.18 section 10.6): search for studies, series, instances."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response
from pydicom.datadict import keyword_for_tag, tag_for_keyword

from overread.portal.auth import require
from overread.portal.dicomweb.media import JSON
from overread.portal.dicomweb.metadata import found_json
from overread.portal.dicomweb.scope import seen, service
from overread.portal.state import Here
from overread.store import studies
from overread.store.patients import are_one_patient, patients_of_study
from overread.store.studies import MATCHABLE, Level

_PARAMETERS = frozenset({"limit", "offset", "includefield", "fuzzymatching", "accept", "orderby"})
_MOST = 5000

router = APIRouter(
    prefix="/dicom-web", include_in_schema=False, dependencies=[Depends(require("image.see"))]
)


def check_one_patient(patients: Sequence[tuple[str, str]]) -> None:
    """Refuse to give together what came under two patients, each as `identity` says.

    Raises
    ------
    HTTPException
        409.
    """
    if not are_one_patient(patients):
        raise HTTPException(
            409,
            "these images came under more than one patient; they are held until that is settled",
        )


def _number(value: str, name: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise HTTPException(400, f"{name}={value!r} is no number; expected 0 or more")
    return min(int(value), most)


def _keyword(name: str) -> str:
    return keyword_for_tag(int(name, 16)) if re.fullmatch(r"[0-9A-Fa-f]{8}", name) else name


def _asked(query: Mapping[str, str]) -> tuple[dict[str, str], list[str], list[str]]:
    """Sort the query into what is matched, modalities of the study, and what cannot be matched."""
    matches: dict[str, str] = {}
    modalities: list[str] = []
    unknown: list[str] = []
    for name, value in query.items():
        if name.lower() in _PARAMETERS:
            continue
        keyword = _keyword(name)
        if keyword == "ModalitiesInStudy":
            modalities = [part for part in re.split(r"[,\\]", value) if part]
        elif keyword in MATCHABLE:
            matches[keyword] = "" if value == "*" else value
        elif keyword and tag_for_keyword(keyword) is not None:
            unknown.append(keyword)
        else:
            raise HTTPException(400, f"{name!r} is no attribute; expected a keyword or a tag")
    return matches, modalities, unknown


def _search(request: Request, portal: Here, level: Level, within: Sequence[str]) -> Response:
    matches, modalities, unknown = _asked(request.query_params)
    matches |= dict(zip(("StudyInstanceUID", "SeriesInstanceUID"), within, strict=False))
    limit = _number(request.query_params.get("limit", "1000"), "limit", _MOST)
    offset = _number(request.query_params.get("offset", "0"), "offset", 1 << 40)
    with portal.database.read() as session:
        if within and not matches.get("SeriesInstanceUID"):
            check_one_patient(patients_of_study(session, within[0]))
        found = studies.search(
            session,
            level,
            matches,
            seen=seen(request, session),
            modalities=modalities,
            limit=limit,
            offset=offset,
        )
    base = service(request)
    headers = {}
    if unknown:
        ignored = ", ".join(unknown)
        headers["Warning"] = f'299 overread "not matched, since it is not indexed: {ignored}"'
    elif request.query_params.get("fuzzymatching", "false") == "true":
        headers["Warning"] = '299 overread "fuzzy matching is not supported; literal matching used"'
    body = json.dumps([found_json(one, base) for one in found], ensure_ascii=False)
    return Response(body, media_type=JSON, headers=headers)


@router.get("/studies")
def search_studies(request: Request, portal: Here) -> Response:
    """Search for studies."""
    return _search(request, portal, "study", ())


@router.get("/series")
def search_all_series(request: Request, portal: Here) -> Response:
    """Search for series, whatever their study."""
    return _search(request, portal, "series", ())


@router.get("/instances")
def search_all_instances(request: Request, portal: Here) -> Response:
    """Search for instances, whatever their study."""
    return _search(request, portal, "instance", ())


@router.get("/studies/{study}/series")
def search_series(request: Request, portal: Here, study: str) -> Response:
    """Search for the series of a study."""
    return _search(request, portal, "series", (study,))


@router.get("/studies/{study}/instances")
def search_study_instances(request: Request, portal: Here, study: str) -> Response:
    """Search for the instances of a study."""
    return _search(request, portal, "instance", (study,))


@router.get("/studies/{study}/series/{series}/instances")
def search_instances(request: Request, portal: Here, study: str, series: str) -> Response:
    """Search for the instances of a series."""
    return _search(request, portal, "instance", (study, series))
