"""A form's questions as a page shows them: each with its place, its answer, and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overread.validation.answer_text import Path, pointer, words
from overread.validation.answers import Problem
from overread.validation.form_fields import Field, Layout, as_text


@dataclass(frozen=True)
class Question:
    """A question on a page.

    Attributes
    ----------
    id : str
        Of its element, unique on the page.
    name : str
        Of its inputs: the answer's place, as JSON Pointer.
    field : Field
        What is asked.
    texts : tuple of str
        The answer as inputs have it: one, or several of a multiple choice, or none.
    problem : str
        What is wrong with it; empty where nothing is known to be.
    rows : tuple of Row
        Of a grid.
    """

    id: str
    name: str
    field: Field
    texts: tuple[str, ...] = ()
    problem: str = ""
    rows: tuple[Row, ...] = ()

    @property
    def text(self) -> str:
        """The answer in one input."""
        return self.texts[0] if self.texts else ""

    @property
    def show_if(self) -> str:
        """When it is asked, for the page's script: names of inputs to the texts that they need."""
        wanted = self.field.show_if or {}
        return json.dumps({pointer(name): [*map(as_text, some)] for name, some in wanted.items()})


@dataclass(frozen=True)
class Row:
    """A row of a grid, and a question for each column."""

    name: str
    cells: tuple[Question, ...]


@dataclass(frozen=True)
class Group:
    """Questions under one heading."""

    title: str
    help: str
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Said:
    """A question and its answer in words."""

    title: str
    words: str


def lay_out(
    layout: Layout, answers: Mapping[str, Any], problems: Sequence[Problem] = ()
) -> list[Group]:
    """Lay out a form with the answers that there are.

    Parameters
    ----------
    layout : Layout
        With the rows of its grids.
    answers : mapping
        Whatever was typed so far.
    """
    wrong = {problem.path: problem.words for problem in problems}
    fields = layout.fields
    ids = {field.name: f"q{number}" for number, field in enumerate(fields, start=1)}
    return [
        Group(
            section.title,
            section.help,
            tuple(
                _question(ids[field.name], (field.name,), field, answers.get(field.name), wrong)
                for field in section.fields
                if field.kind != "grid" or field.rows
            ),
        )
        for section in layout.sections
    ]


def _question(
    id: str, path: Path, field: Field, answer: Any, wrong: Mapping[Path, str]
) -> Question:
    rows: tuple[Row, ...] = ()
    if field.kind == "grid":
        given = answer if isinstance(answer, dict) else {}
        rows = tuple(
            Row(name, tuple(_cells(f"{id}-{at}", (*path, name), field, given.get(name), wrong)))
            for at, name in enumerate(field.rows, start=1)
        )
    return Question(id, pointer(*path), field, _texts(answer), wrong.get(path, ""), rows)


def _cells(
    id: str, path: Path, field: Field, row: Any, wrong: Mapping[Path, str]
) -> Iterable[Question]:
    given = row if isinstance(row, dict) else {}
    for at, column in enumerate(field.columns, start=1):
        yield _question(f"{id}-{at}", (*path, column.name), column, given.get(column.name), wrong)


def _texts(answer: Any) -> tuple[str, ...]:
    if answer is None:
        return ()
    return tuple(as_text(one) for one in (answer if isinstance(answer, list) else [answer]))


def anchors(groups: Iterable[Group]) -> dict[Path, str]:
    """Return the id of each question's element by the place of its answer, cells included."""
    found: dict[Path, str] = {}
    for group in groups:
        for question in group.questions:
            found[(question.field.name,)] = question.id
            for row in question.rows:
                for cell in row.cells:
                    found[(question.field.name, row.name, cell.field.name)] = cell.id
    return found


def said(layout: Layout, answers: Mapping[str, Any]) -> list[Said]:
    """Put the answers that were given into words, in the form's order."""
    pairs = [(field.title, words(field, answers.get(field.name))) for field in layout.fields]
    return [Said(title, text) for title, text in pairs if text]
