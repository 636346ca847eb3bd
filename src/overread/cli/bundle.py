"""``overread model import-bundle``: a MONAI bundle becomes a model of the site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from ruamel.yaml import YAML

from overread.cli.terminal import SiteOption, console, notes
from overread.errors import UsageError
from overread.runtimes.bundle import card_of


def import_bundle(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder, zipped.")],
    name: Annotated[str, typer.Option(help="What to call the model; else as the bundle.")] = "",
    modality: Annotated[
        str, typer.Option(help="Modality of DICOM, where the bundle does not say it.")
    ] = "",
    site: SiteOption = Path(),
) -> None:
    """Make a model of a MONAI bundle: its card from its metadata, its file beside the card."""
    if not bundle.is_file():
        raise UsageError(f"there is no file {bundle}; zip the bundle's folder")
    content = bundle.read_bytes()
    try:
        card = card_of(content, bundle.name, name=name, modality=modality)
    except (ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"{bundle} makes no model: {error}") from error
    folder = site / "models" / card.name / card.version
    if folder.exists():
        raise UsageError(f"{folder} is there already; a model that changes gets a new version")
    folder.mkdir(parents=True)
    (folder / bundle.name).write_bytes(content)
    with (folder / "model.yaml").open("w", encoding="utf-8") as stream:
        YAML().dump(card.model_dump(mode="json", exclude_unset=True), stream)
    console.print(f"{card.reference} in {escape(str(folder))}", soft_wrap=True)
    notes.print(
        "Look at its model.yaml: give each label its codes (all are Tissue now), and the input its "
        "spacing and body part; overread model profile learns them from training images.",
        soft_wrap=True,
    )
