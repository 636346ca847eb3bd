"""STOW-RS (PS3.18 section 10.5): take objects in, by the same law as the receiver.

What a reader stores is an edit of a result (`overread.portal.edits`), and so is whatever is stored
at the address of one case. Other objects are taken from the site's staff alone, and are put on the
routes where they may do that.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response
from pydicom import Dataset
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser
from starlette.concurrency import run_in_threadpool

from overread.dicom.encoded import Unparseable, parse_file, text
from overread.dicom.study import Origin
from overread.errors import Refused
from overread.portal import edits
from overread.portal.auth import actor_of, allow, require, tell
from overread.portal.dicomweb.media import DICOM, JSON, MULTIPART, parse_content_type
from overread.portal.dicomweb.metadata import Json, element
from overread.portal.dicomweb.scope import case_of, service
from overread.portal.state import Here, Portal
from overread.routing.rules import decide
from overread.store.archive import new_key
from overread.store.instances import keep, take
from overread.store.refusals import quarantine
from overread.store.users import Signed
from overread.validation.permissions import may

router = APIRouter(prefix="/dicom-web", include_in_schema=False)

_LARGEST = 2 * 10**9
"""Bytes of one object, which is in memory while it is read; a scanner's larger ones come by
C-STORE."""

# Failure reasons, PS3.18 table I.2-2 and PS3.4 annex B.2.3.
_NOT_UNDERSTOOD, _OTHER_STUDY, _CONFLICT = 0xC000, 0xA900, 0xB000
_NOT_AUTHORISED = 0x0124


@dataclass(frozen=True)
class _Answer:
    """What became of one object."""

    sop_class_uid: str
    sop_instance_uid: str
    url: str = ""
    failure: int = 0
    warning: int = 0
    why: str = ""


class _Parts:
    """Collects the parts of a multipart body as they come in, each of ``most`` bytes at most."""

    def __init__(self, boundary: str, most: int) -> None:
        self.done: list[bytes] = []
        self._part, self._most = bytearray(), most
        self._parser = MultipartParser(
            boundary,
            {"on_part_begin": self._begin, "on_part_data": self._data, "on_part_end": self._end},
        )

    def write(self, data: bytes) -> None:
        self._parser.write(data)

    def finish(self) -> None:
        self._parser.finalize()

    def taken(self) -> list[bytes]:
        """Return the parts that are whole, once each."""
        done, self.done = self.done, []
        return done

    def _begin(self) -> None:
        self._part = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        _add(self._part, data[start:end], self._most)

    def _end(self) -> None:
        self.done.append(bytes(self._part))
        self._part = bytearray()


def _add(part: bytearray, data: bytes, most: int) -> None:
    if len(part) + len(data) > most:
        advice = "; send it by C-STORE" if most == _LARGEST else ""
        raise HTTPException(413, f"an object of more than {most} bytes{advice}")
    part += data


async def _objects(request: Request, most: int) -> AsyncIterator[bytes]:
    kind, parameters = parse_content_type(request.headers.get("content-type", ""))
    if kind == DICOM:
        whole = bytearray()
        async for chunk in request.stream():
            _add(whole, chunk, most)
        yield bytes(whole)
        return
    inner = parameters.get("type", DICOM).lower()
    if kind != MULTIPART or not parameters.get("boundary") or inner != DICOM:
        raise HTTPException(415, f'expected multipart/related; type="{DICOM}" with a boundary')
    parts = _Parts(parameters["boundary"], most)
    try:
        async for chunk in request.stream():
            parts.write(chunk)
            for part in parts.taken():
                yield part
        parts.finish()
    except MultipartParseError as error:
        raise HTTPException(400, f"the multipart body is malformed: {error}") from error
    for part in parts.taken():
        yield part


@router.post("/studies")
@router.post("/studies/{study}")
async def store_objects(
    request: Request,
    portal: Here,
    signed: Annotated[Signed, Depends(require("image.see"))],
    study: str = "",
) -> Response:
    """Keep the objects of the request; each is answered for."""
    takes = _what_is_taken(request, portal, signed)
    most = edits.LARGEST if takes is _edit_one else _LARGEST
    answers = [
        await run_in_threadpool(takes, portal, request, signed, data, study)
        async for data in _objects(request, most)
    ]
    if not answers:
        raise HTTPException(400, "the request holds no object")
    failed = [answer for answer in answers if answer.failure]
    status = 200 if not failed else 409 if len(failed) == len(answers) else 202
    return Response(
        json.dumps(_response(answers, service(request), study)), status, media_type=JSON
    )


def _what_is_taken(
    request: Request, portal: Portal, signed: Signed
) -> Callable[[Portal, Request, Signed, bytes, str], _Answer]:
    """Say how what this person stores at this address is taken.

    Raises
    ------
    NoSuchCase
        The address names a case that is not for them.
    Forbidden
        They may store nothing.
    """
    if request.path_params.get("case_id"):
        with portal.database.read() as session:
            case_of(request, session)
        allow(signed, "image.edit")
        return _edit_one
    if may(signed.actor, "image.store").yes:
        return _store_one
    allow(signed, "image.edit")
    return _edit_one


def _edit_one(portal: Portal, request: Request, signed: Signed, data: bytes, study: str) -> _Answer:
    """Keep one object as an edit; what is none leaves nothing behind."""
    if portal.archive.free() < portal.site.settings.storage.watermark:
        raise HTTPException(507, "the disk is below its watermark; nothing more is kept")
    try:
        encoded = parse_file(data)
    except Unparseable as error:
        return _Answer("", "", failure=_NOT_UNDERSTOOD, why=f"it cannot be read: {error}")
    header = encoded.header
    named = (text(header, "SOPClassUID"), text(header, "SOPInstanceUID"))
    if study and text(header, "StudyInstanceUID") != study:
        why = "it is of another study than the address names"
        return _Answer(*named, failure=_OTHER_STUDY, why=why)
    try:
        edits.accept(portal, request, signed, data, encoded)
    except edits.NotYours as error:
        return _Answer(*named, failure=_NOT_AUTHORISED, why=str(error))
    except Refused as error:
        return _Answer(*named, failure=_OTHER_STUDY, why=str(error))
    return _Answer(*named, url=_address(request, header))


def _address(request: Request, header: Dataset) -> str:
    return (
        f"{service(request)}/studies/{text(header, 'StudyInstanceUID')}"
        f"/series/{text(header, 'SeriesInstanceUID')}"
        f"/instances/{text(header, 'SOPInstanceUID')}"
    )


def _store_one(
    portal: Portal, request: Request, signed: Signed, data: bytes, study: str
) -> _Answer:
    settings = portal.site.settings
    if portal.archive.free() < settings.storage.watermark:
        raise HTTPException(507, "the disk is below its watermark; nothing more is kept")
    at = portal.now()
    try:
        incoming = take(portal.archive, data, at)
    except Unparseable as error:
        _set_aside(portal, data, at, str(error))
        return _Answer("", "", failure=_NOT_UNDERSTOOD)
    header = incoming.encoded.header
    named = (text(header, "SOPClassUID"), text(header, "SOPInstanceUID"))
    if study and text(header, "StudyInstanceUID") != study:
        portal.archive.remove(incoming.key)
        return _Answer(*named, failure=_OTHER_STUDY)
    origin = Origin(
        called_ae_title=settings.dicom.ae_title,
        peer_address=request.client.host if request.client else "",
    )
    routed = may(actor_of(signed), "image.route").yes
    decisions = decide(portal.site.routes, header, origin) if routed else []
    with portal.database.write() as session:
        kept = keep(
            session,
            portal.archive,
            incoming,
            at=at,
            origin=origin,
            association_id=None,
            decisions=decisions,
            pipelines={pipeline.ae_title for pipeline in portal.site.pipelines.values()},
        )
        detail = {"standing": kept.standing, "routed": routed}
        tell(session, request, "store instance", f"instance {kept.instance_id}", detail)
    if kept.repeat:
        portal.archive.sync(kept.key)  # the first copy may have come a moment ago
        portal.archive.remove(incoming.key)
    return _Answer(
        *named,
        url=_address(request, header),
        warning=_CONFLICT if kept.standing == "conflict" else 0,
    )


def _set_aside(portal: Portal, data: bytes, at: datetime, reason: str) -> None:
    """Keep and record bytes that are no object, so that a person sees them."""
    key = new_key("quarantine", at)
    portal.archive.put(key, data)
    with portal.database.write() as session:
        quarantine(
            session,
            at=at,
            association_id=None,
            key=key,
            size=len(data),
            status=_NOT_UNDERSTOOD,
            reason=f"STOW-RS: {reason}",
        )


def _response(answers: list[_Answer], base: str, study: str) -> Json:
    """Write the Store Instances Response Module (PS3.18 table I.1-1)."""
    kept, failed = [], []
    for answer in answers:
        item: Json = {}
        item |= element("ReferencedSOPClassUID", "UI", answer.sop_class_uid)
        item |= element("ReferencedSOPInstanceUID", "UI", answer.sop_instance_uid)
        if answer.failure:
            item |= element("FailureReason", "US", answer.failure)
            if answer.why:  # what a C-STORE would say beside the status (PS3.7 C.4.2)
                item |= element("ErrorComment", "LO", answer.why)
            failed.append(item)
            continue
        item |= element("RetrieveURL", "UR", answer.url)
        if answer.warning:
            item |= element("WarningReason", "US", answer.warning)
        kept.append(item)
    body: Json = {}
    if study:
        body |= element("RetrieveURL", "UR", f"{base}/studies/{study}")
    if kept:
        body |= element("ReferencedSOPSequence", "SQ", *kept)
    if failed:
        body |= element("FailedSOPSequence", "SQ", *failed)
    return body
