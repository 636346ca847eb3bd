"""What users can name is named in the documentation: commands, operators, settings, pages."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import typer.main
from pydantic import BaseModel

from overread import registry
from overread.cli.main import app
from overread.pipelines.definition import Pipeline
from overread.pipelines.model import ModelCard
from overread.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
DOCS = "\n".join(page.read_text() for page in sorted((ROOT / "docs").rglob("*.md")))


def commands() -> Iterator[str]:
    """Every command, as one types it."""
    root = typer.main.get_command(app)
    for name, command in sorted(root.commands.items()):  # type: ignore[attr-defined]  # a Group
        if hasattr(command, "commands"):
            yield from (f"overread {name} {verb}" for verb in sorted(command.commands))
        else:
            yield f"overread {name}"


def settings(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Every key of a site's text, dotted."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        yield f"{path}{key}"
        for kind in (field.annotation, *get_args(field.annotation)):
            for inner in (kind, *get_args(kind)):
                if isinstance(inner, type) and issubclass(inner, BaseModel):
                    yield from settings(inner, f"{path}{key}.")


@pytest.mark.parametrize("command", list(commands()))
def test_every_command_has_its_words(command: str) -> None:
    assert f"`{command}" in DOCS, f"no page in docs/ names {command}"


@pytest.mark.parametrize("family", registry.FAMILIES)
def test_every_plugin_is_described(family: registry.Family) -> None:
    missing = [name for name in registry.names(family) if f"`{name}`" not in DOCS]
    assert not missing, f"no page in docs/ names the {family} {missing}"


@pytest.mark.parametrize("model", [Settings, Pipeline, ModelCard])
def test_every_setting_is_described(model: type[BaseModel]) -> None:
    """A key counts as described where a page has it in code, bare or dotted, or in an example."""
    missing = [
        key
        for key in settings(model)
        if key not in {"root", "site.environment"}
        and not any(
            form in DOCS
            for form in (f"`{key}`", f"`{key.rsplit('.', 1)[-1]}`", f"{key.rsplit('.', 1)[-1]}:")
        )
    ]
    assert not missing, f"no page in docs/ describes {missing}"


def test_every_page_is_in_the_table_of_contents() -> None:
    contents = (ROOT / "mkdocs.yml").read_text()
    operators = (ROOT / "docs" / "operators" / "index.md").read_text()
    contents += operators.replace("](", "](operators/")  # its pages are listed there
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert not [page for page in pages if page not in contents]


def test_the_pages_of_operators_are_those_that_their_docstrings_make() -> None:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "make" / "operator_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = ROOT / "docs" / "operators"
    made = module.pages()
    assert len(made) > 10
    assert {page.name for page in folder.glob("*.md")} == set(made)
    stale = [name for name, text in made.items() if (folder / name).read_text() != text]
    assert not stale, f"{stale} differ from their docstrings; run make operator-pages"
