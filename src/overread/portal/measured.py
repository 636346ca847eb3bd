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
from overread.store.history import Number, Source, Visit
from overread.store.tables import Result
from overread.validation.page import Page, Series, Threshold
from overread.validation.results import Measurement

MOST_LARGE = 6
"""Numbers that stand large; more of them are read in the table."""

LOOKS = 6
"""Ways in which lines are told apart; a seventh looks like the first, and has its own words."""

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
    newest = _newest_first(visits, current)
    numbers = [one for visit in newest for one in visit.numbers if _is_of(series, one.item)]
    rows = progression((one.point for one in numbers), _rule(series), start)
    row_of = {(row.point.exam, row.point.line): row for row in rows}
    source_of = {one.point.line: one.source for one in numbers}
    lines = _in_order(numbers, series)
    looks = _looks(lines, source_of)
    entries = []
    for visit in _newest_first(visits):
        of_exam = [one for one in visit.numbers if one.point.line in looks]
        of_exam.sort(key=lambda one: lines.index(one.point.line))
        for place, number in enumerate(of_exam):
            entries.append(
                _entry(
                    row_of[number.point.exam, number.point.line],
                    number,
                    visit,
                    series,
                    look=looks[number.point.line],
                    is_first=place == 0,
                    is_current=visit.case.id == current,
                )
            )
    units = {line.unit for line in lines}
    return Course(
        series,
        series.title or series.quantity.capitalize(),
        units.pop() if len(units) == 1 else "",
        start,
        tuple(entries),
        tuple(one for one in entries if one.is_current and not one.number.source.is_edit),
        tuple(_drawn(line, looks, source_of, entries, _rule(series)) for line in lines),
    )


def _newest_first(visits: Sequence[Visit], first: str = "") -> list[Visit]:
    """Sort the visits: a given one first, the newest, then on; those without a date last."""
    dated = [visit for visit in visits if visit.at is not None]
    undated = [visit for visit in visits if visit.at is None]
    return sorted([*reversed(dated), *undated], key=lambda visit: visit.case.id != first)


def _is_of(series: Series, item: Measurement) -> bool:
    return item.quantity == series.quantity and (
        not series.regions or item.region in series.regions
    )


def _in_order(numbers: Sequence[Number], series: Series) -> list[Line]:
    """Sort the lines: by region as declared or as met, models before readers."""
    regions = [*series.regions, *dict.fromkeys(one.item.region for one in numbers)]
    return list(
        dict.fromkeys(
            one.point.line
            for one in sorted(
                numbers, key=lambda one: (regions.index(one.item.region), one.source.is_edit)
            )
        )
    )


def _looks(lines: Sequence[Line], source_of: Mapping[Line, Source]) -> dict[Line, str]:
    looks: dict[Line, str] = {}
    for kind, is_edit in (("l", False), ("e", True)):
        of_kind = [line for line in lines if source_of[line].is_edit == is_edit]
        looks |= {line: f"{kind}{place % LOOKS}" for place, line in enumerate(of_kind)}
    return looks


def _rule(series: Series) -> Rule:
    said = series.threshold
    if said is None:
        return Rule(repeatability=series.repeatability)
    return Rule(said.increase, said.decrease, said.absolute, series.repeatability)


def _entry(
    row: Row,
    number: Number,
    visit: Visit,
    series: Series,
    *,
    look: str,
    is_first: bool,
    is_current: bool,
) -> Entry:
    told, base = row.point.how, row.baseline.how if row.baseline is not None else {}
    detail = [f"{key} {told[key]}; at the baseline {base[key]}" for key in row.differs]
    return Entry(
        row,
        number,
        visit,
        is_current,
        is_first,
        look,
        _mark(row, series.threshold),
        f"other {_listed(row.differs)}" if row.differs else "",
        "; ".join(detail),
    )


def _mark(row: Row, threshold: Threshold | None) -> str:
    if not row.crossed:
        return ""
    words = threshold.words if threshold is not None and threshold.words else "threshold"
    error = ", within measurement error" if row.is_within_error else ""
    return f"{_ARROW[row.crossed]}\N{NO-BREAK SPACE}{words}{error}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([part for part in (", ".join(words[:-1]), words[-1]) if part])


def _drawn(
    line: Line,
    looks: Mapping[Line, str],
    source_of: Mapping[Line, Source],
    entries: Sequence[Entry],
    rule: Rule,
) -> Drawn:
    of_line = [one for one in entries if one.row.point.line == line and one.visit.at is not None]
    of_line.reverse()
    base = next((one.row.baseline for one in of_line if one.row.baseline is not None), None)
    several = len({other.region for other in source_of}) > 1
    words = source_words(source_of[line], with_version=not source_of[line].is_edit)
    return Drawn(
        looks[line],
        f"{line.region} · {words}" if several else words,
        tuple(of_line),
        tuple(levels(base, rule)) if base is not None else (),
    )


def source_words(source: Source, *, with_version: bool = True) -> str:
    """Write whose a number is: ``model 1.0.0``, ``you · v2``, ``rosa · v1``."""
    if source.is_edit:
        who = "you" if source.is_own else source.name
        return f"{who} · {source.version}" if with_version else who
    kind = source.key.partition(" ")[0]
    return f"{kind} {source.version}"


@dataclass(frozen=True)
class Fact:
    """One number that is not shown over time.

    Attributes
    ----------
    note : int
        Which of the methods, from 1; 0 for none.
    """

    item: Measurement
    note: int


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
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Sheet:
    """What else was measured of the exam that is open.

    Attributes
    ----------
    groups : tuple of Group
        In the order in which the regions were measured.
    methods : tuple of str
        How all the exam's numbers were come by, each method once.
    """

    groups: tuple[Group, ...]
    methods: tuple[str, ...]


def sheet(items: Sequence[Measurement], laid: Sequence[Course], results: Sequence[Result]) -> Sheet:
    """Lay out what was measured and is in no course.

    Parameters
    ----------
    items : sequence of Measurement
        All that the model measured.
    results : sequence of Result
        Of the same job: they say which colour a region is drawn in.
    """
    methods = tuple(dict.fromkeys(item.method for item in items if item.method))
    colours = region_colours(results)
    regions: dict[str, list[Fact]] = {}
    for item in items:
        if not any(_is_of(course.series, item) for course in laid):
            note = methods.index(item.method) + 1 if item.method else 0
            regions.setdefault(item.region, []).append(Fact(item, note))
    groups = tuple(
        Group(region, colours.get(region, ""), tuple(facts)) for region, facts in regions.items()
    )
    return Sheet(groups, methods)


def region_colours(results: Sequence[Result]) -> dict[str, str]:
    """Return ``#rrggbb`` of each region that is drawn over the images."""
    # What older versions kept of a segment was its label alone.
    return {
        segment["label"]: "#{:02x}{:02x}{:02x}".format(*segment["colour"])
        for result in results
        for segment in result.data.get("segments", ())
        if isinstance(segment, dict) and segment.get("colour")
    }
