"""WADO-RS rendered resources (PS3.18 section 10.4.1.1.3): for a browser that knows no DICOM.

An image is given as a PNG, a document as the PDF that it holds. Of the parameters of PS3.18 section
8.3.5.1 there is ``viewport``, two numbers, which the picture is made to fit. An image is shown by
its own VOI LUT or window, or, where it has none, from its least to its greatest value.
"""

from __future__ import annotations

import re

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response
from pydicom import dcmread
from pydicom.uid import EncapsulatedPDFStorage

from overread.errors import Refused
from overread.portal.auth import require
from overread.portal.dicomweb.media import accepted, matches
from overread.portal.dicomweb.picture import Busy, png, turn
from overread.portal.dicomweb.retrieve import asked, note
from overread.portal.state import Here, Portal
from overread.store.tables import Instance

router = APIRouter(
    prefix="/dicom-web", include_in_schema=False, dependencies=[Depends(require("image.see"))]
)

PNG, PDF = "image/png", "application/pdf"

MOST_PIXELS = 1 << 25
"""Pixels of the largest image that is rendered: more would take gigabytes to decode."""

MOST_BYTES = 1 << 28
"""Of the largest document that is given."""

LARGEST_VIEWPORT = 4096

_INSTANCE = "/studies/{study}/series/{series}/instances/{instance}"


@router.get(_INSTANCE + "/rendered")
def rendered_instance(
    request: Request, portal: Here, *, study: str, series: str, instance: str, viewport: str = ""
) -> Response:
    """Give an image as a PNG, its first frame if it has several, or a document as its PDF."""
    one = asked(request, portal, study, series, instance)[0]
    if one.sop_class_uid == EncapsulatedPDFStorage:
        note(request, portal, [one])
        return _pdf(request, portal, one)
    return _png(request, portal, one, 1, viewport)


@router.get(_INSTANCE + "/frames/{number}/rendered")
def rendered_frame(
    request: Request,
    portal: Here,
    *,
    study: str,
    series: str,
    instance: str,
    number: str,
    viewport: str = "",
) -> Response:
    """Give one frame of an image as a PNG."""
    if not re.fullmatch("0*[1-9][0-9]{0,8}", number):
        raise HTTPException(400, f"{number!r} is no frame; expected a number from 1")
    one = asked(request, portal, study, series, instance)[0]
    return _png(request, portal, one, int(number), viewport)


def _check_accepted(request: Request, kind: str) -> None:
    if not any(matches(wish, kind, ()) for wish in accepted(request)):
        raise HTTPException(406, f"this is rendered as {kind} only")


def _png(request: Request, portal: Portal, one: Instance, number: int, viewport: str) -> Response:
    _check_accepted(request, PNG)
    if not one.rows or not one.columns:
        raise HTTPException(406, "the object is no image")
    if not 1 <= number <= one.frames:
        raise HTTPException(404, f"there is no frame {number}; the object has {one.frames}")
    if one.rows * one.columns > MOST_PIXELS:
        raise HTTPException(406, f"{one.rows} × {one.columns} pixels are too many to be rendered")
    fits = _viewport(viewport)
    note(request, portal, [one])
    try:
        data = png(portal.archive.path(one.key), number - 1, fits)
    except Refused as error:
        raise HTTPException(406, "its pixels cannot be read") from error
    except Busy as error:
        raise _busy() from error
    return Response(data, media_type=PNG)


def _busy() -> HTTPException:
    return HTTPException(503, "too much is being rendered; try again", {"Retry-After": "5"})


def _viewport(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4}),([1-9][0-9]{0,4})", text)
    if found is None or max(int(found[1]), int(found[2])) > LARGEST_VIEWPORT:
        raise HTTPException(
            400, f"viewport {text!r} is not WIDTH,HEIGHT of at most {LARGEST_VIEWPORT}"
        )
    return int(found[1]), int(found[2])


def _pdf(request: Request, portal: Portal, one: Instance) -> Response:
    _check_accepted(request, PDF)
    if one.size > MOST_BYTES:
        raise HTTPException(406, f"a document of {one.size} bytes is too large to be given")
    try:
        with turn():
            dataset = dcmread(portal.archive.path(one.key))
            document = bytes(dataset.get("EncapsulatedDocument") or b"")
    except Busy as error:
        raise _busy() from error
    if not document.startswith(b"%PDF-") or len(document) > MOST_BYTES:
        raise HTTPException(406, "the object says that it holds a PDF, and does not")
    length = int(dataset.get("EncapsulatedDocumentLength") or len(document))
    return Response(
        document[:length],
        media_type=PDF,
        headers={
            "Content-Disposition": 'inline; filename="report.pdf"',
            # It has nothing to load; the browser's own PDF viewer needs its styles.
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
            "object-src 'self'",
        },
    )
