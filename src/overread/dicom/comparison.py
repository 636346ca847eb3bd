"""What comparing means, by the VR of what is compared.

======== ======================================= ===================================================
kind     VR                                      compared as
======== ======================================= ===================================================
text     CS LO LT PN SH ST UC UR UT, PeerAddress text; ``equals``, ``in`` and ``like`` do not tell
                                                 upper from lower case, ``regex`` does
exact    AE AT, Called- and CallingAETitle       text; case counts
uid      UI                                      text; case counts; a name of PS3.6 is its UID
number   DS IS FL FD SS US SL UL SV UV           numbers: 1, 1.0 and "01" are equal
time     DA TM DT                                what is written is the span that it names: 2024 is
                                                 all of that year; offsets from UTC play no part
age      AS                                      days: 12M and 1Y are equal
any      an element that no dictionary knows     as a number where one is asked for, or text
exists   SQ OB OW …                              only whether it is there
======== ======================================= ===================================================

``like`` and ``equals`` are for the whole value, ``regex`` finds its pattern anywhere in it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from importlib import import_module
from math import inf, prod
from typing import Any, Literal

from pydicom._uid_dict import UID_dictionary

from overread.dicom.element import BINARY, UNKNOWN, Malformed

# By name: whether typeshed's `re` has them depends on what else is checked along.
regex_codes: Any = import_module("re._constants")
regex_parser: Any = import_module("re._parser")

Kind = Literal["text", "exact", "uid", "number", "time", "age", "any", "exists"]
Test = Callable[[str], bool]

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"), "text"),
    **dict.fromkeys(("AE", "AT"), "exact"),
    **dict.fromkeys(("DS", "IS", "FL", "FD", "SS", "US", "SL", "UL", "SV", "UV"), "number"),
    **dict.fromkeys(("DA", "TM", "DT"), "time"),
    **dict.fromkeys(("SQ", "UN", *BINARY), "exists"),
    "US or SS": "number",
    "UI": "uid",
    "AS": "age",
    UNKNOWN: "any",
}
OPERATORS: dict[Kind, tuple[str, ...]] = {
    "text": ("equals", "like", "regex", "in", "exists"),
    "exact": ("equals", "like", "regex", "in", "exists"),
    "uid": ("equals", "like", "regex", "in", "exists"),
    "number": ("equals", "in", "range", "exists"),
    "time": ("equals", "in", "range", "exists"),
    "age": ("equals", "in", "range", "exists"),
    "any": ("equals", "like", "regex", "in", "range", "exists"),
    "exists": ("exists",),
}
REGEX_SEES = 256
"""Characters of a value that a regular expression is shown, so that it cannot take long."""

_REGEX_LENGTH = 500
_OPEN = 64
"""Ways that a repetition of no fixed count is reckoned with."""
_WAYS = _OPEN**4

_UIDS = {entry[4]: uid for uid, entry in UID_dictionary.items() if entry[4]}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_AGE = re.compile(r"(\d{1,3})([DWMY])", re.ASCII)
_DAYS = {"D": Decimal(1), "W": Decimal(7), "M": Decimal("30.4375"), "Y": Decimal("365.25")}
_DATE_FORM = r"(\d{4})(?:[-.]?(0[1-9]|1[0-2])(?:[-.]?(0[1-9]|[12]\d|3[01])%s)?)?"
_TIME_FORM = r"([01]\d|2[0-3])(?::?([0-5]\d)(?::?([0-5]\d|60)(?:\.(\d{1,6}))?)?)?"
_TIMES = {
    "DA": re.compile(_DATE_FORM % "", re.ASCII),
    "TM": re.compile(_TIME_FORM, re.ASCII),
    "DT": re.compile(_DATE_FORM % rf"(?:[T ]?{_TIME_FORM})?" + r"(?:[+-]\d{4})?", re.ASCII),
}
_FIRST = {"DA": "00000101", "TM": "000000000000", "DT": "00000101000000000000"}
_LAST = {"DA": "99991231", "TM": "235959999999", "DT": "99991231235959999999"}
_TIME_EXAMPLES = {"DA": '"2024-01-31"', "TM": '"13:30"', "DT": '"2024-01-31 13:30"'}


def kind_of(vr: str) -> Kind:
    """Return the kind that a VR is compared as."""
    return _KINDS.get(vr, "exists")


def compile_test(vr: str, operator: str, operand: Any) -> Test:
    """Turn an operator and what it is given into a test of one value.

    Parameters
    ----------
    vr : str
        VR of what is tested.
    operator : str
        Any but ``exists``, which tests no value.
    operand : object
        What the rule says: a scalar; a list for ``in`` and ``range``.

    Raises
    ------
    Malformed
        The operator does not go with the VR, or the operand does not go with the operator.
    """
    kind = kind_of(vr)
    if operator == "equals":
        return _equals(kind, vr, operand)
    if operator == "in":
        if not isinstance(operand, list) or not operand:
            raise Malformed(f"in: {operand!r}", "a list of values, at least one")
        tests = [_equals(kind, vr, item) for item in operand]
        return lambda value: any(test(value) for test in tests)
    if operator == "range":
        return _range(kind, vr, operand)
    if not isinstance(operand, str) or not operand:
        raise Malformed(f"{operator}: {operand!r}", "a pattern, as text")
    return _like(kind, operand) if operator == "like" else _regex(operand)


def fold(value: str) -> str:
    """Bring text to the form in which upper and lower case are the same."""
    return unicodedata.normalize("NFC", value).casefold()


def _equals(kind: Kind, vr: str, operand: Any) -> Test:
    if isinstance(operand, bool) or operand is None or isinstance(operand, dict | list):
        raise Malformed(f"{operand!r} is no value to compare with", "text, a number or a date")
    if operand == "":
        raise Malformed("an empty text", "a value; {exists: false} finds what is absent or empty")
    if kind in ("number", "age") or (kind == "any" and not isinstance(operand, str | date)):
        wanted = _amount(kind, operand)
        return lambda value: _read_amount(kind, value) == wanted
    if kind == "time":
        first, last = _span(vr, operand)
        return lambda value: first <= _moment(vr, value) <= last
    if not isinstance(operand, str):
        raise Malformed(f"{operand!r} is a {type(operand).__name__}, not text", "text, in quotes")
    if kind == "uid":
        uid = _uid(operand)
        return lambda value: value == uid
    if kind == "exact":
        return lambda value: value == operand
    folded = fold(operand.strip())
    return lambda value: fold(value) == folded


def _range(kind: Kind, vr: str, operand: Any) -> Test:
    if not isinstance(operand, list) or len(operand) != 2 or operand == [None, None]:
        raise Malformed(f"range: {operand!r}", "[lowest, highest]; one of them may be null")
    low, high = operand
    if kind == "time":
        first = _FIRST[vr] if low is None else _span(vr, low)[0]
        last = _LAST[vr] if high is None else _span(vr, high)[1]
        if first > last:
            raise Malformed(f"range: {operand!r} is empty", "the lower end first")
        return lambda value: first <= _moment(vr, value) <= last
    lowest = None if low is None else _amount(kind, low)
    highest = None if high is None else _amount(kind, high)
    if lowest is not None and highest is not None and lowest > highest:
        raise Malformed(f"range: {operand!r} is empty", "the lower end first")

    def test(value: str) -> bool:
        amount = _read_amount(kind, value)
        return (
            amount is not None
            and (lowest is None or lowest <= amount)
            and (highest is None or amount <= highest)
        )

    return test


def _amount(kind: Kind, operand: Any) -> Decimal:
    amount = None if isinstance(operand, bool) else _read_amount(kind, str(operand))
    if amount is None:
        expected = "an age like 18Y, 6M, 2W or 10D" if kind == "age" else "a number"
        raise Malformed(f"{operand!r}", expected)
    return amount


def _read_amount(kind: Kind, value: str) -> Decimal | None:
    if kind == "age":
        match = _AGE.fullmatch(value)
        return int(match[1]) * _DAYS[match[2]] if match else None
    return Decimal(value) if _NUMBER.fullmatch(value) else None


def _span(vr: str, operand: Any) -> tuple[str, str]:
    """Return the first and the last moment that a written date or time names, as digits."""
    written = operand.isoformat() if isinstance(operand, date) else str(operand)
    digits = _digits(vr, written)
    if digits is None or isinstance(operand, float) or (vr == "TM" and isinstance(operand, int)):
        raise Malformed(f"{operand!r} is no {vr}", f"one like {_TIME_EXAMPLES[vr]}, in quotes")
    if vr == "DT" and re.search(r"[+-]\d{4}$", written[8:]):
        raise Malformed(f"{operand!r} has an offset", "one without, as dates compare as written")
    return digits + _FIRST[vr][len(digits) :], digits + _LAST[vr][len(digits) :]


def _moment(vr: str, value: str) -> str:
    digits = _digits(vr, value)
    return "" if digits is None else digits + _FIRST[vr][len(digits) :]


def _digits(vr: str, written: str) -> str | None:
    match = _TIMES[vr].fullmatch(written)
    return "".join(group or "" for group in match.groups()) if match else None


def _uid(operand: str) -> str:
    if operand in _UIDS:
        return _UIDS[operand]
    if re.fullmatch(r"[0-9]+(\.[0-9]+)*", operand) and len(operand) <= 64:
        return operand
    close = get_close_matches(operand, _UIDS, n=2)
    hint = f", perhaps {' or '.join(close)}" if close else ""
    raise Malformed(f"{operand!r} is no UID", f"a UID or its name in PS3.6{hint}")


def _like(kind: Kind, operand: str) -> Test:
    """Compile a pattern of ``*`` and ``?``.

    Each piece between two stars is found once, at the first place where it fits (an atomic group),
    so that no pattern takes longer than the product of both lengths.
    """
    sensitive = kind in ("exact", "uid")
    first, *rest = (operand if sensitive else fold(operand)).split("*")
    pieces = [re.escape(piece).replace(r"\?", ".") for piece in rest]
    pattern = re.escape(first).replace(r"\?", ".")
    if pieces:
        pattern += "".join(f"(?>.*?{piece})" for piece in pieces[:-1] if piece)
        pattern += f".*{pieces[-1]}"
    compiled = re.compile(pattern, re.DOTALL)
    if sensitive:
        return lambda value: compiled.fullmatch(value) is not None
    return lambda value: compiled.fullmatch(fold(value)) is not None


def _regex(operand: str) -> Test:
    if len(operand) > _REGEX_LENGTH:
        raise Malformed(f"a regex of {len(operand)} characters", f"at most {_REGEX_LENGTH}")
    try:
        compiled = re.compile(operand)
        ways = _ways(regex_parser.parse(operand), repeated=False)
    except (re.error, OverflowError, RecursionError) as error:
        raise Malformed(f"regex {operand!r}: {error}", "a regular expression of Python") from error
    if ways > _WAYS:
        raise Malformed(
            f"regex {operand!r} can match in so many ways that it may take for ever",
            "at most four * or +, and none of * + ? | inside a group that is itself repeated",
        )
    return lambda value: (
        compiled.search(unicodedata.normalize("NFC", value)[:REGEX_SEES]) is not None
    )


def _ways(tree: Any, *, repeated: bool) -> float:
    """Estimate in how many ways a parsed expression can be tried on one value.

    A choice (a repetition of no fixed count, a branch) within a repetition is endless.
    """
    ways = 1.0
    for code, argument in tree:
        inner = repeated
        if code is regex_codes.BRANCH:
            ways *= inf if repeated else len(argument[1])
        elif code in (regex_codes.MAX_REPEAT, regex_codes.MIN_REPEAT):
            low, high, _ = argument
            if low != high:
                ways *= inf if repeated else min(high - low + 1, _OPEN)
            inner = repeated or high > 1
        elif code is regex_codes.POSSESSIVE_REPEAT:
            inner = False  # each round is final, so rounds do not multiply
        ways *= prod(_ways(part, repeated=inner) for part in _inside(argument))
    return ways


def _inside(argument: Any) -> Iterator[Any]:
    """Find the expressions within the argument of a parsed operation."""
    if isinstance(argument, regex_parser.SubPattern):
        yield argument
    elif isinstance(argument, tuple | list):
        for part in argument:
            yield from _inside(part)
