"""Exams found by accession number, PatientID or the beginning of a name, by indexes alone."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, exists, select, true
from sqlalchemy.orm import Session

from overread.store.tables import Enrolment, Exam, name_key
from overread.validation.permissions import Reach

MOST = 500
"""Exams that are found at most by each of the three."""
_LAST = "\U0010ffff"


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes
    ----------
    root_ids : tuple of str
        Of the exams, by their first revisions.
    is_cut : bool
        Whether more than `MOST` begin so; the rest was not looked at.
    """

    root_ids: tuple[str, ...]
    is_cut: bool = False


def find(session: Session, text: str, where: Reach) -> Found:
    """Find exams within reach.

    Accession number and PatientID are as written, or in capitals; of a name it takes the beginning,
    family name first, whatever its case and accents.

    Parameters
    ----------
    text : str
        As typed.
    """
    text = text.strip()
    key = name_key(text)
    if not text:
        return Found(())
    written = (text, text.upper())
    found: dict[str, None] = {}
    is_cut = False
    for condition, order in (
        (Exam.accession.in_(written), Exam.id),
        (Exam.patient_id.in_(written), Exam.id),
        ((Exam.name_key >= key) & (Exam.name_key < key + _LAST), Exam.name_key),
    ):
        seen = select(Exam.root_id).where(condition, _within(where))
        query = seen.order_by(order, Exam.id).limit(MOST + 1)
        roots = list(session.scalars(query)) if key else []
        is_cut |= len(roots) > MOST
        found |= dict.fromkeys(roots[:MOST])
    return Found(tuple(found), is_cut)


def _within(where: Reach) -> ColumnElement[bool]:
    """Return the condition of reach, asked of one exam after the other in the order of an index.

    So the search ends with the first `MOST` that are seen: what is not seen neither takes their
    places nor makes it say that there are more.
    """
    if where.everywhere:
        return true()
    enrolled = Enrolment.root_id == Exam.root_id
    return exists().where(enrolled, Enrolment.project.in_(sorted(where.projects)))
