"""The models of a site: ``models/NAME/VERSION/model.yaml``, and the weights that it names."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from overread import registry
from overread.errors import Fault
from overread.measures.appearance import PLANE, VOLUME
from overread.pipelines.check import near
from overread.pipelines.model import Fold, ModelCard
from overread.pipelines.ports import Model
from overread.site.validation import validate
from overread.site.yamlfile import Document, Keys, read, refuse_references


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_models(
    root: Path, *, verify: bool, servers: Collection[str] | None = None
) -> tuple[dict[str, Model], list[Fault]]:
    """Read every model of a site.

    Parameters
    ----------
    root : Path
        The site folder.
    verify : bool
        Whether to compare the files with their digests.
    servers : collection of str, optional
        Names of the site's model servers; none where they could not be read.

    Returns
    -------
    dict of str to Model
        By ``name@version``, sorted. A model whose weights are not there or do not match is among
        them, so that a pipeline that names it is not told that it is unknown.
    list of Fault
        What is wrong.
    """
    models: dict[str, Model] = {}
    faults: list[Fault] = []
    for folder in sorted(path for path in root.glob("models/*/*") if path.is_dir()):
        card_file = (folder / "model.yaml").relative_to(root)
        document, found = read(root, card_file)
        found += refuse_references(document)
        card, wrong = (None, []) if found else validate(document, ModelCard)
        faults += found + wrong
        if card is None:
            continue
        for key, value, name in (
            ("name", card.name, folder.parent.name),
            ("version", card.version, folder.name),
        ):
            if value != name:
                what = f"{key} is {value!r}, but the folder is called {name!r}"
                faults.append(document.fault((key,), what, "the same in both"))
        if card.runtime not in registry.names("runtimes"):
            what = f"there is no runtime {card.runtime!r}"
            expected = near(card.runtime, registry.names("runtimes"), "runtime")
            faults.append(document.fault(("runtime",), what, expected))
        if card.server and servers is not None and card.server.name not in servers:
            what = f"there is no model server {card.server.name!r} in overread.yaml"
            expected = near(card.server.name, servers, "model server")
            faults.append(document.fault(("server", "name"), what, expected))
        for name in card.input.statistics:
            if name not in {*VOLUME, *PLANE}:
                what = f"there is no statistic {name!r}"
                expected = near(name, [*VOLUME, *PLANE], "statistic")
                faults.append(document.fault(("input", "statistics", name), what, expected))
        faults += _weights(document, folder, card, (), verify)
        for number, fold in enumerate(card.folds):
            faults += _weights(document, folder, fold, ("folds", number), verify)
        models[card.reference] = Model(
            card,
            (folder / card.file).resolve(),
            tuple((folder / fold.file).resolve() for fold in card.folds),
        )
    return models, faults


def _weights(
    document: Document, folder: Path, pinned: ModelCard | Fold, at: Keys, verify: bool
) -> list[Fault]:
    """Look for a file that a card names, and compare it with its digest."""
    file = (folder / pinned.file).resolve()
    if not file.is_relative_to(folder.resolve()):
        what = f"file {pinned.file!r} lies outside the model's folder"
        return [document.fault((*at, "file"), what, "a file below it")]
    if not file.is_file():
        what = f"there is no file {pinned.file!r}"
        return [document.fault((*at, "file"), what, "the model's weights there")]
    if verify and (digest := sha256_of(file)) != pinned.sha256:
        what = f"the SHA-256 of {pinned.file} is {digest}, not {pinned.sha256}"
        return [document.fault((*at, "sha256"), what, "the weights that the card describes")]
    return []
