"""Notices go out by a real SMTP server and a real HTTP server on loopback, and are tried again."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email import message_from_string
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import select, update

from overread.engine.notices import SIGNATURE, Notices, signature
from overread.settings import Settings, Smtp, Webhook
from overread.store import users
from overread.store.tables import Notice, Reading
from tests.engine.test_enrolment import GLIOMA, House, with_projects
from tests.portal.filled import AT


class SmtpDouble(socketserver.ThreadingTCPServer):
    """A double of a mail server: speaks SMTP (RFC 5321) enough to take mail, and keeps it."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _SmtpTalk)
        self.mails: list[tuple[str, str]] = []
        self.refuse = False
        self.port = int(self.server_address[1])


class _SmtpTalk(socketserver.StreamRequestHandler):
    server: SmtpDouble

    def handle(self) -> None:
        to = ""
        self.say("220 double")
        while line := self.rfile.readline().decode().strip():
            verb = line[:4].upper()
            if verb == "RCPT":
                to = line.partition("<")[2].partition(">")[0]
                if self.server.refuse:
                    self.say(f"550 no such mailbox {to}")
                    continue
            if verb == "DATA":
                self.say("354 go on")
                body = ""
                while (part := self.rfile.readline().decode()) != ".\r\n":
                    body += part
                self.server.mails.append((to, body))
            self.say("221 bye" if verb == "QUIT" else "250 ok")

    def say(self, words: str) -> None:
        self.wfile.write(f"{words}\r\n".encode())


