"""The viewer: OHIF's own build, served as the last, root-level fallback, and its settings.

OHIF is compiled to live at ``/``: its files are served there for whatever path no page of ours
answers, and its router is told to live below ``/viewer``.
"""

from __future__ import annotations

import gzip
import mimetypes
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from overread.portal import opened
from overread.portal.auth import require
from overread.portal.opened import Opened
from overread.portal.security import viewer_policy
from overread.portal.state import HERE, Here
from overread.store import cases, history
from overread.store.cases import SeriesOfCase
from overread.store.tables import Instance
from overread.store.users import Signed

VENDOR = HERE / "vendor"
OHIF = VENDOR / "ohif"

_HASHED = re.compile(r"[.-]?[0-9a-f]{16}\.")
_SQUEEZABLE = (".js", ".css", ".html", ".json", ".svg", ".wasm", ".map", ".webmanifest")
_YEAR, _CHECK = "public, max-age=31536000, immutable", "no-cache"

router = APIRouter(include_in_schema=False)
files = APIRouter(include_in_schema=False)
"""Taken in last: it answers every path that nothing else does."""


class NoSuchPage(Exception):
    """Nothing answers this path; the application says so in its own look."""


MODES = {"": "viewer", "edit": "segmentation"}
"""What the viewer is opened for, and OHIF's name of the mode."""


@dataclass(frozen=True)
class Opening:
    """What the viewer opens with.

    Attributes
    ----------
    case_id : str
        The case, as addresses name it; empty for none.
    studies : tuple of str
        StudyInstanceUIDs: the case's own first, then the one before it where there is one.
    series : tuple of str
        The series that are given, and no others; all where empty.
    first : str
        The images to begin with, or a segmentation, which is drawn over the images that it refers
        to; empty for whichever the viewer takes.
    mode : str
        One of `MODES`.
    """

    case_id: str
    studies: tuple[str, ...]
    series: tuple[str, ...] = ()
    first: str = ""
    mode: str = ""

    @property
    def link(self) -> str:
        """The viewer's address that shows it."""
        query = {"case": self.case_id} if self.case_id else {}
        query["StudyInstanceUIDs"] = ",".join(self.studies)
        if self.series:
            query["SeriesInstanceUIDs"] = ",".join(self.series)
        if self.first:
            query["initialSeriesInstanceUID"] = self.first
        if len(self.studies) > 1:
            query["hangingProtocolId"] = BESIDE
        return f"/viewer/{MODES[self.mode]}?{urlencode(query, safe=',')}"


BESIDE = "overread-beside"
"""Our hanging protocol of two studies, in app-config.js."""


def opening(session: Session, case: Opened, over: str = "", mode: str = "") -> Opening:
    """Say what the viewer of a case opens with.

    Its study's images, with what was drawn on them, and beside them those of the exam before, where
    the project's page wants that and nothing is edited.

    Parameters
    ----------
    over : str
        Name of the result, or id of the edit, that is drawn; by itself one's own latest edit, else
        the first that can be.
    mode : str
        One of `MODES`.
    """
    shown = cases.shown(session, case.case.id, case.sight)
    own = [one for one in shown.edits if one.author == case.sight.user_id and one.instance_id]
    drawn = cases.overlay(shown, over or (own[-1].id if own else ""))
    made = session.get(Instance, drawn.instance_id) if drawn else None
    study_uid = made.study_uid if made is not None else case.case.exam.study_uid
    series = cases.images(session, case.case.exam, study_uid)
    studies, uids = [study_uid], [one.uid for one in series]
    first = made.series_uid if made is not None else _largest(series)
    if made is not None:
        uids.append(first)
    before = history.before(session, case.case, case.sight)
    if case.page.prior and not mode and before is not None and before.study_uid != study_uid:
        earlier = cases.images(session, before)
        studies += [before.study_uid] if earlier else []
        uids += [_same_kind(earlier, series)] if earlier else []
    return Opening(case.id, tuple(studies), tuple(uids), first, mode)


