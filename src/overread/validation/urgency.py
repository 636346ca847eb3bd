"""Whether a case's results make it urgent, by its project's rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from overread.validation.project import Urgent
from overread.validation.results import Classification, Detections, Measurements

Finding = Measurements | Detections | Classification


@dataclass(frozen=True)
class _Said:
    """One thing that a result says: a label with its probability, or a measured value."""

    value: float
    label: str = ""
    region: str = ""
    quantity: str = ""


def is_urgent(rules: Iterable[Urgent], findings: Collection[Finding]) -> bool:
    """Say whether one of the rules is met by one finding.

    A rule with labels is about classifications and detections, any other about measurements.
    """
    said = [one for finding in findings for one in _said(finding)]
    return any(_meets(rule, one) for rule in rules for one in said)


def _said(finding: Finding) -> Iterator[_Said]:
    if isinstance(finding, Measurements):
        for item in finding.items:
            yield _Said(item.value, region=item.region, quantity=item.quantity)
    elif isinstance(finding, Detections):
        for found in finding:
            yield _Said(found.score, label=found.label)
    else:
        for one in finding:
            yield _Said(one.probability, label=one.label, region=one.region)


def _meets(rule: Urgent, said: _Said) -> bool:
    if rule.label:
        fits = said.label in rule.label
    else:
        fits = not said.label and said.quantity == rule.quantity
    if rule.region and said.region != rule.region:
        return False
    return fits and (rule.above is None or said.value > rule.above)
