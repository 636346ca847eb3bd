"""YAML with places: every value knows its line, every fault its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from overread.site.yamlfile import overlay, read, refuse_references, resolve

FILE = Path("a.yaml")


def write(folder: Path, text: str | bytes, file: Path = FILE) -> Path:
    (folder / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_values_are_plain_and_know_their_lines(tmp_path: Path) -> None:
    text = "# first\na: 1\nb:\n  - x\n  - c: 2024-01-31\n    d: on\ne: {f: ~, g: 1.5, h: true}\n"
    document, faults = read(write(tmp_path, text), FILE)
    assert faults == []
    assert document.data == {
        "a": 1,
        "b": ["x", {"c": "2024-01-31", "d": "on"}],
        "e": {"f": None, "g": 1.5, "h": True},
    }
    lines = {path: place.line for path, place in document.places.items()}
    assert lines == {
        ("a",): 2, ("b",): 3, ("b", 0): 4, ("b", 1): 5, ("b", 1, "c"): 5, ("b", 1, "d"): 6,
        ("e",): 7, ("e", "f"): 7, ("e", "g"): 7, ("e", "h"): 7,
    }  # fmt: skip
    fault = document.fault(("b", 1, "missing", 3), "what", "this")
    assert str(fault) == "a.yaml:5: what; expected this"
    assert document.settle(("b", "tuple", 1, "function-plain", "d")) == ("b", 1, "d")


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: [1\nb: 2", 2, "expected ',' or ']'"),
        ("a: 1\n b: 2", 2, "mapping values are not allowed here"),
        ("a:\n\t- 1", 2, "cannot start any token"),
        ("a: 1\n---\nb: 1", 2, "another document"),
        ("", 1, "empty"),
        ("a: *x", 1, "undefined alias"),
        ("a: 1\nb: !!python/object:os.system x", 2, "the tag"),
        ("a: 1\n? [b]\n: 2", 2, "not plain"),
        ("a: &x {b: 1}\nc:\n  <<: *x", 3, "not plain"),
        ("a: &x\n  b: *x\n", 1, "alias of what it stands in"),
        (b"a: \xff", 0, "byte 3 is not UTF-8"),
        (b"a: \x00", 0, "not allowed"),
    ],
)
def test_what_is_no_yaml_is_a_fault_with_its_line(
    tmp_path: Path, text: str | bytes, line: int, what: str
) -> None:
    _, (fault,) = read(write(tmp_path, text), FILE)
    assert fault.line == line
    assert what in fault.what


def test_every_duplicate_key_is_a_fault(tmp_path: Path) -> None:
    document, faults = read(write(tmp_path, "a: 1\nb: {c: 1, c: 2}\na: 2\na: 3\n"), FILE)
    assert [(fault.line, fault.what) for fault in faults] == [
        (2, "the key 'c' stands twice, first in line 2"),
        (3, "the key 'a' stands twice, first in line 1"),
        (4, "the key 'a' stands twice, first in line 1"),
    ]
    assert document.data == {"a": 1, "b": {"c": 1}}


def test_an_absent_file_is_a_fault(tmp_path: Path) -> None:
    _, (fault,) = read(tmp_path, FILE)
    assert (fault.file, fault.line) == (FILE, 0)
    assert "cannot be read" in fault.what


def test_an_overlay_merges_mappings_and_replaces_the_rest(tmp_path: Path) -> None:
    base, _ = read(write(tmp_path, "a:\n  b: 1\n  c: [1, 2]\nd: 1\n"), FILE)
    upper, _ = read(
        write(tmp_path, "\n\na:\n  c: [9]\n  e: {f: 2}\n", Path("o.yaml")), Path("o.yaml")
    )
    merged = overlay(base, upper)
    assert merged.data == {"a": {"b": 1, "c": [9], "e": {"f": 2}}, "d": 1}
    assert base.data == {"a": {"b": 1, "c": [1, 2]}, "d": 1}

    def where(*path: str | int) -> str:
        fault = merged.fault(path, "", "")
        return f"{fault.file}:{fault.line}"

    assert where("a", "b") == "a.yaml:2"
    assert where("a", "c", 0) == "o.yaml:4"
    assert ("a", "c", 1) not in merged.places
    assert where("a", "e", "f") == "o.yaml:5"
    assert where("d") == "a.yaml:4"


def test_references_are_put_in_and_remembered(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3\n")
    text = 'a: "x-${env:NAME}-${file:secret}"\nb: [plain, "${env:NAME}"]\n'
    document, _ = read(write(tmp_path, text), FILE)
    assert resolve(document, tmp_path, {"NAME": "n"}) == []
    assert document.data == {"a": "x-n-s3", "b": ["plain", "n"]}
    assert document.secrets == {("a",), ("b", 1)}


def test_missing_references_are_faults(tmp_path: Path) -> None:
    text = "a: ${env:NAME}\nb: ${file:nothing}\nc: ${HOME}\nd: ${env:}\n"
    document, _ = read(write(tmp_path, text), FILE)
    faults = resolve(document, tmp_path, {"HOME": "/"})
    assert [str(fault) for fault in faults] == [
        "a.yaml:1: the environment variable NAME is not set; expected a value for ${env:NAME}",
        "a.yaml:2: the file nothing cannot be read: No such file or directory; "
        "expected a value for ${file:nothing}",
        "a.yaml:3: ${HOME} is no reference; expected ${env:NAME} or ${file:PATH}",
        "a.yaml:4: ${env:} is no reference; expected ${env:NAME} or ${file:PATH}",
    ]


def test_where_references_may_not_stand_they_are_faults(tmp_path: Path) -> None:
    document, _ = read(write(tmp_path, "a:\n  - ${env:A}\nb: $A\n"), FILE)
    (fault,) = refuse_references(document)
    assert fault.line == 2
