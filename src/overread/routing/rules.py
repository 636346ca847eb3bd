"""Which AE titles an instance goes to, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field
from pydicom import Dataset

from overread.dicom.match import Condition
from overread.dicom.study import Origin
from overread.settings import AETitle, Frozen


class Route(Frozen):
    """A rule: a condition on tags and association, and the AE titles that match goes to.

    Attributes
    ----------
    name : str
        Unique in the site; recorded with everything that the route sends.
    when : Condition
        What the instance's header and its association must say.
    send_to : tuple of str
        AE titles of destinations or of pipelines.
    """

    name: str = Field(min_length=1)
    when: Condition
    send_to: tuple[AETitle, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Decision:
    """Whether one instance goes to one AE title by one route.

    Attributes
    ----------
    route : str
        Name of the route.
    ae_title : str
        Where the route would send it.
    send : bool
        Whether it is sent there.
    why : dict
        ``reason`` (text) and ``condition`` (the condition's explanation), plain JSON.
    """

    route: str
    ae_title: str
    send: bool
    why: dict[str, Any]


def decide(
    routes: Sequence[Route], header: Dataset, origin: Origin, sender: str = ""
) -> list[Decision]:
    """Decide, for each route and each AE title that it names, in the order of the routes.

    An AE title is sent to once, by the first route that matches. Nothing is sent to the AE title
    that it came from, or to the one that it was sent to.

    Parameters
    ----------
    sender : str
        What routes call the peer that it came from, where that is not its own AE title (a
        destination that is called by another one).

    Returns
    -------
    list of Decision
        One for each route and AE title, those not sent included, each with its reason.
    """
    decisions: list[Decision] = []
    taken: dict[str, str] = {}
    for route in routes:
        explanation = route.when.explain(header, origin)
        for ae_title in dict.fromkeys(route.send_to):
            if not explanation.true:
                send, reason = False, "its condition is not met"
            elif ae_title in (origin.calling_ae_title, sender):
                send, reason = False, "it came from there; nothing is sent back"
            elif ae_title == origin.called_ae_title:
                send, reason = False, "the sender sent it there itself"
            elif ae_title in taken:
                send, reason = False, f"route {taken[ae_title]!r} sends it there already"
            else:
                send, reason = True, "its condition is met"
                taken[ae_title] = route.name
            why = {"reason": reason, "condition": explanation.to_json()}
            decisions.append(Decision(route.name, ae_title, send, why))
    return decisions
