"""The portal's application, built from a site folder."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from overread import registry
from overread.portal import api, auth, cases, engineers, health, opening, static, viewer
from overread.portal.auth import Forbidden, NotSignedIn, sign_in_link, signed_in
from overread.portal.dicomweb import query, rendered, retrieve, store
from overread.portal.failures import Failures
from overread.portal.health import Measure, Metrics
from overread.portal.security import Guard
from overread.portal.state import Portal, portal_of, templates
from overread.portal.viewer import NoSuchPage
from overread.site import SiteFolder
from overread.store.archive import Archive
from overread.store.database import Database
from overread.store.users import StoredAccounts

_MACHINE = ("/api/", "/dicom-web/")
"""Paths below which programs ask: they are answered in JSON, and are never sent to a form."""


def build(site: SiteFolder) -> FastAPI:
    """Build the application of a site.

    Parameters
    ----------
    site : SiteFolder
        The site; its database is brought to the newest revision.
    """
    database = Database(site.settings.database_url)
    database.upgrade()
    app = FastAPI(
        title="Overread", docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json"
    )
    shown = templates(site)
    shown.env.globals["styles"] = static.STYLES
    shown.context_processors += [engineers.count_aside, auth.permissions]
    app.state.portal = Portal(
        site=site,
        database=database,
        archive=Archive(site.settings.data / "archive"),
        identity=registry.load("identity", "local")(StoredAccounts(database)),
        failures=Failures(),
        templates=shown,
    )
    app.state.metrics = Metrics()
    app.add_middleware(Measure, metrics=app.state.metrics)
    app.add_middleware(Guard, tls_only=not site.settings.portal.is_loopback)
    for part in (
        auth, health, static, cases, opening, engineers, api, query, rendered, retrieve, store,
    ):  # fmt: skip
        app.include_router(part.router)
    app.include_router(viewer.router)
    app.include_router(viewer.files)
    app.add_exception_handler(NotSignedIn, _not_signed_in)
    app.add_exception_handler(Forbidden, _forbidden)
    app.add_exception_handler(NoSuchPage, _no_such_page)
    return app


def _not_signed_in(request: Request, reason: Exception) -> Response:
    if request.url.path.startswith(_MACHINE):
        return JSONResponse(
            {"detail": str(reason)}, 401, headers={"WWW-Authenticate": 'Bearer realm="overread"'}
        )
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={"HX-Redirect": "/sign-in"})
    return RedirectResponse(sign_in_link(target), status_code=303)


def _forbidden(request: Request, reason: Exception) -> Response:
    if request.url.path.startswith(_MACHINE):
        return JSONResponse({"detail": str(reason)}, 403)
    return portal_of(request).templates.TemplateResponse(
        request,
        "message.html",
        {
            "signed": signed_in(request),
            "title": "Not for this account",
            "text": f"{reason}.",
            "next_steps": ["Ask an administrator of this site for the role."],
        },
        status_code=403,
    )


def _no_such_page(request: Request, reason: Exception) -> Response:
    if request.url.path.startswith(_MACHINE):
        return JSONResponse({"detail": str(reason)}, 404)
    if "text/html" not in request.headers.get("accept", ""):  # a file that some page wants
        return PlainTextResponse(f"{reason}.\n", 404)
    return portal_of(request).templates.TemplateResponse(
        request,
        "message.html",
        {
            "signed": signed_in(request),
            "title": "There is no such page",
            "text": "Nothing of this site is at this address.",
            "next_steps": ["Look for the case among the cases, or open it again from the PACS."],
        },
        status_code=404,
    )
