"""Server-sent events of a portal that really listens, read as a browser reads them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from overread.portal import events
from overread.store import enrolments, users
from overread.store.tables import Enrolment, Exam, Job, Reading, Result, StepRun
from overread.store.users import By
from overread.validation.permissions import Grant
from tests.portal.filled import AT, Filled, Filler, Patient
from tests.portal.test_browser import listening, port
from tests.portal.test_worklist import PEOPLE, site_of

WITHIN = 8.0


class Stream:
    """A stream of events, read in a thread."""

    def __init__(self, origin: str, token: str, path: str) -> None:
        self.heard: queue.Queue[str] = queue.Queue()
        self.status: queue.Queue[int] = queue.Queue()
        self._client = httpx.Client(timeout=30)
        self._path, self._token = origin + path, token
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "text/event-stream"}
        try:
            with self._client.stream("GET", self._path, headers=headers) as answer:
                self.status.put(answer.status_code)
                for line in answer.iter_lines():
                    if line.startswith("event: "):
                        self.heard.put(line.removeprefix("event: "))
                    assert not line.startswith("data: "), "an event says nothing but its name"
        except (httpx.HTTPError, RuntimeError):
            pass  # the test closes the client
        self.heard.put("closed")

    def next(self) -> str:
        """The next event; ``nothing`` where none comes."""
        try:
            return self.heard.get(timeout=WITHIN)
        except queue.Empty:
            return "nothing"

    def quiet(self, seconds: float = 1.2) -> bool:
        """Whether nothing comes for a while."""
        try:
            self.heard.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def close(self) -> None:
        self._client.close()


class Portals:
    """Two portal processes' worth of servers on one database, and tokens."""

    def __init__(self, filled: Filled, origins: list[str]) -> None:
        self.filled, self.origins = filled, origins
        self.streams: list[Stream] = []

    def token(self, name: str) -> str:
        with self.filled.database.write() as session:
            user = users.find_user(session, name)
            opened = users.open_bearer(session, datetime.now(UTC), By("test"), user, timedelta(1))
        return opened.token

    def listen(self, name: str, path: str, *, at: int = 0, token: str = "") -> Stream:
        stream = Stream(self.origins[at], token or self.token(name), path)
        self.streams.append(stream)
        return stream


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    site = site_of(tmp_path_factory.mktemp("events"))
    filler = Filler(site)
    filler.exam("one", accession="PH-1")
    filler.exam("running", state="running", accession="PH-2", patient=Patient("P^TWO", "PH-2"))
    with filler.filled.database.write() as session:
        for name, grant in PEOPLE.items():
            users.add_user(
                session, AT, By("test"), name=name, secret="", role=grant.role,
                project=grant.project,
            )  # fmt: skip
        for name in ("one", "running"):
            exam = session.get_one(Exam, filler.filled.cases[name])
            case = enrolments.enrol(session, AT, "glioma", exam.root_id, exam.pipeline)
            enrolments.make_ready(session, AT, case, urgent=False)
            rosa = users.find_user(session, "rosa")
            enrolments.assign(session, AT, [case], [rosa.id], None)
            filler.filled.cases[name] = case.id
    return filler.filled


