"""Failed sign-ins, counted, so that passwords cannot be guessed by trying.

They are counted in the database, so that several portals count together.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from overread.store.tables import FailedSignIn

_WINDOW = timedelta(minutes=5)
_PER_PAIR, _PER_ADDRESS = 5, 50


def wait(session: Session, at: datetime, name: str, address: str) -> timedelta:
    """Return how long a name at an address has to wait; zero if it need not.

    Failures of the last five minutes count: by name and address together, and by address. A name
    alone is never locked: that would let anybody lock out anybody.
    """
    return max(
        _left(session, at, FailedSignIn.pair == _pair(name, address), _PER_PAIR),
        _left(session, at, FailedSignIn.address == address, _PER_ADDRESS),
    )


def add(session: Session, at: datetime, name: str, address: str) -> None:
    """Count a failure, and forget those that no longer count."""
    session.execute(delete(FailedSignIn).where(FailedSignIn.at <= at - _WINDOW))
    session.add(FailedSignIn(at=at, pair=_pair(name, address), address=address))


def clear(session: Session, name: str, address: str) -> None:
    """Forget the failures of a name that has signed in: they no longer count against it."""
    session.execute(delete(FailedSignIn).where(FailedSignIn.pair == _pair(name, address)))


def _left(session: Session, at: datetime, which: ColumnElement[bool], limit: int) -> timedelta:
    newest = select(FailedSignIn.at).where(which, FailedSignIn.at > at - _WINDOW)
    oldest_that_counts = session.scalar(
        newest.order_by(FailedSignIn.at.desc()).offset(limit - 1).limit(1)
    )
    return timedelta(0) if oldest_that_counts is None else oldest_that_counts + _WINDOW - at


def _pair(name: str, address: str) -> str:
    return sha256(f"{name}\0{address}".encode()).hexdigest()
