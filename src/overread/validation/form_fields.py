"""The questions of a form: what kind each is, what may be answered, when it is asked.

`overread.validation.form_document` reads them from a form's document.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Kind = Literal[
    "choice", "choices", "likert", "number", "integer", "boolean", "text", "date", "grid", "mark"
]
Shape = Literal["point", "box"]
Scalar = str | int | float | bool

SEGMENTS = "segments"
"""As a grid's rows: one for each region of the case's results."""

MARK = ("sop_instance_uid", "frame", "x", "y")
"""Of a point that is marked: the frame counts from 0, the place is in pixels from the corner."""

BOX = (*MARK, "x1", "y1")
"""Of a box that is marked: a second corner, to the right of and below the first."""

TEXT_LIMIT = 4000
"""Characters of a free text whose form says no ``maxLength``."""

_LARGEST = 1e15


@dataclass(frozen=True)
class Option:
    """One of the answers to choose from.

    Attributes
    ----------
    value : str, int, float or bool
        What is kept.
    label : str
        What is shown.
    """

    value: Scalar
    label: str

    @property
    def text(self) -> str:
        """The value as a web form sends it."""
        return as_text(self.value)


@dataclass(frozen=True)
class Field:
    """A question.

    Attributes
    ----------
    name : str
        Of its answer.
    kind : str
        One of `Kind`.
    title, help : str
        What is asked, and what helps to answer it.
    required : bool
        Whether it must be answered where it is asked.
    options : tuple of Option
        Of a choice.
    unit : str
        Of a number.
    least, most, step : float or None
        Of a number; both bounds are allowed answers.
    limit : int
        Characters of a text at most.
    lines : int
        Height of a text; 1 for a single line.
    placeholder : str
    low, high : str
        What the ends of a Likert scale mean.
    rows : tuple of str
        Of a grid, named; empty where `by_region`.
    by_region : bool
        Whether a grid's rows are the regions of the case's results.
    columns : tuple of Field
        What a grid asks in each row.
    shape : {"point", "box"}
        What is marked on the image.
    show_if : mapping of str to tuple
        Earlier questions to the answers with which this one is asked; all of them must hold.
    """

    name: str
    kind: Kind
    title: str
    help: str = ""
    required: bool = False
    options: tuple[Option, ...] = ()
    unit: str = ""
    least: float | None = None
    most: float | None = None
    step: float | None = None
    limit: int = TEXT_LIMIT
    lines: int = 3
    placeholder: str = ""
    low: str = ""
    high: str = ""
    rows: tuple[str, ...] = ()
    by_region: bool = False
    columns: tuple[Field, ...] = ()
    shape: Shape = "point"
    show_if: Mapping[str, tuple[Scalar, ...]] | None = None

    def is_asked(self, answers: Mapping[str, Any]) -> bool:
        """Say whether it is asked, after those answers to the questions before it."""
        if self.kind == "grid" and not self.rows:
            return False  # there is nothing in this case to ask it of
        for name, wanted in (self.show_if or {}).items():
            given = answers.get(name)
            chosen = given if isinstance(given, list) else [given]
            if not any(same(one, value) for one in chosen for value in wanted):
                return False
        return True


@dataclass(frozen=True)
class Section:
    """Questions that stand together.

    Attributes
    ----------
    title, help : str
        Empty where the form has no sections.
    fields : tuple of Field
    """

    title: str
    help: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Layout:
    """All questions of a form, in the order in which they are asked.

    Attributes
    ----------
    sections : tuple of Section
    """

    sections: tuple[Section, ...]

    @property
    def fields(self) -> tuple[Field, ...]:
        """Every question."""
        return tuple(field for section in self.sections for field in section.fields)

    def on(self, regions: Iterable[str]) -> Layout:
        """Give the grids that ask of each region their rows."""
        rows = tuple(dict.fromkeys(regions))
        return Layout(
            tuple(
                replace(
                    section,
                    fields=tuple(
                        replace(field, rows=rows) if field.by_region else field
                        for field in section.fields
                    ),
                )
                for section in self.sections
            )
        )


def as_text(value: Any) -> str:
    """Write a plain value as a web form sends it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def same(one: Any, other: Any) -> bool:
    """Say whether two plain values are the same in JSON, where true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def is_number(value: Any) -> bool:
    """Say whether a value is a finite number that a double holds exactly enough."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= _LARGEST and math.isfinite(value)


def is_scalar(value: Any) -> bool:
    """Say whether a value can be one of the answers to choose from."""
    return isinstance(value, str | bool) or is_number(value)


def cut(value: Any) -> str:
    """Show a value on one line, not too long, whatever it is."""
    try:
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, a list of lists of …
        text = f"this {type(value).__name__}"
    text = "".join(one if one.isprintable() else "�" for one in text[:61])
    return text if len(text) <= 60 else f"{text[:59]}…"
