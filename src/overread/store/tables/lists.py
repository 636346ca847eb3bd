"""What the worklist counts by, and what its readers are told."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from overread.store.tables.base import Base, new_id


class Tally(Base):
    """How many first readings a reader has, by project, pipeline, state and rank.

    The database's own triggers keep it (revision 0005), so that it is right whoever writes, and a
    worklist counts nothing. A row whose count is 0 stays.
    """

    __tablename__ = "tally"

    reader_id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(primary_key=True)
    project: Mapped[str] = mapped_column(primary_key=True)
    pipeline: Mapped[str] = mapped_column(primary_key=True)
    rank: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    count: Mapped[int]
    changes: Mapped[int]
    """How often it has changed: what the events look at."""


class Considered(Base):
    """How far a project has looked through the exams that were there before it."""

    __tablename__ = "considered"

    project: Mapped[str] = mapped_column(primary_key=True)
    rule: Mapped[str]
    """SHA-256 of what it enrols by; after a change it looks through all of them again."""
    at: Mapped[datetime]
    """Up to which exam, by when it was opened, ..."""
    exam_id: Mapped[str]
    """... and then by its id."""


class Notice(Base):
    """Something that somebody is to be told, without patient data."""

    __tablename__ = "notice"
    __table_args__ = (
        UniqueConstraint("enrolment_id", "channel", "user_id", "urgent"),
        Index(
            "ix_notice_waiting",
            "next_at",
            sqlite_where=text("state = 'waiting'"),
            postgresql_where=text("state = 'waiting'"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    enrolment_id: Mapped[str] = mapped_column(ForeignKey("enrolment.id"))
    channel: Mapped[str]
    """``mail`` or ``webhook``."""
    user_id: Mapped[str] = mapped_column(default="")
    """Who is told by mail; empty for the webhook."""
    urgent: Mapped[bool]
    state: Mapped[str]
    """``waiting``, ``sent`` or ``failed`` (it is tried no more)."""
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime]
    next_at: Mapped[datetime]
    """When it is tried next, or was tried last."""
