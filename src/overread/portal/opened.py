"""The case that an address names, for who may see it: every page and route of one case asks here.

An address names a case by its enrolment. An exam's id leads to its enrolment; of an exam that is in
no project it is the address itself, for those who hold their role for the whole site.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from overread.portal.state import Portal
from overread.store import cases, enrolments, visible
from overread.store.cases import Case
from overread.store.tables import Enrolment
from overread.store.users import Signed
from overread.store.visible import Sight
from overread.validation.page import Page
from overread.validation.permissions import may, reach
from overread.validation.project import Project


class NoSuchCase(Exception):
    """There is none that the one who asks may see; the application answers 404, whichever it is."""


class SeveralCases(Exception):
    """An exam's id leads to several cases, and the page has to ask which is meant.

    Attributes
    ----------
    enrolments : list of Enrolment
        Those that the one who asks may see.
    """

    def __init__(self, found: Sequence[Enrolment]) -> None:
        super().__init__("the exam is a case of several projects")
        self.enrolments = list(found)


@dataclass(frozen=True)
class Opened:
    """A case, as somebody sees it.

    Attributes
    ----------
    case : Case
        The exam, its job, and the model's results.
    enrolment : Enrolment or None
        Which project's case it is; none for an exam in no project.
    project : Project or None
        As the site defines it; none where it is in none, or the site does not define it any more.
    sight : Sight
        What the one who asks may see.
    """

    case: Case
    enrolment: Enrolment | None
    project: Project | None
    sight: Sight

    @property
    def id(self) -> str:
        """What addresses name it by."""
        return self.enrolment.id if self.enrolment is not None else self.case.id

    @property
    def projects(self) -> list[str]:
        """The projects that `overread.validation.permissions.may` has to be asked with."""
        return [self.enrolment.project] if self.enrolment is not None else []

    @property
    def page(self) -> Page:
        """What its page shows."""
        return self.project.page if self.project is not None else Page()


def find(
    portal: Portal, session: Session, signed: Signed, case_id: str, action: str = "case.see"
) -> Opened:
    """Return the case that an address names.

    Parameters
    ----------
    case_id : str
        Of an enrolment, or of an exam's first revision.
    action : str
        What the one who is signed in has to be allowed to do to it.

    Raises
    ------
    NoSuchCase
        There is none, or it is not for the one who asks.
    SeveralCases
        The exam is a case of several projects that they may see.
    """
    enrolment = session.get(Enrolment, case_id)
    where = reach(signed.actor, action)
    if enrolment is None:
        within = None if where.everywhere else where.projects
        found = enrolments.of_exam(session, case_id, within)
        if len(found) > 1:
            raise SeveralCases(found)
        enrolment = found[0] if found else None
        if enrolment is None and not where.everywhere:
            raise NoSuchCase("There is no such case")
    elif not may(signed.actor, action, projects=[enrolment.project]).yes:
        raise NoSuchCase("There is no such case")
    case = cases.find_case(session, enrolment.root_id if enrolment is not None else case_id)
    if case is None:
        raise NoSuchCase("There is no such case")
    project = portal.site.projects.get(enrolment.project) if enrolment is not None else None
    sight = visible.sight(signed.actor)
    if enrolment is not None:
        sight = replace(sight, project=enrolment.project)
    return Opened(case, enrolment, project, sight)
