"""The sealer: seals what was told to the audit within a second, and tells the heads outside.

The head of each block is appended to a file beside the archive and told in the log, so that a
database that was changed as a whole, its chain and all, no longer agrees with what was told.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from overread.engine.leases import hold
from overread.store import seal
from overread.store.database import Database
from overread.store.seal import Block

_log = structlog.get_logger(__name__)

_BLOCKS = 20
"""Blocks that one round seals at most; the next round goes on."""
_TOLD_EVERY = timedelta(minutes=1)
"""How often the log is told of the newest head."""


def heads_file(data: Path) -> Path:
    """Return the file that heads are exported to, below the site's data folder."""
    return data / "audit" / "head.jsonl"


class Sealer:
    """Seals the audit, for one worker; of several only the one that holds the lease does.

    Nobody who tells the audit waits for it: it reads what was committed, and writes one row.

    Parameters
    ----------
    database : Database
        The store's.
    worker : str
        The worker's name.
    file : Path
        Where heads are exported to; its folder is made.
    """

    def __init__(self, database: Database, worker: str, file: Path) -> None:
        self.database = database
        self.worker = worker
        self.file = file
        self._exported = -1  # not known yet
        self._told: tuple[str, datetime | None] = ("", None)

    def round(self, now: datetime) -> None:
        """Seal every row that is committed and not sealed, and export the heads."""
        if self._exported < 0:
            self._exported = self._last_exported()
        for _ in range(_BLOCKS):
            with self.database.read() as session:
                block = seal.next_block(session, now)
            if block is None or not self._keep(block, now):
                break
        self._export(now)

    def _keep(self, block: Block, now: datetime) -> bool:
        with self.database.write() as session:
            return hold(session, "seal the audit", self.worker, now) and seal.keep(session, block)

    def _export(self, now: datetime) -> None:
        with self.database.read() as session:
            fresh = list(seal.blocks(session, after=self._exported))
        if fresh:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                file.writelines(seal.export_line(block) for block in fresh)
                file.flush()
                os.fsync(file.fileno())
            self._exported = fresh[-1].number
        self._tell(fresh[-1] if fresh else None, now)

    def _last_exported(self) -> int:
        """Return the last block in the file, and say so where the database has another, or none."""
        if not self.file.exists():
            return 0
        heads = dict(seal.exported(_whole_lines(self.file)))
        last = max(heads, default=0)
        with self.database.read() as session:
            block = next(seal.blocks(session, after=last - 1), None) if last else None
        if last and (block is None or block.head != heads[last]):
            _log.error(
                "the audit's chain is not the one that was exported; `overread audit verify` says "
                "more",
                block=last,
                exported=heads[last],
                here=block.head if block else "",
            )
        return last

    def _tell(self, block: Block | None, now: datetime) -> None:
        head, told_at = self._told
        if block is not None:
            head = f"{block.number} {block.head}"
        due = told_at is None or now - told_at >= _TOLD_EVERY
        if head and due:
            _log.info("the audit is sealed", block=head.split()[0], head=head.split()[1])
            head, told_at = "", now
        self._told = (head, told_at)


def _whole_lines(file: Path) -> list[str]:
    """Read a file's lines; the last is left out, and cut off, where a crash left it unfinished."""
    text = file.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        os.truncate(file, len(whole))
    return whole.decode("utf-8").splitlines()
