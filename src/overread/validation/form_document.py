"""A form's document, read: its questions, and every fault in them.

One reading serves both who checks a document and who shows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from overread.validation.form_fields import (
    SEGMENTS,
    TEXT_LIMIT,
    Field,
    Kind,
    Layout,
    Option,
    Scalar,
    Section,
    Shape,
    as_text,
    cut,
    is_number,
    is_scalar,
    same,
)

Keys = tuple[str | int, ...]

_MOST_TEXT, _MOST_OPTIONS, _MOST_STEPS = 100_000, 100, 11
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")

_ANY = frozenset({"title", "description", "type", "$ref", "$comment"})
_RANGE = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
KEYWORDS: dict[str, frozenset[str]] = {
    "choice": _ANY | {"enum", "oneOf"},
    "choices": _ANY | {"items", "minItems", "maxItems", "uniqueItems"},
    "likert": _ANY | {"enum", "oneOf", "minimum", "maximum"},
    "number": _ANY | _RANGE,
    "integer": _ANY | _RANGE,
    "boolean": _ANY,
    "text": _ANY | {"minLength", "maxLength", "pattern"},
    "date": _ANY | {"format"},
    "grid": _ANY | {"additionalProperties"},
    "mark": _ANY,
}
"""JSON Schema's keywords that a question of each kind may have."""

UI_KEYS: dict[str, frozenset[str]] = {
    "choice": frozenset({"show_if"}),
    "choices": frozenset({"show_if"}),
    "likert": frozenset({"show_if", "as", "low", "high"}),
    "number": frozenset({"show_if", "unit", "step"}),
    "integer": frozenset({"show_if", "unit", "step"}),
    "boolean": frozenset({"show_if"}),
    "text": frozenset({"show_if", "lines", "placeholder"}),
    "date": frozenset({"show_if"}),
    "grid": frozenset({"show_if", "rows", "columns"}),
    "mark": frozenset({"show_if", "as", "shape"}),
}
"""Keys that ``ui.fields.NAME`` may have, by the question's kind."""


@dataclass(frozen=True)
class FormFault:
    """Something wrong with a form's document.

    Attributes
    ----------
    path : tuple of str or int
        Where it is, from the document's root.
    what, expected : str
        What is wrong, and what was expected.
    """

    path: Keys
    what: str
    expected: str


def read(schema: Mapping[str, Any]) -> tuple[Layout, list[FormFault]]:
    """Read the questions of a form's document.

    Parameters
    ----------
    schema : mapping
        Valid JSON Schema, an object of properties; `overread.validation.forms.check` looks first.

    Returns
    -------
    Layout
        Without the questions that have faults.
    list of FormFault
        All of them.
    """
    reader = _Reader(schema)
    layout = reader.layout()
    return layout, reader.faults


