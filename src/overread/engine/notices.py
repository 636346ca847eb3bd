"""Readers are told that a case is ready, by mail or webhook, without a word of the patient.

What is to be told is written down in the transaction that makes it so, and sent after it; what
fails is tried again, later each time. A receiver may be told twice, when this house dies between
the sending and the record of it: the same case has the same id each time.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import smtplib
import ssl
import traceback
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from threading import Event

import httpx
import structlog
from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from overread.settings import Smtp, Webhook
from overread.site import SiteFolder
from overread.store.database import Database
from overread.store.tables import Enrolment, Notice, Reading, User

_log = structlog.get_logger(__name__)

_LOOK_EVERY = 1.0
_TIMEOUT = 5.0
_CLAIM = timedelta(minutes=2)
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=15), timedelta(hours=1)
_ATTEMPTS = 12
SIGNATURE = "X-Overread-Signature"
"""Header of a webhook's request: ``sha256=`` and the HMAC of its body, in hexadecimal."""


def add(
    session: Session,
    site: SiteFolder,
    case: Enrolment,
    reader_ids: Collection[str],
    now: datetime,
) -> None:
    """Write down who is to be told of a case that is ready, in the transaction that makes it so."""
    project = site.projects[case.project]
    wanted = project.notify.ready or (case.urgent and project.notify.urgent)
    channels = site.settings.notify
    told: list[tuple[str, str]] = []
    if wanted and channels.webhook is not None:
        told.append(("webhook", ""))
    if wanted and channels.smtp is not None:
        users = session.scalars(
            select(User.id).where(User.id.in_(sorted(reader_ids)), User.email != "")
        )
        told += [("mail", user_id) for user_id in users]
    for channel, user_id in told:
        known = session.scalar(
            select(
                exists().where(
                    Notice.enrolment_id == case.id,
                    Notice.channel == channel,
                    Notice.user_id == user_id,
                    Notice.urgent == case.urgent,
                )
            )
        )
        if not known:
            session.add(
                Notice(
                    enrolment_id=case.id,
                    channel=channel,
                    user_id=user_id,
                    urgent=case.urgent,
                    state="waiting",
                    created_at=now,
                    next_at=now,
                )
            )


class Notices:
    """Sends what was written down; every worker may, as each notice is claimed by one."""

    def __init__(self, site: SiteFolder, database: Database) -> None:
        self.site, self.database = site, database

    def serve(self, stop: Event) -> None:
        """Send what is due until ``stop`` is set."""
        while not stop.wait(_LOOK_EVERY):
            try:
                while not stop.is_set() and self.send_one(datetime.now(UTC)):
                    pass
            except Exception:  # noqa: BLE001 - the thread's edge: recorded, and it goes on
                _log.error("notices could not be sent", error=traceback.format_exc())

    def send_one(self, now: datetime) -> bool:
        """Send one notice that is due, and say whether there was one."""
        due = (Notice.state == "waiting", Notice.next_at <= now)
        first = select(Notice.id).where(*due).order_by(Notice.next_at, Notice.id).limit(1)
        with self.database.read() as session:
            one = session.scalar(first)
        if one is None:
            return False
        with self.database.write() as session:
            claimed = session.scalar(
                update(Notice)
                .where(Notice.id == one, *due)
                .values(next_at=now + _CLAIM)  # whoever comes after a dead worker waits so long
                .returning(Notice.id)
            )
        if claimed is not None:
            self._send(claimed, now)
        return True

    def _send(self, notice_id: str, now: datetime) -> None:
        with self.database.read() as session:
            notice = session.get_one(Notice, notice_id)
            case = session.get_one(Enrolment, notice.enrolment_id)
            user = session.get(User, notice.user_id) if notice.user_id else None
            is_done = notice.user_id != "" and not _is_to_do(session, case.id, notice.user_id)
        error = ""
        if not is_done:
            try:
                self._tell(notice, case, user)
            except (OSError, smtplib.SMTPException, httpx.HTTPError, ValueError) as problem:
                error = (_words(problem) or type(problem).__name__)[:300]
        with self.database.write() as session:
            row = session.get_one(Notice, notice_id)
            row.attempts += 1
            row.error = error
            if not error:
                row.state = "sent"
            elif row.attempts >= _ATTEMPTS:
                row.state = "failed"
                _log.error("a notice was given up", notice=row.id, channel=row.channel, error=error)
            else:
                pause = min(_FIRST_PAUSE * 2 ** (row.attempts - 1), _LONGEST_PAUSE)
                row.next_at = now + pause

    def _tell(self, notice: Notice, case: Enrolment, user: User | None) -> None:
        settings = self.site.settings
        project = self.site.projects.get(case.project)
        title = project.shown if project else case.project
        portal = settings.portal
        address = portal.address.rstrip("/") or f"http://{portal.host}:{portal.port}"
        link = f"{address}/cases/{case.id}"
        if notice.channel == "webhook":
            if settings.notify.webhook is None:
                raise ValueError("the site names no webhook any more")
            post(settings.notify.webhook, notice, case, link)
        elif settings.notify.smtp is None or user is None:
            raise ValueError("the site names no mail server any more, or the reader is gone")
        else:
            words = "An urgent case" if notice.urgent else "A case"
            mail(settings.notify.smtp, user.email, f"{words} in {title} is ready", link)


def _is_to_do(session: Session, enrolment_id: str, reader_id: str) -> bool:
    query = exists().where(
        Reading.enrolment_id == enrolment_id,
        Reading.reader_id == reader_id,
        Reading.state.in_(("open", "draft")),
    )
    return bool(session.scalar(select(query)))


def _words(problem: Exception) -> str:
    """Say what went wrong: never in the server's own words, which may repeat an address."""
    if isinstance(problem, smtplib.SMTPResponseException):
        return f"the mail server answered {problem.smtp_code}"
    if isinstance(problem, smtplib.SMTPRecipientsRefused):
        return "the mail server refuses the reader's address"
    if isinstance(problem, httpx.HTTPStatusError):
        return f"the webhook answered {problem.response.status_code}"
    return str(problem)


def mail(by: Smtp, to: str, subject: str, link: str) -> None:
    """Send one mail: a sentence and a link.

    Raises
    ------
    OSError, smtplib.SMTPException
        The server was not reached, or did not take it.
    """
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = by.from_, to, subject
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    message.set_content(f"{subject}:\n\n{link}\n")
    context = ssl.create_default_context()
    if by.tls == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(by.host, by.port, timeout=_TIMEOUT, context=context)
    else:
        server = smtplib.SMTP(by.host, by.port, timeout=_TIMEOUT)
    with server:
        if by.tls == "starttls":
            server.starttls(context=context)
        if by.user:
            server.login(by.user, by.password.get_secret_value() if by.password else "")
        server.send_message(message)


def post(to: Webhook, notice: Notice, case: Enrolment, link: str) -> None:
    """Send one signed request.

    Raises
    ------
    httpx.HTTPError
        It was not reached, or answered with anything but success.
    """
    said = {
        "event": "case.ready",
        "id": notice.id,
        "case": case.id,
        "project": case.project,
        "urgent": notice.urgent,
        "link": link,
    }
    body = json.dumps(said, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json", SIGNATURE: signature(to, body)}
    answer = httpx.post(to.url, content=body, headers=headers, timeout=_TIMEOUT)
    answer.raise_for_status()


def signature(of: Webhook, body: bytes) -> str:
    """Return what proves that a body comes from this house."""
    key = of.secret.get_secret_value().encode()
    return f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}"
