"""Answers to a form: read from what a page sends, checked, compared, put into words.

Whatever is sent, checking says by name what is wrong with it, and never raises. What it accepts
the form's own JSON Schema accepts too, but that a question which is not asked need not be answered.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, cast

from jsonschema import ValidationError

from overread.validation.answer_text import Path, plain, say
from overread.validation.form_fields import BOX, MARK, Field, as_text, cut, is_number, same
from overread.validation.forms import Form, validator

_MOST_UNKNOWN = 20
_MISSING = "it is not answered yet."
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
Answers = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """Something wrong with an answer.

    Attributes
    ----------
    path : tuple of str
        The question; in a grid also row and column.
    words : str
        What is wrong and what was expected, for the reader.
    """

    path: Path
    words: str


@dataclass(frozen=True)
class Checked:
    """Answers that were looked at.

    Attributes
    ----------
    answers : dict
        What is kept: without what is empty, and without what was not asked.
    problems : tuple of Problem
        In the order of the questions; none where the answers can be submitted.
    """

    answers: Answers
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Size:
    """Of an image that can be marked.

    Attributes
    ----------
    columns, rows, frames : int
    """

    columns: int
    rows: int
    frames: int = 1


_ANY_SIZE = Size(1_000_000, 1_000_000, 1_000_000)


def check_answers(
    form: Form,
    answers: Any,
    *,
    regions: Iterable[str] = (),
    images: Mapping[str, Size] | None = None,
) -> Checked:
    """Check the answers to a form.

    Parameters
    ----------
    form : Form
        Without faults, as `overread.validation.forms.check` finds them.
    answers : object
        Question to answer, in plain JSON; whatever it is.
    regions : iterable of str
        Of the case's results: the rows of grids that ask of each.
    images : mapping of str to Size, optional
        SOP Instance UID to image: those that can be marked; where left out, any.
    """
    if not isinstance(answers, dict):
        return Checked({}, (Problem((), "The answers are no object of question to answer."),))
    fields = form.layout.on(regions).fields
    problems = [
        Problem((_place(name),), f"The form has no question {cut(str(name))}.")
        for name in list(answers.keys() - {field.name for field in fields})[:_MOST_UNKNOWN]
    ]
    kept: Answers = {}
    hidden = set()
    for field in fields:
        if not field.is_asked(kept):
            hidden.add(field.name)
            continue
        value = _tidy(field, answers.get(field.name))
        if value is None:
            continue
        wrong = list(_wrong(field, value, images))
        problems += wrong
        if not wrong:
            kept[field.name] = value
    unfit = {problem.path[0] for problem in problems}
    problems += _by_schema(form, fields, kept, hidden=hidden, unfit=unfit)
    return Checked(kept, _in_order(problems, fields))


def _in_order(problems: Iterable[Problem], fields: Iterable[Field]) -> tuple[Problem, ...]:
    """Put problems in the order of the questions, the first of each place only."""
    places = {field.name: at for at, field in enumerate(fields)}
    first: dict[Path, Problem] = {}
    for problem in problems:
        first.setdefault(problem.path, problem)
    return tuple(sorted(first.values(), key=lambda one: places.get(one.path[0], len(places))))


def _place(name: Any) -> str:
    """Name the place of an answer that nobody asked for, whatever it is called."""
    return str(name)[:80].encode("utf-8", "replace").decode()


def _tidy(field: Field, value: Any) -> Any:
    """Return an answer without what is empty; none where nothing is answered."""
    if isinstance(value, str) and not value.strip():
        return None
    if value in ([], {}):
        return None
    if field.kind == "grid" and isinstance(value, dict):
        rows = {}
        for name, row in value.items():
            if isinstance(row, dict):
                cells = {key: one for key, one in row.items() if one is not None and one != ""}
                row = cells or None  # noqa: PLW2901 - what is left of it
            if row is not None:
                rows[name] = row
        return rows or None
    return value


def _wrong(field: Field, value: Any, images: Mapping[str, Size] | None) -> Iterator[Problem]:
    """Say what is wrong with an answer by itself, before the form's schema is asked."""
    if field.kind == "grid":
        yield from _wrong_grid(field, value)
        return
    is_mark = field.kind == "mark"
    words = _wrong_mark(field, value, images) if is_mark else _wrong_words(field, value)
    if words:
        yield Problem((field.name,), say(words, field.title))


