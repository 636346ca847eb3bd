"""Whether what came under one StudyInstanceUID is of one patient.

A patient is a PatientID and its issuer. An empty PatientID identifies nobody: name and birth date
then stand for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    and_,
    bindparam,
    literal_column,
    or_,
    select,
)
from sqlalchemy.orm import Session

from overread.store.tables import Instance

NOT_KNOWN_AS_ONE = ("conflict", "unsettled")
"""Standings of a copy that says nothing of its patient or study until a person, or `settle`, has
decided."""

_SAYS_NOTHING = (*NOT_KNOWN_AS_ONE, "ours")
"""What we made has the patient of what it was made from, perhaps written in a cleaner way."""

_LAST_TEXT = "\U0010ffff"


def identity(patient_id: str, issuer: str, name: str, birth_date: str) -> tuple[str, str]:
    """Return what `are_one_patient` compares: the patient's id or what stands for it, and issuer.

    A PatientID holds no backslash, so that none is like what stands for it.
    """
    return patient_id or f"\\{name}\\{birth_date}", issuer


def are_one_patient(patients: Sequence[tuple[str, str]]) -> bool:
    """Say whether identities, as `identity` makes them, can be those of one patient.

    An issuer that is not known contradicts no other.
    """
    ids = {patient for patient, _ in patients}
    issuers = {issuer for _, issuer in patients if issuer}
    return len(ids) <= 1 and len(issuers) <= 1


def patients_of_study(session: Session, study_uid: str) -> list[tuple[str, str]]:
    """List the identities under which a StudyInstanceUID came, sorted.

    Conflicting and unsettled copies do not count, nor does what we made. More than one means that
    nothing of the study may go on until a person decides; see `are_one_patient` for two issuers of
    one PatientID.
    """
    rows = session.execute(
        select(
            Instance.patient_id,
            Instance.issuer,
            Instance.patient_name,
            Instance.patient_birth_date,
        )
        .where(Instance.study_uid == study_uid, Instance.standing.not_in(_SAYS_NOTHING))
        .distinct()
    )
    return sorted({identity(*row) for row in rows})


def came_under_another(session: Session, columns: Mapping[str, str]) -> bool:
    """Say whether a study came under another patient than that of an object's columns.

    The receiver asks for every image: the answer is at the edges of an index, so that a long study
    costs no more than a short one.
    """
    mine = {
        "study_uid": columns["study_uid"],
        "patient_id": columns["patient_id"],
        "issuer": columns["issuer"],
        "issuer_or_last": columns["issuer"] or _LAST_TEXT,
    }
    connection = session.connection()
    if connection.execute(_OTHER_ID_OR_ISSUER, mine).first() is not None:
        return True
    if columns["patient_id"]:
        return False
    mine = {key: columns[key] for key in ("study_uid", "patient_name", "patient_birth_date")}
    return connection.execute(_OTHER_WITHOUT_ID, mine).first() is not None


def _one_of(*edges: ColumnElement[bool]) -> Select[int]:
    says_it = Instance.standing.not_in(_SAYS_NOTHING)
    return select(Instance.id).where(or_(*edges), says_it).limit(1)


def _other_id_or_issuer() -> Select[int]:
    patient_id: BindParameter[str] = bindparam("patient_id")
    issuer: BindParameter[str] = bindparam("issuer")
    study = Instance.study_uid == bindparam("study_uid")
    same_id = and_(study, Instance.patient_id == patient_id)
    return _one_of(
        and_(study, Instance.patient_id < patient_id),
        and_(study, Instance.patient_id > patient_id),
        and_(same_id, Instance.issuer > "", Instance.issuer < issuer),
        # An issuer that is not known contradicts none: nothing is above the last one.
        and_(same_id, Instance.issuer > bindparam("issuer_or_last")),
    )


def _other_without_id() -> Select[int]:
    name: BindParameter[str] = bindparam("patient_name")
    birth_date: BindParameter[str] = bindparam("patient_birth_date")
    # As the index has it: a database uses that only where it sees the same condition.
    no_id = Instance.patient_id == literal_column("''")
    study = and_(Instance.study_uid == bindparam("study_uid"), no_id)
    same_name = and_(study, Instance.patient_name == name)
    return _one_of(
        and_(study, Instance.patient_name < name),
        and_(study, Instance.patient_name > name),
        and_(same_name, Instance.patient_birth_date < birth_date),
        and_(same_name, Instance.patient_birth_date > birth_date),
    )


# Made once, as they run for every image.
_OTHER_ID_OR_ISSUER = _other_id_or_issuer()
_OTHER_WITHOUT_ID = _other_without_id()
