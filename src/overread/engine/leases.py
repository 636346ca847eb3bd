"""Who does what only one worker may do at a time."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from overread.store.database import one_at_a_time
from overread.store.tables import Lease

_LENGTH = timedelta(seconds=15)


def hold(session: Session, name: str, holder: str, now: datetime) -> bool:
    """Take or renew a lease, in the transaction of the work that it protects.

    Whoever holds it at the commit has done the work: a worker that was away while another took the
    lease finds so here, before it writes.

    Parameters
    ----------
    session : Session
        A writing session.
    name : str
        What only one may do.
    holder : str
        The worker's name; it is the same after a restart, so that nobody waits for a lease of
        before.

    Returns
    -------
    bool
        Whether the lease is the holder's now.
    """
    one_at_a_time(session, f"lease {name}")
    lease = session.get(Lease, name, populate_existing=True)
    if lease is None:
        session.add(Lease(name=name, holder=holder, expires_at=now + _LENGTH))
        return True
    if lease.holder != holder and lease.expires_at > now:
        return False
    lease.holder, lease.expires_at = holder, now + _LENGTH
    return True
