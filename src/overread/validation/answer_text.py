"""Answers as text: what a page sends, and what people read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from overread.validation.form_fields import BOX, Field, Layout, as_text, is_number, same

_INTEGER = re.compile(r"[+-]?\d{1,15}")
_NUMBER = re.compile(r"[+-]?(\d{1,15}([.,]\d{1,20})?|[.,]\d{1,20})([eE][+-]?\d{1,2})?")

Path = tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """A question that two sets of answers answer differently.

    Attributes
    ----------
    title, one, other : str
        The question, and both answers in words; empty where not answered.
    """

    title: str
    one: str
    other: str


def asked(field: Field) -> str:
    """Name a question, as messages do."""
    return field.title.rstrip(" :.")


def say(words: str, *titles: str) -> str:
    """Say something of a question; of a grid's, with its row and column."""
    named = ", ".join(title.rstrip(" :.") for title in titles)
    return f"{named} {words[0].upper()}{words[1:]}" if named.endswith("?") else f"{named}: {words}"


def plain(value: Any) -> str:
    """Write a number as people do."""
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def words(field: Field, value: Any) -> str:
    """Put an answer into words, whatever it is; empty where there is none."""
    if value is None or value in ("", [], {}):
        return ""
    if field.kind == "grid" and isinstance(value, dict):
        columns = {column.name: column for column in field.columns}
        return "; ".join(
            f"{row}: " + ", ".join(words(columns[key], one) for key, one in cells.items()
                                   if key in columns)
            for row, cells in value.items() if isinstance(cells, dict)
        )  # fmt: skip
    if field.kind == "mark" and isinstance(value, dict):
        places = [value.get(key) for key in BOX[2:] if is_number(value.get(key))]
        return f"{field.shape} at {', '.join(f'{place:.0f}' for place in places)}"
    if isinstance(value, list):
        return ", ".join(words(field, one) for one in value)
    label = next((one.label for one in field.options if same(one.value, value)), None)
    if label is not None:
        return label
    text = plain(value) if is_number(value) else as_text(value)
    return f"{text} {field.unit}" if field.unit else text


def differences(
    layout: Layout, one: Mapping[str, Any], other: Mapping[str, Any]
) -> list[Difference]:
    """List the questions that are answered differently."""
    return [
        Difference(
            asked(field), words(field, one.get(field.name)), words(field, other.get(field.name))
        )
        for field in layout.fields
        if one.get(field.name) != other.get(field.name)
    ]


def pointer(*path: str) -> str:
    """Name an answer's place as JSON Pointer (RFC 6901) does: what a page's inputs are named."""
    return "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in path)


def decode(layout: Layout, sent: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Read answers from what a page's form sends.

    Parameters
    ----------
    layout : Layout
        With the rows that the page has shown.
    sent : iterable of (str, str)
        Names and values; names that are no JSON Pointer are of no answer.

    Returns
    -------
    dict
        Typed as the questions are; a text that is none of its question's answers stays as it is,
        so that checking can say so.
    """
    known = {field.name: field for field in layout.fields}
    texts: dict[Path, list[str]] = {}
    for name, text in sent:
        if name.startswith("/"):
            parts = name[1:].split("/")
            path = tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)
            if text.strip():
                texts.setdefault(path, []).append(text.replace("\r\n", "\n"))
    answers: dict[str, Any] = {}
    for path, given in texts.items():
        field = known.get(path[0])
        if field is not None and field.kind == "grid" and len(path) == 3:
            columns = {column.name: column for column in field.columns}
            row = answers.setdefault(field.name, {}).setdefault(path[1], {})
            column = columns.get(path[2])
            row[path[2]] = _typed(column, given) if column else given
        elif field is not None and field.kind != "grid" and len(path) == 1:
            answers[field.name] = _typed(field, given)
        else:  # the form asks no such thing; checking says so by this name
            answers[pointer(*path)] = given
    return answers


def _typed(field: Field, given: list[str]) -> Any:
    values = [_value(field, text) for text in given]
    return values[0] if len(values) == 1 and field.kind != "choices" else values


def _value(field: Field, text: str) -> Any:
    if field.options:
        return next((one.value for one in field.options if one.text == text), text)
    if field.kind in ("number", "integer"):
        number = text.strip().replace(",", ".")
        if _INTEGER.fullmatch(number):
            return int(number)
        return float(number) if _NUMBER.fullmatch(number) else text
    if field.kind == "mark":
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text
