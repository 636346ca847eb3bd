"""Our own static files: style, script, htmx."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from overread.portal.state import HERE
from overread.portal.viewer import VENDOR, send_file

_FILES = {
    "overread.svg": HERE / "static" / "overread.svg",
    "htmx.min.js": VENDOR / "htmx.min.js",
    "uPlot.esm.js": VENDOR / "uPlot.esm.js",
    "uPlot.min.css": VENDOR / "uPlot.min.css",
    **{path.name: path for path in (HERE / "static" / "js").glob("*.js")},
    **{path.name: path for path in (HERE / "static" / "styles").glob("*.css")},
}
STYLES = sorted(path.name for path in (HERE / "static" / "styles").glob("*.css"))
"""Our style sheets, in the order in which pages take them in."""

router = APIRouter(include_in_schema=False)


@router.get("/static/{name}")
def static_file(request: Request, name: str) -> Response:
    """Send one of the files that the pages name."""
    path = _FILES.get(name)
    if path is None or not path.is_file():
        return PlainTextResponse("There is no such file.\n", 404)
    return send_file(request, path)