class Hook(HTTPServer):
    """A web server of the site's that is told; answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _HookTalk)
        self.told: list[tuple[dict[str, Any], str, bytes]] = []
        self.status = 204
        self.port = int(self.server_address[1])


class _HookTalk(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append((json.loads(body), self.headers[SIGNATURE], body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running(server: SmtpDouble | Hook) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def smtp() -> Iterator[SmtpDouble]:
    server = SmtpDouble()
    with running(server):
        yield server


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    with running(server):
        yield server


@pytest.fixture
def house(tmp_path: Path, smtp: SmtpDouble, hook: Hook) -> House:
    """Rosa has an address, and a large tumour is urgent."""
    house = House(tmp_path)
    told: dict[str, Any] = {
        "smtp": {"host": "127.0.0.1", "port": smtp.port, "from": "o@here.example", "tls": "none"},
        "webhook": {"url": f"http://127.0.0.1:{hook.port}/told", "secret": "of the site"},
    }
    portal = house.site.settings.portal.model_copy(update={"address": "https://overread.example"})
    house.site = with_projects(house.site, GLIOMA, **told)
    settings = house.site.settings.model_copy(update={"portal": portal})
    object.__setattr__(house.site, "settings", settings)
    with house.database.write() as session:
        users.find_user(session, "rosa").email = "rosa@here.example"
    return house


def send_all(house: House, minutes: float = 180) -> int:
    notices, sent = Notices(house.site, house.database), 0
    while notices.send_one(AT + timedelta(minutes=minutes)):
        sent += 1
    return sent


def told(house: House) -> list[Notice]:
    with house.database.read() as session:
        return list(session.scalars(select(Notice).order_by(Notice.channel, Notice.urgent)))


def test_a_reader_is_told_without_a_word_of_the_patient(
    house: House, smtp: SmtpDouble, hook: Hook
) -> None:
    house.keep("large")
    house.keep("small")
    assert send_all(house) == 4
    assert send_all(house) == 0
    cases = house.cases()
    assert [to for to, _ in smtp.mails] == ["rosa@here.example"] * 2
    subjects, bodies = [], []
    for _, mail in smtp.mails:
        message = message_from_string(mail)
        subjects.append(message["Subject"])
        payload = message.get_payload(decode=True)
        assert isinstance(payload, bytes)
        bodies.append(" ".join(payload.decode().split()))
        assert message["From"] == "o@here.example"
        assert message["Auto-Submitted"] == "auto-generated"
    assert sorted(subjects) == [
        "A case in Glioma progression is ready",
        "An urgent case in Glioma progression is ready",
    ]
    assert sorted(bodies) == [
        f"A case in Glioma progression is ready: https://overread.example/cases/{cases['A-1'].id}",
        "An urgent case in Glioma progression is ready: "
        f"https://overread.example/cases/{cases['A-2'].id}",
    ]
    assert {one[0]["case"] for one in hook.told} == {case.id for case in cases.values()}
    key = house.site.settings.notify.webhook
    assert key is not None
    for said, signed, body in hook.told:
        assert set(said) == {"event", "id", "case", "project", "urgent", "link"}
        assert signed == signature(key, body)
    everything = str(smtp.mails) + str(hook.told)
    for word in ("PHANTOM", "PH-0006", "A-1", "A-2", "Enhancing", "1971"):
        assert word not in everything


def test_the_signature_is_the_hmac_of_the_body() -> None:
    hook = Webhook.model_validate({"url": "https://x.example/", "secret": "key"})
    told = signature(hook, b"The quick brown fox jumps over the lazy dog")
    # The value is RFC-style common knowledge for HMAC-SHA256 with this key and text.
    assert told == "sha256=f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"


def test_what_fails_is_tried_again_later_each_time(house: House, hook: Hook) -> None:
    hook.status = 503
    house.keep("large")
    send_all(house)
    hooked = next(one for one in told(house) if one.channel == "webhook")
    assert (hooked.state, hooked.attempts) == ("waiting", 1)
    assert hooked.error == "the webhook answered 503"
    first = hooked.next_at - (AT + timedelta(minutes=180))
    assert send_all(house) == 0
    assert send_all(house, 182) == 1
    second = told(house)[-1].next_at - (AT + timedelta(minutes=182))
    assert second == 2 * first
    hook.status = 200
    assert send_all(house, 190) == 1
    hooked = told(house)[-1]
    assert (hooked.state, hooked.error, hooked.attempts) == ("sent", "", 3)
    assert len({said["id"] for said, _, _ in hook.told}) == 1


def test_it_gives_up_and_says_why_without_an_address(house: House, smtp: SmtpDouble) -> None:
    smtp.refuse = True
    house.keep("large")
    for hours in range(4, 40):
        send_all(house, hours * 60)
    mail = told(house)[0]
    assert (mail.state, mail.attempts) == ("failed", 12)
    assert mail.error == "the mail server refuses the reader's address"


def test_a_server_that_is_away_is_told_later(house: House) -> None:
    gone = {"host": "127.0.0.1", "port": 9, "from": "o@here.example", "tls": "none"}
    house.site = with_projects(house.site, GLIOMA, smtp=gone)
    house.keep("large")
    send_all(house)
    assert told(house)[0].state == "waiting"
    assert "refused" in told(house)[0].error


def test_who_has_read_it_meanwhile_is_not_told(house: House, smtp: SmtpDouble) -> None:
    house.keep("large")
    with house.database.write() as session:
        session.execute(update(Reading).values(state="submitted"))
    send_all(house)
    assert smtp.mails == []
    assert {one.state for one in told(house)} == {"sent"}


def test_two_workers_tell_once(house: House, smtp: SmtpDouble, hook: Hook) -> None:
    house.keep("large")
    threads = [threading.Thread(target=send_all, args=(house,)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(smtp.mails) == 1
    assert len(hook.told) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"smtp": {"host": "mail.example", "from": "o@here.example", "tls": "none"}},
        {"smtp": {"host": "mail.example", "from": "o@here.example\nBcc: x@y.example"}},
        {"webhook": {"url": "http://elsewhere.example/", "secret": "s"}},
        {"webhook": {"url": "https://user:pw@elsewhere.example/", "secret": "s"}},
        {"webhook": {"url": "https://elsewhere.example/"}},
    ],
)
def test_a_channel_in_the_clear_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"site": {"name": "x"}, "notify": wrong})
    assert Smtp.model_validate({"host": "::1", "from": "o@here.example", "tls": "none"})
