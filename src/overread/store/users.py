"""Users, their roles, and their sign-ins.

A sign-in's token goes to the browser and nowhere else: the database holds its SHA-256. A sign-in
ends when it has been idle, after a time however active, when its user is disabled, or when somebody
ends it. A bearer token
for scripts is a sign-in that answers no form: its ``csrf`` is empty, and it does not end by idling.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy import func as sql
from sqlalchemy.orm import Session

from overread.errors import UsageError
from overread.identity import Account, Person
from overread.store import tables
from overread.store.audit import record
from overread.store.database import Database
from overread.validation.permissions import EVERY_PROJECT, ROLES, SCOPES, Actor, Grant

_NAME = re.compile(r"[\w.@+-]{1,64}")


@dataclass(frozen=True)
class By:
    """Who does something, and from where: for the audit.

    Attributes
    ----------
    name : str
        A user's name, or who else.
    address : str
        Network address; empty for none.
    sign_in : str
        Id of the sign-in or token; empty for none.
    """

    name: str
    address: str = ""
    sign_in: str = ""


class Claimed(UsageError):
    """Somebody has shown to be a person whose name is another's here."""


@dataclass(frozen=True)
class SignIn:
    """A sign-in that was just opened.

    Attributes
    ----------
    token : str
        For the cookie; kept nowhere here.
    csrf : str
        For the forms of this sign-in.
    """

    token: str
    csrf: str


@dataclass(frozen=True)
class Signed:
    """Who a token belongs to.

    Attributes
    ----------
    account : Account
        The user; its ``secret`` is left empty.
    csrf : str
        What this sign-in's forms must carry; empty for a bearer token.
    seen_at : datetime
        When the sign-in was last seen, to the minute or so.
    session_id : str
        What the audit and the account's page call this sign-in.
    grants : frozenset of Grant
        The roles that the user was given here; the site's files may give more.
    groups : frozenset of str
        Groups that the directory or provider named.
    scopes : frozenset of str or None
        What a token is limited to.
    """

    account: Account
    csrf: str
    seen_at: datetime
    session_id: str = ""
    grants: frozenset[Grant] = frozenset()
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] | None = None

    @property
    def actor(self) -> Actor:
        """Who this is to `overread.validation.permissions.may`."""
        return Actor(self.account.name, self.grants, self.account.id, self.scopes)


