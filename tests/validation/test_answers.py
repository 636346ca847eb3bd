from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from overread.validation.answer_text import decode, differences, pointer, words
from overread.validation.answers import Size, check_answers
from overread.validation.forms import validator
from tests.validation.forms import FORM, GOOD

IMAGES = {"1.2.3": Size(512, 400, 2)}
POINT = {"sop_instance_uid": "1.2.3", "frame": 0, "x": 10, "y": 20.5}
BY_NAME = {field.name: field for field in FORM.layout.fields}


def problems(**answers: Any) -> dict[tuple[str, ...], str]:
    checked = check_answers(FORM, {**GOOD, **answers}, regions=["II"], images=IMAGES)
    return {problem.path: problem.words for problem in checked.problems}


def test_good_answers_are_kept_as_they_are() -> None:
    answers = {
        **GOOD, "signs": ["growth", "oedema"], "quality": 4, "volume": 12.5, "count": 2,
        "agree": True, "seen_on": "2026-06-02", "segments": {"II": {"seconds": 3}},
        "where": POINT, "extent": {**POINT, "x1": 30, "y1": 40}, "comment": "<script>\n'; --",
    }  # fmt: skip
    checked = check_answers(FORM, answers, regions=["II"], images=IMAGES)
    assert checked.problems == ()
    assert checked.answers == answers


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("progression", "maybe", "Yes, No or Cannot tell"),
        ("progression", ["yes"], "is no answer"),
        ("progression", True, "is no answer"),
        ("signs", "growth", "no list"),
        ("signs", ["growth", "x"], '"x" is no answer'),
        ("signs", ["growth", "growth"], "chosen twice"),
        ("signs", ["growth", "oedema", "new lesion"], "at most 2"),
        ("quality", 6, "6 is no answer"),
        ("quality", True, "no answer"),
        ("volume", 501, "501 is out of range; expected 0 to 500 mL"),
        ("volume", -0.1, "0 to 500 mL"),
        ("volume", "much", '"much" is not a number; expected 0 to 500 mL'),
        ("volume", float("nan"), "not a number"),
        pytest.param("volume", 10**5000, "not a number", id="vast"),
        ("count", 1.5, "not a whole number; expected at least 0"),
        ("agree", "true", "no answer"),
        ("agree", 1, "no answer"),
        ("seen_on", "2026-02-30", "no date"),
        ("seen_on", "20260602", "no date"),
        ("comment", "x" * 4001, "4,001 characters; expected at most 4,000"),
        ("comment", "a\x00b", "cannot be kept"),
        ("comment", "\ud800", "cannot be kept"),
        ("comment", {"a": 1}, "is no text"),
        ("where", {**POINT, "x": 513}, "outside of the image (512 × 400)"),
        ("where", {**POINT, "frame": 2}, "outside"),
        ("where", {**POINT, "frame": 0.5}, "no place"),
        ("where", {**POINT, "sop_instance_uid": "9.9"}, "not of this case"),
        ("where", {**POINT, "sop_instance_uid": 9}, "no place"),
        ("where", {**POINT, "z": 1}, "not marked"),
        ("where", "here", "not marked"),
        ("extent", POINT, "expected a box"),
        ("extent", {**POINT, "x1": 10, "y1": 40}, "no size"),
    ],
)
def test_an_answer_that_does_not_fit_is_named(name: str, value: Any, said: str) -> None:
    found = problems(**{name: value})
    assert said in found[(name,)], found
    assert BY_NAME[name].title.rstrip(":") in found[(name,)]


def test_what_is_required_is_named_in_words() -> None:
    checked = check_answers(FORM, {})
    assert [problem.words for problem in checked.problems] == [
        "Does this exam show progression? It is not answered yet.",
        "Each hip, left hip, Finding: it is not answered yet.",
        "Each hip, right hip, Finding: it is not answered yet.",
    ]


def test_a_row_that_was_begun_needs_what_a_row_needs() -> None:
    found = problems(hips={"left hip": {"sure": True}})
    assert set(found) == {("hips", "left hip", "finding"), ("hips", "right hip", "finding")}


@pytest.mark.parametrize(
    ("hips", "path", "said"),
    [
        ("all", ("hips",), "no row"),
        ({"third hip": {"finding": "normal"}}, ("hips", "third hip"), "no row"),
        ({"left hip": "normal"}, ("hips", "left hip"), "no row"),
        ({"left hip": {"finding": "broken"}}, ("hips", "left hip", "finding"), "hardware"),
        ({"left hip": {"colour": 1}}, ("hips", "left hip", "colour"), "no question"),
    ],
)
def test_a_grid_s_fault_is_named_by_row_and_column(
    hips: Any, path: tuple[str, ...], said: str
) -> None:
    assert said in problems(hips=hips)[path]


def test_other_questions_are_refused_by_name() -> None:
    found = problems(**{"<script>": 1, "../../etc": 2})
    assert found[("<script>",)] == 'The form has no question "<script>".'
    assert ("../../etc",) in found


