"""What every answer carries, and what no request may do: headers, the origin check, sizes.

The content security policy is the promise that no page contacts a host that the site does not
name. Pages run only our own script files. The viewer needs more (see `viewer_policy`), and gets it
only on its own files. What is in a frame is in one of ours, or of a host that the site names.
"""

from __future__ import annotations

import logging
import math
import re
import traceback
from collections.abc import Sequence
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'"
)

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked from inside the house; they hold nothing secret."""

LARGEST = 2 * 10**6
"""Bytes of a request, where `_LARGER` says nothing else."""

_LARGER: dict[str, float] = {
    r"(/cases/[^/]+)?/dicom-web/": math.inf,  # read one by one, each with a limit of its own
    r"/routes": 256 * 10**6,  # files to try the routes on
    r"/api/v1/routes": 256 * 10**6,
}
"""By how a path begins: bytes of a request there."""

_STYLES = ("00-tokens.css", "10-base.css", "20-components.css")

_log = logging.getLogger(__name__)


def viewer_policy(inline: Sequence[str]) -> str:
    """Return the policy of the viewer's files.

    OHIF's image decoders are WebAssembly whose glue compiles functions, in workers made from blobs;
    its interface sets inline styles. Its inline scripts are allowed by their digests, so that
    nothing else inline runs.

    Parameters
    ----------
    inline : sequence of str
        Base64 SHA-256 digests of the inline scripts of its page.
    """
    hashes = " ".join(f"'sha256-{digest}'" for digest in inline)
    return (
        f"default-src 'none'; script-src 'self' blob: 'unsafe-eval' 'wasm-unsafe-eval' {hashes}; "
        "worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' blob:; "
        "connect-src 'self' data: blob:; manifest-src 'self'; form-action 'none'; "
        "base-uri 'none'"
    )


class Guard:
    """Middleware: strict headers on every answer, and no unsafe request from another origin.

    An error of ours is logged by its kind and place, never by its words: those may quote a patient.

    Parameters
    ----------
    tls_only : bool
        Whether what comes without TLS is refused, which goes around the proxy that ends it.
    embed : sequence of str
        Origins that may show our pages in a frame of theirs.
    """

    def __init__(self, app: ASGIApp, *, tls_only: bool = False, embed: Sequence[str] = ()) -> None:
        self._app, self._tls_only = app, tls_only
        self._ancestors = " ".join(["frame-ancestors 'self'", *embed])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                _strict(headers, tls=scope["scheme"] == "https")
                policy = headers["Content-Security-Policy"]
                headers["Content-Security-Policy"] = f"{policy}; {self._ancestors}"
            await send(message)

        most = next(
            (size for path, size in _LARGER.items() if re.match(path, scope["path"])), LARGEST
        )
        refusal, status = self._refusal(scope), 403
        if not refusal and _length(Headers(scope=scope)) > most:
            refusal, status = f"the request is larger than {most:.0f} bytes", 413
        if refusal:
            await _words(scope, "Refused", refusal, status)(scope, receive, send_with_headers)
            return
        try:
            await self._app(scope, _limited(receive, most), send_with_headers)
        except Exception as error:  # noqa: BLE001 - the edge of a request: recorded in the log
            _log.error("request failed: %s", _place(error))
            if not begun:  # else the server cuts the connection, since the answer is not whole
                page = _words(scope, "Something broke here", "try again, or tell an engineer", 500)
                await page(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> str:
        """Say why a request is not answered at all; empty where it is."""
        if self._tls_only and scope["scheme"] != "https" and scope["path"] not in _OPEN:
            return "TLS only; a proxy in front has to send X-Forwarded-Proto"
        if scope["method"] not in _SAFE and not _same_origin(Headers(scope=scope)):
            return "the request comes from another site"
        return ""


def _words(scope: Scope, title: str, words: str, status: int) -> Response:
    """Say so in the pages' look, to a browser: without templates, since those may be what broke."""
    if "text/html" not in Headers(scope=scope).get("accept", ""):
        return PlainTextResponse(f"{title.lower()}: {words}\n", status)
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title} · overread</title>'
        + "".join(f'<link rel="stylesheet" href="/static/{name}">' for name in _STYLES)
        + '<header class="bar"><a class="name" href="/">over<i>read</i></a></header>'
        f'<main class="page narrow"><h1>{title}</h1><p class="muted">{words[0].upper()}{words[1:]}.'
        '</p><p><a class="btn ghost" href="/">My work</a></p></main></html>',
        status,
    )


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    where = ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__} at {where}"


def _same_origin(headers: Headers) -> bool:
    """Say whether a browser sent this from one of our own pages; other clients send no Origin.

    A browser says ``Origin: null`` with the forms of pages that tell no referrer, our own too
    (Fetch standard, "append a request Origin header"), but then says whose they are in
    Sec-Fetch-Site, which no page can write.
    """
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin == "null":
        return site == "same-origin"
    return origin is None or origin.partition("://")[2] == headers.get("host", "")


def _length(headers: Headers) -> int:
    said = headers.get("content-length", "")
    return int(said) if said.isdecimal() else 0


def _limited(receive: Receive, most: float) -> Receive:
    """Stop reading a request that is larger than it may be, whatever it said before."""
    came = 0

    async def counted() -> Message:
        nonlocal came
        message = await receive()
        came += len(message.get("body", b""))
        if came > most:
            raise HTTPException(413, f"the request is larger than {most:.0f} bytes")
        return message

    return counted


def _strict(headers: MutableHeaders, *, tls: bool) -> None:
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Content-Security-Policy", PAGE_POLICY)
    headers.setdefault("Cache-Control", "no-store")
    if tls:
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")