def _digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def told(  # noqa: PLR0917 - a sentence, as `record`
    session: Session,
    at: datetime,
    by: str | By,
    action: str,
    user_id: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Tell the audit what was done to a user."""
    by = by if isinstance(by, By) else By(by)
    subject = f"user {user_id}"
    record(session, at, by.name, action, subject, detail, address=by.address, sign_in=by.sign_in)


def account_of(user: tables.User) -> Account:
    """Return a user's account."""
    return Account(user.id, user.name, user.password, user.disabled, user.origin)


class StoredAccounts:
    """The accounts of this house, as `overread.identity.Accounts` asks for them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, name: str) -> Account | None:
        """Return the account of that name, disabled ones too."""
        with self._database.read() as session:
            user = session.scalar(select(tables.User).where(tables.User.name == name))
            return None if user is None else account_of(user)

    def replace_secret(self, account: Account, secret: str) -> None:
        """Keep a new hash of the same password."""
        with self._database.write() as session:
            session.execute(
                update(tables.User).where(tables.User.id == account.id).values(password=secret)
            )


def add_user(
    session: Session,
    at: datetime,
    by: str | By,
    *,
    name: str,
    secret: str,
    role: str,
    project: str = EVERY_PROJECT,
) -> tables.User:
    """Add a user.

    Parameters
    ----------
    by : str or By
        Who adds, for the audit.
    secret : str
        The hash of the password.
    role, project : str
        The first role that the user holds, and the project that it is held for; the whole site
        where left out.

    Raises
    ------
    UsageError
        The name is taken or is no name, or there is no such role.
    """
    check_name(name)
    _check_role(role)
    if session.scalar(select(tables.User.id).where(tables.User.name == name)):
        raise UsageError(f"there is a user {name!r} already; choose another name")
    user = tables.User(name=name, password=secret, disabled=False, created_at=at)
    session.add(user)
    session.flush()
    session.add(tables.Held(user_id=user.id, role=role, project=project))
    told(session, at, by, "add user", user.id, {"role": role, "project": project})
    return user


def check_name(name: str) -> None:
    """Refuse what is no name to sign in with.

    Raises
    ------
    UsageError
        It is empty, too long, or has other characters.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no user name; expected 1 to 64 letters, digits or . _ @ + -")


def admit(
    session: Session, at: datetime, origin: str, person: Person, *, address: str = ""
) -> tables.User:
    """Return the user that a person is; a new one for whom only the identity plugin knew.

    Groups and mail address are kept as the plugin says them now.

    Parameters
    ----------
    origin : str
        Name of the plugin that knows the person.

    Raises
    ------
    Claimed
        The name is that of another person here: of another plugin's, or of an earlier bearer. A
        directory never takes over an account.
    UsageError
        The name is none that one can have here.
    """
    check_name(person.name)
    known = tables.User
    user = None
    if person.subject:
        same = (known.origin == origin, known.subject == person.subject)
        user = session.scalar(select(known).where(*same))
    if user is None:
        user = session.scalar(select(known).where(known.name == person.name))
        if user is not None and (
            user.origin != origin or (user.subject and person.subject)  # else found by it
        ):
            raise Claimed(f"the name {person.name} is another person's here")
    if user is None:
        user = known(name=person.name, password="", origin=origin, disabled=False, created_at=at)
        session.add(user)
        session.flush()
        by = By(person.name, address)
        told(session, at, by, "add user", user.id, {"origin": origin})
    if origin != "local":
        user.subject = person.subject or user.subject
        user.groups = sorted(person.groups)
        user.email = person.email or user.email
    return user


def held(session: Session, user_id: str) -> frozenset[Grant]:
    """Return the roles that a user was given here."""
    rows = session.scalars(select(tables.Held).where(tables.Held.user_id == user_id))
    return frozenset(Grant(row.role, row.project) for row in rows)


def grant(session: Session, at: datetime, by: str | By, user: tables.User, given: Grant) -> None:
    """Give a user a role; nothing where the user has it.

    Raises
    ------
    UsageError
        There is no such role.
    """
    _check_role(given.role)
    if session.get(tables.Held, (user.id, given.role, given.project)) is None:
        session.add(tables.Held(user_id=user.id, role=given.role, project=given.project))
        detail = {"role": given.role, "project": given.project}
        told(session, at, by, "grant role", user.id, detail)


def revoke(session: Session, at: datetime, by: str | By, user: tables.User, taken: Grant) -> None:
    """Take a role from a user.

    Raises
    ------
    UsageError
        The user was not given it here.
    """
    row = session.get(tables.Held, (user.id, taken.role, taken.project))
    if row is None:
        where = f"in {taken.project}" if taken.project else "for the whole site"
        raise UsageError(
            f"{user.name} was not made {taken.role} {where} here; `overread user list` shows what "
            "was given here, and the site's files what else"
        )
    session.delete(row)
    session.flush()  # so that it can be given again in this transaction
    detail = {"role": taken.role, "project": taken.project}
    told(session, at, by, "revoke role", user.id, detail)


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise UsageError(f"{role!r} is no role; expected one of {', '.join(ROLES)}")


def list_users(session: Session) -> list[tables.User]:
    """List every user by name, disabled ones too."""
    return list(session.scalars(select(tables.User).order_by(tables.User.name)))


def find_user(session: Session, name: str) -> tables.User:
    """Return the user of that name.

    Raises
    ------
    UsageError
        There is none.
    """
    user = session.scalar(select(tables.User).where(tables.User.name == name))
    if user is None:
        raise UsageError(f"there is no user {name!r}; `overread user list` shows those there are")
    return user


def disable_user(session: Session, at: datetime, by: str | By, name: str) -> None:
    """Refuse a user from now on, and end every sign-in and token of theirs.

    Raises
    ------
    UsageError
        There is no such user.
    """
    user = find_user(session, name)
    user.disabled = True
    session.execute(delete(tables.Session).where(tables.Session.user_id == user.id))
    told(session, at, by, "disable user", user.id)


def enable_user(session: Session, at: datetime, by: str | By, name: str) -> None:
    """Let a user that was disabled sign in again.

    Raises
    ------
    UsageError
        There is no such user.
    """
    user = find_user(session, name)
    user.disabled = False
    told(session, at, by, "enable user", user.id)


def has_users(session: Session) -> bool:
    """Say whether anybody may sign in at all."""
    return bool(session.scalar(select(sql.count()).select_from(tables.User)))


def open_session(
    session: Session,
    at: datetime,
    account: Account,
    lasts: timedelta,
    *,
    most: timedelta | None = None,
    address: str = "",
) -> SignIn:
    """Open a sign-in; sweep out those that have expired.

    Parameters
    ----------
    lasts, most : timedelta
        How long it lasts without activity, and however active; the same where ``most`` is left out.
    address : str
        Where it is opened from.
    """
    session.execute(delete(tables.Session).where(tables.Session.expires_at <= at))
    opened = SignIn(secrets.token_urlsafe(32), secrets.token_urlsafe(32))
    row = _keep_session(session, at, account.id, opened, lasts, most=most, address=address)
    subject = f"user {account.id}"
    record(session, at, account.name, "sign in", subject, address=address, sign_in=row.id)
    return opened


def open_bearer(
    session: Session,
    at: datetime,
    by: str | By,
    user: tables.User,
    lasts: timedelta,
    *,
    label: str = "",
    scopes: frozenset[str] | None = None,
) -> SignIn:
    """Make a bearer token for a user's scripts.

    Parameters
    ----------
    label : str
        What it is for.
    scopes : frozenset of str, optional
        What it is limited to, as `overread.validation.permissions.Actor` has it.

    Raises
    ------
    UsageError
        There is no such scope.
    """
    for scope in sorted((scopes or frozenset()) - SCOPES):
        raise UsageError(
            f"{scope!r} is no scope; expected an action such as case.see, or NOUN.* for all of a "
            f"noun's: {', '.join(sorted(one for one in SCOPES if one.endswith('*')))}"
        )
    opened = SignIn(secrets.token_urlsafe(32), "")
    row = _keep_session(session, at, user.id, opened, lasts, label=label, scopes=scopes)
    detail = {"days": lasts.days, "token": row.id, "scopes": row.scopes}
    told(session, at, by, "make token", user.id, detail)
    return opened


def _keep_session(
    session: Session,
    at: datetime,
    user_id: str,
    opened: SignIn,
    lasts: timedelta,
    *,
    most: timedelta | None = None,
    address: str = "",
    label: str = "",
    scopes: frozenset[str] | None = None,
) -> tables.Session:
    row = tables.Session(
        token_digest=_digest(opened.token),
        user_id=user_id,
        csrf=opened.csrf,
        label=label,
        scopes=None if scopes is None else sorted(scopes),
        address=address,
        created_at=at,
        seen_at=at,
        expires_at=at + min(lasts, most or lasts),
        ends_at=at + (most or lasts),
    )
    session.add(row)
    session.flush()
    return row


def record_failure(session: Session, at: datetime, name: str, address: str) -> None:
    """Tell the audit of a failed sign-in; an unknown name may be a password: it is not repeated."""
    user_id = session.scalar(select(tables.User.id).where(tables.User.name == name))
    subject = f"user {user_id}" if user_id else "user unknown"
    record(session, at, "anonymous", "fail to sign in", subject, {"address": address})


def find_session(session: Session, at: datetime, token: str) -> Signed | None:
    """Return who a token belongs to; none if it is unknown, expired or its user is disabled."""
    row = session.get(tables.Session, _digest(token))
    if row is None or row.expires_at <= at:
        return None
    user = session.get(tables.User, row.user_id)
    if user is None or user.disabled:
        return None
    return Signed(
        Account(user.id, user.name, origin=user.origin),
        row.csrf,
        row.seen_at,
        session_id=row.id,
        grants=held(session, user.id),
        groups=frozenset(user.groups),
        scopes=None if row.scopes is None else frozenset(row.scopes),
    )


def touch_session(session: Session, at: datetime, token: str, lasts: timedelta) -> None:
    """Note that a sign-in is in use, so that it does not end by idling."""
    row = session.get(tables.Session, _digest(token))
    if row is not None and row.csrf:
        row.seen_at, row.expires_at = at, min(at + lasts, row.ends_at)


def close_session(
    session: Session, at: datetime, token: str, account: Account, *, address: str = ""
) -> None:
    """End a sign-in: its token is worth nothing from now on."""
    row = session.get(tables.Session, _digest(token))
    sign_in = row.id if row is not None else ""
    session.execute(delete(tables.Session).where(tables.Session.token_digest == _digest(token)))
    subject = f"user {account.id}"
    record(session, at, account.name, "sign out", subject, address=address, sign_in=sign_in)