def test_what_is_not_asked_is_neither_kept_nor_required() -> None:
    kept = check_answers(FORM, {**GOOD, "why": "blurred"}).answers
    assert "why" not in kept
    unclear = check_answers(FORM, {**GOOD, "progression": "unclear", "why": "blurred"}).answers
    assert unclear["why"] == "blurred"


def test_a_hidden_question_that_is_required_is_required_where_it_is_asked() -> None:
    form = type(FORM)("f", {**FORM.schema, "required": ["progression", "why"]})
    assert [one.path for one in check_answers(form, {"progression": "yes"}).problems] == []
    unclear = check_answers(form, {"progression": "unclear"})
    assert [one.path for one in unclear.problems] == [("why",)]


def test_conditions_of_the_schema_are_heard() -> None:
    assert ("comment",) in problems(agree=False)
    assert problems(agree=False, comment="the left one is wrong") == {}
    assert ("volume",) in problems(count=2)


def test_what_is_empty_is_not_answered() -> None:
    checked = check_answers(
        FORM, {**GOOD, "comment": " \n", "signs": [], "segments": {"II": {"seconds": ""}}}
    )
    assert checked.answers == GOOD
    assert checked.problems == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3)
    ),
    max_leaves=6,
)
VALUES = JSON | st.sampled_from(
    ["yes", "no", "unclear", 3, 12, False, ["growth"], "2026-01-01", POINT, GOOD["hips"]]
)


@given(st.dictionaries(st.sampled_from(sorted(BY_NAME)) | st.text(max_size=6), VALUES) | JSON)
@example(GOOD)
@settings(max_examples=300, deadline=None)
def test_whatever_is_sent_is_answered_and_what_is_accepted_fits_the_schema(sent: Any) -> None:
    checked = check_answers(FORM, sent, regions=["II"], images=IMAGES)
    assert all(problem.words and problem.words.isprintable() for problem in checked.problems)
    "".join(problem.words for problem in checked.problems).encode()
    if not checked.problems:
        assert validator(FORM.schema).is_valid(checked.answers)
        again = check_answers(FORM, checked.answers, regions=["II"], images=IMAGES)
        assert again.answers == checked.answers and not again.problems


@given(st.lists(st.tuples(st.text(max_size=20) | st.sampled_from(
    ["/progression", "/hips", "/hips/left hip/finding", "/volume", "/where", "/signs", "/hips/a"]
), st.text(max_size=12))))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_whatever_a_page_sends_is_read(sent: list[tuple[str, str]]) -> None:
    answers = decode(FORM.layout, sent)
    check_answers(FORM, answers)
    for field in FORM.layout.fields:
        assert isinstance(words(field, answers.get(field.name)), str)


def test_a_page_s_texts_become_what_the_questions_ask() -> None:
    layout = FORM.layout.on(["a/b"])
    sent = [
        ("csrf", "x"), ("/progression", "no"), ("/signs", "growth"), ("/quality", "4"),
        ("/volume", "12,5"), ("/count", "3"), ("/agree", "false"), ("/comment", "a\r\nb"),
        ("/hips/left hip/sure", "true"), ("/segments/a~1b/seconds", "1e2"), ("/where", ""),
        ("/extent", '{"x": 1}'), ("/why", "  "),
    ]  # fmt: skip
    assert decode(layout, sent) == {
        "progression": "no", "signs": ["growth"], "quality": 4, "volume": 12.5, "count": 3,
        "agree": False, "comment": "a\nb", "hips": {"left hip": {"sure": True}},
        "segments": {"a/b": {"seconds": 100.0}}, "extent": {"x": 1},
    }  # fmt: skip
    assert pointer("segments", "a/b~", "seconds") == "/segments/a~1b~0/seconds"


def test_what_fits_no_question_is_kept_to_be_named() -> None:
    answers = decode(FORM.layout, [("/progression", "yes"), ("/progression", "no"), ("/x", "1")])
    assert answers == {"progression": ["yes", "no"], "/x": ["1"]}
    assert len(check_answers(FORM, {**GOOD, **answers}).problems) == 2


def test_answers_are_put_into_words() -> None:
    said = {
        "progression": ("unclear", "Cannot tell"),
        "signs": (["growth", "oedema"], "growth, oedema"),
        "volume": (12.5, "12.5 mL"),
        "agree": (False, "No"),
        "hips": ({"left hip": {"finding": "normal", "sure": True}}, "left hip: normal, Yes"),
        "where": (POINT, "point at 10, 20"),
        "comment": ("as typed", "as typed"),
    }
    for name, (value, expected) in said.items():
        assert words(BY_NAME[name], value) == expected
        assert words(BY_NAME[name], None) == ""


def test_both_sides_of_a_difference_are_shown() -> None:
    (found,) = differences(FORM.layout, GOOD, {**GOOD, "volume": 3})
    assert (found.title, found.one, found.other) == ("Volume", "", "3 mL")
