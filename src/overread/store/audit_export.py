"""The audit's rows as text that leaves this house: CSV, JSON Lines, DICOM audit messages."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Literal, get_args

from sqlalchemy.orm import Session

from overread.store.audit import Entry, Wanted, all_of
from overread.store.audit_message import message

Format = Literal["csv", "jsonl", "dicom"]
FORMATS: tuple[Format, ...] = get_args(Format)

MEDIA_TYPES: dict[Format, str] = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl; charset=utf-8",
    "dicom": "text/plain; charset=utf-8",
}
COLUMNS = ("id", "at", "actor", "action", "subject", "detail", "address", "sign_in")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would take for a formula."""


def export(
    session: Session, wanted: Wanted, form: Format, *, until: int, site: str
) -> Iterator[str]:
    """Write rows, the oldest first, a line at a time.

    Parameters
    ----------
    until : int
        The highest id that is written, so that an export has an end while others go on.
    form : Format
        ``csv`` with a header; ``jsonl``, an object a line; ``dicom``, a message a line.
    site : str
        What messages say where they were told.
    """
    if form == "csv":
        yield _csv_line(COLUMNS)
    write = _WRITERS[form]
    for row in all_of(session, wanted, until=until):
        yield write(session, row, site)


def as_json(row: Entry) -> dict[str, object]:
    """Return a row as plain JSON."""
    return {
        "id": row.id,
        "at": row.at.isoformat(),
        "actor": row.actor,
        "action": row.action,
        "subject": row.subject,
        "detail": dict(row.detail),
        "address": row.address,
        "sign_in": row.sign_in,
    }


def _csv_line(values: tuple[str, ...]) -> str:
    line = StringIO()
    csv.writer(line).writerow(
        f"'{value}" if value.startswith(_FORMULA) else value for value in values
    )
    return line.getvalue()


def _csv(_session: Session, row: Entry, _site: str) -> str:
    said = as_json(row) | {"detail": json.dumps(dict(row.detail))}
    return _csv_line(tuple(str(said[column]) for column in COLUMNS))


def _jsonl(_session: Session, row: Entry, _site: str) -> str:
    return json.dumps(as_json(row)) + "\n"


def _dicom(session: Session, row: Entry, site: str) -> str:
    return message(session, row, site) + "\n"


_WRITERS: dict[Format, Callable[[Session, Entry, str], str]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "dicom": _dicom,
}
