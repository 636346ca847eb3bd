from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overread.validation import forms
from overread.validation.form_document import read
from tests.validation.forms import EVERYTHING, FORM

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def small(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def test_a_form_with_every_kind_of_question_has_no_fault() -> None:
    assert forms.check(EVERYTHING) == []
    kinds = {field.name: field.kind for field in FORM.layout.fields}
    assert kinds == {
        "progression": "choice", "why": "text", "signs": "choices", "quality": "likert",
        "volume": "number", "count": "integer", "agree": "boolean", "seen_on": "date",
        "hips": "grid", "segments": "grid", "where": "mark", "extent": "mark", "comment": "text",
    }  # fmt: skip


def test_questions_stand_in_their_sections_with_what_the_form_says_of_them() -> None:
    first, second = FORM.layout.sections
    assert [field.name for field in first.fields] == ["progression", "why", "signs"]
    assert (second.title, second.help) == ("The rest", "As well as you can.")
    by_name = {field.name: field for field in FORM.layout.fields}
    assert [option.label for option in by_name["progression"].options] == [
        "Yes", "No", "Cannot tell",
    ]  # fmt: skip
    assert [option.value for option in by_name["quality"].options] == [1, 2, 3, 4, 5]
    assert (by_name["volume"].unit, by_name["volume"].least, by_name["volume"].most) == (
        "mL", 0, 500,
    )  # fmt: skip
    assert by_name["hips"].rows == ("left hip", "right hip")
    assert [column.name for column in by_name["hips"].columns] == ["finding", "sure"]
    assert by_name["hips"].columns[0].required
    assert by_name["why"].show_if == {"progression": ("unclear",)}
    assert by_name["extent"].shape == "box"


def test_a_grid_by_region_has_the_regions_of_the_case_once() -> None:
    layout = FORM.layout.on(["segment II", "segment III", "segment II"])
    by_name = {field.name: field for field in layout.fields}
    assert by_name["segments"].rows == ("segment II", "segment III")
    assert by_name["hips"].rows == ("left hip", "right hip")
    assert not {f.name: f for f in FORM.layout.fields}["segments"].is_asked({})


@pytest.mark.parametrize(
    ("document", "path", "what"),
    [
        ([], (), "no object"),
        ({"type": "object"}, ("properties",), "asks nothing"),
        ({"type": "array", "properties": {"a": {"type": "string"}}}, ("type",), "array"),
        (small(a={"type": "strin"}), ("properties", "a", "type"), "strin"),
        (small(a={"type": "string", "pattern": "("}), ("properties", "a", "pattern"), "regex"),
        (small(a={"type": "string", "minLength": -1}), ("properties", "a", "minLength"), "-1"),
        (small(a={}), ("properties", "a"), "no type"),
        (small(a={"type": "null"}), ("properties", "a"), "null"),
        (small(a={"type": ["string", "null"]}), ("properties", "a"), "null"),
        (small(a={"enum": []}), ("properties", "a"), "cannot be shown"),
        (small(a={"enum": [{"b": 1}]}), ("properties", "a"), "cannot be shown"),
        (small(a={"enum": [1, "1"]}), ("properties", "a"), "the same"),
        (small(a={"type": "array"}), ("properties", "a"), "without items"),
        (small(a={"type": "object"}), ("properties", "a"), "no grid"),
        (small(a={"type": "string", "default": "x"}), ("properties", "a", "default"), "default"),
        (small(a={"type": "string", "format": "email"}), ("properties", "a", "format"), "email"),
        (small(a={"type": "number", "multipleOf": 0.1}), ("properties", "a", "multipleOf"), "bin"),
        (small(a={"type": "number", "minimum": 2, "maximum": 1}), ("properties", "a"), "no number"),
        (small(a={"type": "number", "maximum": 10**400}), ("properties", "a", "maximum"), "large"),
        (small(a={"type": "string", "maxLength": 10**6}), ("properties", "a", "maxLength"), "long"),
        (small(**{"../x": {"type": "string"}}), ("properties", "../x"), "cannot name"),
        (small(a={"$ref": "https://example.org/a"}), ("properties", "a", "$ref"), "elsewhere"),
        (small(a={"$ref": "#"}), ("properties", "a", "$ref"), "elsewhere"),
        (small(a={"$ref": "#/$defs/b"}), ("properties", "a", "$ref"), "no definition"),
        (small(a={"$dynamicRef": "#x"}), ("properties", "a", "$dynamicRef"), "support"),
        (small(a={"type": "string"}) | {"required": ["b"]}, ("required", 0), "'b'"),
        (small(a={"type": "string"}) | {"anyOf": [{}]}, ("anyOf",), "support"),
        (
            small(a={"type": "string"}) | {"$schema": "http://json-schema.org/draft-07/schema#"},
            ("$schema",),
            "draft-07",
        ),
        (
            small(a={"type": "string"})
            | {"if": {"properties": {"a": {"const": "x"}}}, "then": {"required": ["b"]}},
            ("then", "required"),
            "'b'",
        ),
        (
            small(a={"type": "string"}) | {"dependentRequired": {"a": ["b"]}},
            ("dependentRequired", "a"),
            "'b'",
        ),
        (
            small(a={"$ref": "#/$defs/a"})
            | {"$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"not": {"$ref": "#/$defs/a"}}}},
            ("$defs", "a"),
            "back to itself",
        ),
    ],
)
def test_a_fault_is_told_with_its_place(
    document: Any, path: tuple[str | int, ...], what: str
) -> None:
    faults = forms.check(document)
    assert any(fault.path == path and what in fault.what for fault in faults), faults


@pytest.mark.parametrize(
    ("ui", "path", "what"),
    [
        ([], ("ui",), "no object"),
        ({"colour": 1}, ("ui", "colour"), "unknown key"),
        ({"fields": {"b": {}}}, ("ui", "fields", "b"), "no question"),
        ({"fields": {"a": {"unit": "mL"}}}, ("ui", "fields", "a", "unit"), "unknown key"),
        ({"fields": {"a": {"lines": 99}}}, ("ui", "fields", "a", "lines"), "99"),
        ({"fields": {"a": {"as": "mark"}}}, ("properties", "a"), "cannot be shown"),
        ({"fields": {"n": {"step": 0}}}, ("ui", "fields", "n", "step"), "step is 0"),
        ({"fields": {"g": {}}}, ("ui", "fields", "g", "rows"), "no rows"),
        ({"fields": {"g": {"rows": ["x", "x"]}}}, ("ui", "fields", "g", "rows"), "no rows"),
        ({"fields": {"a": {"show_if": {"g": 1}}}}, ("ui", "fields", "a", "show_if", "g"), "such"),
        ({"fields": {"a": {"show_if": {"c": "z"}}}}, ("ui", "fields", "a", "show_if", "c"), '"z"'),
        ({"fields": {"c": {"show_if": {"a": "z"}}}}, ("ui", "fields", "c", "show_if", "a"), "no"),
        ({"sections": {}}, ("ui", "sections"), "no list"),
        ({"sections": [{"fields": ["a", "a"]}]}, ("ui", "sections", 0, "fields", 1), "already"),
        ({"sections": [{"fields": ["zz"]}]}, ("ui", "sections", 0, "fields", 0), "no question"),
        ({"sections": [{"fields": ["a"]}]}, ("ui", "sections"), "in no section"),
    ],
)  # fmt: skip
def test_what_ui_says_is_checked_against_the_questions(
    ui: Any, path: tuple[str | int, ...], what: str
) -> None:
    row = {"type": "object", "properties": {"x": {"type": "string"}}}
    questions = {
        "c": {"enum": ["x", "y"]},
        "a": {"type": "string"},
        "n": {"type": "number"},
        "g": {"type": "object", "additionalProperties": row},
    }
    faults = forms.check(small(**questions) | {"ui": ui})
    assert any(fault.path == path and what in fault.what for fault in faults), faults


@given(JSON)
@settings(max_examples=60, deadline=None)
def test_whatever_a_document_is_checking_it_says_so(document: Any) -> None:
    for fault in forms.check(document):
        assert fault.what and fault.expected


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_document_that_is_wrong_in_one_place_never_breaks_the_reading(
    data: st.DataObject,
) -> None:
    document = copy.deepcopy(EVERYTHING)
    here: Any = document
    for _ in range(data.draw(st.integers(0, 5))):
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        inner = [key for key in keys if isinstance(here[key], dict | list) and here[key]]
        if not inner:
            break
        here = here[data.draw(st.sampled_from(inner))]
    key = data.draw(st.sampled_from(list(here) if isinstance(here, dict) else range(len(here))))
    here[key] = data.draw(JSON)
    faults = forms.check(document)
    if not faults:
        assert read(document)[0].fields


def test_a_digest_is_of_the_whole_document() -> None:
    other = copy.deepcopy(EVERYTHING)
    other["ui"]["fields"]["volume"]["unit"] = "cm³"
    assert forms.Form("everything", other).digest != FORM.digest
    assert forms.Form("other", copy.deepcopy(EVERYTHING)).digest == FORM.digest
