"""The access log: what was asked, when, by which sign-in, and how it went. No patient data.

A path may hold UIDs and a query an accession number: the log has the route that answered, and of
its parameters only our own opaque ids. Who a sign-in is of stands in the audit.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OPAQUE = re.compile(r"[0-9a-f]{32}")
"""As `overread.store.tables.new_id` makes them."""

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_QUIET = frozenset({"/healthz", "/readyz", "/metrics", "/static/{name}"})
"""Not logged where it went well: a monitor asks every few seconds."""

_log = structlog.get_logger(__name__)


class AccessLog:
    """Middleware: one line for each request, when its answer has ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begun = 0, time.perf_counter()

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            line = entry(scope, status, time.perf_counter() - begun)
            if status >= 400 or line["route"] not in _QUIET:
                _log.info("request", **line)


def entry(scope: Mapping[str, Any], status: int, seconds: float) -> dict[str, Any]:
    """Return what the log says of one request.

    Parameters
    ----------
    scope : mapping
        The request, as ASGI has it, after it was answered.
    status : int
        0 where the connection was cut before an answer began.
    seconds : float
        From its arrival to the end of its answer.
    """
    signed = scope.get("state", {}).get("signed")
    ids = {
        name: value
        for name, value in scope.get("path_params", {}).items()
        if isinstance(value, str) and _OPAQUE.fullmatch(value)
    }
    return {
        "method": scope["method"] if scope["method"] in _METHODS else "other",
        "route": getattr(scope.get("route"), "path", "other"),
        **ids,
        "status": status,
        "ms": round(seconds * 1000),
        "address": (scope.get("client") or ("",))[0],
        "sign_in": signed.session_id if signed is not None else "",
    }
