"""The chain over the audit's rows: blocks of rows, each sealed together with the one before.

A block is sealed with SHA-256 over lines of canonical JSON: first the block's own (its number,
when, which rows, which ids below them are missing, and the head of the block before), then each
row's in order of its id. That is the block's *head*. Who knows a head can tell of every row up to
it whether it was changed, removed or slipped in later.

Rows are not committed in the order of their ids: one that was begun earlier can come later. So a
block says which rows it holds, and which ids below it saw none of: a *gap*. A row that turns up in
a gap is held by a later block. A gap that stays open for a day was of an act that never was; a row
that turns up there after that is a fault.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import func as sql
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from overread.store.audit import Entry, entry
from overread.store.tables import Audit, AuditSeal

BLOCK = 1000
"""Rows that a block holds at most."""
_GAP_LASTS = timedelta(days=1)
_DIGITS = 16
"""Of a row's digest, in its block: enough to say which of the block's rows was changed."""

Gap = tuple[int, int, str]
"""First and last id that are missing, and since when."""


@dataclass(frozen=True)
class Block:
    """One block of the chain.

    Attributes
    ----------
    number : int
        1 for the first.
    at : datetime
        When it was sealed.
    rows : tuple of (int, str)
        Of each row that it holds: its id, and the first digits of its digest.
    last_id : int
        The highest id that it or an earlier one holds.
    gaps : tuple of Gap
        What is missing below.
    previous, head : str
        Heads of the one before, and its own.
    """

    number: int
    at: datetime
    rows: tuple[tuple[int, str], ...]
    last_id: int
    gaps: tuple[Gap, ...]
    previous: str
    head: str = ""


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def line_of(row: Entry) -> bytes:
    """Return the line of a row that is sealed."""
    return _canonical(
        [
            row.id, row.at.isoformat(timespec="microseconds"), row.actor, row.action, row.subject,
            row.detail, row.address, row.sign_in,
        ]
    )  # fmt: skip


def _digits(line: bytes) -> str:
    return sha256(line).hexdigest()[:_DIGITS]


def head_of(block: Block, lines: Iterable[bytes]) -> str:
    """Compute a block's head, over itself and the lines of its rows."""
    own = {
        "block": block.number,
        "at": block.at.isoformat(timespec="microseconds"),
        "rows": block.rows,
        "last_id": block.last_id,
        "gaps": block.gaps,
        "previous": block.previous,
    }
    hashed = sha256(_canonical(own))
    for line in lines:
        hashed.update(b"\n" + line)
    return hashed.hexdigest()


def _block(row: AuditSeal) -> Block:
    return Block(
        row.id,
        row.at,
        tuple((number, digits) for number, digits in row.rows),
        row.last_id,
        tuple((first, last, since) for first, last, since in row.gaps),
        row.previous,
        row.head,
    )


def latest(session: Session) -> Block | None:
    """Return the newest block."""
    row = session.scalar(select(AuditSeal).order_by(AuditSeal.id.desc()).limit(1))
    return None if row is None else _block(row)


def blocks(session: Session, after: int = 0) -> Iterator[Block]:
    """Go through the blocks in their order, some at a time."""
    while True:
        query = select(AuditSeal).where(AuditSeal.id > after).order_by(AuditSeal.id).limit(100)
        rows = session.scalars(query).all()
        if not rows:
            return
        yield from map(_block, rows)
        after = rows[-1].id
        session.expunge_all()


def next_block(session: Session, at: datetime) -> Block | None:
    """Make the block of the rows that no block holds; none where there is no such row.

    It reads only, so that who tells the audit waits for nobody.
    """
    before = latest(session)
    last_id = before.last_id if before else 0
    open_gaps = [gap for gap in (before.gaps if before else ()) if _is_open(gap, at)]
    missing = [Audit.id.between(first, last) for first, last, _ in open_gaps]
    query = select(Audit).where(or_(Audit.id > last_id, *missing)).order_by(Audit.id).limit(BLOCK)
    found = [entry(row) for row in session.scalars(query)]
    if not found:
        return None
    lines = [line_of(row) for row in found]
    ids = [row.id for row in found]
    block = Block(
        number=before.number + 1 if before else 1,
        at=at,
        rows=tuple((number, _digits(line)) for number, line in zip(ids, lines, strict=True)),
        last_id=max(last_id, ids[-1]),
        gaps=tuple(without(open_gaps, last_id, ids, at.isoformat())),
        previous=before.head if before else "",
    )
    return replace(block, head=head_of(block, lines))


def _is_open(gap: Gap, at: datetime) -> bool:
    return at - datetime.fromisoformat(gap[2]) < _GAP_LASTS


def without(gaps: Sequence[Gap], last_id: int, ids: Sequence[int], since: str) -> list[Gap]:
    """Return what is missing when these rows have come, too.

    Parameters
    ----------
    gaps : sequence of Gap
        What was missing up to ``last_id``.
    ids : sequence of int
        Of the rows that have come, ascending.
    since : str
        When what is missing now is seen to be, where it is above ``last_id``.
    """
    ahead = [(last_id + 1, ids[-1], since)] if ids[-1] > last_id else []
    left: list[Gap] = []
    for first, last, when in [*gaps, *ahead]:
        if last < ids[0] or first > ids[-1]:
            left.append((first, last, when))
            continue
        start = first
        for one in ids:
            if start <= one <= last:
                if one > start:
                    left.append((start, one - 1, when))
                start = one + 1
        if start <= last:
            left.append((start, last, when))
    return left


