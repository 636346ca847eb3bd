"""The audit: what was done, by whom, to what. Only ever appended to.

It is told, it decides nothing. It holds opaque ids, never patient data, so that what it tells of
can be erased. What chains its rows is `overread.store.seal`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, insert, select
from sqlalchemy import func as sql
from sqlalchemy.orm import Session

from overread.store.database import one_at_a_time
from overread.store.tables import Audit, Instance, SeriesGiven, SiteFile
from overread.store.tables import Session as SignIn

_PAGE = 1000
"""Rows that are read at once where all are wanted."""


@dataclass(frozen=True)
class Entry:
    """One row of the audit.

    Attributes
    ----------
    id : int
        In the order in which acts began to be told; not always that of their commits.
    at, actor, action, subject, detail, address
        As of `record`.
    sign_in : str
        Id of the sign-in or token; empty where there was none.
    """

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    address: str = ""
    sign_in: str = ""


@dataclass(frozen=True)
class Wanted:
    """Which rows are looked for; what is empty asks for nothing.

    Attributes
    ----------
    actor, action : str
        Exactly that person, that action.
    subject : str
        A subject, or a kind of them: ``case`` finds every ``case …``.
    since, until : datetime, optional
        From then, and before then.
    """

    actor: str = ""
    action: str = ""
    subject: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def narrow(self, query: Select[Any]) -> Select[Any]:
        """Add the conditions."""
        if self.actor:
            query = query.where(Audit.actor == self.actor)
        if self.action:
            query = query.where(Audit.action == self.action)
        if " " in self.subject:
            query = query.where(Audit.subject == self.subject)
        elif self.subject:
            kind = Audit.subject.startswith(f"{self.subject} ", autoescape=True)
            query = query.where((Audit.subject == self.subject) | kind)
        if self.since:
            query = query.where(Audit.at >= self.since)
        if self.until:
            query = query.where(Audit.at < self.until)
        return query


def record(  # noqa: PLR0917 - a sentence: at this time, this one did this to that
    session: Session,
    at: datetime,
    actor: str,
    action: str,
    subject: str,
    detail: Mapping[str, Any] | None = None,
    *,
    address: str = "",
    sign_in: str = "",
) -> None:
    """Append one row, in the transaction of what it tells of.

    Parameters
    ----------
    session : Session
        A writing session.
    at : datetime
        Aware.
    actor : str
        A user's name, an AE title or ``overread``.
    action : str
        A verb, such as ``open case`` or ``retry job``; one of
        `overread.store.audit_message.EVENTS`.
    subject : str
        Kind and opaque id, such as ``job 3f…``.
    detail : mapping, optional
        Plain JSON without patient data: no name, PatientID, accession number or DICOM UID.
    address : str
        Network address that it came from.
    sign_in : str
        Id of the sign-in or token that was used.
    """
    session.add(
        Audit(
            at=at,
            actor=actor,
            action=action,
            subject=subject,
            detail=dict(detail or {}),
            address=address,
            session=sign_in,
        )
    )


def entry(row: Audit) -> Entry:
    """Return what a row says."""
    return Entry(
        row.id, row.at, row.actor, row.action, row.subject, row.detail, row.address, row.session
    )


def newest(session: Session, wanted: Wanted, *, before: int = 0, limit: int = 100) -> list[Entry]:
    """List rows, the newest first.

    Parameters
    ----------
    before : int
        Only those with lower ids: the last one of the page before. 0 for the first page.
    """
    query = wanted.narrow(select(Audit)).order_by(Audit.id.desc()).limit(limit)
    if before:
        query = query.where(Audit.id < before)
    return [entry(row) for row in session.scalars(query)]


def all_of(session: Session, wanted: Wanted, *, until: int) -> Iterator[Entry]:
    """Go through rows up to an id, the oldest first, some at a time."""
    after = 0
    while True:
        query = wanted.narrow(select(Audit)).where(Audit.id > after, Audit.id <= until)
        rows = session.scalars(query.order_by(Audit.id).limit(_PAGE)).all()
        yield from map(entry, rows)
        if len(rows) < _PAGE:
            return
        after = rows[-1].id
        session.expunge_all()


def first_given(session: Session, sign_in: str, series_uid: str) -> int | None:
    """Note that a sign-in was given images of a series.

    Parameters
    ----------
    session : Session
        A writing session.

    Returns
    -------
    int or None
        Where it is the first time, what names the series in the audit: its first instance's id.
    """
    one_at_a_time(session, f"series for {sign_in}")
    if was_given(session, sign_in, series_uid):
        return None
    session.execute(insert(SeriesGiven).values(sign_in=sign_in, series_uid=series_uid))
    return session.scalar(select(sql.min(Instance.id)).where(Instance.series_uid == series_uid))


def was_given(session: Session, sign_in: str, series_uid: str) -> bool:
    """Say whether a sign-in was given images of a series before."""
    return session.get(SeriesGiven, (sign_in, series_uid)) is not None


def forget_given(session: Session) -> None:
    """Forget what was given to sign-ins that are over."""
    session.execute(delete(SeriesGiven).where(SeriesGiven.sign_in.not_in(select(SignIn.id))))


def known_files(session: Session) -> dict[str, str]:
    """Return the site's files as they were when a process last loaded it: name to SHA-256."""
    return {row.name: row.digest for row in session.scalars(select(SiteFile))}


def note_files(session: Session, at: datetime, files: Mapping[str, str], *, by: str) -> bool:
    """Record that the site's files are others than when a process last loaded the site.

    Parameters
    ----------
    session : Session
        A writing session.
    files : mapping of str to str
        Name, relative to the site folder, to SHA-256.
    by : str
        What loaded the site: ``overread``, or a person at the command line.

    Returns
    -------
    bool
        Whether they are.
    """
    one_at_a_time(session, "site files")
    known = {row.name: row for row in session.scalars(select(SiteFile))}
    before = {name: row.digest for name, row in known.items()}
    changed = sorted(
        name for name in before.keys() | files.keys() if before.get(name) != files.get(name)
    )
    if not changed:
        return False
    for name in changed:
        if name not in files:
            session.delete(known[name])
        elif name in known:
            known[name].digest = files[name]
        else:
            session.add(SiteFile(name=name, digest=files[name]))
    detail = {name: [before.get(name, ""), files.get(name, "")] for name in changed}
    record(session, at, by, "change configuration", "site", {"files": detail})
    return True
