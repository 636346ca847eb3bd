"""What the audit needs beside its rows: their chain, and what it has told already."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from overread.store.tables.base import Base


class AuditSeal(Base):
    """One block of the chain over the audit's rows. Only ever appended to."""

    __tablename__ = "audit_seal"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """1 for the first block, and one more for each."""
    at: Mapped[datetime]
    rows: Mapped[list[Any]]
    """Of each row that the block holds, by id: the id, and the beginning of its digest."""
    last_id: Mapped[int]
    """The highest id that this or an earlier block holds."""
    gaps: Mapped[list[Any]]
    """Ids below that no block holds yet, as their rows may be committed late: first, last, and
    since when."""
    previous: Mapped[str]
    """The head of the block before; empty for the first."""
    head: Mapped[str]
    """SHA-256 over this block and its rows, as of `overread.store.seal`."""


class SeriesGiven(Base):
    """A series whose images were given to a sign-in, so that the audit has one row of it."""

    __tablename__ = "series_given"

    sign_in: Mapped[str] = mapped_column(primary_key=True)
    series_uid: Mapped[str] = mapped_column(primary_key=True)


class SiteFile(Base):
    """A file of the site folder, as it was when a process last loaded the site."""

    __tablename__ = "site_file"

    name: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    """SHA-256 of its bytes."""
