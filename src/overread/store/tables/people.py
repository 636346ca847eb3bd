"""Who looks at it: users and their roles, sign-ins, cases, readings; and the audit."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from overread.store.tables.base import Base, new_id


class User(Base):
    """A person who may sign in."""

    __tablename__ = "user"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(unique=True)
    password: Mapped[str]
    """An argon2id hash; empty for who signs in elsewhere."""
    origin: Mapped[str] = mapped_column(default="local", server_default="local")
    """The identity plugin that knows the person."""
    subject: Mapped[str] = mapped_column(default="", server_default="")
    """What that plugin calls the person for good, since a name may be another's one day; empty
    where it has no such thing."""
    groups: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    """Groups that the directory or provider named at the latest sign-in."""
    email: Mapped[str] = mapped_column(default="", server_default="")
    """Where the person is told that there is something to read; empty for nowhere."""
    disabled: Mapped[bool]
    created_at: Mapped[datetime]


class Held(Base):
    """A role that a user was given here; the site's files give others."""

    __tablename__ = "held_role"

    user_id: Mapped[str] = mapped_column(ForeignKey("user.id"), primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)
    project: Mapped[str] = mapped_column(primary_key=True, default="")
    """Empty for the whole site."""


class Session(Base):
    """A sign-in, or a token."""

    __tablename__ = "session"
    __table_args__ = (Index(None, "user_id"),)

    token_digest: Mapped[str] = mapped_column(primary_key=True)
    """SHA-256 of the cookie's token; the token itself is kept nowhere."""
    id: Mapped[str] = mapped_column(default=new_id, unique=True)
    """Opaque; what the audit and the account's page call it."""
    user_id: Mapped[str] = mapped_column(ForeignKey("user.id"))
    csrf: Mapped[str]
    label: Mapped[str] = mapped_column(default="", server_default="")
    """What a token is for, as its owner said."""
    scopes: Mapped[list[Any] | None] = mapped_column(default=None)
    """What a token is limited to; none where it is not."""
    address: Mapped[str] = mapped_column(default="", server_default="")
    """Where it was opened from."""
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    """When it ends unless it is used."""
    ends_at: Mapped[datetime]
    """When it ends, used or not."""


class FailedSignIn(Base):
    """A failed sign-in of the last minutes: what throttling counts, in every portal's process."""

    __tablename__ = "failed_sign_in"
    __table_args__ = (Index(None, "pair", "at"), Index(None, "address", "at"))

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    pair: Mapped[str]
    """SHA-256 of name and address together: a name that was typed may be a password."""
    address: Mapped[str]


class Enrolment(Base):
    """An exam that is a case of a project; links name it by its id."""

    __tablename__ = "enrolment"
    __table_args__ = (
        UniqueConstraint("project", "root_id"),
        Index(None, "root_id"),
        Index(None, "project", "enrolled_at", "id"),
        Index(None, "project", "pipeline", "enrolled_at", "id"),
        Index(
            "ix_enrolment_not_ready",
            "project",
            "enrolled_at",
            sqlite_where=text("ready_at IS NULL"),
            postgresql_where=text("ready_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    project: Mapped[str]
    root_id: Mapped[str]
    """The exam's first revision."""
    pipeline: Mapped[str]
    urgent: Mapped[bool] = mapped_column(default=False)
    enrolled_at: Mapped[datetime]
    ready_at: Mapped[datetime | None]
    """When its first results were there; none before."""


class Reading(Base):
    """One reader's work on one case: to be done, begun, or submitted, and then never changed."""

    __tablename__ = "reading"
    __table_args__ = (
        UniqueConstraint("enrolment_id", "reader_id", "amends"),
        Index(
            "ix_reading_queue",
            "reader_id",
            "state",
            "project",
            "pipeline",
            "rank",
            "ready_at",
            "id",
        ),
        Index(None, "project", "state"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    enrolment_id: Mapped[str] = mapped_column(ForeignKey("enrolment.id"))
    project: Mapped[str]
    pipeline: Mapped[str] = mapped_column(default="")
    """Project and pipeline as the enrolment has them, so that one index serves every list."""
    reader_id: Mapped[str] = mapped_column(ForeignKey("user.id"))
    state: Mapped[str]
    """``open``, ``draft``, ``submitted``, or ``withdrawn`` (no longer to be done)."""
    rank: Mapped[int] = mapped_column(default=1)
    """0 for an urgent case, else 1: the lower is read first."""
    ready_at: Mapped[datetime]
    due_at: Mapped[datetime | None]
    answers: Mapped[dict[str, Any]] = mapped_column(default=dict)
    revision: Mapped[int] = mapped_column(default=0)
    """Of the draft: one more for each time that it was saved, so that a stale page is noticed."""
    form: Mapped[str] = mapped_column(default="")
    form_digest: Mapped[str] = mapped_column(default="")
    """The form that the answers are to, as of `overread.validation.forms.Form`."""
    shown: Mapped[list[Any]] = mapped_column(default=list)
    """Ids of the results that the reader was shown."""
    opened_at: Mapped[datetime | None]
    """When the reader first opened the case."""
    saved_at: Mapped[datetime | None]
    submitted_at: Mapped[datetime | None]
    amends: Mapped[str] = mapped_column(default="")
    """The submitted reading that this one corrects; empty for a first one."""
    reason: Mapped[str] = mapped_column(default="")
    """Why it corrects it."""


class Audit(Base):
    """What was done, by whom, to what. Only ever appended to."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "subject"), Index(None, "at"))

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    """A user's name, an AE title or ``overread``."""
    action: Mapped[str]
    subject: Mapped[str]
    """Kind and opaque id, such as ``job 3f…``."""
    detail: Mapped[dict[str, Any]]
    address: Mapped[str] = mapped_column(default="", server_default="")
    """Network address that it came from; empty for what this house did by itself."""
    session: Mapped[str] = mapped_column(default="", server_default="")
    """Id of the sign-in or token; empty where there was none."""
