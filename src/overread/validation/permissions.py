"""May this actor do this, and why (not).

One function, one answer, with its reason. What may be done, and by which roles, is data: the table
`ACTIONS`. Every door of the portal asks here, the DICOMweb service too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["reader", "engineer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Actor:
    """Who asks.

    Attributes
    ----------
    name : str
        The user's name, as the audit has it.
    role : str
        One of `ROLES`; any other may do nothing.
    """

    name: str
    role: str


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
    """

    name: str
    phrase: str
    roles: frozenset[str]


_ALL = frozenset(ROLES)
_STAFF = frozenset({"engineer", "admin"})

ACTIONS: dict[str, Action] = {
    action.name: action
    for action in (
        Action("case.list", "list the cases", _ALL),
        Action("case.see", "open a case", _ALL),
        Action("image.see", "see images", _ALL),
        Action("image.store", "store objects", _ALL),
        Action("image.route", "put objects on the routes", _STAFF),
        Action("exam.list", "list exams", _STAFF),
        Action("aside.see", "see what was set aside", _STAFF),
        Action("job.list", "list jobs", _STAFF),
        Action("job.see", "see a job and its log", _STAFF),
        Action("result.list", "list results", _ALL),
    )
}


def may(actor: Actor | None, action: str, resource: str = "") -> Answer:
    """Say whether an actor may do something.

    Parameters
    ----------
    actor : Actor or None
        Who asks; none where nobody has signed in.
    action : str
        A key of `ACTIONS`.
    resource : str
        Kind and opaque id of what it is done to, such as ``case 3f…``; named in the reason.

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
    if actor.role in asked.roles:
        return Answer(True, f"{actor.role}s may {asked.phrase}{of}")
    allowed = " or ".join(role for role in ROLES if role in asked.roles)
    return Answer(
        False,
        f"{actor.name} is {actor.role or 'without a role'}; to {asked.phrase}{of} needs {allowed}",
    )
