"""The one place where plugins are found.

A plugin is a plain callable or a small class, named by an entry point of an installed package. The
built-in ones are registered in this package's own ``pyproject.toml``, the same way as a third
party's. There is no base class to inherit.

Extension points
----------------
``overread.operators``
    A function; its parameters and return annotation are its ports (`overread.pipelines.ports`).
``overread.runtimes``
    A class with the methods of `overread.runtimes.Runtime`.
``overread.destinations``
    A class with the methods of `overread.destinations.Destination`.
``overread.identity``
    A class with the methods of `overread.identity.Identity`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

Family = Literal["operators", "runtimes", "destinations", "identity"]
FAMILIES: tuple[Family, ...] = ("operators", "runtimes", "destinations", "identity")


@dataclass(frozen=True)
class Plugin:
    """A plugin that is installed, whether or not it can be loaded here."""

    family: Family
    name: str
    value: str
    distribution: str


@cache
def _points(family: Family) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"overread.{family}")}


def plugins() -> list[Plugin]:
    """List every installed plugin, by family and name."""
    return [
        Plugin(family, name, point.value, point.dist.name if point.dist else "")
        for family in FAMILIES
        for name, point in sorted(_points(family).items())
    ]


def names(family: Family) -> list[str]:
    """Names of the installed plugins of one family, sorted."""
    return sorted(_points(family))


def load(family: Family, name: str) -> Any:
    """Import and return one plugin.

    Raises
    ------
    KeyError
        No installed package registers that name.
    ImportError
        The plugin's module cannot be imported here (an extra is missing, say).
    """
    return _points(family)[name].load()


def missing(plugin: Plugin) -> str:
    """Say why a plugin cannot run here; empty where it can."""
    try:
        loaded = load(plugin.family, plugin.name)
        if plugin.family != "runtimes":
            return ""
        return str(loaded().available() or "")
    except (ImportError, AttributeError) as error:
        return str(error)