class _Reader:
    """Reads fields, and notes every fault on the way."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema
        self.faults: list[FormFault] = []
        ui = schema.get("ui", {})
        self.ui: Mapping[str, Any] = ui if isinstance(ui, dict) else {}
        if not isinstance(ui, dict):
            self.fault(("ui",), "it is no object", "an object of sections and fields")
        for key in self.ui.keys() - {"sections", "fields"}:
            self.fault(("ui", key), f"unknown key {key!r}", "sections or fields")

    def fault(self, path: Keys, what: str, expected: str) -> None:
        self.faults.append(FormFault(path, what, expected))

    def layout(self) -> Layout:
        properties = self.schema.get("properties", {})
        ui = self._mapping(self.ui, "fields", ("ui",))
        for name in ui.keys() - properties.keys():
            self.fault(("ui", "fields", name), f"there is no question {name!r}", "a property")
        required = self.schema.get("required", ())
        for at, name in enumerate(required):
            if name not in properties:
                what = f"{name!r} is required, and there is no such question"
                self.fault(("required", at), what, "a property")
        fields: dict[str, Field] = {}
        for section in self._sections(properties):
            for name in section.names:
                own = self._mapping(ui, name, ("ui", "fields"))
                place = _Place(("properties", name), own, ("ui", "fields", name))
                field = self.field(name, properties[name], place)
                if field is None:
                    continue
                shown = self._show_if(own, ("ui", "fields", name, "show_if"), fields)
                fields[name] = replace(field, required=name in required, show_if=shown)
        sections = (
            Section(one.title, one.help, tuple(fields[n] for n in one.names if n in fields))
            for one in self._sections(properties, is_quiet=True)
        )
        return Layout(tuple(section for section in sections if section.fields))

    def _sections(self, properties: Mapping[str, Any], *, is_quiet: bool = False) -> list[_Names]:
        told = self.faults if not is_quiet else []
        if "sections" not in self.ui:
            return [_Names("", "", tuple(properties))]
        found, given = [], self.ui["sections"]
        placed: set[str] = set()
        for at, one in enumerate(given if isinstance(given, list) else [None]):
            path: Keys = ("ui", "sections", at)
            if not isinstance(one, dict) or not isinstance(one.get("fields"), list):
                told.append(FormFault(path[:2], "no list of sections", '[{"title", "fields"}]'))
                continue
            told += [
                FormFault((*path, key), f"unknown key {key!r}", "title, help or fields")
                for key in one.keys() - {"title", "help", "fields"}
            ]
            names = []
            for place, name in enumerate(one["fields"]):
                if not isinstance(name, str) or name not in properties:
                    what = f"there is no question {name!r}"
                    told.append(FormFault((*path, "fields", place), what, "a property"))
                elif name in placed:
                    what = f"{name!r} stands in a section already"
                    told.append(FormFault((*path, "fields", place), what, "each question once"))
                else:
                    placed.add(name)
                    names.append(name)
            found.append(_Names(str(one.get("title", "")), str(one.get("help", "")), tuple(names)))
        for name in properties:
            if name not in placed:
                what = f"the question {name!r} stands in no section"
                told.append(FormFault(("ui", "sections"), what, "each question in one"))
        return found

    def _mapping(self, above: Mapping[str, Any], key: str, path: Keys) -> Mapping[str, Any]:
        value = above.get(key, {})
        if isinstance(value, dict):
            return value
        self.fault((*path, key), "it is no object", "an object")
        return {}

    def _show_if(
        self, ui: Mapping[str, Any], path: Keys, before: Mapping[str, Field]
    ) -> Mapping[str, tuple[Scalar, ...]] | None:
        if "show_if" not in ui:
            return None
        given = ui["show_if"]
        if not isinstance(given, dict) or not given:
            self.fault(path, "no condition", "earlier questions and their answers")
            return None
        found: dict[str, tuple[Scalar, ...]] = {}
        for name, wanted in given.items():
            field = before.get(name)
            values = wanted if isinstance(wanted, list) else [wanted]
            if field is None or not field.options:
                expected = "an earlier question with answers to choose from"
                self.fault((*path, name), f"{name!r} is no such question", expected)
                continue
            known = [one.value for one in field.options]
            for value in values:
                if not any(same(value, one) for one in known):
                    what = f"{cut(value)} is no answer to {name!r}"
                    self.fault((*path, name), what, f"one of {', '.join(map(cut, known))}")
            found[name] = tuple(values)
        return found

    def field(self, name: str, schema: Any, at: _Place) -> Field | None:
        """Read one question; none where it has a fault that leaves no kind."""
        if not _NAME.fullmatch(name):
            what = f"{cut(name)} cannot name an answer"
            self.fault(at.path, what, "letters, digits, _ and -, a letter first, at most 64")
            return None
        schema = self._resolved(schema)
        if not isinstance(schema, dict):
            self.fault(at.path, "it is no object", "a schema of the answer")
            return None
        kind = self._kind(schema, at)
        if kind is None:
            return None
        for key in schema.keys() - KEYWORDS[kind]:
            expected = ", ".join(sorted(KEYWORDS[kind] - {"$ref", "$comment"}))
            what = f"a question of kind {kind} does not support {key!r}"
            self.fault((*at.path, key), what, f"only {expected}")
        for key in at.ui.keys() - UI_KEYS[kind]:
            what = f"unknown key {key!r} for a question of kind {kind}"
            self.fault((*at.ui_path, key), what, f"only {', '.join(sorted(UI_KEYS[kind]))}")
        made = Field(name, kind, str(schema.get("title", name)), str(schema.get("description", "")))
        return self._filled(replace(made, **self._words(at)), schema, at)

    def _resolved(self, schema: Any) -> Any:
        """Follow references to definitions; what stands beside one wins."""
        seen: set[str] = set()
        while isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
            ref = schema["$ref"]
            own = {key: value for key, value in schema.items() if key != "$ref"}
            target = self.schema.get("$defs", {}).get(ref.removeprefix("#/$defs/"))
            if ref in seen or not isinstance(target, dict):
                return own
            seen.add(ref)
            schema = {**target, **own}
        return schema

    def _kind(self, schema: Mapping[str, Any], at: _Place) -> Kind | None:
        declared, wanted = schema.get("type"), at.ui.get("as", "")
        has_options = "enum" in schema or "oneOf" in schema
        kinds: dict[str, Kind] = {
            "string": "date" if "format" in schema else "text",
            "number": "number",
            "integer": "integer",
            "boolean": "boolean",
            "array": "choices",
            "object": "grid",
        }
        kind = kinds.get(declared) if isinstance(declared, str) else None
        if has_options and declared not in ("array", "object"):
            kind = "choice"
        if wanted == "mark" and declared == "object":
            return "mark"
        if wanted == "likert" and kind in ("choice", "integer"):
            return "likert"
        if wanted:
            what = f"a question of type {cut(declared)} cannot be shown as {cut(wanted)}"
            self.fault(at.path, what, "likert for a choice or an integer, mark for an object")
        if kind is None:
            what = "it has no type" if declared is None else f"type {cut(declared)}"
            expected = "one of string, number, integer, boolean, array, object, or enum or oneOf"
            self.fault(at.path, what, expected)
        return kind

    def _words(self, at: _Place) -> dict[str, Any]:
        """Read what is only shown: words, height, step."""
        found: dict[str, Any] = {}
        for key in _SHOWN & at.ui.keys():
            value = at.ui[key]
            fits, expected = _SHOWN_AS.get(key, _SHORT)
            if fits(value):
                found[key] = value
            else:
                self.fault((*at.ui_path, key), f"{key} is {cut(value)}", expected)
        return found

    def _filled(self, made: Field, schema: Mapping[str, Any], at: _Place) -> Field | None:
        """Read what is special to the kind."""
        special = {
            "choice": self._choice,
            "likert": self._choice,
            "choices": self._choices,
            "number": self._number,
            "integer": self._number,
            "text": self._text,
            "date": self._date,
            "grid": self._grid,
        }.get(made.kind)
        if made.kind == "boolean":
            return replace(made, options=(Option(True, "Yes"), Option(False, "No")))
        return special(made, schema, at) if special else made

    def _choice(self, made: Field, schema: Mapping[str, Any], at: _Place) -> Field | None:
        if made.kind == "likert" and not schema.keys() & {"enum", "oneOf"}:
            options = self._steps(schema, at)
        else:
            options = self._options(schema, at.path)
        return replace(made, options=options) if options else None

    def _choices(self, made: Field, schema: Mapping[str, Any], at: _Place) -> Field | None:
        path = (*at.path, "items")
        items = self._resolved(schema.get("items"))
        if not isinstance(items, dict):
            self.fault(at.path, "an array without items", "items with enum or oneOf")
            return None
        for key in items.keys() - KEYWORDS["choice"]:
            what = f"the answers of a multiple choice do not support {key!r}"
            self.fault((*path, key), what, "only enum or oneOf")
        options = self._options(items, path)
        return replace(made, options=options) if options else None

    def _text(self, made: Field, schema: Mapping[str, Any], at: _Place) -> Field | None:
        limit = schema.get("maxLength", TEXT_LIMIT)
        if limit > _MOST_TEXT:
            self.fault((*at.path, "maxLength"), f"{limit} is too long", f"at most {_MOST_TEXT}")
            return None
        return replace(made, limit=int(limit))

    def _date(self, made: Field, schema: Mapping[str, Any], at: _Place) -> Field | None:
        if schema.get("format") == "date":
            return made
        what = f"format {cut(schema.get('format'))} is not supported"
        self.fault((*at.path, "format"), what, "date, or no format")
        return None

    def _steps(self, schema: Mapping[str, Any], at: _Place) -> tuple[Option, ...]:
        """Make the answers of a scale from its ends."""
        least, most = schema.get("minimum"), schema.get("maximum")
        if isinstance(least, int) and isinstance(most, int) and least < most < least + _MOST_STEPS:
            return tuple(Option(value, str(value)) for value in range(least, most + 1))
        expected = f"enum, oneOf, or minimum and maximum of at most {_MOST_STEPS} steps"
        self.fault(at.path, "the scale has no steps", expected)
        return ()

    def _options(self, schema: Mapping[str, Any], path: Keys) -> tuple[Option, ...]:
        if "oneOf" in schema:
            asked: Sequence[Any] = schema["oneOf"]
            found = [
                Option(one["const"], str(one.get("title", as_text(one["const"]))))
                for one in asked
                if isinstance(one, dict)
                and is_scalar(one.get("const"))
                and not one.keys() - {"const", "title", "description", "$comment"}
            ]
        else:
            asked = schema.get("enum", ())
            found = [Option(one, as_text(one)) for one in asked if is_scalar(one)]
        if len(found) != len(asked) or not 0 < len(asked) <= _MOST_OPTIONS:
            expected = f"1 to {_MOST_OPTIONS} of enum, or of oneOf as {{const, title}}"
            self.fault(path, "its answers to choose from cannot be shown", expected)
            return ()
        if len({option.text for option in found}) != len(found):
            self.fault(path, "two of its answers are the same", "each answer once")
            return ()
        return tuple(found)

    def _number(self, made: Field, schema: Mapping[str, Any], at: _Place) -> Field | None:
        lowest = [schema[key] for key in ("minimum", "exclusiveMinimum") if key in schema]
        highest = [schema[key] for key in ("maximum", "exclusiveMaximum") if key in schema]
        least, most = max(lowest, default=None), min(highest, default=None)
        if least is not None and most is not None and least > most:
            self.fault(at.path, f"no number is at least {least} and at most {most}", "a range")
            return None
        step = made.step or schema.get("multipleOf") or (1 if made.kind == "integer" else None)
        return replace(made, least=least, most=most, step=step)

    def _grid(self, made: Field, schema: Mapping[str, Any], at: _Place) -> Field | None:
        inner = (*at.path, "additionalProperties")
        each = self._resolved(schema.get("additionalProperties"))
        if not isinstance(each, dict) or not isinstance(each.get("properties"), dict):
            expected = "additionalProperties: an object schema, its properties the columns"
            self.fault(at.path, "an object that is no grid", f"{expected}; or ui `as: mark`")
            return None
        for key in each.keys() - {*_ANY, "properties", "required", "additionalProperties"}:
            what = f"a grid's row does not support {key!r}"
            self.fault((*inner, key), what, "only type, properties and required")
        rows = at.ui.get("rows")
        fixed = _rows(rows)
        if rows != SEGMENTS and not fixed:
            expected = '"segments", or a list of names, each once'
            self.fault((*at.ui_path, "rows"), "the grid has no rows", expected)
            return None
        columns = self._columns(each, inner, at)
        if not columns:
            return None
        return replace(made, rows=fixed, by_region=rows == SEGMENTS, columns=columns)

    def _columns(self, each: Mapping[str, Any], path: Keys, at: _Place) -> tuple[Field, ...]:
        columns, required = [], each.get("required", ())
        own = self._mapping(at.ui, "columns", at.ui_path)
        ui_path = (*at.ui_path, "columns")
        for name in own.keys() - each["properties"].keys():
            self.fault((*ui_path, name), f"there is no column {name!r}", "a property of its rows")
        for name, column in each["properties"].items():
            ui = self._mapping(own, name, ui_path)
            place = _Place((*path, "properties", name), ui, (*ui_path, name))
            field = self.field(name, column, place)
            if field is not None and (field.kind in ("grid", "mark") or "show_if" in ui):
                self.fault(place.path, "a grid cannot ask this", "a question by itself")
            elif field is not None:
                columns.append(replace(field, required=name in required))
        for name in required:
            if name not in each["properties"]:
                what = f"{name!r} is required, and there is no such column"
                self.fault((*path, "required"), what, "a property of its rows")
        return tuple(columns)


def _rows(given: Any) -> tuple[str, ...]:
    """Return the names of a grid's rows; empty where they are none."""
    if not isinstance(given, list) or not 0 < len(given) <= _MOST_OPTIONS:
        return ()
    names = tuple(one for one in given if isinstance(one, str) and one.strip())
    return names if len(set(names)) == len(given) else ()


def _is_lines(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 30


_Fits = tuple[Callable[[Any], bool], str]
_SHORT: _Fits = (lambda value: isinstance(value, str) and len(value) <= 120, "120 characters")
_SHOWN_AS: dict[str, _Fits] = {
    "lines": (_is_lines, "1 to 30 lines"),
    "step": (lambda value: is_number(value) and value > 0, "a number above 0"),
    "shape": (lambda value: value in get_args(Shape), "point or box"),
}
_SHOWN = frozenset({"unit", "low", "high", "placeholder", *_SHOWN_AS})


@dataclass(frozen=True)
class _Place:
    """Where both parts of a question stand: its schema, and what ``ui`` says of it."""

    path: Keys
    ui: Mapping[str, Any]
    ui_path: Keys


@dataclass(frozen=True)
class _Names:
    title: str
    help: str
    names: tuple[str, ...]
