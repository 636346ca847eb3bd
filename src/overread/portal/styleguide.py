"""The components of the pages, shown on a page of the running portal: ``/styleguide``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from overread.portal.auth import require
from overread.portal.state import HERE, Here
from overread.store.users import Signed

router = APIRouter(include_in_schema=False)

TOKENS: Path = HERE / "static" / "styles" / "00-tokens.css"
"""Where the colours and sizes stand."""

SURFACES = ("ground", "surface", "raised", "chosen", "sunken", "image")
WORDS = ("text", "muted", "faint", "accent", "ok", "warn", "bad")
"""Tokens that colour words; each is legible on every surface but the images' black."""
LINES = ("line", "edge")
SERIES = tuple(f"series-{number}" for number in range(1, 7))


@router.get("/styleguide")
def styleguide(
    request: Request, portal: Here, signed: Annotated[Signed, Depends(require("account.see"))]
) -> Response:
    """Show every component in every state."""
    return portal.templates.TemplateResponse(
        request,
        "styleguide.html",
        {
            "signed": signed,
            "colours": {"Surfaces": SURFACES, "Words": WORDS, "Lines": LINES, "Series": SERIES},
        },
    )
