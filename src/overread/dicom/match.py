"""The one condition language: what a header and its association must say.

It serves routes, the selection of series, completeness and enrolment. A condition is plain data, as
YAML has it; `parse` reads it once, when the site is loaded, and finds everything that is wrong with
it. What is parsed never raises, whatever header it is shown, and explains every answer.

======================================= =========================================================
``always``                              true
``ADDRESS: VALUE``                      one of the element's values equals it
``ADDRESS: {OPERATOR: OPERAND, …}``     each operator holds for one of the element's values:
                                        ``equals``, ``like`` (``*`` and ``?``, the whole value),
                                        ``regex`` (found anywhere), ``in``, ``range`` (both ends
                                        included; null leaves one open), ``exists``
several keys                            all of them
``all: […]`` ``any: […]`` ``not: …``    as they say
======================================= =========================================================

`overread.dicom.element` says what an address may be, `overread.dicom.comparison` what comparing
means for each VR. An element that is absent, or there without a value, matches nothing but
``exists: false``; so ``not: {X: a}`` is true where X is absent, as nothing there says ``a``. Of a
multi-valued element, or one in several items of a sequence, any one value is enough, for each
operator and each key on its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

from pydantic_core import CoreSchema, core_schema
from pydicom import Dataset

from overread.dicom.comparison import OPERATORS, Test, compile_test, kind_of
from overread.dicom.element import Address, Malformed, parse_address, text
from overread.dicom.study import Origin

__all__ = ["Condition", "ConditionError", "ConditionFault", "Explanation", "parse", "text"]

Path = tuple[str | int, ...]

UNSENT = Origin()
"""The origin of what came by no association: its fields are absent."""

_GROUPS = ("any", "all", "not")
_ALL_OPERATORS = OPERATORS["any"]
_DEPTH = 24
"""Conditions nested deeper than this are a circle of YAML anchors, or nothing a person can read."""


@dataclass(frozen=True)
class ConditionFault:
    """One thing that is wrong with a condition.

    Attributes
    ----------
    path : tuple
        Keys and indices from the condition's root to what is wrong.
    what, expected : str
        What was found, and what was expected.
    """

    path: Path
    what: str
    expected: str


class ConditionError(ValueError):
    """A condition is malformed.

    Attributes
    ----------
    faults : tuple of ConditionFault
        All that is wrong with it.
    path, what, expected
        Of the first.
    """

    def __init__(self, faults: list[ConditionFault]) -> None:
        self.faults = tuple(faults)
        first = self.faults[0]
        self.path, self.what, self.expected = first.path, first.what, first.expected
        super().__init__("; ".join(f"{fault.what}; expected {fault.expected}" for fault in faults))


@dataclass(frozen=True)
class Explanation:
    """Whether a condition is true, and why.

    Attributes
    ----------
    true : bool
        The answer.
    condition : str
        The condition in words, or how its parts go together.
    found : str
        What the header says there; empty where the condition has parts instead.
    of : tuple of Explanation
        The parts, every one of them evaluated.
    """

    true: bool
    condition: str
    found: str = ""
    of: tuple[Explanation, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the tree as plain data: ``true``, ``condition``, then ``found`` or ``of``."""
        data: dict[str, Any] = {"true": self.true, "condition": self.condition}
        if self.of:
            data["of"] = [part.to_json() for part in self.of]
        else:
            data["found"] = self.found
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Explanation:
        """Read what `to_json` wrote."""
        of = tuple(cls.from_json(part) for part in data.get("of", ()))
        return cls(data["true"], data["condition"], data.get("found", ""), of)

    def lines(self) -> list[str]:
        """Return the tree as lines for people, indented by two spaces a level."""
        lines = [f"{'✓' if self.true else '✗'} {self._words}"]
        for part in self.of:
            lines += [f"  {line}" for line in part.lines()]
        return lines

    def deciding(self) -> list[str]:
        """Return the comparisons, in words, that make it true or false; not those beside them.

        Of an ``all`` that is not met these are those that are not met, of an ``any`` all of its.
        """
        if not self.of:
            return [self._words]
        if self.condition == "not":
            return [f"not {words}" for words in self.of[0].deciding()]
        return [words for part in self.of if part.true is self.true for words in part.deciding()]

    @property
    def _words(self) -> str:
        return f"{self.condition}: {self.found}" if self.found else self.condition


class _Node(Protocol):
    def explain(self, header: Dataset, origin: Origin, /) -> Explanation: ...


@dataclass(frozen=True)
class _Always:
    def explain(self, _header: Dataset, _origin: Origin, /) -> Explanation:
        return Explanation(True, "always")


@dataclass(frozen=True)
class _Compare:
    address: Address
    words: str
    test: Test

    def explain(self, header: Dataset, origin: Origin) -> Explanation:
        found = self.address.read(header, origin)
        true = any(self.test(value) for value in found.values)
        return Explanation(true, f"{self.address.written} {self.words}", str(found))


@dataclass(frozen=True)
class _Exists:
    address: Address
    wanted: bool

    def explain(self, header: Dataset, origin: Origin) -> Explanation:
        found = self.address.read(header, origin)
        words = f"{self.address.written} {'exists' if self.wanted else 'does not exist'}"
        return Explanation(bool(found.values) is self.wanted, words, str(found))


@dataclass(frozen=True)
class _Group:
    kind: str
    members: tuple[_Node, ...]

    def explain(self, header: Dataset, origin: Origin) -> Explanation:
        of = tuple(member.explain(header, origin) for member in self.members)
        truths = [part.true for part in of]
        if self.kind == "any":
            return Explanation(any(truths), "any of", of=of)
        if self.kind == "all":
            return Explanation(all(truths), "all of", of=of)
        return Explanation(not truths[0], "not", of=of)


