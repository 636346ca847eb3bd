"""WADO-RS (PS3.18 section 10.4): metadata, instances, frames, bulk data, as they are stored."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response, StreamingResponse
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from overread.portal.auth import require, signed_in, tell
from overread.portal.dicomweb.media import (
    DICOM,
    FRAME_TYPES,
    JSON,
    OCTETS,
    Part,
    accepted,
    matches,
    multipart,
)
from overread.portal.dicomweb.metadata import (
    array,
    bulk_value,
    instance_json,
    instance_url,
    is_pixels,
)
from overread.portal.dicomweb.query import check_one_patient
from overread.portal.dicomweb.scope import seen, service
from overread.portal.dicomweb.source import (
    NotThere,
    chunks,
    frame,
    header,
    opened,
    span,
    syntax_of,
)
from overread.portal.state import Here, Portal
from overread.store import studies
from overread.store.audit import first_given, was_given
from overread.store.patients import identity
from overread.store.tables import Instance

router = APIRouter(
    prefix="/dicom-web", include_in_schema=False, dependencies=[Depends(require("image.see"))]
)

_NATIVE = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
"""Native little endian pixels are the same bytes in both."""


def asked(
    request: Request, portal: Portal, study: str, series: str = "", instance: str = ""
) -> list[Instance]:
    """Return the instances that a path names, of those that the one who asks may see.

    Raises
    ------
    HTTPException
        404 where there are none; 409 where the study came under two patients, whose images are
        never given together.
    """
    with portal.database.read() as session:
        found = studies.instances(session, study, series, instance, seen=seen(request, session))
    if not found:
        raise HTTPException(404, "there is no such study, series or instance here")
    check_one_patient(
        [
            identity(one.patient_id, one.issuer, one.patient_name, one.patient_birth_date)
            for one in found
            if one.standing != "ours"
        ]
    )
    return found


def note(request: Request, portal: Portal, found: list[Instance]) -> None:
    """Tell the audit who is given images of a series: once for each sign-in and series."""
    signed = signed_in(request)
    if signed is None:
        return
    sign_in, series = signed.session_id, dict.fromkeys(one.series_uid for one in found)
    with portal.database.read() as session:
        fresh = [uid for uid in series if not was_given(session, sign_in, uid)]
    if not fresh:
        return
    with portal.database.write() as session:
        for uid in fresh:
            first = first_given(session, sign_in, uid)
            if first is not None:
                tell(session, request, "retrieve images", f"series {first}")


def _metadata(request: Request, portal: Portal, found: list[Instance]) -> Response:
    if not any(
        matches(wish, kind, ()) for wish in accepted(request) for kind in (JSON, "application/json")
    ):
        raise HTTPException(406, f"metadata are given as {JSON} only")
    note(request, portal, found)
    base = service(request)
    body = array(instance_json(portal.archive, one, base) for one in found)
    return StreamingResponse(body, media_type=JSON)


@router.get("/studies/{study}/metadata")
def study_metadata(request: Request, portal: Here, study: str) -> Response:
    """Give the metadata of a study."""
    return _metadata(request, portal, asked(request, portal, study))


@router.get("/studies/{study}/series/{series}/metadata")
def series_metadata(request: Request, portal: Here, study: str, series: str) -> Response:
    """Give the metadata of a series."""
    return _metadata(request, portal, asked(request, portal, study, series))


@router.get("/studies/{study}/series/{series}/instances/{instance}/metadata")
def instance_metadata(
    request: Request, portal: Here, study: str, series: str, instance: str
) -> Response:
    """Give the metadata of an instance."""
    return _metadata(request, portal, asked(request, portal, study, series, instance))


def _whole(request: Request, portal: Portal, found: list[Instance]) -> Response:
    """Give whole objects; multipart, or the one object itself where the client asks for that."""
    note(request, portal, found)
    for wish in accepted(request):
        if not all(matches(wish, DICOM, (syntax_of(one),)) for one in found):
            continue
        if len(found) == 1 and not wish.multipart and wish.kind == DICOM:
            syntax = syntax_of(found[0])
            kind = f"{DICOM}; transfer-syntax={syntax}"
            return StreamingResponse(chunks(portal.archive, found[0]), media_type=kind)
        base = service(request)
        parts = (
            Part(
                f"{DICOM}; transfer-syntax={syntax_of(one)}",
                chunks(portal.archive, one),
                instance_url(base, one),
            )
            for one in found
        )
        return multipart(parts, DICOM)
    stored = ", ".join(sorted({syntax_of(one) for one in found}))
    raise HTTPException(
        406, f"nothing is transcoded; these are {DICOM} in {stored}; ask with transfer-syntax=*"
    )


@router.get("/studies/{study}")
def retrieve_study(request: Request, portal: Here, study: str) -> Response:
    """Give a study's objects."""
    return _whole(request, portal, asked(request, portal, study))


