"""Forms: what a reader is asked, as JSON Schema 2020-12 with a small ``ui`` part.

This is what ``forms/*.json`` holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
    def digest(self) -> str:
        """SHA-256 of the document in canonical JSON: which version of the form this is."""
        written = json.dumps(self.schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(written.encode()).hexdigest()


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

    path: tuple[str | int, ...]
    what: str
    expected: str


def check(document: Any) -> list[FormFault]:
    """Say everything that is wrong with a form's document; nothing where it can be used."""
    if not isinstance(document, dict):
        return [FormFault((), "it holds no object", "a JSON Schema: {…}")]
    return []
