"""``overread model add``: a card and its weights become a model of the site."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from ruamel.yaml import YAML

from overread.cli.terminal import SiteOption, console
from overread.errors import SiteError, UsageError
from overread.pipelines.model import ModelCard
from overread.site import load_settings
from overread.site.models import read_models, sha256_of
from overread.site.validation import validate
from overread.site.yamlfile import read

_CARD = "model.yaml"


def add(
    card: Annotated[Path, typer.Argument(metavar="CARD.yaml", help="What model.yaml is to say.")],
    weights: Annotated[
        list[Path], typer.Argument(help="The weights; of an ensemble, those of its folds too.")
    ],
    site: SiteOption = Path(),
) -> None:
    """Add a model to the site: check its card, pin its weights by digest, copy both.

    The card may leave out `file` and `sha256`; what it says of them must be so. Nothing that is
    there is replaced: a model that changes gets a new version.
    """
    settings = load_settings(site)
    for file in (card, *weights):
        if not file.is_file():
            raise UsageError(f"there is no file {file}")
    with TemporaryDirectory(prefix=".adding-", dir=site) as made:
        model, staged = _stage(card, weights, Path(made))
        _, faults = read_models(Path(made), verify=True, servers=settings.model_servers)
        if faults:
            raise SiteError([replace(fault, file=card) for fault in faults])
        place = site / "models" / model.name / model.version
        if place.exists():
            _must_be_the_same(place, staged, model)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            staged.rename(place)
    console.print(f"{model.reference}, SHA-256 {model.sha256}", soft_wrap=True)


def _stage(card: Path, weights: Sequence[Path], root: Path) -> tuple[ModelCard, Path]:
    """Lay a model out below a folder, as it will lie below the site's."""
    document, faults = read(card.parent, Path(card.name))
    lacking = {}
    if isinstance(document.data, dict):
        found = {"file": weights[0].name, "sha256": sha256_of(weights[0])}
        lacking = {key: found[key] for key in found if key not in document.data}
        document.data.update(lacking)
    model, wrong = validate(document, ModelCard)
    if faults or model is None:
        raise SiteError([replace(fault, file=card) for fault in (*faults, *wrong)])
    files = [model.file, *(fold.file for fold in model.folds)]
    if len(files) != len(weights):
        raise UsageError(
            f"{card} names {len(files)} files of weights ({', '.join(files)}), and "
            f"{len(weights)} were given"
        )
    staged = (root / "models" / model.name / model.version).resolve()
    staged.mkdir(parents=True)
    for file, name in zip(weights, files, strict=True):
        target = (staged / name).resolve()
        if not target.is_relative_to(staged) or target in {staged, staged / _CARD}:
            raise UsageError(f"{card}: file {name!r} is no place for weights in the model's folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    if lacking:
        _write(card, lacking, staged / _CARD)
    else:
        shutil.copyfile(card, staged / _CARD)
    return model, staged


def _write(card: Path, more: dict[str, str], target: Path) -> None:
    """Write a card as it stands, and at its end what it lacks."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    content = yaml.load(card.read_text(encoding="utf-8"))
    content.update(more)
    with target.open("w", encoding="utf-8") as stream:
        yaml.dump(content, stream)


def _must_be_the_same(place: Path, staged: Path, model: ModelCard) -> None:
    names = [_CARD, model.file, *(fold.file for fold in model.folds)]
    for name in names:
        there = place / name
        if not there.is_file() or sha256_of(there) != sha256_of(staged / name):
            raise UsageError(
                f"model {model.reference} is there already, with another {name}; a model that "
                "changes gets a new version"
            )
