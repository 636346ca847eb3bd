"""Comparing, against the same question asked in plain Python."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overread.dicom.comparison import REGEX_SEES, compile_test, fold, kind_of
from overread.dicom.element import Malformed

LETTERS = st.text("abAB.", max_size=12)


@pytest.mark.parametrize(
    ("vr", "operator", "operand", "value", "expected"),
    [
        ("IS", "equals", 1, "01", True),
        ("DS", "equals", "1e1", "10.0", True),
        ("DS", "equals", 0.1, "0.10", True),
        ("DS", "equals", 1, "1_0", False),
        ("DS", "range", [0, None], "NaN", False),
        ("SV", "equals", 2**63 - 1, str(2**63 - 2), False),
        ("DA", "equals", "2024", "20241231", True),
        ("DA", "equals", "2024.01.31", "2024-01-31", True),
        ("DA", "range", [None, "2024-01"], "20240131", True),
        ("DA", "range", [None, "2024-01"], "20240201", False),
        ("DA", "range", [None, "2024"], "garbage", False),
        ("TM", "equals", "13", "135959.999999", True),
        ("TM", "range", ["22:00", None], "23", True),
        ("DT", "equals", "2024-01-31 13", "20240131135959.5-0500", True),
        ("DT", "range", ["2024-01-31T13:30", None], "20240131", False),
        ("AS", "equals", "12M", "001Y", True),
        ("AS", "range", ["18Y", None], "017Y", False),
        ("AS", "range", ["18Y", None], "old", False),
        ("", "equals", 3, "3.0", True),
        ("", "equals", "3", "3.0", False),
        ("", "range", [1, 3], "2", True),
        ("", "range", [1, 3], "two", False),
        ("LO", "like", "a[b]*", "a[b]c", True),
        ("LO", "like", "a[b]*", "abc", False),
        ("LO", "like", "ab*ab", "ab", False),
        ("LO", "like", "", "x", None),
        ("LO", "regex", "b$", "a\nb", True),
        ("LO", "regex", "^a.b", "a" * 300, False),
    ],
)
def test_table(vr: str, operator: str, operand: Any, value: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(Malformed):
            compile_test(vr, operator, operand)
    else:
        assert compile_test(vr, operator, operand)(value) is expected


def test_every_vr_has_a_kind() -> None:
    assert kind_of("UN") == kind_of("anything new") == "exists"
    assert kind_of("US or SS") == "number"


@given(st.text("abAB.*?", min_size=1, max_size=10), LETTERS)
def test_like_is_what_a_shell_does(pattern: str, value: str) -> None:
    assert compile_test("AE", "like", pattern)(value) == fnmatchcase(value, pattern)
    folded = fnmatchcase(fold(value), fold(pattern))
    assert compile_test("LO", "like", pattern)(value) == folded


@given(st.decimals(-1000, 1000, places=2), st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_a_range_is_that_of_numbers(value: Any, one: int, other: int) -> None:
    low, high = sorted([one, other])
    assert compile_test("DS", "range", [low, high])(str(value)) == (low <= value <= high)


@given(st.dates(), st.dates(), st.dates())
def test_a_range_is_that_of_dates(value: Any, one: Any, other: Any) -> None:
    low, high = sorted([one, other])
    test = compile_test("DA", "range", [low.isoformat(), high.isoformat()])
    assert test(value.strftime("%Y%m%d").zfill(8)) == (low <= value <= high)


@given(st.text("ab(|)*+?.{2,}[]^$\\", max_size=12), LETTERS)
def test_a_regex_is_that_of_python_or_refused(pattern: str, value: str) -> None:
    try:
        test = compile_test("LO", "regex", pattern)
    except Malformed:
        return
    assert test(value) == (re.search(pattern, value[:REGEX_SEES]) is not None)
