"""A project: whose exams are its cases, who may do what, what a reader is shown and asked.

This is what ``projects/*.yaml`` holds.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator

from overread.dicom.match import Condition
from overread.settings import Duration, Frozen
from overread.validation.page import Page
from overread.validation.permissions import Grant, Role

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]


class Members(Frozen):
    """Who holds a role in a project.

    Attributes
    ----------
    users : tuple of str
        Names that they sign in with.
    groups : tuple of str
        Groups of the directory or identity provider, as it names them.
    """

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class Urgent(Frozen):
    """Which results make a case urgent: it is read first, and readers are told at once.

    All that is given must be so of one finding.

    Attributes
    ----------
    label : tuple of str
        A classification or detection with one of these labels.
    region : str
        A measurement of this region; any where empty.
    quantity : str
        The measured quantity.
    above : float, optional
        In the measurement's unit, or the probability of the class.
    """

    label: tuple[str, ...] = ()
    region: str = ""
    quantity: str = "volume"
    above: float | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Urgent:
        if not self.label and self.above is None:
            raise ValueError("it says nothing; write `label:` or `above:`")
        return self


class Notify(Frozen):
    """When a reader is told, without patient data, that there is something to read.

    Attributes
    ----------
    ready : bool
        Of every case that is ready.
    urgent : bool
        Of an urgent one.
    """

    ready: bool = False
    urgent: bool = True


class Project(Frozen):
    """The definition of a project.

    Attributes
    ----------
    pipelines : tuple of str
        Names of the pipelines whose exams are its cases.
    enrol : Condition
        On the exam's first image: which of them; all where left out.
    members : dict
        Role to who holds it in this project. Who holds a role for the whole site holds it here too.
    form : str
        Name of the form that a reader fills in: ``forms/NAME.json``; none where cases are only
        looked at.
    due : timedelta, optional
        How long after its result a case is overdue.
    """

    name: Name
    title: str = Field(default="", max_length=80)
    pipelines: tuple[str, ...] = Field(min_length=1)
    enrol: Condition | None = None
    members: dict[Role, Members] = Field(default_factory=dict)
    form: str = ""
    due: Duration | None = None
    urgent: tuple[Urgent, ...] = ()
    notify: Notify = Notify()
    page: Page = Page()

    @property
    def shown(self) -> str:
        """What it is called on pages."""
        return self.title or self.name

    def grants(self, user: str, groups: frozenset[str]) -> frozenset[Grant]:
        """Return the roles that a user holds in this project, by name or by group."""
        return frozenset(
            Grant(role, self.name)
            for role, members in self.members.items()
            if user in members.users or groups & set(members.groups)
        )

    def is_overdue(self, waited: timedelta) -> bool:
        """Say whether a case that has waited so long for its reading is overdue."""
        return self.due is not None and waited > self.due