@dataclass(frozen=True)
class Condition:
    """A condition, parsed.

    A field of a pydantic model, or a setting of an operator, that is annotated with it takes plain
    data and parses it; it is written as that data again.

    Attributes
    ----------
    source : object
        The plain data that it was parsed from.
    """

    source: Any
    _root: _Node

    def explain(self, header: Dataset, origin: Origin = UNSENT) -> Explanation:
        """Evaluate every part, with what was found there. Never raises, whatever the header."""
        return self._root.explain(header, origin)

    def holds(self, header: Dataset, origin: Origin = UNSENT) -> bool:
        """Evaluate."""
        return self.explain(header, origin).true

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and self.source == other.source

    def __hash__(self) -> int:
        return hash(repr(self.source))

    def __reduce__(self) -> tuple[Any, ...]:
        return parse, (self.source,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda data: data if isinstance(data, cls) else parse(data),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda condition: condition.source
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return {"title": "Condition", "type": ["object", "string"]}


def parse(data: Any) -> Condition:
    """Parse plain data into a condition.

    Raises
    ------
    ConditionError
        With everything that is wrong with it, and where.
    """
    parser = _Parser()
    root = parser.condition(data, (), 0)
    if parser.faults:
        raise ConditionError(parser.faults)
    return Condition(data, root)


class _Parser:
    """Collects the faults of one condition while it reads it."""

    def __init__(self) -> None:
        self.faults: list[ConditionFault] = []

    def fault(self, path: Path, what: str, expected: str) -> _Node:
        """Note a fault; what is returned in place of the condition is never evaluated."""
        self.faults.append(ConditionFault(path, what, expected))
        return _Always()

    def condition(self, data: Any, path: Path, depth: int) -> _Node:
        """Read ``always``, or a mapping of which everything must hold."""
        if depth > _DEPTH:
            return self.fault(path, "conditions nested too deep", f"at most {_DEPTH} levels")
        if data == "always":
            return _Always()
        if not isinstance(data, Mapping):
            hint = "; several go under all: or any:" if isinstance(data, list) else ""
            return self.fault(
                path, f"{_shown(data)} is not a condition", f"a mapping, or `always`{hint}"
            )
        if not data:
            return self.fault(path, "a condition that says nothing", "a key, or `always`")
        nodes = [self.entry(key, value, (*path, key), depth) for key, value in data.items()]
        return nodes[0] if len(nodes) == 1 else _Group("all", tuple(nodes))

    def entry(self, key: Any, value: Any, path: Path, depth: int) -> _Node:
        """Read one key of a condition."""
        if key in _GROUPS:
            return self.group(key, value, path, depth)
        if not isinstance(key, str) or key == "always":
            expected = "an attribute's keyword, in text; `always` stands alone, without a key"
            return self.fault(path, f"the key {key!r}", expected)
        if isinstance(value, list):
            return self.fault(path, f"{key}: a bare list", "{in: [...]}")
        try:
            address = parse_address(key)
        except Malformed as error:
            return self.fault(path, error.what, error.expected)
        if isinstance(value, Mapping):
            return self.tests(address, value, path)
        return self.test(address, "equals", value, path)

    def group(self, kind: str, value: Any, path: Path, depth: int) -> _Node:
        """Read what stands under any, all or not."""
        if kind == "not":
            return _Group("not", (self.condition(value, path, depth + 1),))
        if not isinstance(value, list) or not value:
            return self.fault(path, f"{kind}: {_shown(value)}", "a list of conditions")
        members = [
            self.condition(item, (*path, index), depth + 1) for index, item in enumerate(value)
        ]
        return _Group(kind, tuple(members))

    def tests(self, address: Address, tests: Mapping[Any, Any], path: Path) -> _Node:
        """Read the operators on one element, all of which must hold."""
        if not tests:
            return self.fault(path, "no operator", f"one of {', '.join(_ALL_OPERATORS)}")
        nodes = [
            self.test(address, operator, operand, (*path, operator))
            for operator, operand in tests.items()
        ]
        return nodes[0] if len(nodes) == 1 else _Group("all", tuple(nodes))

    def test(self, address: Address, operator: Any, operand: Any, path: Path) -> _Node:
        """Read one operator on one element."""
        if operator not in _ALL_OPERATORS:
            close = get_close_matches(str(operator), _ALL_OPERATORS, n=1)
            hint = f", perhaps {close[0]}" if close else ""
            return self.fault(
                path,
                f"{operator!r} is no operator",
                f"one of {', '.join(_ALL_OPERATORS)}{hint}",
            )
        allowed = OPERATORS[kind_of(address.vr)]
        if operator not in allowed:
            return self.fault(
                path,
                f"{operator} does not go with {address.written}, of VR {address.vr}",
                " or ".join(allowed),
            )
        if operator == "exists":
            if not isinstance(operand, bool):
                return self.fault(path, f"exists: {_shown(operand)}", "true or false")
            return _Exists(address, operand)
        try:
            test = compile_test(address.vr, operator, operand)
        except Malformed as error:
            return self.fault(path, error.what, error.expected)
        return _Compare(address, f"{operator} {_shown(operand)}", test)


def _shown(value: Any) -> str:
    """Write a value of a rule on one line, as the rule has it or nearly so."""
    if isinstance(value, list):
        return "[" + ", ".join(_shown(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value) if isinstance(value, str) else str(value)
