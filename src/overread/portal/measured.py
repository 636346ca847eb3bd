"""What was measured, laid out for a page: each quantity over the patient's exams, and all the rest.

A *course* is one declared series: its rows in the table, its lines in the plot, and the numbers of
the exam that is open, which stand large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from overread.measures.progression import (
    FIRST,
    NADIR,
    Level,
    Line,
    Row,
    Rule,
    levels,
    progression,
)
from overread.store.history import Number, Visit
from overread.store.tables import Result
from overread.validation.page import Page, Series, Threshold
from overread.validation.results import Measurement

MOST_LARGE = 6
"""Numbers that stand large; more of them are read in the table."""

_ARROW = {"increase": "▲", "decrease": "▼", "": ""}


@dataclass(frozen=True)
class Entry:
    """A row of the table, and a point of the plot.

    Attributes
    ----------
    row : Row
        The number, and how it stands to its baseline.
    is_current : bool
        Whether it is of the case that is open.
    is_first : bool
        Whether it is the first of its exam in the table.
    look : str
        How its line is drawn: ``l0``, ``l1``, … of models, ``e0``, … of readers.
    mark : str
        Which threshold it reaches, in words; empty for none.
    differs : str
        How its acquisition differs from the baseline's, in words; empty where it does not.
    detail : str
        The same with what either was.
    """

    row: Row
    number: Number
    visit: Visit
    is_current: bool
    is_first: bool
    look: str
    mark: str
    differs: str
    detail: str


@dataclass(frozen=True)
class Drawn:
    """A line of the plot.

    Attributes
    ----------
    label : str
        Region and source, as far as they tell the lines apart.
    entries : tuple of Entry
        Oldest first, the dated ones.
    levels : tuple of Level
        Where it reaches a threshold.
    """

    look: str
    label: str
    entries: tuple[Entry, ...]
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class Course:
    """One quantity over a patient's exams.

    Attributes
    ----------
    title : str
    unit : str
        UCUM, of all its numbers; empty where they have several.
    start : str
        Which exam is the baseline: ``first``, ``nadir``, or an exam's root id.
    entries : tuple of Entry
        Newest first.
    large : tuple of Entry
        The model's own numbers of the exam that is open.
    lines : tuple of Drawn
    """

    series: Series
    title: str
    unit: str
    start: str
    entries: tuple[Entry, ...]
    large: tuple[Entry, ...]
    lines: tuple[Drawn, ...]

    @property
    def is_plotted(self) -> bool:
        """Whether there are two times to draw a line between."""
        return len({one.visit.at for line in self.lines for one in line.entries}) > 1


def courses(visits: Sequence[Visit], current: str, page: Page, start: str = "") -> list[Course]:
    """Lay out what a page shows over time; a series of which nothing was measured is left out.

    Parameters
    ----------
    visits : sequence of Visit
        The patient's exams.
    current : str
        Root id of the exam that is open.
    start : str
        The baseline that was chosen: ``first``, ``nadir``, or what a visit is linked by; each
        series' own where empty, or where there is no such exam.
    """
    by_link = {visit.link: visit.case.id for visit in visits}
    chosen = start if start in (FIRST, NADIR) else by_link.get(start, "")
    numbers = [number for visit in visits for number in visit.numbers]
    laid = [
        _course(visits, current, one, chosen or one.baseline)
        for one in page.series or _own_series(numbers)
    ]
    return [one for one in laid if one.entries]


def _own_series(numbers: Sequence[Number]) -> list[Series]:
    quantities = list(dict.fromkeys(one.item.quantity for one in numbers))
    return [Series(quantity=one) for one in (["volume"] if "volume" in quantities else quantities)]


def _course(visits: Sequence[Visit], current: str, series: Series, start: str) -> Course:
    here = {
        (number.point.exam, number.point.line): (number, visit)
        for visit in visits
        for number in visit.numbers
        if number.item.quantity == series.quantity
        and (not series.regions or number.item.region in series.regions)
    }
    threshold = series.threshold or None
    rows = progression((number.point for number, _ in here.values()), _rule(series), start)
    lines = _in_order({row.point.line for row in rows}, here, series, current)
    looks = _looks(lines, {line: here[exam, line][0] for exam, line in here})
    at = {line: place for place, line in enumerate(lines)}
    made = [
        _entry(row, *here[row.point.exam, row.point.line], current, looks, threshold)
        for row in rows
    ]
    of_line = {
        line: tuple(one for one in made if one.row.point.line == line) for line in lines
    }
    exams = list(dict.fromkeys(row.point.exam for row in rows))
    dated = [exam for exam in reversed(exams) if _is_dated(exam, made)]
    order = {exam: place for place, exam in enumerate([*dated, *(set(exams) - set(dated))])}
    made.sort(key=lambda one: (order[one.row.point.exam], at[one.row.point.line]))
    units = {line.unit for line in lines}
    return Course(
        series,
        series.title or series.quantity.capitalize(),
        units.pop() if len(units) == 1 else "",
        start,
        tuple(made),
        tuple(one for one in made if one.is_current and not one.number.source.is_edit),
        tuple(_drawn(line, of_line[line], lines, looks, series) for line in lines),
    )
