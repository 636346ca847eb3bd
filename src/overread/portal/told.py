"""What is shown of patients, or refused, is told to the audit: by the address that was asked.

Acts are told where they are done, in their own transaction. To look is no transaction, so this
middleware tells of it: the row is kept before the first byte of the answer leaves. A page that asks
again by itself, or a list that is looked through, is told of once in ten minutes for each sign-in.
"""

from __future__ import annotations

from datetime import timedelta

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from overread.portal.auth import signed_in, tell
from overread.portal.state import portal_of

SHOWN: dict[str, tuple[str, str]] = {
    "GET /": ("list cases", "worklist"),
    "GET /cases": ("list cases", "cases"),
    "GET /exams": ("list exams", "exams"),
    "GET /jobs": ("list jobs", "jobs"),
    "GET /cases/{case_id}/state": ("follow case", "case {case_id}"),
    "GET /cases/{case_id}/measurements": ("follow case", "case {case_id}"),
    "GET /cases/{case_id}/events": ("follow case", "case {case_id}"),
    "GET /cases/{case_id}/turn/{result}/{number}": ("look at result", "case {case_id}"),
    "GET /api/v1/deliveries/{delivery_id}": ("list deliveries", "delivery {delivery_id}"),
    "GET /jobs/{job_id}/running": ("look at job", "job {job_id}"),
    "GET /audit": ("read audit", "audit"),
    "GET /api/v1/audit": ("read audit", "audit"),
    "GET /jobs/{job_id}": ("look at job", "job {job_id}"),
    "GET /exams/{exam_id}": ("look at exam", "exam {exam_id}"),
    "GET /jobs/{job_id}/steps/{step}": ("open artifact", "job {job_id}"),
    "GET /jobs/{job_id}/steps/{step}/files/{name:path}": ("open artifact", "job {job_id}"),
    "GET /jobs/{job_id}/steps/{step}/slices/{index}.png": ("open artifact", "job {job_id}"),
    "GET /deliveries": ("list deliveries", "deliveries"),
    "GET /routes": ("try routes", "routes"),
    "GET /why": ("see way", "accession"),
    "GET /aside": ("list images", "aside"),
    "GET /api/v1/why": ("see way", "accession"),
    "GET /api/v1/jobs": ("list jobs", "jobs"),
    "GET /api/v1/jobs/{job_id}": ("look at job", "job {job_id}"),
    "GET /api/v1/jobs/{job_id}/log": ("look at job", "job {job_id}"),
    "GET /api/v1/jobs/{job_id}/steps/{step}/files/{name:path}": ("open artifact", "job {job_id}"),
    "GET /api/v1/results/{result_id}": ("look at result", "result {result_id}"),
    "GET /api/v1/results/{result_id}/versions": ("look at result", "result {result_id}"),
    "GET /api/v1/cases": ("list cases", "cases"),
    "GET /api/v1/cases/{case_id}/readings": ("look at readings", "case {case_id}"),
    "GET /api/v1/readings": ("list readings", "readings"),
    "GET /api/v1/readings/{reading_id}": ("look at readings", "reading {reading_id}"),
    "GET /api/v1/deliveries": ("list deliveries", "deliveries"),
    "GET /api/v1/routes/replay": ("try routes", "routes"),
    "GET /api/v1/exams": ("list exams", "exams"),
    "GET /api/v1/exams/{exam_id}": ("look at exam", "exam {exam_id}"),
    "GET /api/v1/instances": ("list images", "instances"),
    "GET /api/v1/results": ("list results", "results"),
    "GET /dicom-web/studies": ("list images", "studies"),
    "GET /dicom-web/series": ("list images", "series"),
    "GET /dicom-web/instances": ("list images", "instances"),
    "GET /dicom-web/studies/{study}/series": ("list images", "series"),
    "GET /dicom-web/studies/{study}/instances": ("list images", "instances"),
    "GET /dicom-web/studies/{study}/series/{series}/instances": ("list images", "instances"),
}
"""Method and route to the action that it is, and on what; a route's own parameters may stand there
where they are opaque ids."""

_AGAIN = timedelta(minutes=10)
_MOST = 10_000


class Told:
    """Middleware: tells the audit who was shown what, and who was refused."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_told(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = _said(scope, message["status"])
                if said is not None:
                    await run_in_threadpool(tell_once, Request(scope), *said)
            await send(message)

        await self._app(scope, receive, send_told)


def tell_once(request: Request, action: str, *subjects: str) -> None:
    """Tell the audit of what the one who is signed in is shown, unless it was told just before."""
    signed, portal = signed_in(request), portal_of(request)
    if signed is None:
        return
    now, told = portal.now(), portal.told
    keys = [(signed.session_id, action, subject) for subject in subjects]
    fresh = [key for key in keys if now - told.get(key, now - _AGAIN) >= _AGAIN]
    if not fresh:
        return
    with portal.database.write() as session:
        for _, _, subject in fresh:
            tell(session, request, action, subject)
    if len(told) >= _MOST:
        for key in [key for key, at in list(told.items()) if now - at >= _AGAIN]:
            told.pop(key, None)
    told.update(dict.fromkeys(fresh, now))


def _said(scope: Scope, status: int) -> tuple[str, str] | None:
    """Return the action and subject that an answer is; none where it need not be told of."""
    path = getattr(scope.get("route"), "path", "")
    route = f"{scope['method']} {path}"
    if status == 403 and path:
        return "refuse", f"route {route}"
    if route not in SHOWN or not 200 <= status < 300:
        return None
    action, subject = SHOWN[route]
    return action, subject.format_map(scope.get("path_params", {}))
