"""YAML with places: plain data, and for each value the file and line that it stands in.

Everything that is wrong is told as a `Fault`; nothing is raised. Read is YAML 1.2 without tags and
merge keys. Dates stay the text that they are written as.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from overread.errors import Fault

Keys = tuple[str | int, ...]

_CORE = "tag:yaml.org,2002:"
_REFERENCE = re.compile(r"\$\{([^{}]*)\}")


@dataclass(frozen=True)
class Place:
    """A line of a file; the file as faults show it."""

    file: Path
    line: int


@dataclass
class Document:
    """The content of a YAML file.

    Attributes
    ----------
    place : Place
        The file, and the line where its content begins.
    data : object
        Plain data.
    places : dict
        Path of keys and indices to where the value's key, or the list's item, stands.
    secrets : set
        Paths of values that came from the environment or a file, and are never shown.
    """

    place: Place
    data: Any = None
    places: dict[Keys, Place] = field(default_factory=dict)
    secrets: set[Keys] = field(default_factory=set)

    def fault(self, path: Keys, what: str, expected: str) -> Fault:
        """Make a fault of what stands at a path, or of the nearest thing above it."""
        place = next(
            (self.places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.places),
            self.place,
        )
        return Fault(place.file, place.line, what, expected)

    def settle(self, path: Keys) -> Keys:
        """Drop from a path what is no key or index of the data, as validators put it in."""
        real: Keys = ()
        for part in path:
            if (*real, part) in self.places:
                real = (*real, part)
        return real


def read(root: Path, file: Path) -> tuple[Document, list[Fault]]:
    """Read a YAML file.

    Parameters
    ----------
    root : Path
        The site folder.
    file : Path
        The file, relative to ``root``.

    Returns
    -------
    Document
        Empty where the file cannot be read.
    list of Fault
        Syntax, duplicate keys, tags; one of them if the file cannot be read at all.
    """
    document = Document(Place(file, 0))
    yaml = YAML(typ="safe", pure=True)
    node = _compose(yaml, root, file)
    if isinstance(node, Fault):
        return document, [node]
    document.place = Place(file, node.start_mark.line + 1)
    builder = _Builder(yaml, document)
    document.data = builder.build(node, (), ())
    return document, builder.faults


def _compose(yaml: YAML, root: Path, file: Path) -> Node | Fault:
    """Parse a file as far as nodes with marks, or say why that cannot be."""
    wanted = "valid JSON" if file.suffix == ".json" else "valid YAML"
    try:
        node: Node | None = yaml.compose((root / file).read_text(encoding="utf-8"))
    except OSError as error:
        return Fault(file, 0, f"cannot be read: {error.strerror}", "a file to read")
    except UnicodeDecodeError as error:
        return Fault(file, 0, f"byte {error.start} is not UTF-8", "text in UTF-8")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        return Fault(file, mark.line + 1 if mark else 0, what, wanted)
    except (YAMLError, ValueError) as error:
        return Fault(file, 0, str(error).splitlines()[0], wanted)
    return node or Fault(file, 1, "the file is empty", "a mapping of keys")


class _Builder:
    """Turns composed nodes into plain data, noting places and faults."""

    def __init__(self, yaml: YAML, document: Document) -> None:
        self.yaml = yaml
        self.document = document
        self.faults: list[Fault] = []

    def fault(self, node: Node, what: str, expected: str) -> None:
        line = node.start_mark.line + 1
        self.faults.append(Fault(self.document.place.file, line, what, expected))

    def build(self, node: Node, path: Keys, above: tuple[Node, ...]) -> Any:
        """Build one node; ``above`` are those that it lies in."""
        if any(node is outer for outer in above):
            self.fault(node, "an alias of what it stands in", "content without a circle")
            return None
        if isinstance(node, MappingNode):
            return self.mapping(node, path, (*above, node))
        if isinstance(node, SequenceNode):
            items: list[Any] = []
            for index, item in enumerate(node.value):
                self.note((*path, index), item)
                items.append(self.build(item, (*path, index), (*above, node)))
            return items
        return self.scalar(node)

    def mapping(self, node: MappingNode, path: Keys, above: tuple[Node, ...]) -> dict[Any, Any]:
        """Build a mapping; of a key that stands twice the first is taken."""
        data: dict[Any, Any] = {}
        lines: dict[Any, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode) or key_node.tag == f"{_CORE}merge":
                self.fault(key_node, "a key that is not plain", "a key in text, without << or ?")
                continue
            key, line = self.scalar(key_node), key_node.start_mark.line + 1
            if key in data:
                what = f"the key {key!r} stands twice, first in line {lines[key]}"
                self.fault(key_node, what, "each key once")
                continue
            lines[key] = line
            self.note((*path, key), key_node)
            data[key] = self.build(value_node, (*path, key), above)
        return data

    def scalar(self, node: Node) -> Any:
        kind = str(node.tag).removeprefix(_CORE)
        if kind == "timestamp":
            return node.value
        if kind not in {"null", "bool", "int", "float", "str"}:
            self.fault(node, f"the tag {node.tag}", "plain YAML without tags")
            return None
        try:
            return self.yaml.constructor.construct_object(node)
        except (ValueError, YAMLError):
            self.fault(node, f"{node.value!r} is no {kind}", f"a valid {kind}")
            return None

    def note(self, path: Keys, node: Node) -> None:
        self.document.places[path] = Place(self.document.place.file, node.start_mark.line + 1)


def overlay(base: Document, over: Document) -> Document:
    """Lay one document over another: mappings are merged, anything else is replaced."""
    merged = Document(base.place, base.data, dict(base.places))

    def merge(below: Any, above: Any, path: Keys) -> Any:
        if isinstance(below, dict) and isinstance(above, dict):
            data = dict(below)
            for key, value in above.items():
                merged.places.setdefault((*path, key), over.places[(*path, key)])
                data[key] = merge(below[key], value, (*path, key)) if key in below else value
                if key not in below:
                    adopt((*path, key))
            return data
        adopt(path)
        return above

    def adopt(path: Keys) -> None:
        """Take the places of everything at and below a path from the upper document."""
        size = len(path)
        for place in [place for place in merged.places if place[:size] == path]:
            del merged.places[place]
        merged.places |= {keys: at for keys, at in over.places.items() if keys[:size] == path}

    merged.data = merge(base.data, over.data, ())
    return merged


def resolve(document: Document, root: Path, environ: Mapping[str, str]) -> list[Fault]:
    """Put in place what ``${env:NAME}`` and ``${file:PATH}`` refer to; return what is missing.

    A file's path is relative to the site folder, and the line breaks at its end are dropped.
    """
    faults: list[Fault] = []

    def look_up(match: re.Match[str], path: Keys) -> str:
        kind, _, name = match[1].partition(":")
        if kind == "env" and name:
            if name in environ:
                return environ[name]
            what = f"the environment variable {name} is not set"
        elif kind == "file" and name:
            try:
                return (root / name).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "not UTF-8"
                what = f"the file {name} cannot be read: {reason}"
        else:
            what = f"{match[0]} is no reference"
            faults.append(document.fault(path, what, "${env:NAME} or ${file:PATH}"))
            return ""
        faults.append(document.fault(path, what, f"a value for {match[0]}"))
        return ""

    def walk(data: Any, path: Keys) -> Any:
        if isinstance(data, dict):
            return {key: walk(value, (*path, key)) for key, value in data.items()}
        if isinstance(data, list):
            return [walk(item, (*path, index)) for index, item in enumerate(data)]
        if isinstance(data, str) and _REFERENCE.search(data):
            document.secrets.add(path)
            return _REFERENCE.sub(lambda match: look_up(match, path), data)
        return data

    document.data = walk(document.data, ())
    return faults


def refuse_references(document: Document) -> list[Fault]:
    """Find references to secrets in a file that is kept with every job, and so may hold none."""
    faults: list[Fault] = []

    def walk(data: Any, path: Keys) -> None:
        if isinstance(data, dict | list):
            pairs = data.items() if isinstance(data, dict) else enumerate(data)
            for key, value in pairs:
                walk(value, (*path, key))
        elif isinstance(data, str) and re.search(r"\$\{(env|file):", data):
            what = "a reference to the environment or a file"
            faults.append(document.fault(path, what, "such references only in overread.yaml"))

    walk(document.data, ())
    return faults
