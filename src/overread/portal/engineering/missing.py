"""The page that says that something is not there, or is not within one's reach."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import Response

from overread.portal.state import Portal
from overread.store.users import Signed


def missing(
    request: Request, portal: Portal, signed: Signed, what: str, text: str = ""
) -> Response:
    """Answer 404 with what is not there."""
    return portal.templates.TemplateResponse(
        request,
        "message.html",
        {
            "signed": signed,
            "title": f"There is no such {what}",
            "text": text or f"No {what} within your reach has this address.",
            "next_steps": [f"Look for it in the list: the link to each {what} stands there."],
        },
        status_code=404,
    )
