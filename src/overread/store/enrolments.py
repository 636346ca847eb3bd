"""Enrolment: which exams are cases of which project, and whose readings they wait for."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.store.tables import Enrolment


def of_exam(
    session: Session, root_id: str, projects: Collection[str] | None = None
) -> list[Enrolment]:
    """List the enrolments of an exam, by project.

    Parameters
    ----------
    root_id : str
        The exam's first revision.
    projects : collection of str, optional
        Only in these.
    """
    query = select(Enrolment).where(Enrolment.root_id == root_id).order_by(Enrolment.project)
    if projects is not None:
        query = query.where(Enrolment.project.in_(list(projects)))
    return list(session.scalars(query))


def enrol(session: Session, at: datetime, project: str, root_id: str, pipeline: str) -> Enrolment:
    """Make an exam a case of a project; the one that there is where it is already."""
    there = next(iter(of_exam(session, root_id, [project])), None)
    if there is not None:
        return there
    row = Enrolment(
        project=project, root_id=root_id, pipeline=pipeline, enrolled_at=at, ready_at=None
    )
    session.add(row)
    session.flush()
    return row
