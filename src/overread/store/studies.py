"""What was kept, as studies, series and instances: the queries behind DICOMweb and the viewer.

Only the first copy of an instance is seen here. Variants, conflicts and what could not be read are
shown elsewhere, to those who must decide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, distinct, select
from sqlalchemy import func as sql
from sqlalchemy.orm import Session

from overread.store.tables import Instance

SHOWN = ("kept", "ours", "fetched")
"""Standings that are shown: the first copy of what came, what we made, what we fetched."""

Level = Literal["study", "series", "instance"]

OF_STUDY = [
    "study_uid", "patient_id", "issuer", "patient_name", "patient_birth_date", "patient_sex",
    "accession", "study_id", "study_date", "study_time", "study_description",
]  # fmt: skip
"""Columns of an instance that say of which study, and whose, it is."""
_SERIES = [
    "series_uid", "modality", "series_number", "series_description", "series_date", "series_time",
    "body_part",
]  # fmt: skip
_INSTANCE = [
    "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "instance_number", "rows",
    "columns", "frames",
]  # fmt: skip

MATCHABLE: dict[str, str] = {
    "StudyInstanceUID": "study_uid",
    "PatientID": "patient_id",
    "IssuerOfPatientID": "issuer",
    "PatientName": "patient_name",
    "PatientBirthDate": "patient_birth_date",
    "PatientSex": "patient_sex",
    "AccessionNumber": "accession",
    "StudyID": "study_id",
    "StudyDate": "study_date",
    "StudyTime": "study_time",
    "StudyDescription": "study_description",
    "SeriesInstanceUID": "series_uid",
    "Modality": "modality",
    "SeriesNumber": "series_number",
    "SeriesDescription": "series_description",
    "BodyPartExamined": "body_part",
    "SOPInstanceUID": "sop_instance_uid",
    "SOPClassUID": "sop_class_uid",
    "InstanceNumber": "instance_number",
}
"""Attributes that can be matched, and the column of each (PS3.18 table 10.6.1-5)."""

_RANGES = frozenset({"StudyDate", "StudyTime", "PatientBirthDate"})
_LISTS = frozenset({"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"})


@dataclass(frozen=True)
class Found:
    """One study, series or instance that matched.

    Attributes
    ----------
    values : mapping
        Column to value, for the columns of its level and of those above.
    modalities : tuple of str
        Of the study; at study level only.
    series, instances : int
        How many series and instances lie below.
    """

    values: Mapping[str, Any]
    modalities: tuple[str, ...] = ()
    series: int = 0
    instances: int = 0


def _condition(keyword: str, value: str) -> ColumnElement[bool]:
    """Match one attribute as PS3.4 section C.2.2.2 has it: single value, list, wildcard, range."""
    column = getattr(Instance, MATCHABLE[keyword])
    if keyword in _LISTS:
        condition: ColumnElement[bool] = column.in_(re.split(r"[,\\]", value))
    elif keyword in _RANGES and "-" in value:
        low, _, high = value.partition("-")
        condition = column != ""
        if low:
            condition &= column >= low
        if high:
            condition &= column <= high
    elif "*" in value or "?" in value:
        pattern = re.sub(r"([\\%_])", r"\\\1", value).replace("*", "%").replace("?", "_")
        condition = column.ilike(pattern, escape="\\")
    elif keyword == "PatientName":
        condition = sql.lower(column) == value.lower()
    else:
        condition = column == value
    return condition


def _where(matches: Mapping[str, str], modalities: Sequence[str]) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [Instance.standing.in_(SHOWN)]
    conditions += [_condition(keyword, value) for keyword, value in matches.items() if value]
    if modalities:
        with_modality = select(Instance.study_uid).where(
            Instance.modality.in_(modalities), Instance.standing.in_(SHOWN)
        )
        conditions.append(Instance.study_uid.in_(with_modality))
    return conditions


def search(
    session: Session,
    level: Level,
    matches: Mapping[str, str],
    *,
    seen: ColumnElement[bool],
    modalities: Sequence[str] = (),
    limit: int = 1000,
    offset: int = 0,
) -> list[Found]:
    """Search at one level.

    A study that came under two patients is found twice, once under each.

    Parameters
    ----------
    matches : mapping
        Keyword of `MATCHABLE` to the value sought.
    seen : condition
        On an instance: whether it is for the one who asks (`overread.store.visible`).
    modalities : sequence of str
        ModalitiesInStudy: studies with any of these.
    """
    conditions = [*_where(matches, modalities), seen]
    if level == "instance":
        names = [*OF_STUDY, *_SERIES, *_INSTANCE]
        rows: Select[Any] = select(*(getattr(Instance, name) for name in names)).where(*conditions)
        rows = rows.order_by(Instance.study_uid, Instance.series_uid, Instance.id)
        answer = session.execute(rows.limit(limit).offset(offset))
        return [Found(dict(zip(names, row, strict=True))) for row in answer]
    return _grouped(session, level, conditions, seen=seen, limit=limit, offset=offset)


def _grouped(
    session: Session,
    level: Level,
    conditions: Sequence[ColumnElement[bool]],
    *,
    seen: ColumnElement[bool] | None = None,
    limit: int = 1000,
    offset: int = 0,
) -> list[Found]:
    # Not by issuer: what we make of an image has none where only the sender's default gave one.
    keys = ["study_uid", "patient_id"] + (["series_uid"] if level == "series" else [])
    names = OF_STUDY + (_SERIES if level == "series" else [])
    columns = [
        getattr(Instance, name) if name in keys else sql.max(getattr(Instance, name)).label(name)
        for name in names
    ]
    grouped = (
        select(*columns, sql.count(distinct(Instance.series_uid)), sql.count(Instance.id))
        .where(*conditions)
        .group_by(*(getattr(Instance, key) for key in keys))
        .order_by(sql.max(Instance.study_date).desc(), Instance.study_uid, sql.min(Instance.id))
    )
    rows_ = session.execute(grouped.limit(limit).offset(offset)).all()
    present = {}
    if level == "study":
        present = _modalities(session, [row[0] for row in rows_], seen)
    return [
        Found(
            dict(zip(names, row, strict=False)),
            present.get((row[0], row[1]), ()),
            row[-2],
            row[-1],
        )
        for row in rows_
    ]


def _modalities(
    session: Session, study_uids: Sequence[str], seen: ColumnElement[bool] | None
) -> dict[tuple[str, str], tuple[str, ...]]:
    rows = session.execute(
        select(Instance.study_uid, Instance.patient_id, Instance.modality)
        .where(
            Instance.study_uid.in_(study_uids),
            Instance.standing.in_(SHOWN),
            *([] if seen is None else [seen]),
        )
        .distinct()
        .order_by(Instance.modality)
    )
    present: dict[tuple[str, str], tuple[str, ...]] = {}
    for study_uid, patient_id, modality in rows:
        key = (study_uid, patient_id)
        present[key] = (*present.get(key, ()), modality)
    return present


def instances(
    session: Session,
    study_uid: str,
    series_uid: str = "",
    sop_instance_uid: str = "",
    *,
    seen: ColumnElement[bool] | None = None,
) -> list[Instance]:
    """List the instances of a study, a series, or the one instance, in the order they came.

    Parameters
    ----------
    seen : condition, optional
        On an instance: whether it is for the one who asks (`overread.store.visible`); left out by
        what gives nobody the images themselves.
    """
    query = select(Instance).where(Instance.study_uid == study_uid, Instance.standing.in_(SHOWN))
    if seen is not None:
        query = query.where(seen)
    if series_uid:
        query = query.where(Instance.series_uid == series_uid)
    if sop_instance_uid:
        query = query.where(Instance.sop_instance_uid == sop_instance_uid)
    return list(session.scalars(query.order_by(Instance.series_uid, Instance.id)))


def under_accession(session: Session, accession: str) -> list[Found]:
    """List the studies that came with an accession number, one for each patient and study."""
    if not accession:
        return []
    return _grouped(
        session, "study", [Instance.standing.in_(SHOWN), Instance.accession == accession]
    )
