"""Rows by time, a page at a time, the newest first: what engineers and scripts go through."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Select, literal, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from overread.errors import UsageError
from overread.store.paging import Page, Place, place

Row = TypeVar("Row")

_DIGITS = 18
"""More than these no database's integer has."""


def newest(
    session: Session,
    query: Select[Row],
    at: InstrumentedAttribute[datetime],
    key: InstrumentedAttribute[Any],
    *,
    after: str = "",
    limit: int = 100,
) -> Page[Row]:
    """Return one page of what a query finds, the newest first.

    Parameters
    ----------
    query : Select
        Of one kind of row, unordered.
    at, key : attribute
        Columns of that row: when it was, and what tells it from any other (text or an integer).
    after : str
        `Page.next` of the page before; empty for the first one.
    limit : int
        Rows of a page at most.

    Raises
    ------
    UsageError
        ``after`` is nothing that a page has given.
    """
    if after:
        here = _place(after)
        bound = (literal(here.at, at.type), literal(_key(here.id, key), key.type))
        query = query.where(tuple_(at, key) < tuple_(*bound))
    rows = list(session.scalars(query.order_by(at.desc(), key.desc()).limit(limit + 1)))
    if len(rows) <= limit:
        return Page(rows)
    last = rows[limit - 1]
    return Page(rows[:limit], str(Place(0, getattr(last, at.key), str(getattr(last, key.key)))))


def newest_or_first(
    session: Session,
    query: Select[Row],
    at: InstrumentedAttribute[datetime],
    key: InstrumentedAttribute[Any],
    *,
    after: str = "",
    limit: int = 100,
) -> Page[Row]:
    """Return one page as `newest` does; the first one, where ``after`` is of an older list.

    A person who follows an old link is better served by a list than by a refusal.
    """
    try:
        return newest(session, query, at, key, after=after, limit=limit)
    except UsageError:
        return newest(session, query, at, key, limit=limit)


def _place(after: str) -> Place:
    here = place(after)
    if here is None or not here.id.isascii() or not here.id.isprintable():
        raise UsageError(
            f"after={after[:40]!r} is no place in this list; expected what the page before gave"
        )
    return here


def _key(text: str, key: InstrumentedAttribute[Any]) -> Any:
    if key.type.python_type is not int:
        return text
    if not text.isdecimal() or len(text) > _DIGITS:
        raise UsageError(f"after={text[:40]!r} ends in no number; expected what a page gave")
    return int(text)
