"""The viewer: OHIF's own build, served as the last, root-level fallback, and its settings.

OHIF is compiled to live at ``/``: its files are served there for whatever path no page of ours
answers, and its router is told to live below ``/viewer``.
"""

from __future__ import annotations

import gzip
import mimetypes
import re
from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse, Response

from overread.portal.auth import require
from overread.portal.security import viewer_policy
from overread.portal.state import HERE
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


def link(study_uid: str, series_uids: list[str], first_series: str) -> str:
    """Return the viewer's address that shows these series of a study, ``first_series`` at once.

    Parameters
    ----------
    first_series : str
        The images to begin with, or a segmentation, which is drawn over the images that it refers
        to; empty for whichever the viewer takes.
    """
    query = {"StudyInstanceUIDs": study_uid}
    if series_uids:
        query["SeriesInstanceUIDs"] = ",".join(series_uids)
    if first_series:
        query["initialSeriesInstanceUID"] = first_series
    return f"/viewer/viewer?{urlencode(query, safe=',')}"


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