def keep(session: Session, block: Block) -> bool:
    """Append a block; refuse it where another came first.

    Parameters
    ----------
    session : Session
        A writing session, in which nobody else seals.
    """
    before = latest(session)
    if (before.head if before else "") != block.previous:
        return False
    session.add(
        AuditSeal(
            id=block.number,
            at=block.at,
            rows=[list(one) for one in block.rows],
            last_id=block.last_id,
            gaps=[list(gap) for gap in block.gaps],
            previous=block.previous,
            head=block.head,
        )
    )
    return True


@dataclass(frozen=True)
class Standing:
    """How far the audit is sealed.

    Attributes
    ----------
    block : int
        Number of the newest block; 0 for none.
    head : str
        Its head.
    last_id : int
        The highest id that is sealed.
    gaps : tuple of Gap
        What is missing below.
    unsealed : int
        Rows that no block holds yet.
    oldest : datetime, optional
        When the oldest of those was told.
    """

    block: int
    head: str
    last_id: int
    gaps: tuple[Gap, ...]
    unsealed: int
    oldest: datetime | None

    def holds(self, number: int) -> bool:
        """Say whether a row that there is is sealed."""
        missing = any(first <= number <= last for first, last, _ in self.gaps)
        return number <= self.last_id and not missing


def standing(session: Session) -> Standing:
    """Say how far the audit is sealed."""
    block = latest(session)
    last_id, gaps = (block.last_id, block.gaps) if block else (0, ())
    missing = [Audit.id.between(first, last) for first, last, _ in gaps]
    number, oldest = session.execute(
        select(sql.count(Audit.id), sql.min(Audit.at)).where(or_(Audit.id > last_id, *missing))
    ).one()
    return Standing(
        block.number if block else 0, block.head if block else "", last_id, gaps, number, oldest
    )


@dataclass
class Verified:
    """What came of recomputing the chain.

    Attributes
    ----------
    blocks, rows : int
        How many held.
    head : str
        The head of the last block that did.
    unsealed : int
        Rows that no block holds yet.
    faults : list of str
        What does not; the first names the first bad row or block.
    """

    blocks: int = 0
    rows: int = 0
    head: str = ""
    unsealed: int = 0
    faults: list[str] = field(default_factory=list)


def verify(session: Session, exported: Iterable[tuple[int, str]] = ()) -> Verified:
    """Recompute the chain from its first row, and compare it with the heads that were exported.

    Parameters
    ----------
    exported : iterable of (int, str)
        Block and head, as they stand in the exported file.
    """
    said, found = dict(exported), Verified()
    last_id, missing = 0, list[Gap]()
    for block in blocks(session):
        fault = _fault_of(session, block, found, last_id, missing)
        if not fault and said.pop(block.number, block.head) != block.head:
            fault = f"block {block.number} has another head than the one that was exported"
        if fault:
            found.faults.append(fault)
            return found
        ids = [number for number, _ in block.rows]
        missing = without(missing, last_id, ids, "")
        last_id = block.last_id
        found.blocks, found.rows, found.head = block.number, found.rows + len(ids), block.head
    if said:
        found.faults.append(f"block {min(said)} was exported, and is not here any more")
    found.faults += _slipped_in(session, missing)
    found.unsealed = standing(session).unsealed
    return found


def _fault_of(
    session: Session, block: Block, found: Verified, last_id: int, missing: Sequence[Gap]
) -> str:
    """Say what is wrong with the next block; nothing where it holds."""
    here = f"block {block.number}"
    if block.number != found.blocks + 1:
        return f"block {found.blocks + 1} is gone"
    if block.previous != found.head:
        return f"{here} does not follow on the block before it"
    twice = [
        number
        for number, _ in block.rows
        if number <= last_id and not any(first <= number <= last for first, last, _ in missing)
    ]
    if twice:
        return f"row {twice[0]} is in {here} and in an earlier one"
    return _fault_of_rows(session, block)


def _fault_of_rows(session: Session, block: Block) -> str:
    ids = [number for number, _ in block.rows]
    rows = {
        row.id: line_of(entry(row))
        for row in session.scalars(select(Audit).where(Audit.id.in_(ids)))
    }
    for number, digits in block.rows:
        if number not in rows:
            return f"row {number} of block {block.number} is gone"
        if _digits(rows[number]) != digits:
            return f"row {number} of block {block.number} was changed"
    if head_of(block, (rows[number] for number in ids)) != block.head:
        return f"block {block.number} was changed"
    return ""


def _slipped_in(session: Session, missing: Sequence[Gap]) -> list[str]:
    """Name the rows that are where a gap was closed."""
    newest = latest(session)
    still_open = newest.gaps if newest else ()
    there = (
        number
        for first, last, _ in missing
        for number in session.scalars(
            select(Audit.id).where(Audit.id.between(first, last)).order_by(Audit.id).limit(10)
        )
    )
    return [
        f"row {number} is in no block, and came too late to be in one"
        for number in there
        if not any(low <= number <= high for low, high, _ in still_open)
    ]


def exported(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Read the exported file of heads.

    Raises
    ------
    ValueError
        With the line that is none.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
            yield int(said["block"]), str(said["head"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} is no head of a block: {error}") from error


def export_line(block: Block) -> str:
    """Return a block's line in the exported file."""
    said: dict[str, Any] = {
        "block": block.number,
        "at": block.at.isoformat(),
        "last_id": block.last_id,
        "head": block.head,
    }
    return json.dumps(said) + "\n"
