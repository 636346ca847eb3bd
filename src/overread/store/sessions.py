"""Sign-ins and tokens, as their owner and an administrator see and end them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from overread.errors import UsageError
from overread.store import tables, users
from overread.store.users import told


def listed(session: Session, at: datetime, user_id: str) -> list[tables.Session]:
    """List a user's sign-ins and tokens that are good, the one used last first."""
    query = select(tables.Session).where(
        tables.Session.user_id == user_id, tables.Session.expires_at > at
    )
    return list(session.scalars(query.order_by(tables.Session.seen_at.desc(), tables.Session.id)))


def end(
    session: Session, at: datetime, by: str | users.By, user: tables.User, session_id: str
) -> None:
    """End a sign-in or token of a user.

    Raises
    ------
    UsageError
        The user has no such one.
    """
    row = session.scalar(
        select(tables.Session).where(
            tables.Session.id == session_id, tables.Session.user_id == user.id
        )
    )
    if row is None:
        raise UsageError(f"{user.name} has no such sign-in; it may have ended by itself")
    session.delete(row)
    what = "end sign-in" if row.csrf else "end token"
    told(session, at, by, what, user.id, {"session": session_id})


def end_all(
    session: Session, at: datetime, by: str | users.By, user: tables.User, *, but: str = ""
) -> int:
    """End every sign-in of a user, and leave the tokens.

    Parameters
    ----------
    but : str
        Id of the one that stays; empty for none.

    Returns
    -------
    int
        How many were ended.
    """
    ended = session.scalars(
        delete(tables.Session)
        .where(
            tables.Session.user_id == user.id, tables.Session.csrf != "", tables.Session.id != but
        )
        .returning(tables.Session.id)
    ).all()
    told(session, at, by, "end sign-ins", user.id, {"ended": len(ended)})
    return len(ended)
