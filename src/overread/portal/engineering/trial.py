"""Routes, tried: on a file that is dropped, on an exam, and on what came since some time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from io import BytesIO

from fastapi import HTTPException, Request
from pydicom import dcmread
from sqlalchemy.orm import Session

from overread import nouns
from overread.dicom.encoded import UNREADABLE
from overread.dicom.study import Origin
from overread.errors import UsageError
from overread.portal.state import Portal
from overread.routing.rules import Route
from overread.store.replay import Replay, Replayed, Tried, replay, try_header

LARGEST = 4_000_000
"""Bytes of a file that are looked at: the header stands before the pixels, which are not asked
for. A page sends no more of it."""


async def body(request: Request) -> bytes:
    """Read the body of a request into memory, and nowhere else.

    Raises
    ------
    HTTPException
        413: it is longer than `LARGEST`.
    """
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > LARGEST:
            raise HTTPException(413, f"send at most the first {LARGEST // 10**6} MB of a file")
    return bytes(content)


def try_file(routes: Sequence[Route], content: bytes, origin: Origin) -> Tried:
    """Say where an image would go, by the beginning of its file.

    Raises
    ------
    UsageError
        It is no DICOM file (PS3.10), or its header does not end within what was sent.
    """
    try:
        header = dcmread(BytesIO(content), stop_before_pixels=True)
    except (*UNREADABLE, EOFError) as error:
        raise UsageError(
            "this is not read as a DICOM file; expected one of PS3.10, with its meta group"
        ) from error
    if "SOPClassUID" not in header:
        raise UsageError("this file's header has no SOPClassUID; expected a whole DICOM file")
    return try_header(routes, header, origin)


def replayed(session: Session, portal: Portal, since: datetime, until: datetime | None) -> Replay:
    """Decide again on what came since a time."""
    return replay(session, portal.archive, portal.site.routes, since, until)


def as_noun(one: Replayed) -> nouns.Replayed:
    """Write one series of a replay as the API does."""
    instance = one.instance
    return nouns.Replayed(
        accession=instance.accession,
        series=instance.series_description or instance.series_number,
        modality=instance.modality,
        received_at=instance.received_at,
        would=list(one.would),
        did=list(one.did),
        added=list(one.added),
        dropped=list(one.dropped),
    )


def route(one: Route) -> nouns.Route:
    """Write a route as the API does."""
    return nouns.Route(name=one.name, send_to=list(one.send_to), when=one.when.source)