def _wrong_words(field: Field, value: Any) -> str:
    return (_wrong_choices if field.kind == "choices" else _wrong_plain)(field, value)


def _wrong_plain(field: Field, value: Any) -> str:
    if field.options:
        is_one = any(same(value, option.value) for option in field.options)
        return "" if is_one else f"{cut(value)} is no answer; expected {_listed(field)}."
    if field.kind in ("number", "integer"):
        if is_number(value) and (field.kind == "number" or value == int(value)):
            return ""
        kind = "a whole number" if field.kind == "integer" else "a number"
        return f"{cut(value)} is not {kind}; expected {_range(field)}."
    return _wrong_text(field, value) if isinstance(value, str) else f"{cut(value)} is no text."


def _wrong_text(field: Field, value: str) -> str:
    if len(value) > field.limit:
        return f"it has {len(value):,} characters; expected at most {field.limit:,}. Shorten it."
    if _CONTROL.search(value):
        return "it holds a character that cannot be kept; expected letters, digits and signs."
    if field.kind == "date" and not _is_date(value):
        return f"{cut(value)} is no date; expected one as 2026-06-02."
    return ""


def _wrong_choices(field: Field, value: Any) -> str:
    if not isinstance(value, list):
        return f"{cut(value)} is no list of answers; expected some of {_listed(field)}."
    for one in value:
        words = _wrong_plain(field, one)
        if words:
            return words
    if len({as_text(one) for one in value}) != len(value):
        return "an answer is chosen twice; choose each once."
    return ""


def _wrong_grid(field: Field, value: Any) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield Problem((field.name,), say(f"{cut(value)} is no row with answers.", field.title))
        return
    columns = {column.name: column for column in field.columns}
    for name, row in list(value.items())[: _MOST_UNKNOWN + len(field.rows)]:
        at = (field.name, _place(name))
        if name not in field.rows:
            yield Problem(at, say(f"there is no row {cut(str(name))}.", field.title))
        elif not isinstance(row, dict):
            yield Problem(at, say(f"{cut(row)} is no row with answers.", field.title))
        else:
            for key in list(row.keys() - columns.keys())[:_MOST_UNKNOWN]:
                words = say(f"there is no question {cut(str(key))}.", field.title, name)
                yield Problem((*at, _place(key)), words)
            for column in field.columns:
                if column.name in row:
                    words = _wrong_words(column, row[column.name])
                    if words:
                        yield Problem(
                            (*at, column.name), say(words, field.title, name, column.title)
                        )


def _wrong_mark(field: Field, value: Any, images: Mapping[str, Size] | None) -> str:
    keys = BOX if field.shape == "box" else MARK
    if not isinstance(value, dict) or set(value) != set(keys):
        return f"it is not marked; expected a {field.shape} on an image."
    uid, frame, *places = (value[key] for key in keys)
    is_place = all(is_number(one) for one in (frame, *places)) and frame == int(frame)
    if not isinstance(uid, str) or not is_place:
        return f"its place is no place; expected a {field.shape} in pixels of the image."
    size = _ANY_SIZE if images is None else images.get(uid)
    if size is None:
        return "the image that was marked is not of this case; mark one of its images."
    is_across = all(0 <= one <= size.columns for one in places[::2])
    is_down = all(0 <= one <= size.rows for one in places[1::2])
    if not (0 <= frame < size.frames and is_across and is_down):
        return f"it lies outside of the image ({size.columns} × {size.rows}); mark it again."
    if len(places) > 2 and not (places[0] < places[2] and places[1] < places[3]):
        return "the box has no size; draw it from one corner to the other."
    return ""


