"""How much a web form or a piece of JSON may hold: more is refused before anything is made of it.

Images and files come in other kinds of body, and their routes have limits of their own.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from overread.validation.answers import LIMIT

_KINDS = ("application/x-www-form-urlencoded", "application/json")
_DRAINED = 64 * LIMIT
"""Bytes that are read and dropped, so that the sender gets to hear the answer."""


class Bounded:
    """Middleware: reads such a body whole, or answers 413 where it holds more than `LIMIT`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        kind = Headers(scope=scope).get("content-type", "") if scope["type"] == "http" else ""
        if not kind.lower().startswith(_KINDS):
            await self._app(scope, receive, send)
            return
        kept, size, more = bytearray(), 0, True
        while more and size <= _DRAINED:
            message = await receive()
            if message["type"] != "http.request":  # the sender is gone
                return
            size += len(message.get("body", b""))
            if size <= LIMIT:
                kept += message.get("body", b"")
            more = message.get("more_body", False)
        if size > LIMIT:
            await _too_large(scope, size)(scope, receive, send)
            return
        whole: Message | None = {"type": "http.request", "body": bytes(kept), "more_body": False}

        async def replay() -> Message:
            nonlocal whole
            given, whole = whole, None
            return given if given is not None else await receive()

        await self._app(scope, replay, send)


def _too_large(scope: Scope, size: int) -> ASGIApp:
    words = (
        f"What was sent holds {size / 1e6:.1f} MB or more; expected at most {LIMIT / 1e6:.1f} MB. "
        "Nothing was kept. Shorten it, then send it again."
    )
    if "text/html" in Headers(scope=scope).get("accept", ""):
        return PlainTextResponse(words + "\n", 413)
    return JSONResponse({"detail": words}, 413)