@router.get("/studies/{study}/series/{series}")
def retrieve_series(request: Request, portal: Here, study: str, series: str) -> Response:
    """Give a series' objects."""
    return _whole(request, portal, asked(request, portal, study, series))


@router.get("/studies/{study}/series/{series}/instances/{instance}")
def retrieve_instance(
    request: Request, portal: Here, study: str, series: str, instance: str
) -> Response:
    """Give one object."""
    return _whole(request, portal, asked(request, portal, study, series, instance))


def _frame_type(one: Instance) -> tuple[str, tuple[str, ...]]:
    """Return the media type of an instance's frames, and the syntaxes that they are right for."""
    syntax = syntax_of(one)
    if syntax in _NATIVE:
        return OCTETS, _NATIVE
    return FRAME_TYPES.get(syntax, OCTETS), (syntax,)


def _part_type(request: Request, one: Instance) -> str:
    """Agree with the client on the content type of a frame.

    Raises
    ------
    HTTPException
        406, naming what there is.
    """
    kind, syntaxes = _frame_type(one)
    for wish in accepted(request):
        # Viewers ask for octet-stream with any transfer syntax, and mean compressed frames too.
        any_octets = wish.kind == OCTETS and wish.syntax in ("*", *syntaxes)
        if any_octets or matches(wish, kind, syntaxes):
            return f"{kind}; transfer-syntax={syntaxes[0]}"
    raise HTTPException(
        406, f"nothing is transcoded; the frames are {kind}; transfer-syntax={syntaxes[0]}"
    )


@router.get("/studies/{study}/series/{series}/instances/{instance}/frames/{numbers}")
def retrieve_frames(
    request: Request, portal: Here, *, study: str, series: str, instance: str, numbers: str
) -> Response:
    """Give frames, each as it is stored."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}(,0*[1-9][0-9]{0,8})*", numbers):
        raise HTTPException(400, f"{numbers!r} is no list of frames; expected numbers from 1")
    one = asked(request, portal, study, series, instance)[0]
    kind = _part_type(request, one)
    note(request, portal, [one])
    first, *rest = [int(number) for number in numbers.split(",")]
    if any(number > one.frames for number in rest):
        raise HTTPException(404, f"there is no frame {max(rest)}; the object has {one.frames}")
    try:
        with opened(portal.archive, one) as file:
            data = frame(file, first)
    except NotThere as missing:
        raise HTTPException(404, str(missing)) from missing
    # The others are read when their turn comes: all at once they can be larger than memory.
    parts = (Part(kind, _one_frame(portal, one, number)) for number in rest)
    return multipart(chain([Part(kind, [data])], parts), kind.split(";", maxsplit=1)[0])


@router.get("/studies/{study}/series/{series}/instances/{instance}/bulkdata/{path:path}")
def retrieve_bulk(
    request: Request, portal: Here, *, study: str, series: str, instance: str, path: str
) -> Response:
    """Give a big binary value, by the address that the metadata gave."""
    one = asked(request, portal, study, series, instance)[0]
    note(request, portal, [one])
    if is_pixels(path):
        return _pixels(request, portal, one)
    try:
        with opened(portal.archive, one) as file:
            value = bulk_value(dcmread(file, stop_before_pixels=True, force=True), path)
    except NotThere as missing:
        raise HTTPException(404, str(missing)) from missing
    if any(wish.multipart for wish in accepted(request)):
        return multipart([Part(OCTETS, [value])], OCTETS)
    return Response(value, media_type=OCTETS)


def _pixels(request: Request, portal: Portal, one: Instance) -> Response:
    """Give all pixel data: native as one value, encapsulated as a part for each frame."""
    with opened(portal.archive, one) as file:
        pixels = header(file)[1]
    if pixels is None:
        raise HTTPException(404, "the object has no pixel data")
    if pixels.length is not None:
        value = _native(portal, one, pixels.start, pixels.length)
        if any(wish.multipart for wish in accepted(request)):
            return multipart([Part(OCTETS, value)], OCTETS)
        return StreamingResponse(value, media_type=OCTETS)
    kind = _part_type(request, one)
    parts = (Part(kind, _one_frame(portal, one, n)) for n in range(1, one.frames + 1))
    return multipart(parts, kind.split(";", maxsplit=1)[0])


def _native(portal: Portal, one: Instance, start: int, length: int) -> Iterator[bytes]:
    with opened(portal.archive, one) as file:
        yield from span(file, start, length)


def _one_frame(portal: Portal, one: Instance, number: int) -> Iterator[bytes]:
    with opened(portal.archive, one) as file:
        yield frame(file, number)
