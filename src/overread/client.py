"""A client of a running portal's API: the nouns as methods, pages gone through, typed answers.

::

    with Client("https://overread.example.org", token) as portal:
        for exam in portal.exams(state="closed"):
            print(exam.accession, exam.pipeline)
        portal.retry_job("3f2a")

Times are aware. What the portal refuses is raised as an error of `overread.errors` that says what
to do; nothing is tried again by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import httpx
from pydantic import TypeAdapter, ValidationError

from overread import nouns
from overread.errors import Refused, Unavailable, UsageError

N = TypeVar("N", bound=nouns.Noun)

_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Client:
    """A session with one portal.

    Parameters
    ----------
    portal : str
        Its address, such as ``https://overread.example.org``.
    token : str
        Of an account, as its page or ``overread user token`` makes one.
    timeout : float
        Seconds to wait for an answer.
    transport : httpx.BaseTransport, optional
        The way to the portal; a test gives its own.

    Raises
    ------
    UsageError
        The address is none, or would send the token over a network unencrypted.
    """

    def __init__(
        self,
        portal: str,
        token: str,
        *,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        parts = urlsplit(portal)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{portal!r} is no address of a portal; expected https://HOST[:PORT]")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise UsageError(
                f"{portal} is not encrypted, and the token would be read on the way; "
                "expected https://"
            )
        self.address = portal.rstrip("/")
        self._http = httpx.Client(
            base_url=self.address,
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=timeout,
            transport=transport,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # what arrived

    def exams(
        self,
        *,
        state: str = "",
        pipeline: str = "",
        accession: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        page: int = 100,
    ) -> Iterator[nouns.Exam]:
        """Go through exams, the newest first; ``page`` at a time are fetched."""
        asked = {"state": state, "pipeline": pipeline, "accession": accession}
        return self._every("exams", nouns.Exam, {**asked, "since": since, "until": until}, page)

    def exam(self, exam_id: str) -> nouns.Exam:
        """Return one exam revision."""
        return self._one(f"exams/{quote(exam_id, safe='')}", nouns.Exam)

    def why(self, accession: str) -> dict[str, Any]:
        """Return the whole way of an accession number, as `overread.store.way.way` tells it."""
        told = self._ask("GET", "why", {"accession": accession}).json()
        return _with_times(told) if isinstance(told, dict) else {}

    def instances(
        self, *, study: str = "", series: str = "", accession: str = "", page: int = 1000
    ) -> Iterator[nouns.Instance]:
        """Go through instances, as the index knows them."""
        asked = {"study": study, "series": series, "accession": accession}
        return self._every("instances", nouns.Instance, asked, page)

    # what ran

    def jobs(
        self,
        *,
        state: str = "",
        pipeline: str = "",
        exam: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        page: int = 100,
    ) -> Iterator[nouns.Job]:
        """Go through jobs, the newest first."""
        asked = {"state": state, "pipeline": pipeline, "exam": exam}
        return self._every("jobs", nouns.Job, {**asked, "since": since, "until": until}, page)

    def job(self, job_id: str) -> nouns.JobWithSteps:
        """Return one job with its steps."""
        return self._one(f"jobs/{quote(job_id, safe='')}", nouns.JobWithSteps)

    def logs(self, job_id: str) -> list[nouns.StepLog]:
        """Return what each step of a job logged and printed."""
        answer = self._ask("GET", f"jobs/{quote(job_id, safe='')}/log")
        return _read(TypeAdapter(list[nouns.StepLog]), answer)

    def file(self, job_id: str, step: str, name: str) -> bytes:
        """Return a file that a step of a job made."""
        path = "/".join(quote(part, safe="") for part in name.split("/"))
        step = quote(step, safe="")
        return self._ask("GET", f"jobs/{quote(job_id, safe='')}/steps/{step}/files/{path}").content

    def retry_job(self, job_id: str, *, from_step: str = "", force: bool = False) -> nouns.Job:
        """Run a job again that has ended; return the one that is queued now."""
        body = {"from_step": from_step, "force": force}
        return self._do(f"jobs/{quote(job_id, safe='')}/retry", nouns.Job, body)

    def cancel_job(self, job_id: str) -> nouns.Job:
        """Stop a job."""
        return self._do(f"jobs/{quote(job_id, safe='')}/cancel", nouns.Job)

    def results(
        self,
        *,
        job: str = "",
        exam: str = "",
        accession: str = "",
        kind: str = "",
        current: bool = False,
        page: int = 100,
    ) -> Iterator[nouns.Result]:
        """Go through results, the newest first."""
        asked = {"job": job, "exam": exam, "accession": accession, "kind": kind}
        return self._every(
            "results", nouns.Result, {**asked, "current": "true" if current else ""}, page
        )

    # what clinicians see

    def cases(
        self, *, project: str = "", pipeline: str = "", accession: str = "", page: int = 100
    ) -> Iterator[nouns.Case]:
        """Go through the cases of one's projects, those enrolled last first."""
        asked = {"project": project, "pipeline": pipeline, "accession": accession}
        return self._every("cases", nouns.Case, asked, page)

    def case(self, case_id: str) -> nouns.CaseInFull:
        """Return one case with its results and numbers over time; a reader has seen it then."""
        return self._one(f"cases/{quote(case_id, safe='')}", nouns.CaseInFull)

    def readings(
        self, *, project: str = "", state: str = "", page: int = 100
    ) -> Iterator[nouns.Reading]:
        """Go through one's own readings."""
        return self._every("readings", nouns.Reading, {"project": project, "state": state}, page)

    def projects(self) -> Iterator[nouns.Project]:
        """Go through the projects that one sees cases of."""
        return self._every("projects", nouns.Project, {}, 100)

    def progress(self, project: str) -> nouns.Progress:
        """Return how far a project is."""
        return self._one(f"projects/{quote(project, safe='')}/progress", nouns.Progress)

    # what is sent, and how the site is

    def deliveries(
        self, *, destination: str = "", state: str = "", page: int = 100
    ) -> Iterator[nouns.Delivery]:
        """Go through deliveries, the newest first."""
        asked = {"destination": destination, "state": state}
        return self._every("deliveries", nouns.Delivery, asked, page)

    def retry_delivery(self, delivery_id: str) -> nouns.Delivery:
        """Try a delivery again."""
        return self._do(f"deliveries/{quote(delivery_id, safe='')}/retry", nouns.Delivery)

    def hold_delivery(self, delivery_id: str) -> nouns.Delivery:
        """Hold a delivery back."""
        return self._do(f"deliveries/{quote(delivery_id, safe='')}/hold", nouns.Delivery)

    def models(self) -> Iterator[nouns.Model]:
        """Go through the site's models."""
        return self._every("models", nouns.Model, {}, 100)

    def pipelines(self) -> Iterator[nouns.Pipeline]:
        """Go through the site's pipelines."""
        return self._every("pipelines", nouns.Pipeline, {}, 100)

    def try_routes(
        self, beginning: bytes, *, calling: str = "", called: str = "", peer: str = ""
    ) -> nouns.Tried:
        """Say where a DICOM file would go, by its first bytes."""
        answer = self._ask(
            "POST",
            "routes/test",
            {"calling": calling, "called": called, "peer": peer},
            content=beginning,
        )
        return _read(TypeAdapter(nouns.Tried), answer)

    def health(self) -> nouns.Health:
        """Return how the site is."""
        return self._one("health", nouns.Health)

    def me(self) -> nouns.Me:
        """Return who one is there, and what one may do."""
        return self._one("me", nouns.Me)

    def audit(
        self,
        *,
        actor: str = "",
        action: str = "",
        subject: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        page: int = 1000,
    ) -> Iterator[nouns.AuditEntry]:
        """Go through the audit, the newest first."""
        asked = {"actor": actor, "action": action, "subject": subject}
        return self._every(
            "audit", nouns.AuditEntry, {**asked, "since": since, "until": until}, page
        )

    def _one(self, path: str, noun: type[N]) -> N:
        return _read(TypeAdapter(noun), self._ask("GET", path))

    def _do(self, path: str, noun: type[N], body: Mapping[str, Any] | None = None) -> N:
        return _read(TypeAdapter(noun), self._ask("POST", path, json=body))

    def _every(self, path: str, noun: type[N], asked: Mapping[str, Any], page: int) -> Iterator[N]:
        rows = TypeAdapter(list[noun])  # type: ignore[valid-type]  # a type that is a value
        answer = self._ask("GET", path, {**asked, "limit": page})
        while True:
            yield from _read(rows, answer)
            found = _NEXT.search(answer.headers.get("link", ""))
            if found is None:
                return
            following = urljoin(str(answer.url), found[1])
            if not following.startswith(f"{self.address}/"):
                raise Refused(
                    f"{self.address} names its next page elsewhere; nothing is sent there"
                )
            answer = self._send(httpx.Request("GET", following, headers=self._http.headers))

    def _ask(
        self,
        method: str,
        path: str,
        asked: Mapping[str, Any] | None = None,
        *,
        json: Mapping[str, Any] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        given = {
            name: value.isoformat() if isinstance(value, datetime) else str(value)
            for name, value in (asked or {}).items()
            if value not in ("", None)
        }
        kind = {"Content-Type": "application/dicom"} if content is not None else {}
        request = self._http.build_request(
            method, f"/api/v1/{path}", params=given, json=json, content=content, headers=kind
        )
        return self._send(request)

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            answer = self._http.send(request)
        except httpx.TransportError as error:
            raise Unavailable(
                f"{self.address} cannot be reached ({type(error).__name__}); is the portal up, and "
                "is this its address?"
            ) from error
        if answer.is_success:
            return answer
        raise _error(self.address, answer)


def _error(address: str, answer: httpx.Response) -> UsageError | Refused | Unavailable:
    """Say what the portal did not do, and what to do."""
    said = _detail(answer)
    if answer.status_code == 401:
        return UsageError(f"{address} does not know this token; `overread user token` makes one")
    if answer.status_code == 403:
        return UsageError(f"{address} says no: {said}")
    if answer.status_code in (404, 422):
        return UsageError(said)
    if answer.status_code == 409:
        return Refused(said)
    if answer.status_code >= 500 or answer.status_code == 429:
        return Unavailable(f"{address} answered {answer.status_code}; try again later: {said}")
    return Refused(f"{address} answered {answer.status_code}: {said}")


def _detail(answer: httpx.Response) -> str:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return answer.text[:200].strip() or "it says nothing of why"
    if isinstance(detail, list):  # each has where, and what
        return "; ".join(
            f"{'.'.join(str(part) for part in one.get('loc', ())[1:])}: {one.get('msg', '')}"
            for one in detail
            if isinstance(one, dict)
        )
    return str(detail)


T = TypeVar("T")


def _read(kind: TypeAdapter[T], answer: httpx.Response) -> T:
    try:
        return kind.validate_json(answer.content)
    except ValidationError as error:
        raise Refused(
            f"{answer.url.host} answered what this version does not read ({error.error_count()} "
            "faults); is the portal of the same version?"
        ) from error


_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})")


def _with_times(told: dict[str, Any]) -> dict[str, Any]:
    """Read the times of a way, which is no noun: values of keys that end in ``at``."""

    def read(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: read(name, inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [read(key, inner) for inner in value]
        is_time = key.rpartition("_")[2] == "at" and isinstance(value, str)
        return datetime.fromisoformat(value) if is_time and _TIME.fullmatch(value) else value

    return {name: read(name, value) for name, value in told.items()}
