"""The portal's application, built from a site folder."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from overread.portal import (
    account,
    api,
    audit,
    auth,
    cases,
    compare,
    engineers,
    events,
    forms,
    health,
    launch,
    opening,
    readings,
    sign_in,
    static,
    styleguide,
    turn,
    users,
    viewer,
    worklist,
)
from overread.portal.access_log import AccessLog
from overread.portal.auth import Forbidden, NotSignedIn, sign_in_link, signed_in
from overread.portal.dicomweb import query, rendered, retrieve, scope, store
from overread.portal.health import Measure, Metrics
from overread.portal.opened import NoSuchCase, SeveralCases
from overread.portal.security import Guard
from overread.portal.state import Portal, portal_of, templates
from overread.portal.told import Told
from overread.portal.viewer import NoSuchPage
from overread.site import SiteFolder
from overread.site.digests import note_site
from overread.store.archive import Archive
from overread.store.database import Database

_MACHINE = re.compile(r"/api/|(/cases/[^/]+)?/dicom-web/")
"""Beginnings of paths where programs ask: they are answered in JSON, and never sent to a form."""


def build(site: SiteFolder) -> FastAPI:
    """Build the application of a site.

    Parameters
    ----------
    site : SiteFolder
        The site; its database is brought to the newest revision.
    """
    database = Database(site.settings.database_url)
    database.upgrade()
    note_site(database, site.root, datetime.now(UTC))
    app = FastAPI(
        title="Overread", docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json",
        dependencies=[Depends(auth.own_request)],
    )  # fmt: skip
    identity, providers = sign_in.doors(site, database)
    shown = templates(site)
    shown.env.globals["styles"] = static.STYLES
    shown.context_processors += [engineers.count_aside, auth.permissions]
    app.state.portal = Portal(
        site=site,
        database=database,
        archive=Archive(site.settings.data / "archive"),
        identity=identity,
        providers=providers,
        templates=shown,
    )
    app.state.metrics = Metrics()
    app.add_middleware(Told)
    app.add_middleware(Measure, metrics=app.state.metrics)
    web = site.settings.portal
    app.add_middleware(Guard, tls_only=not web.is_loopback, embed=web.embed)
    app.add_middleware(AccessLog)
    for part in (
        sign_in, account, users, health, static, worklist, events, cases, readings, forms, opening,
        launch, engineers, audit, styleguide, api, query, rendered, retrieve, store,
    ):  # fmt: skip
        app.include_router(part.router)
    for part in (query, rendered, retrieve, store):  # the same service, for one case
        app.include_router(part.router, prefix=scope.CASE)
    app.include_router(compare.router)
    app.include_router(turn.router)
    app.include_router(viewer.router)
    app.include_router(viewer.files)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(NotSignedIn, _not_signed_in)
    app.add_exception_handler(Forbidden, _forbidden)
    app.add_exception_handler(NoSuchPage, _no_such_page)
    app.add_exception_handler(NoSuchCase, _no_such_case)
    app.add_exception_handler(SeveralCases, _several_cases)
    return app


def _malformed(_request: Request, error: Exception) -> Response:
    """Say what was wrong where, and not what was sent: it may be of a patient, or no text."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is registered for those
    said = [{name: one[name] for name in ("type", "loc", "msg")} for one in error.errors()]
    return Response(json.dumps({"detail": said}), 422, media_type="application/json")


def _not_signed_in(request: Request, reason: Exception) -> Response:
    by_script = "x-csrf-token" in request.headers and "hx-request" not in request.headers
    if _MACHINE.match(request.url.path) or by_script:
        return JSONResponse(
            {"detail": str(reason)}, 401, headers={"WWW-Authenticate": 'Bearer realm="overread"'}
        )
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={"HX-Redirect": "/sign-in"})
    return RedirectResponse(sign_in_link(target), status_code=303)


def _forbidden(request: Request, reason: Exception) -> Response:
    if _MACHINE.match(request.url.path):
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


def _no_such_case(request: Request, reason: Exception) -> Response:
    if _MACHINE.match(request.url.path):
        return JSONResponse({"detail": str(reason)}, 404)
    return cases.no_case(request, portal_of(request), signed_in(request))


def _several_cases(request: Request, reason: Exception) -> Response:
    if _MACHINE.match(request.url.path):
        return JSONResponse({"detail": f"{reason}; name one of them"}, 409)
    assert isinstance(reason, SeveralCases)  # noqa: S101 - it is registered for those
    return cases.which_case(request, portal_of(request), signed_in(request), reason)


def _no_such_page(request: Request, reason: Exception) -> Response:
    if _MACHINE.match(request.url.path):
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
