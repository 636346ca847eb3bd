"""What a receiver does at its start about those that died before it.

A receiver process holds a lock on a file of its own for as long as it lives; one whose file can be
locked is dead, whatever killed it. Of each association that it left open, the last object may be
half kept, and never more than that one: a sender waits for its answer before it sends the next.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import structlog
from sqlalchemy import select

from overread.dicom.encoded import Unparseable, file_meta
from overread.store.archive import Archive
from overread.store.database import Database
from overread.store.refusals import has_key, withdraw
from overread.store.tables import Arrival, Association, Instance, Quarantine

log = structlog.get_logger("overread.receiver")


class Presence:
    """Shows that a receiver process lives.

    Parameters
    ----------
    folder : Path
        Where the receivers of one archive keep their files.
    name : str
        The process, as `Association.receiver` names it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / name
        while True:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if self._path.exists():
                return
            os.close(self._file)  # another took it for a dead one's before it was locked

    def end(self) -> None:
        """Say that the process ended in order, and left nothing open."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def recover(database: Database, archive: Archive, folder: Path, now: datetime) -> list[str]:
    """Put in order what dead receivers left: their open associations and half-kept objects.

    Safe when several receivers do it at once: each dead one is taken by one of them.

    Returns
    -------
    list of str
        The dead receivers.
    """
    dead = []
    for name in _take_dead(folder):
        _clear_up(database, archive, name, now)
        dead.append(name)
    return dead


def _take_dead(folder: Path) -> Iterator[str]:
    """Yield the dead, each while its file is locked by us; then the file is removed."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        try:
            if path.exists():
                yield path.name
                path.unlink(missing_ok=True)
        finally:
            os.close(file)


def _clear_up(database: Database, archive: Archive, name: str, now: datetime) -> None:
    with database.read() as session:
        left = session.scalars(
            select(Association).where(Association.receiver == name, Association.closed_at.is_(None))
        ).all()
        suspects = {
            instance.id: instance
            for association in left
            if (
                instance := session.scalar(
                    select(Instance)
                    .join(Arrival, Arrival.instance_id == Instance.id)
                    .where(Arrival.association_id == association.id)
                    .order_by(Arrival.id.desc())
                    .limit(1)
                )
            )
        }
    lost = [instance.id for instance in suspects.values() if not _is_whole(archive, instance)]
    with database.write() as session:
        for instance_id in lost:
            withdraw(session, instance_id)
        for association in left:
            stored = session.get_one(Association, association.id)
            stored.closed_at, stored.ended = now, "lost"
    strays = _strays(database, archive, name, [a.opened_at for a in left], now)
    for key in strays:
        archive.remove(key)
    log.warning("a receiver died", associations=len(left), withdrawn=len(lost), strays=len(strays))


def _is_whole(archive: Archive, instance: Instance) -> bool:
    """Say whether an instance's file holds what its row says."""
    try:
        data = archive.path(instance.key).read_bytes()
        start = file_meta(data)[1]
    except (OSError, Unparseable):
        return False
    return hashlib.sha256(memoryview(data)[start:]).hexdigest() == instance.digest


def _strays(
    database: Database, archive: Archive, name: str, opened: list[datetime], now: datetime
) -> list[str]:
    """Find the files that a dead receiver wrote and did not come to record."""
    if not opened:
        return []
    with database.read() as session:
        strays = [
            key
            for key in archive.written("instances", name, min(opened), now)
            if not has_key(session, key)
        ]
        strays += [
            key
            for key in archive.written("quarantine", name, min(opened), now)
            if session.scalar(select(Quarantine.id).where(Quarantine.key == key)) is None
        ]
    return strays
