"""Every route, asked by everybody, about what is theirs and what is not.

`DOORS` says of each route what one has to be allowed to do, and to what. A route that is not in it
fails here: add a line.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.portal.app import build
from overread.store import enrolments, users
from overread.store.tables import Held, Instance, Job, Reading, Result, User
from overread.store.users import By, SignIn
from overread.validation.permissions import ROLES, Actor, Grant, may
from overread.validation.project import Project
from tests.portal.filled import Filled, Filler, Patient, make_site

NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Door:
    """What a route asks.

    Attributes
    ----------
    action : str
        What one has to be allowed to do; empty where anybody may ask.
    of : str
        To what: ``exam`` (its images, jobs, results, its page), ``case`` (of a project),
        ``project``, ``nobody`` (what is another user's, and for no role), or empty: whether
        anywhere at all.
    also : str
        Another action that is enough.
    turns_away : bool
        Whether what the walk asks is refused whoever asks: an EHR that the site does not name.
    misses : bool
        Whether the walk asks for something that is not there: 404 is an answer then.
    query : str
        That it is asked with.
    """

    action: str = ""
    of: str = ""
    misses: bool = False
    query: str = ""
    also: str = ""
    turns_away: bool = False


OPEN = Door()
WADO = Door("image.see", "exam")
CASE = Door("case.see", "exam")
EDIT = Door("user.change")
STORE = Door("image.edit", also="image.store")

DOORS: dict[str, Door] = {
    # what anybody may ask: it holds nothing of a patient
    "GET /sign-in": OPEN, "POST /sign-in": OPEN, "POST /sign-out": OPEN,
    "GET /sign-in/{provider}": OPEN, "GET /sign-in/{provider}/back": OPEN,
    "GET /healthz": OPEN, "GET /readyz": OPEN, "GET /metrics": OPEN, "GET /static/{name}": OPEN,
    "GET /app-config.js": OPEN, "GET /{path:path}": OPEN, "GET /api/v1/openapi.json": OPEN,
    "HEAD /api/v1/openapi.json": OPEN,
    "GET /launch": Door("case.see", turns_away=True),
    "GET /launch/back": Door("case.see", turns_away=True),
    # the own account
    "GET /account": Door("account.see"), "POST /account/tokens": Door("account.see"),
    "POST /account/sessions/end": Door("account.see"),
    "POST /account/sessions/{session_id}/end": Door("account.see"),
    "GET /api/v1/me": Door("account.see"),
    "GET /styleguide": Door("account.see"),
    # users
    "GET /users": Door("user.list"), "GET /users/{user_id}": Door("user.list"),
    "POST /users/{user_id}/grant": EDIT, "POST /users/{user_id}/revoke": EDIT,
    "POST /users/{user_id}/disable": EDIT, "POST /users/{user_id}/enable": EDIT,
    "POST /users/{user_id}/sessions/end": EDIT,
    "POST /users/{user_id}/sessions/{session_id}/end": EDIT,
    "GET /api/v1/users": Door("user.list"), "GET /api/v1/users/{user_id}": Door("user.list"),
    "POST /api/v1/users/{user_id}/grant": EDIT, "POST /api/v1/users/{user_id}/revoke": EDIT,
    "POST /api/v1/users/{user_id}/disable": EDIT, "POST /api/v1/users/{user_id}/enable": EDIT,
    # cases
    "GET /": Door("case.list"), "GET /cases": Door("case.list"), "GET /events": Door("case.list"),
    "GET /api/v1/cases": Door("case.list"),
    "GET /open": Door("case.see", query="accession=PH-W-OTHER"),
    "GET /cases/{case_id}": CASE, "GET /cases/{case_id}/state": CASE,
    "GET /cases/{case_id}/events": CASE, "GET /cases/{case_id}/measurements": CASE,
    "GET /cases/{case_id}/viewer": CASE, "GET /cases/{case_id}/compare": CASE,
    "GET /cases/{case_id}/turn/{result}": replace(CASE, misses=True),
    "GET /cases/{case_id}/turn/{result}/{number}": replace(CASE, misses=True),
    "GET /api/v1/cases/{case_id}": Door("case.see", "case"),
    "GET /api/v1/cases/{case_id}/readings": Door("case.see", "case"),
    "GET /api/v1/cases/{case_id}/compare": Door("case.see", "case", True, query="a=x&b=y"),
    # readings: of others, those who see them; to give, the reader's own
    "GET /cases/{case_id}/reading": replace(CASE, misses=True),
    "POST /cases/{case_id}/reading": Door("reading.give", "exam", misses=True),
    "POST /cases/{case_id}/reading/amend": Door("reading.give", "exam", misses=True),
    "POST /cases/{case_id}/reading/discard": Door("reading.give", "exam", misses=True),
    "PUT /cases/{case_id}/reading/draft": Door("reading.give", "exam", misses=True),
    "GET /api/v1/readings": Door("reading.give"),
    "GET /api/v1/readings/{reading_id}": Door("reading.see", "case"),
    "PUT /api/v1/readings/{reading_id}": Door("reading.give", "nobody"),
    "POST /api/v1/readings/{reading_id}/amend": Door("reading.give", "nobody"),
    "POST /api/v1/readings/{reading_id}/submit": Door("reading.give", "nobody"),
    "GET /api/v1/results": Door("result.list"),
    "GET /api/v1/results/{result_id}": Door("result.list", "exam"),
    "GET /api/v1/results/{result_id}/versions": Door("result.list", "exam"),
    # projects and forms
    "GET /projects": Door("project.see"), "GET /projects/{name}": Door("project.see", "project"),
    "GET /api/v1/projects": Door("case.list"),
    "GET /api/v1/projects/{name}": Door("case.list", "project"),
    "GET /api/v1/projects/{name}/progress": Door("project.see", "project"),
    "GET /forms/{name}/preview": Door("form.preview", misses=True),
    "POST /forms/{name}/preview": Door("form.preview", misses=True),
    "GET /api/v1/forms": Door("form.preview"),
    "GET /api/v1/forms/{name}": Door("case.see", misses=True),
    # the engineers' pages
    "GET /exams": Door("exam.list"), "GET /api/v1/exams": Door("exam.list"),
    "GET /api/v1/exams/{exam_id}": Door("exam.list", "exam"),
    "GET /api/v1/instances": Door("exam.list", query="study=1.2"),
    "GET /jobs": Door("job.list"), "GET /api/v1/jobs": Door("job.list"),
    "GET /jobs/{job_id}": Door("job.see", "exam"),
    "GET /jobs/{job_id}/running": Door("job.see", "exam"),
    "GET /api/v1/jobs/{job_id}": Door("job.see", "exam"),
    "GET /api/v1/jobs/{job_id}/log": Door("job.see", "exam"),
    "GET /api/v1/jobs/{job_id}/steps/{step}/files/{name:path}": Door("job.see", "exam", True),
    "POST /api/v1/jobs/{job_id}/cancel": Door("job.run", "exam"),
    "POST /api/v1/jobs/{job_id}/retry": Door("job.run", "exam"),
    "POST /jobs/{job_id}/retry": Door("job.run", "exam", True),
    "POST /jobs/{job_id}/cancel": Door("job.run", "exam", True),
    "GET /exams/{exam_id}": Door("exam.list", "exam"),
    "GET /jobs/{job_id}/steps/{step}": Door("job.see", "exam", True),
    "GET /jobs/{job_id}/steps/{step}/files/{name:path}": Door("job.see", "exam", True),
    "GET /jobs/{job_id}/steps/{step}/slices/{index}.png": Door("job.see", "exam", True),
    "POST /deliveries/{delivery_id}/retry": Door("delivery.run", misses=True),
    "POST /deliveries/{delivery_id}/hold": Door("delivery.run", misses=True),
    "GET /models/{name}/{version}": Door("model.list", misses=True),
    "GET /models/{name}/{version}/verified": Door("model.list", misses=True),
    "GET /pipelines/{name}": Door("pipeline.list", misses=True),
    "POST /routes/test": Door("route.see"),
    "GET /health/checks": Door("site.see"),
    "GET /why": Door("exam.why"),
    "GET /api/v1/why": Door("exam.why", query="accession=PH-W-OTHER", misses=True),
    "GET /aside": Door("aside.see"),
    "GET /deliveries": Door("delivery.list"), "GET /api/v1/deliveries": Door("delivery.list"),
    "GET /api/v1/deliveries/{delivery_id}": Door("delivery.list", misses=True),
    "POST /api/v1/deliveries/{delivery_id}/hold": Door("delivery.run", misses=True),
    "POST /api/v1/deliveries/{delivery_id}/retry": Door("delivery.run", misses=True),
    "GET /models": Door("model.list"), "GET /api/v1/models": Door("model.list"),
    "GET /api/v1/models/{name}/{version}": Door("model.list", misses=True),
    "POST /api/v1/models/{name}/{version}/verify": Door("model.list", misses=True),
    "GET /api/v1/pipelines": Door("pipeline.list"),
    "GET /api/v1/pipelines/{name}": Door("pipeline.list", misses=True),
    "GET /routes": Door("route.see"), "GET /api/v1/routes": Door("route.see"),
    "GET /api/v1/routes/replay": Door("route.see"), "POST /api/v1/routes/test": Door("route.see"),
    "GET /plugins": Door("pipeline.list"), "GET /health": Door("site.see"),
    "GET /api/v1/health": Door("site.see"),
    "GET /audit": Door("audit.see"), "GET /audit/export": Door("audit.see"),
    "GET /api/v1/audit": Door("audit.see"),
    # images
    "GET /viewer": Door("image.see"), "GET /viewer/{rest:path}": Door("image.see"),
    "GET /dicom-web/studies": Door("image.see"), "GET /dicom-web/series": Door("image.see"),
    "GET /dicom-web/instances": Door("image.see"),
    "POST /dicom-web/studies": STORE, "POST /dicom-web/studies/{study}": STORE,
    "GET /dicom-web/studies/{study}/series": Door("image.see"),
    "GET /dicom-web/studies/{study}/instances": Door("image.see"),
    "GET /dicom-web/studies/{study}/series/{series}/instances": Door("image.see"),
    "GET /cases/{case_id}/dicom-web/studies": WADO, "GET /cases/{case_id}/dicom-web/series": WADO,
    "GET /cases/{case_id}/dicom-web/instances": WADO,
    "GET /cases/{case_id}/dicom-web/studies/{study}/series": WADO,
    "GET /cases/{case_id}/dicom-web/studies/{study}/instances": WADO,
    "GET /cases/{case_id}/dicom-web/studies/{study}/series/{series}/instances": WADO,
    "POST /cases/{case_id}/dicom-web/studies": Door("image.edit", "exam"),
    "POST /cases/{case_id}/dicom-web/studies/{study}": Door("image.edit", "exam"),
}  # fmt: skip

_STUDY = "/dicom-web/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
for _path in (
    _STUDY, f"{_STUDY}/metadata", _SERIES, f"{_SERIES}/metadata", _INSTANCE,
    f"{_INSTANCE}/metadata", f"{_INSTANCE}/rendered", f"{_INSTANCE}/frames/{{numbers}}",
    f"{_INSTANCE}/frames/{{number}}/rendered", f"{_INSTANCE}/bulkdata/{{path:path}}",
):  # fmt: skip
    DOORS[f"GET {_path}"] = DOORS[f"GET /cases/{{case_id}}{_path}"] = WADO

RESOURCES = ("own", "other", "none")
"""What there is of everything: in one project, in another, in none."""


@dataclass
class World:
    """A site with two projects, and everybody in it."""

    filled: Filled
    app: FastAPI
    loop: asyncio.AbstractEventLoop
    resources: dict[str, dict[str, str]] = field(default_factory=dict)
    people: dict[str, tuple[Actor | None, SignIn | None]] = field(default_factory=dict)

    def ask(
        self, person: str, method: str, path: str, query: str = "", **headers: str
    ) -> tuple[int, str, str]:
        """Ask, and hang up when an answer that is a stream begins: status, location, body."""
        sign_in = self.people[person][1]
        kind = "application/json" if path.startswith("/api/") else "text/plain"
        sent = {"host": "testserver", "accept": "*/*", "content-type": kind, **headers}
        if sign_in is not None:
            sent["cookie"] = f"overread={sign_in.token}"
            sent.setdefault("x-csrf-token", sign_in.csrf)
        return self.loop.run_until_complete(_asked(self.app, method, path, query, sent))


async def _asked(
    app: FastAPI, method: str, path: str, query: str, headers: Mapping[str, str]
) -> tuple[int, str, str]:
    started, sent = asyncio.Event(), False
    status, location, body, is_stream = 0, "", b"", False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": b"{}" if method != "GET" else b""}
        await started.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, location, body, is_stream
        if message["type"] == "http.response.start":
            status = message["status"]
            told = {key.lower(): value for key, value in message["headers"]}
            location = told.get(b"location", b"").decode()
            is_stream = told.get(b"content-type", b"").startswith(b"text/event-stream")
        else:
            body += message.get("body", b"")
            if is_stream or not message.get("more_body"):
                started.set()

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "root_path": "", "client": ("10.0.0.1", 1), "server": ("testserver", 80),
        "headers": [
            (key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()
        ],
    }  # fmt: skip
    await asyncio.wait_for(app(scope, receive, send), 30)  # type: ignore[arg-type]  # ASGI's dicts
    return status, location, body.decode("utf-8", "replace")


def _project(name: str) -> Project:
    return Project.model_validate({"name": name, "pipelines": ["brain-tumour"]})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    site = make_site(tmp_path_factory.mktemp("walk"))
    site = replace(site, projects={name: _project(name) for name in ("own", "other")})
    filler = Filler(site)
    for name in RESOURCES:
        word = name.upper()
        filler.exam(
            name, patient=Patient(f"PHANTOM^{word}", f"PH-W-{word}"), accession=f"PH-W-{word}"
        )
    loop = asyncio.new_event_loop()
    world = World(filler.filled, build(site), loop)
    with filler.filled.database.write() as session:
        victim = _user(session, "victim", [Grant("reader")])
        token = users.open_bearer(session, NOW, "test", victim, timedelta(days=1)).token
        signed = users.find_session(session, NOW, token)
        assert signed is not None
        for name in RESOURCES:
            theirs = {"user_id": victim.id, "session_id": signed.session_id}
            world.resources[name] = theirs | _about(world, session, name, victim)
        world.people["nobody"] = (None, None)
        for name, grants in [
            ("without a role", []),
            *((f"{role} of the site", [Grant(role)]) for role in ROLES),
            *((f"{role} of own", [Grant(role, "own")]) for role in ROLES),
        ]:
            user = _user(session, re.sub(r"\W", ".", name), grants)
            account = users.account_of(user)
            opened = users.open_session(session, NOW, account, timedelta(days=1))
            actor = Actor(user.name, frozenset(grants), user.id)
            world.people[name] = (actor, opened)
    yield world
    loop.run_until_complete(_end_tasks())
    loop.close()


async def _end_tasks() -> None:
    pending = asyncio.all_tasks() - {asyncio.current_task()}
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


def _user(session: Session, name: str, grants: list[Grant]) -> User:
    user = User(name=name, password="", disabled=False, created_at=NOW)
    session.add(user)
    session.flush()
    session.add_all(Held(user_id=user.id, role=one.role, project=one.project) for one in grants)
    return user


def _about(world: World, session: Session, name: str, reader: User) -> dict[str, str]:
    """Make an exam a case of its project, read by somebody, and say what paths name."""
    filled = world.filled
    root = filled.cases[name]
    image = session.scalars(
        select(Instance).where(
            Instance.study_uid == filled.studies[name], Instance.standing == "kept"
        )
    ).first()
    assert image is not None
    result = session.scalars(select(Result).where(Result.exam_id == root)).first()
    job = session.scalars(select(Job).where(Job.exam_id == root)).one()
    assert result is not None
    about = {
        "case_id": root, "exam_id": root, "job_id": job.id, "result_id": result.id, "result": "seg",
        "study": image.study_uid, "series": image.series_uid, "instance": image.sop_instance_uid,
        "numbers": "1", "number": "1", "path": "7FE00010", "step": "mask", "name": name,
        "version": "1", "delivery_id": "0" * 32, "reading_id": "0" * 32, "provider": "none",
        "rest": "viewer", "index": "0",
    }  # fmt: skip
    if name != "none":
        case = enrolments.enrol(session, NOW, name, root, "brain-tumour")
        case.ready_at = NOW
        read = Reading(
            enrolment_id=case.id, project=name, reader_id=reader.id, state="submitted",
            ready_at=NOW, submitted_at=NOW, answers={"seen": f"ANSWER-{name}"},
        )  # fmt: skip
        session.add(read)
        session.flush()
        about |= {"case_id": case.id, "reading_id": read.id}
    return about


def routes(app: FastAPI) -> set[str]:
    """Every method and path of the application, through the routers that it was made of."""
    found: set[str] = set()

    def gather(some: Any, prefix: str) -> None:
        for route in some:
            inner = getattr(route, "original_router", None)
            if inner is not None:
                gather(inner.routes, prefix + route.include_context.prefix)
            elif hasattr(route, "path"):
                found.update(f"{method} {prefix}{route.path}" for method in route.methods)

    gather(app.routes, "")
    return found


def test_every_route_has_a_line(world: World) -> None:
    missing = sorted(routes(world.app) - set(DOORS))
    assert not missing, f"test_walk.DOORS has no line for {missing}: what may who ask there?"


def _allowed(actor: Actor | None, door: Door, name: str) -> bool:
    if not door.action:
        return True
    if not door.of:
        return any(may(actor, one).yes for one in (door.action, door.also) if one)
    projects = [] if name == "none" else [name]
    return door.of != "nobody" and may(actor, door.action, projects=projects).yes


def _is_refused(status: int, location: str) -> bool:
    return status in (401, 403) or (status == 303 and location.startswith("/sign-in"))


@pytest.mark.parametrize("route", sorted(DOORS))
def test_who_may_comes_in_and_nobody_else(world: World, route: str) -> None:
    if route not in routes(world.app):
        pytest.skip("a page that this portal does not have")
    door, (method, template) = DOORS[route], route.split(" ")
    if door == OPEN:
        return
    wrong = []
    for name in RESOURCES if door.of else ("other",):
        if door.of in ("case", "project") and name == "none":
            continue
        about = world.resources[name]
        path = re.sub(r"\{(\w+)(:path)?\}", lambda found: about[found[1]], template)  # noqa: B023
        for person, (actor, _) in world.people.items():
            status, location, body = world.ask(person, method, path, door.query)
            # A body that is wrong may be told of before anything is looked for.
            says_nothing = status == 422 or (door.misses and status == 404)
            says_nothing |= door.turns_away and status == 403
            refused = _is_refused(status, location) or (bool(door.of) and status == 404)
            if _allowed(actor, door, name) == refused and not says_nothing:
                wrong.append(f"{person} on {name}: {status}")
            if method == "GET":
                wrong += [
                    f"{person} is told of {told}: {status}"
                    for told in RESOURCES
                    if not may(actor, "case.see", projects=[] if told == "none" else [told]).yes
                    and _tells(world, told, path, door.query, location + body)
                ]
    assert not wrong


def _tells(world: World, name: str, path: str, query: str, body: str) -> bool:
    """Say whether an answer holds anything of an exam that was not in the question."""
    about, word = world.resources[name], name.upper()
    marks = {f"PHANTOM^{word}", f"PHANTOM {word}", f"PH-W-{word}", f"ANSWER-{name}"}
    marks |= {about[key] for key in ("case_id", "job_id", "study", "series", "result_id")}
    return any(mark in body and mark not in f"{path}?{query}" for mark in marks)


def _unsafe() -> list[str]:
    return sorted(
        one for one in DOORS if not one.startswith(("GET", "HEAD")) and DOORS[one] != OPEN
    )


@pytest.mark.parametrize("route", _unsafe())
def test_what_a_cookie_changes_needs_the_token(world: World, route: str) -> None:
    """Of DICOMweb the token is its media type, which no form of another site can send."""
    if route not in routes(world.app):
        pytest.skip("a page that this portal does not have")
    method, template = route.split(" ")
    about = world.resources["own"]
    path = re.sub(r"\{(\w+)(:path)?\}", lambda found: about[found[1]], template)
    for headers in (
        {"x-csrf-token": ""},
        {"x-csrf-token": "wrong"},
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ):
        status = world.ask("administrator of the site", method, path, **headers)[0]
        if "/dicom-web/" in path and "x-csrf-token" in headers:
            assert status == 415, headers
        else:
            assert status == 403, headers


def test_a_bearer_token_needs_no_other(world: World) -> None:
    with world.filled.database.write() as session:
        user = _user(session, "script", [Grant("administrator")])
        opened = users.open_bearer(session, NOW, By("test"), user, timedelta(days=1))
        user_id = user.id
    assert opened.csrf == ""
    bearer = {"authorization": f"Bearer {opened.token}"}
    for path in (f"/api/v1/users/{user_id}/enable", f"/users/{user_id}/enable"):
        assert world.ask("nobody", "POST", path, **bearer)[0] in (200, 204, 303)


def test_a_token_does_what_it_was_made_for_and_no_more(world: World) -> None:
    with world.filled.database.write() as session:
        user = _user(session, "narrow", [Grant("administrator")])
        scopes = frozenset({"job.*", "account.see"})
        opened = users.open_bearer(
            session, NOW, By("test"), user, timedelta(days=1), label="a monitor", scopes=scopes
        )
    bearer = {"authorization": f"Bearer {opened.token}"}
    assert world.ask("nobody", "GET", "/api/v1/jobs", **bearer)[0] == 200
    for path in ("/api/v1/users", "/api/v1/cases", "/dicom-web/studies"):
        assert world.ask("nobody", "GET", path, **bearer)[0] == 403
    form = urlencode({"label": "wider", "scope": "user.*"})
    status, _, body = world.ask("nobody", "POST", "/account/tokens", form, **bearer)
    assert status == 403, "a token makes no wider one"
    assert "sign in to do that" in body


def test_the_addresses_of_the_walk_are_paths() -> None:
    assert all(urlsplit(route.split(" ")[1]).path == route.split(" ")[1] for route in DOORS)