@pytest.fixture
def portals(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> Iterator[Portals]:
    monkeypatch.setattr(events, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(events, "_BEAT_EVERY", 0.5)
    with _serving(filled) as first, _serving(filled) as second:
        made = Portals(filled, [first, second])
        yield made
        for stream in made.streams:
            stream.close()


@contextmanager
def _serving(filled: Filled) -> Iterator[str]:
    with listening(site_of(filled.site.root, port=port())) as origin:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                if httpx.get(f"{origin}/healthz").status_code == 200:
                    break
            except httpx.ConnectError:
                time.sleep(0.05)  # it is not up yet
        yield origin


def changed(portals: Portals, what: Any) -> None:
    with portals.filled.database.write() as session:
        session.execute(what)


def root(portals: Portals, name: str) -> str:
    with portals.filled.database.read() as session:
        return session.get_one(Enrolment, portals.filled.cases[name]).root_id


def test_a_list_is_told_at_every_portal(portals: Portals) -> None:
    rosa = [portals.listen("rosa", "/events", at=at) for at in (0, 1)]
    assert [one.next() for one in rosa] == ["hello", "hello"]
    changed(portals, update(Reading).where(Reading.state == "open").values(state="draft"))
    assert [one.next() for one in rosa] == ["list", "list"]
    changed(portals, update(StepRun).where(StepRun.state == "running").values(name="other"))
    assert [one.next() for one in rosa] == ["list", "list"]
    assert all(one.quiet() for one in rosa)


def test_a_case_is_told_how_far_it_is_and_of_its_results(portals: Portals) -> None:
    case = portals.filled.cases["running"]
    stream = portals.listen("rosa", f"/cases/{case}/events")
    other = portals.listen("rosa", f"/cases/{portals.filled.cases['one']}/events", at=1)
    assert (stream.next(), other.next()) == ("hello", "hello")
    job = portals.filled.jobs["running"]
    changed(portals, update(Job).where(Job.id == job).values(state="done"))
    assert stream.next() == "state"
    assert other.quiet()
    with portals.filled.database.write() as session:
        exam_id = root(portals, "running")
        session.add(
            Result(
                job_id=job, exam_id=exam_id, name="edited", kind="measurements", data={"items": []},
                digest="", model="", model_version="", model_digest="", pipeline="brain-tumour",
                pipeline_version="1", sources=[], version=1, author="rosa", created_at=AT,
            )
        )  # fmt: skip
    assert stream.next() == "results"
    assert other.quiet()


def test_who_may_not_see_it_hears_nothing(portals: Portals) -> None:
    case = portals.filled.cases["one"]
    for name, path, status in (
        ("olaf", f"/cases/{case}/events", 404),
        ("rosa", "/cases/nowhere/events", 404),
        ("", "/events", 401),
        ("", f"/cases/{case}/events", 401),
    ):
        token = portals.token(name) if name else "nobody's"
        answer = httpx.get(portals.origins[0] + path, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code in (status, 303), (name, path)
        if name:
            assert answer.status_code == status


def test_a_stream_ends_with_its_sign_in(portals: Portals) -> None:
    stream = portals.listen("ines", "/events")
    assert stream.next() == "hello"
    with portals.filled.database.write() as session:
        users.disable_user(session, AT, By("test"), "ines")
    assert stream.next() == "end"
    assert stream.next() == "closed"


def test_a_stream_ends_with_the_role(portals: Portals) -> None:
    stream = portals.listen("cora", f"/cases/{portals.filled.cases['one']}/events")
    assert stream.next() == "hello"
    with portals.filled.database.write() as session:
        cora = users.find_user(session, "cora")
        users.revoke(session, AT, By("test"), cora, PEOPLE["cora"])
        users.grant(session, AT, By("test"), cora, Grant("coordinator", "other"))
    assert stream.next() == "end"


def test_a_sign_in_has_so_many_streams_and_no_more(
    portals: Portals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_MOST", 2)
    token = portals.token("egon")
    first, second = (portals.listen("egon", "/events", token=token) for _ in range(2))
    assert (first.next(), second.next()) == ("hello", "hello")
    third = portals.listen("egon", "/events", token=token)
    assert third.status.get(timeout=WITHIN) == 429
    assert portals.listen("egon", "/events").next() == "hello"  # another sign-in
    first.close()
    until = time.monotonic() + WITHIN
    while time.monotonic() < until:
        again = portals.listen("egon", "/events", token=token)
        if again.status.get(timeout=WITHIN) == 200:
            break
    assert again.next() == "hello"
    assert second.quiet(0.1)


def test_a_listener_keeps_no_sign_in_awake(portals: Portals) -> None:
    token = portals.token("egon")
    with portals.filled.database.read() as session:
        before = users.find_session(session, datetime.now(UTC), token)
    stream = portals.listen("egon", "/events", token=token)
    assert stream.next() == "hello"
    assert stream.quiet(1.5)
    with portals.filled.database.read() as session:
        after = users.find_session(session, datetime.now(UTC), token)
    assert before is not None
    assert after is not None
    assert after.seen_at == before.seen_at


def test_streams_end_with_the_server_and_do_not_hold_it(filled: Filled) -> None:
    with _serving(filled) as origin:
        made = Portals(filled, [origin])
        stream = made.listen("egon", "/events")
        assert stream.next() == "hello"
        begun = time.monotonic()
    assert time.monotonic() - begun < 4
    assert stream.next() == "closed"
