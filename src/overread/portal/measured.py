"""What was measured, laid out for a page: every number with its unit and method, by region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from overread.store.cases import Case
from overread.store.tables import Result
from overread.validation.results import Measurement


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes
    ----------
    item : Measurement
    note : int
        Which of the table's methods, from 1.
    change : float or None
        Of a volume, in per cent from the patient's first exam.
    """

    item: Measurement
    note: int
    change: float | None = None


@dataclass(frozen=True)
class Group:
    """The numbers of one region.

    Attributes
    ----------
    colour : str
        ``#rrggbb``, as the region is drawn over the images; empty where it is not.
    """

    region: str
    colour: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Sheet:
    """All numbers of a case.

    Attributes
    ----------
    only : Measurement or None
        The volume, where there is but one: it is shown large, and not in the table.
    change : float or None
        Of that one.
    groups : tuple of Group
        In the order in which the regions were measured.
    methods : tuple of str
        How the numbers were come by, each method once.
    """

    only: Measurement | None
    change: float | None
    groups: tuple[Group, ...]
    methods: tuple[str, ...]


def sheet(
    case: Case, results: Sequence[Result], changes: Mapping[str, float | None] | None = None
) -> Sheet:
    """Lay out the measurements of a case.

    Parameters
    ----------
    results : sequence of Result
        Of the same job: they say which colour a region is drawn in.
    changes : mapping of str to float, optional
        Region to change of its volume, as `overread.store.history.Point` has it.
    """
    changes = changes or {}
    methods = tuple(dict.fromkeys(item.method for item in case.measurements if item.method))
    only = case.volumes[0] if len(case.volumes) == 1 else None
    regions: dict[str, list[Row]] = {}
    for item in case.measurements:
        if item is not only:
            note = methods.index(item.method) + 1 if item.method else 0
            change = changes.get(item.region) if item.quantity == "volume" else None
            regions.setdefault(item.region, []).append(Row(item, note, change))
    colours = _colours(results)
    groups = [
        Group(region, colours.get(region, ""), tuple(rows)) for region, rows in regions.items()
    ]
    return Sheet(only, changes.get(only.region) if only else None, tuple(groups), methods)


def _colours(results: Sequence[Result]) -> dict[str, str]:
    # What older versions kept of a segment was its label alone.
    return {
        segment["label"]: "#{:02x}{:02x}{:02x}".format(*segment["colour"])
        for result in results
        for segment in result.data.get("segments", ())
        if isinstance(segment, dict) and segment.get("colour")
    }
