"""What a step may know of the site's tables: the rows that are the exam's own, and no others.

Model code never sees a table: it holds other patients. The engine reads it before the step, by the
images as they came: the copies in the job's folder are within reach of model code.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.engine.fhir import values_of
from overread.errors import StepFailed
from overread.operators.clinical import Value, keys_of, open_table, row_is_of
from overread.store.archive import Archive
from overread.store.database import Database
from overread.store.exams import members
from overread.store.tables import Instance, Job

Rows = dict[str, dict[str, str]]
"""By the table's name, as `overread.pipelines.ports.Context` has it."""

_BYTES = 256 << 20


def asked(request: Mapping[str, Any]) -> dict[str, Value]:
    """Return those values of a step that stand in a table, by name."""
    return {name: value for name, value in values_of(request).items() if value.csv is not None}


def rows(values: Mapping[str, Value], headers: Iterable[Dataset], tables: Path) -> Rows:
    """Return of each table that is asked for the rows of an exam; of all others nothing.

    Parameters
    ----------
    values : mapping
        What the step asks for.
    headers : iterable of Dataset
        Of the exam's images, as they came.
    tables : Path
        The site's folder of them.

    Returns
    -------
    dict
        Table to ``rows``, the table's text in which each line of other exams is empty, and
        ``sha256`` of the whole table.

    Raises
    ------
    StepFailed
        A table is not there, or is none.
    """
    held = list(headers)
    by_table: dict[str, list[dict[str, set[str]]]] = {}
    for value in values.values():
        by_table.setdefault(str(value.csv), []).append(keys_of(held, value.match))
    return {name: _rows(tables / name, keys) for name, keys in by_table.items()}


def hand_over(request: dict[str, Any], database: Database, archive: Archive, tables: Path) -> None:
    """Give a job's step, by its request, the exam's rows of the tables that it names."""
    if values := asked(request):
        with database.read() as session:
            exam = session.get_one(Job, request["job"]).exam_id
            images = [image for image, _ in members(session, exam)]
            told = of_exam(session, archive, images, values, tables)
        request["context"]["tables"] = told


def of_exam(
    session: Session,
    archive: Archive,
    images: Sequence[Instance],
    values: Mapping[str, Value],
    tables: Path,
) -> Rows:
    """Return the rows of an exam of the store's.

    Where images of another patient have the same accession number, who takes a row by that number
    alone is told so, by ``refused``.
    """
    headers = (dcmread(archive.path(one.key), stop_before_pixels=True) for one in images)
    found = rows(values, headers, tables)
    if both := _of_two_patients(session, images):
        why = (
            f"accession number {', '.join(sorted(both))} is also another patient's, and the "
            "pipeline does not match the table by PatientID"
        )
        found = {name: {**facts, "refused": why} for name, facts in found.items()}
    return found


def _of_two_patients(session: Session, images: Sequence[Instance]) -> set[str]:
    patients = {(image.patient_id, image.issuer) for image in images}
    accessions = {image.accession for image in images} - {""}
    found = session.execute(
        select(Instance.accession, Instance.patient_id, Instance.issuer)
        .where(Instance.accession.in_(accessions))
        .distinct()
    )
    return {accession for accession, *patient in found if tuple(patient) not in patients}


def _rows(file: Path, wanted: list[dict[str, set[str]]]) -> dict[str, str]:
    try:
        if file.stat().st_size > _BYTES:
            raise StepFailed(f"table {file.name} is larger than {_BYTES >> 20} MB")
        raw = file.read_bytes()
        lines = list(io.StringIO(raw.decode("utf-8-sig"), newline=""))
        table = open_table(lines)
        table.fieldnames  # noqa: B018, reads the first line
        kept = lines[: table.line_num]
        for row in table:
            there = lines[len(kept) : table.line_num]
            is_mine = any(row_is_of(row, keys) for keys in wanted)
            kept += there if is_mine else ["\n"] * len(there)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StepFailed(f"table {file.name} cannot be read ({error})") from error
    return {"rows": "".join(kept), "sha256": hashlib.sha256(raw).hexdigest()}
