"""May this actor do this, and why (not).

One function, one answer, with its reason. What may be done, and by which roles, is data: the table
`ACTIONS`. Every door asks here: pages, events, the API, the DICOMweb service.

A role is held for the whole site or for one project. What belongs to no project is for those who
hold their role for the whole site.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["reader", "screener", "coordinator", "data scientist", "engineer", "administrator"]
ROLES: tuple[Role, ...] = get_args(Role)

EVERY_PROJECT = ""
"""In a grant: the whole site."""


@dataclass(frozen=True)
class Grant:
    """A role that somebody holds.

    Attributes
    ----------
    role : str
        One of `ROLES`; any other may do nothing.
    project : str
        Name of the project that it is held for; empty for the whole site.
    """

    role: str
    project: str = EVERY_PROJECT


@dataclass(frozen=True)
class Actor:
    """Who asks.

    Attributes
    ----------
    name : str
        The user's name, as the audit has it.
    grants : frozenset of Grant
        The roles that the actor holds.
    id : str
        The user's opaque id.
    scopes : frozenset of str or None
        What a token is limited to: actions, or ``noun.*`` for all of a noun's; none where nothing
        is limited.
    """

    name: str
    grants: frozenset[Grant] = frozenset()
    id: str = ""
    scopes: frozenset[str] | None = None


@dataclass(frozen=True)
class Answer:
    """Yes or no, and why; the reason can be shown to the actor.

    Attributes
    ----------
    yes : bool
        Whether the actor may.
    reason : str
        One sentence.
    """

    yes: bool
    reason: str


@dataclass(frozen=True)
class Reach:
    """Where an actor may do something.

    Attributes
    ----------
    everywhere : bool
        On the whole site, in projects and outside of any.
    projects : frozenset of str
        Else: in these projects.
    """

    everywhere: bool
    projects: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Action:
    """Something that may be done.

    Attributes
    ----------
    name : str
        Noun and verb, such as ``case.see``.
    phrase : str
        How a sentence says it: "... may not *see jobs*".
    roles : frozenset of str
        The roles that may.
    of_site : bool
        Whether the role has to be held for the whole site: what is done is in no project.
    """

    name: str
    phrase: str
    roles: frozenset[str]
    of_site: bool = False


_ALL = frozenset(ROLES)
_STAFF = frozenset({"engineer", "administrator"})
_STUDY = frozenset({"coordinator", "data scientist", "administrator"})
_ADMINISTRATOR = frozenset({"administrator"})

ACTIONS: dict[str, Action] = {
    action.name: action
    for action in (
        Action("case.list", "list cases", _ALL),
        Action("case.see", "open a case", _ALL),
        Action("image.see", "see images", _ALL),
        Action(
            "image.edit",
            "keep an edited segmentation",
            frozenset({"reader", "screener", "coordinator", "administrator"}),
        ),
        Action("image.store", "store other objects", _STAFF, of_site=True),
        Action("image.route", "put objects on the routes", _STAFF, of_site=True),
        Action("reading.give", "read cases", frozenset({"reader"})),
        Action("reading.see", "see the readings of others", _STUDY),
        Action("result.list", "list results", _ALL),
        Action("project.see", "see a project's progress", _STUDY | _STAFF),
        Action("form.preview", "preview forms", _STUDY | _STAFF),
        Action("exam.list", "list exams", _STAFF),
        Action("exam.why", "see an exam's whole way", _STAFF | {"coordinator"}),
        Action("job.list", "list jobs", _STAFF),
        Action("job.see", "see a job and its log", _STAFF),
        Action("job.run", "retry or cancel a job", _STAFF),
        Action("aside.see", "see what was set aside", _STAFF, of_site=True),
        Action("delivery.list", "list deliveries", _STAFF, of_site=True),
        Action("delivery.run", "retry or hold a delivery", _STAFF, of_site=True),
        Action("model.list", "list models", _STAFF | {"data scientist"}, of_site=True),
        Action("pipeline.list", "list pipelines", _STAFF | {"data scientist"}, of_site=True),
        Action("route.see", "see and try routes", _STAFF, of_site=True),
        Action("site.see", "see how the site is", _STAFF, of_site=True),
        Action("user.list", "list users", _ADMINISTRATOR, of_site=True),
        Action("user.change", "change users and their roles", _ADMINISTRATOR, of_site=True),
        Action("audit.see", "see the audit", _ADMINISTRATOR, of_site=True),
        Action("account.see", "see the own account", _ALL),
    )
}


SCOPES: frozenset[str] = frozenset(ACTIONS) | {f"{name.partition('.')[0]}.*" for name in ACTIONS}
"""What a token can be limited to."""


def reach(actor: Actor | None, action: str) -> Reach:
    """Say where an actor may do something.

    Raises
    ------
    KeyError
        There is no such action: a defect of the caller.
    """
    asked = ACTIONS[action]
    if actor is None or not _in_scope(actor, action):
        return Reach(everywhere=False)
    held = [grant for grant in actor.grants if grant.role in asked.roles]
    if any(grant.project == EVERY_PROJECT for grant in held):
        return Reach(everywhere=True)
    projects = frozenset() if asked.of_site else frozenset(grant.project for grant in held)
    return Reach(everywhere=False, projects=projects)


def may(
    actor: Actor | None,
    action: str,
    resource: str = "",
    *,
    projects: Collection[str] | None = None,
) -> Answer:
    """Say whether an actor may do something.

    Parameters
    ----------
    actor : Actor or None
        Who asks; none where nobody has signed in.
    action : str
        A key of `ACTIONS`.
    resource : str
        Kind and opaque id of what it is done to, such as ``case 3f…``; named in the reason.
    projects : collection of str, optional
        The projects that the resource belongs to, empty for none; where left out it is asked
        whether the actor may do this anywhere at all.

    Returns
    -------
    Answer
        Yes or no, with its reason.

    Raises
    ------
    KeyError
        There is no such action: a defect of the caller.
    """
    asked = ACTIONS[action]
    of = f" ({resource})" if resource else ""
    if actor is None:
        return Answer(False, f"nobody is signed in; sign in to {asked.phrase}{of}")
    if not _in_scope(actor, action):
        return Answer(False, f"this token of {actor.name} is not made to {asked.phrase}{of}")
    where = reach(actor, action)
    if where.everywhere or (where.projects if projects is None else where.projects & {*projects}):
        return Answer(True, f"{actor.name} may {asked.phrase}{of}")
    if where.projects:
        held_for = ", ".join(sorted(where.projects))
        return Answer(False, f"{actor.name} may {asked.phrase} in {held_for} only, not here{of}")
    roles = ", ".join(sorted({grant.role for grant in actor.grants})) or "without a role"
    allowed = " or ".join(role for role in ROLES if role in asked.roles)
    held = f"{allowed} of the whole site" if asked.of_site else allowed
    return Answer(False, f"{actor.name} is {roles}; to {asked.phrase}{of} needs {held}")


def _in_scope(actor: Actor, action: str) -> bool:
    noun = action.partition(".")[0]
    return actor.scopes is None or bool(actor.scopes & {action, f"{noun}.*"})
