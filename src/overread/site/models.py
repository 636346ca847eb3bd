"""The models of a site: ``models/NAME/VERSION/model.yaml``, and the weights that it names."""

from __future__ import annotations

import hashlib
from pathlib import Path

from overread import registry
from overread.errors import Fault
from overread.pipelines.check import near
from overread.pipelines.model import ModelCard
from overread.pipelines.ports import Model
from overread.site.validation import validate
from overread.site.yamlfile import read, refuse_references


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_models(root: Path, *, verify: bool) -> tuple[dict[str, Model], list[Fault]]:
    """Read every model of a site.

    Parameters
    ----------
    root : Path
        The site folder.
    verify : bool
        Whether to compare the files with their digests.

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
        file = (folder / card.file).resolve()
        if not file.is_relative_to(folder.resolve()):
            what = f"file {card.file!r} lies outside the model's folder"
            faults.append(document.fault(("file",), what, "a file below it"))
        elif not file.is_file():
            what = f"there is no file {card.file!r}"
            faults.append(document.fault(("file",), what, "the model's weights there"))
        elif verify and (digest := sha256_of(file)) != card.sha256:
            what = f"the SHA-256 of {card.file} is {digest}, not {card.sha256}"
            faults.append(document.fault(("sha256",), what, "the weights that the card describes"))
        models[card.reference] = Model(card, file)
    return models, faults
