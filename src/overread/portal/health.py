"""Is it alive, is it ready, how is it doing. No patient data in any of it."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from overread.portal.state import Here
from overread.store import cases, seal

router = APIRouter(include_in_schema=False)

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})


class Metrics:
    """What the portal counts of itself, and the gauges it fills from the store when asked."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "overread_portal_requests",
            "Requests answered, by route and status",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "overread_portal_request_seconds",
            "Time from a request's arrival to the end of its answer",
            ["route"],
            registry=self.registry,
        )
        self.counts = Gauge(
            "overread_rows",
            "Rows of the store, by kind and state",
            ["kind", "state"],
            registry=self.registry,
        )
        self.sealed = Gauge(
            "overread_audit_block",
            "Newest block of the chain over the audit",
            registry=self.registry,
        )
        self.unsealed = Gauge(
            "overread_audit_unsealed_rows",
            "Rows of the audit that no block holds yet",
            registry=self.registry,
        )


class Measure:
    """Middleware: counts and times each request under its route, never under its path."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begun = "500", time.perf_counter()

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(method, route, status).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - begun)


@router.get("/healthz")
def healthz() -> Response:
    """Say that the process answers."""
    return PlainTextResponse("ok\n")


@router.get("/readyz")
def readyz(portal: Here) -> Response:
    """Say whether cases can be shown: the database answers and the archive is there."""
    missing: list[str] = []
    try:
        with portal.database.read() as session:
            session.execute(text("SELECT 1 FROM alembic_version"))
    except SQLAlchemyError as error:
        missing.append(f"the database does not answer ({type(error).__name__})")
    if not portal.archive.root.is_dir():
        missing.append("the archive's folder is not there")
    return JSONResponse({"ready": not missing, "missing": missing}, 503 if missing else 200)


@router.get("/metrics")
def metrics(request: Request, portal: Here) -> Response:
    """Answer in Prometheus' text format."""
    kept = request.app.state.metrics
    assert isinstance(kept, Metrics)  # noqa: S101 - build() has put it there
    with portal.database.read() as session:
        rows = cases.count_states(session)
        standing = seal.standing(session)
    kept.sealed.set(standing.block)
    kept.unsealed.set(standing.unsealed)
    kept.counts.clear()
    for (kind, state), number in rows.items():
        kept.counts.labels(kind, state).set(number)
    return Response(generate_latest(kept.registry), media_type=CONTENT_TYPE_LATEST)
