"""Forms: what a reader is asked, as JSON Schema 2020-12 with a small ``ui`` part.

This is what ``forms/*.json`` holds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry

from overread.validation.form_document import FormFault, Keys, read
from overread.validation.form_fields import Layout, cut, is_number

__all__ = ["Form", "FormFault", "check"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEEPEST = 24
_TOP = frozenset(
    {
        "$schema", "$comment", "$defs", "title", "description", "type", "properties", "required",
        "additionalProperties", "if", "then", "else", "allOf", "dependentRequired", "ui",
    }
)  # fmt: skip
_INNER = frozenset(
    {
        "$comment", "$ref", "title", "description", "type", "properties", "required", "const",
        "enum", "not", "allOf", "anyOf", "oneOf", "if", "then", "else", "minimum", "maximum",
        "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
        "minItems", "maxItems", "uniqueItems", "contains", "items", "dependentRequired", "format",
        "additionalProperties",
    }
)  # fmt: skip
"""What may stand in conditions and definitions: nothing that names or fetches another schema."""

_ONE = ("if", "then", "else", "not", "contains", "items", "additionalProperties")
_SEVERAL = ("allOf", "anyOf", "oneOf")


@dataclass(frozen=True)
class Form:
    """A form.

    Attributes
    ----------
    name : str
        The file's name without its ending.
    schema : mapping
        The whole document, ``ui`` included.
    """

    name: str
    schema: Mapping[str, Any]

    @property
    def title(self) -> str:
        """What it is called."""
        return str(self.schema.get("title", self.name))

    @property
    def help(self) -> str:
        """What stands above its questions."""
        return str(self.schema.get("description", ""))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the document in canonical JSON: which version of the form this is."""
        written = json.dumps(self.schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(written.encode()).hexdigest()

    @cached_property
    def layout(self) -> Layout:
        """Its questions; grids that ask of each region get their rows by `Layout.on`."""
        return read(self.schema)[0]


def check(document: Any) -> list[FormFault]:
    """Say everything that is wrong with a form's document; nothing where it can be used.

    Parameters
    ----------
    document : object
        Plain JSON, whatever it is.
    """
    if not isinstance(document, dict):
        return [FormFault((), "it holds no object", "a JSON Schema: {…}")]
    faults = list(_not_plain(document, ()))
    if faults:
        return faults
    faults = [
        FormFault(tuple(error.absolute_path), cut(error.message), "valid JSON Schema 2020-12")
        for error in _META.iter_errors({key: document[key] for key in document.keys() - {"ui"}})
    ]
    if faults:
        return faults
    faults += _top(document)
    for name, inner in document.get("$defs", {}).items():
        faults += _inner(inner, ("$defs", name))
    for name, inner in document.get("properties", {}).items():
        faults += _inner(inner, ("properties", name))
    faults += _conditions(document)
    faults += _references(document, document.get("$defs", {}))
    return faults or read(document)[1]


_META = Draft202012Validator(
    Draft202012Validator.META_SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER
)


def validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    """Return the validator of a form's answers; it fetches nothing from anywhere."""
    own = {key: value for key, value in schema.items() if key not in ("ui", "$schema")}
    return Draft202012Validator(own, registry=Registry())


def _not_plain(value: Any, path: Keys) -> Iterator[FormFault]:
    """Find what is no plain JSON, or too large to be read safely."""
    if len(path) > _DEEPEST:
        yield FormFault(path, "it is nested too deep", f"at most {_DEEPEST} levels")
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                yield FormFault(path, f"the key {cut(key)} is no text", "keys in quotes")
            else:
                yield from _not_plain(inner, (*path, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _not_plain(inner, (*path, at))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not is_number(value):
            yield FormFault(path, "the number is too large or none", "at most 1e15")
    elif isinstance(value, str):
        if not value.isascii() and not _is_utf8(value):
            yield FormFault(path, "the text has half a character", "whole characters")
    elif value is not None and not isinstance(value, bool):
        yield FormFault(path, f"{type(value).__name__} is not of JSON", "plain JSON")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _top(document: Mapping[str, Any]) -> Iterator[FormFault]:
    for key in sorted(document.keys() - _TOP):
        what = f"a form does not support {key!r} here"
        yield FormFault((key,), what, f"only {', '.join(sorted(_TOP))}")
    if document.get("$schema", _DIALECT) != _DIALECT:
        yield FormFault(("$schema",), f"{cut(document['$schema'])}", _DIALECT)
    if document.get("type") != "object":
        yield FormFault(("type",), f"type is {cut(document.get('type'))}", "object")
    if not isinstance(document.get("properties"), dict) or not document["properties"]:
        yield FormFault(("properties",), "the form asks nothing", "at least one question")
    if not isinstance(document.get("additionalProperties", False), bool):
        what = "a form does not support other answers"
        yield FormFault(("additionalProperties",), what, "false, or nothing")


def _inner(schema: Any, path: Keys) -> Iterator[FormFault]:
    """Find what is not supported in a condition, a definition or a question."""
    if not isinstance(schema, dict):
        return
    for key in sorted(schema.keys() - _INNER):
        yield FormFault((*path, key), f"a form does not support {key!r}", "another way to say it")
    factor = schema.get("multipleOf")
    if factor is not None and not isinstance(factor, int):
        what = "multipleOf of a fraction is not exact in binary"
        yield FormFault((*path, "multipleOf"), what, "a whole number; ui.step for the buttons")
    for key in _ONE:
        yield from _inner(schema.get(key), (*path, key))
    for key in _SEVERAL:
        for at, one in enumerate(schema.get(key, ())):
            yield from _inner(one, (*path, key, at))
    for name, one in schema.get("properties", {}).items():
        yield from _inner(one, (*path, "properties", name))


def _conditions(document: Mapping[str, Any]) -> Iterator[FormFault]:
    """Find what is not supported, or names no question, in what depends on answers."""
    known = document.get("properties", {})
    blocks: list[tuple[Keys, Any]] = [
        ((key,), document[key]) for key in ("if", "then", "else") if key in document
    ]
    blocks += [(("allOf", at), one) for at, one in enumerate(document.get("allOf", ()))]
    for path, block in blocks:
        yield from _inner(block, path)
        for at, name in _named(block, path):
            if name not in known:
                yield FormFault(at, f"there is no question {name!r}", "a property")
    for name, others in document.get("dependentRequired", {}).items():
        for one in (name, *others):
            if one not in known:
                what = f"there is no question {one!r}"
                yield FormFault(("dependentRequired", name), what, "a property")


def _named(block: Any, path: Keys) -> Iterator[tuple[Keys, str]]:
    """Go through the questions that a condition on the whole form names."""
    if not isinstance(block, dict):
        return
    for name in block.get("properties", {}):
        yield (*path, "properties", name), name
    for name in block.get("required", ()):
        yield (*path, "required"), name
    for key in ("if", "then", "else", "not"):
        yield from _named(block.get(key), (*path, key))
    for key in _SEVERAL:
        for at, one in enumerate(block.get(key, ())):
            yield from _named(one, (*path, key, at))


def _references(document: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[FormFault]:
    """Find references that lead elsewhere, to nothing, or back to where they stand."""
    for path, ref in _refs(document, ()):
        if not ref.startswith(_OWN):
            what = f"{cut(ref)} lies elsewhere, and nothing is fetched"
            yield FormFault(path, what, '"#/$defs/NAME"')
        elif ref.removeprefix(_OWN) not in known or not _PLAIN.fullmatch(ref.removeprefix(_OWN)):
            yield FormFault(path, f"there is no definition {cut(ref)}", '"#/$defs/NAME"')
    leads = {
        name: {ref.removeprefix(_OWN) for _, ref in _refs(inner, ())}
        for name, inner in known.items()
    }
    for name, reached in leads.items():
        while more := {far for near in reached for far in leads.get(near, ())} - reached:
            reached.update(more)
        if name in reached:
            what = f"the definition {name!r} leads back to itself"
            yield FormFault(("$defs", name), what, "definitions that end")


_OWN = "#/$defs/"
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


def _refs(schema: Any, path: Keys) -> Iterator[tuple[Keys, str]]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield (*path, "$ref"), schema["$ref"]
        for key, inner in schema.items():
            yield from _refs(inner, (*path, key))
    elif isinstance(schema, list):
        for at, inner in enumerate(schema):
            yield from _refs(inner, (*path, at))