def _largest(series: Sequence[SeriesOfCase]) -> str:
    """Return the largest series, since a localizer mostly comes first."""
    return max(series, key=lambda one: one.instances).uid if series else ""


def _same_kind(earlier: Sequence[SeriesOfCase], series: Sequence[SeriesOfCase]) -> str:
    """Return the earlier series that is called as one of these is, or else the largest."""
    named = {one.description for one in series}
    alike = [one for one in earlier if one.description in named]
    return _largest(alike or earlier)


@router.get("/cases/{case_id}/viewer")
def open_viewer(
    portal: Here,
    signed: Annotated[Signed, Depends(require("image.see"))],
    case_id: str,
    over: str = "",
    mode: Literal["", "edit"] = "",
) -> Response:
    """Go to the viewer: the study's images, and of what was drawn on them the current result."""
    with portal.database.read() as session:
        case = opened.find(portal, session, signed, case_id, "image.see")
        return RedirectResponse(opening(session, case, over, mode).link, status_code=303)


@lru_cache(maxsize=1)
def _policy() -> str:
    page = (OHIF / "index.html").read_text(encoding="utf-8")
    inline = re.findall(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", page, re.DOTALL)
    return viewer_policy([b64encode(sha256(text.encode()).digest()).decode() for text in inline])


@dataclass(frozen=True)
class _File:
    """A file as it is sent: its bytes, squeezed where that helps, and its tag."""

    plain: bytes
    squeezed: bytes | None
    tag: str


@lru_cache(maxsize=512)
def _read(path: Path, _changed: int) -> _File:
    # All of OHIF is 49 MB, 11 MB of it squeezed: kept in memory once it has been asked for.
    plain = path.read_bytes()
    squeezed = gzip.compress(plain, 6, mtime=0) if path.suffix in _SQUEEZABLE else None
    return _File(plain, squeezed, f'"{sha256(plain).hexdigest()[:32]}"')


def send_file(request: Request, path: Path, policy: str | None = None) -> Response:
    """Send a static file, gzipped where the browser takes that.

    A file whose name holds its content's digest is cached for good; any other is checked by tag.
    """
    file = _read(path, path.stat().st_mtime_ns)
    headers = {
        "ETag": file.tag,
        "Cache-Control": _YEAR if _HASHED.search(path.name) else _CHECK,
        "Vary": "Accept-Encoding",
    }
    if policy is not None:
        headers["Content-Security-Policy"] = policy
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    body = file.plain
    if file.squeezed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        body = file.squeezed
        headers["Content-Encoding"] = "gzip"
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Response(body, media_type=kind, headers=headers)


@router.get("/app-config.js")
def config(request: Request) -> Response:
    """Give OHIF its settings, in place of those that it was built with."""
    return send_file(request, HERE / "static" / "app-config.js", _policy())


@router.get("/viewer")
@router.get("/viewer/{rest:path}")
def viewer(
    request: Request, _signed: Annotated[Signed, Depends(require("image.see"))], rest: str = ""
) -> Response:
    """Show OHIF's page; its own router takes what follows ``/viewer``."""
    del rest
    if not OHIF.is_dir():
        return PlainTextResponse("The viewer is not installed; run make setup.\n", 503)
    return send_file(request, OHIF / "index.html", _policy())


@files.get("/{path:path}")
def ohif_file(request: Request, path: str) -> Response:
    """Send one of OHIF's files; a path that leaves its folder is as unknown as any other.

    Raises
    ------
    NoSuchPage
        There is no such file: nothing of this portal answers the path.
    """
    try:
        wanted = (OHIF / path).resolve()
        there = wanted.is_relative_to(OHIF.resolve()) and wanted.is_file()
    except (ValueError, OSError):  # a NUL in it, or too long to be a name
        there = False
    if not there:
        raise NoSuchPage("There is no such page")
    return send_file(request, wanted, _policy())
