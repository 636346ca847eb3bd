"""A site's own operators: found, used in a pipeline, and told where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from overread.pipelines.ports import signature
from overread.site import load
from overread.site.operators import read_operators
from tests.site.sites import PIPELINE, whole, write

MINE = '''\
"""Operators of this site."""
from __future__ import annotations

from dataclasses import dataclass
from os.path import join

from overread.dicom.volume import Mask


@dataclass(frozen=True)
class Facts:
    """Needs its module where dataclasses look for it."""

    name: str


def largest(mask: Mask, *, count: int = 1) -> Mask:
    """Keep it."""
    return mask


def _inner(x):
    return x
'''


def test_public_functions_of_the_file_are_operators(tmp_path: Path) -> None:
    file = write(tmp_path, {"mine.py": MINE}) / "mine.py"
    operators, faults = read_operators(file)
    assert faults == []
    assert list(operators) == ["largest"]
    assert signature("largest", operators["largest"]).settings == {"count": int}
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_a_pipeline_uses_them_and_the_site_knows_their_file(tmp_path: Path) -> None:
    text = PIPELINE.replace("{use: threshold, ", "{use: threshold, ").replace(
        "  volumes: {use: measure_volumes, in: {mask: mask}}",
        "  big: {use: largest, in: {mask: mask}, with: {count: 2}}\n"
        "  volumes: {use: measure_volumes, in: {mask: big}}",
    )
    root = write(whole(tmp_path, pipeline=text), {"operators/mine.py": MINE})
    site = load(root, {})
    assert site.operator_sources["largest"] == root / "operators/mine.py"
    assert site.operators["largest"].__doc__ == "Keep it."


@pytest.mark.parametrize(
    ("code", "line", "what"),
    [
        ("x = 1\ndef f(:\n", 2, "syntax error"),
        ("x = 1\n\nraise SystemExit(3)\n", 3, "SystemExit: 3"),
        ("def g():\n    return 1 / 0\n\ng()\n", 2, "ZeroDivisionError"),
        ("import nothing_like_it\n", 1, "ModuleNotFoundError"),
        ("def f(a: int, b) -> int:\n    return a\n", 1, "parameter b has no annotation"),
        ("x = 1\ndef f(a: int):\n    return a\n", 2, "no return annotation"),
        ("def f(*a: int) -> int:\n    return 1\n", 1, "*a is not a port"),
        (
            "from overread.pipelines.ports import Outside\n"
            "def f(a: int, outside: Outside) -> int:\n    return a\n",
            2,
            "asks to run programs outside of its box",
        ),
        ("def f(a: 'Missing') -> int:\n    return 1\n", 1, "'Missing' is not defined"),
    ],
)
def test_a_fault_is_told_with_its_line_and_the_rest_is_read(
    tmp_path: Path, code: str, line: int, what: str
) -> None:
    file = write(tmp_path, {"bad.py": code}) / "bad.py"
    operators, (fault,) = read_operators(file, Path("operators/bad.py"))
    assert operators == {}
    assert (fault.file, fault.line) == (Path("operators/bad.py"), line)
    assert what in fault.what


def test_a_name_stands_for_one_operator(tmp_path: Path) -> None:
    from overread.errors import SiteError

    root = write(
        whole(tmp_path),
        {
            "operators/a.py": "def threshold(a: int) -> int:\n    return a\n",
            "operators/b.py": "\ndef mine(a: int) -> int:\n    return a\n",
            "operators/c.py": "def mine(a: int) -> int:\n    return a\n",
        },
    )
    with pytest.raises(SiteError) as caught:
        load(root, {})
    assert [str(fault) for fault in caught.value.faults] == [
        "operators/a.py:1: there is an operator 'threshold' already; expected another name",
        "operators/c.py:1: there is an operator 'mine' already; expected another name",
    ]