def _by_schema(
    form: Form,
    fields: Iterable[Field],
    kept: Answers,
    *,
    hidden: Collection[str],
    unfit: Collection[str],
) -> Iterator[Problem]:
    """Ask the form's schema, and say in words what it says; of what is wrong already nothing."""
    known = {field.name: field for field in fields}
    for field in known.values():
        if field.kind == "grid" and field.required and field.name not in {*hidden, *unfit}:
            yield from _missing_rows(field, kept.get(field.name, {}))
    for error in validator(form.schema).iter_errors(kept):
        path = tuple(str(part) for part in error.absolute_path)
        missing = _missing(error)
        if missing and not path:
            for name in missing:
                is_said = name in known and known[name].kind == "grid" and known[name].required
                if name in known and name not in {*hidden, *unfit} and not is_said:
                    yield Problem((name,), say(_MISSING, known[name].title))
        elif path and path[0] in known and path[0] not in unfit:
            yield from _said(known[path[0]], path, error, missing)
        elif not path and error.validator not in ("required", "dependentRequired"):
            yield Problem(("",), f"The answers do not fit together: {cut(error.message)}.")


def _missing_rows(field: Field, rows: Mapping[str, Any]) -> Iterator[Problem]:
    needed = [column for column in field.columns if column.required] or field.columns[:1]
    for name in field.rows:
        if name not in rows:
            for column in needed:
                words = say(_MISSING, field.title, name, column.title)
                yield Problem((field.name, name, column.name), words)


def _missing(error: ValidationError) -> list[str]:
    """Name what an error says is not there."""
    given, value = error.instance, cast(Any, error.validator_value)
    if error.validator == "required" and isinstance(given, dict):
        return [name for name in value if name not in given]
    if error.validator == "dependentRequired" and isinstance(given, dict):
        needed = [one for name, others in value.items() if name in given for one in others]
        return [name for name in dict.fromkeys(needed) if name not in given]
    return []


def _said(
    field: Field, path: Path, error: ValidationError, missing: Iterable[str]
) -> Iterator[Problem]:
    """Put what the schema says of one question into words."""
    if field.kind != "grid":
        yield Problem((field.name,), say(_keyword(field, error), field.title))
        return
    columns = {column.name: column for column in field.columns}
    if len(path) == 3 and path[2] in columns:
        column = columns[path[2]]
        words = say(_keyword(column, error), field.title, path[1], column.title)
        yield Problem(path, words)
    for name in missing:
        words = say(_MISSING, field.title, path[1], columns[name].title)
        yield Problem((*path[:2], name), words)


_RANGE = "{given} is out of range; expected {range}."
_KEYWORDS = {
    "minimum": _RANGE,
    "maximum": _RANGE,
    "exclusiveMinimum": "{given} is out of range; expected more than {value}.",
    "exclusiveMaximum": "{given} is out of range; expected less than {value}.",
    "multipleOf": "{given} is no multiple of {value}.",
    "maxLength": "it has {count:,} characters; expected at most {value}. Shorten it.",
    "minLength": "it has {count:,} characters; expected at least {value}.",
    "minItems": "{count} chosen; expected at least {value}.",
    "maxItems": "{count} chosen; expected at most {value}.",
    "pattern": "{given} is not written as was asked for ({value}).",
}
"""What an error says, by the keyword of JSON Schema (2020-12, Validation, section 6)."""


def _keyword(field: Field, error: ValidationError) -> str:
    given = error.instance
    words = _KEYWORDS.get(str(error.validator), "{given} does not go with the other answers.")
    return words.format(
        given=plain(given) if is_number(given) else cut(given),
        value=plain(error.validator_value),
        count=len(given) if isinstance(given, str | list | dict) else 0,
        range=_range(field),
    )


def _listed(field: Field) -> str:
    labels = [option.label for option in field.options]
    return " or ".join(part for part in (", ".join(labels[:-1]), labels[-1]) if part)


def _range(field: Field) -> str:
    unit = f" {field.unit}" if field.unit else ""
    if field.least is not None and field.most is not None:
        return f"{plain(field.least)} to {plain(field.most)}{unit}"
    if field.least is not None:
        return f"at least {plain(field.least)}{unit}"
    return f"at most {plain(field.most)}{unit}" if field.most is not None else f"a number{unit}"


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
