"""MONAI bundles as files: what is in the zip, and the card that its metadata makes.

Nothing here needs MONAI or PyTorch; who runs a bundle is `overread.runtimes.monai`.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

from overread.dicom.codes import TISSUE
from overread.pipelines.model import ModelCard

METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"

_UNPACKED_BYTES = 256 << 20
"""Most that a bundle's configuration and scripts may hold; the weights are not unpacked."""

_METADATA_BYTES = 16 << 20

_MODALITIES = {"MRI": "MR", "MR": "MR", "CT": "CT", "PET": "PT", "PT": "PT"}


@dataclass(frozen=True)
class Bundle:
    """A bundle, read from the bytes of its zip.

    Attributes
    ----------
    files : ZipFile
        The zip.
    root : str
        Folder in it that the bundle lies in, with its ``/``; empty where that is the zip itself.
    """

    files: ZipFile
    root: str

    @classmethod
    def read(cls, content: bytes) -> Bundle:
        """Read a zip.

        Raises
        ------
        ValueError
            It is none, or there is not one bundle in it.
        """
        try:
            files = ZipFile(BytesIO(content))
        except BadZipFile as error:
            raise ValueError(f"it is no zip: {error}") from error
        roots = [
            name.removesuffix(METADATA)
            for name in files.namelist()
            if name == METADATA or name.endswith("/" + METADATA)
        ]
        if len(roots) != 1:
            raise ValueError(f"it holds {len(roots)} files {METADATA}; one was expected")
        return cls(files, roots[0])

    def has(self, name: str) -> bool:
        """Say whether the bundle has a file."""
        return self.root + name in self.files.namelist()

    def content(self, name: str) -> bytes:
        """Return the content of a file."""
        return self.files.read(self.root + name)

    @property
    def metadata(self) -> dict[str, Any]:
        """What the bundle says of itself.

        Raises
        ------
        ValueError
            It cannot be read.
        """
        size = self.files.getinfo(self.root + METADATA).file_size
        if size > _METADATA_BYTES:
            raise ValueError(f"its {METADATA} has {size} bytes; at most {_METADATA_BYTES} expected")
        try:
            return dict(json.loads(self.content(METADATA)))
        except (BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
            raise ValueError(f"its {METADATA} cannot be unpacked: {error}") from error

    def unpack(self, folder: Path) -> None:
        """Write everything but the weights to a folder.

        Raises
        ------
        ValueError
            A name in the zip leads out of the folder, is no plain file, or it is all too large.
        """
        wanted = [
            one
            for one in self.files.infolist()
            if one.filename.startswith(self.root)
            and not one.is_dir()
            and not one.filename.startswith(f"{self.root}models/")
        ]
        if sum(one.file_size for one in wanted) > _UNPACKED_BYTES:
            raise ValueError(f"it holds more than {_UNPACKED_BYTES >> 20} MB beside its weights")
        for one in wanted:
            place = folder / _safe(one, self.root)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(self.files.read(one))


def _safe(file: ZipInfo, root: str) -> PurePosixPath:
    name = PurePosixPath(file.filename.removeprefix(root))
    kind = stat.S_IFMT(file.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or "\\" in file.filename:
        raise ValueError(f"its file {file.filename!r} leads out of its folder")
    if kind not in (0, stat.S_IFREG):
        raise ValueError(f"its file {file.filename!r} is no plain file")
    return name


def card_of(content: bytes, file: str, *, name: str = "", modality: str = "") -> ModelCard:
    """Make a model card of what a bundle says of itself.

    Of its ``metadata.json`` are taken ``version``, ``task``, ``intended_use``, ``authors``, the
    modality of the ``image`` that goes in, and the ``channel_def`` of the ``pred`` that comes out.
    It has no codes: every label is coded as *Tissue*, until a person writes what it is.

    Parameters
    ----------
    content : bytes
        The zip.
    file : str
        Its name in the model's folder.
    name, modality : str
        In place of the bundle's own.

    Raises
    ------
    ValueError
        It is no bundle for one volume, or does not say what a card must.
    """
    bundle = Bundle.read(content)
    said = bundle.metadata
    formats = said.get("network_data_format", {})
    image = formats.get("inputs", {}).get("image", {})
    pred = formats.get("outputs", {}).get("pred", {})
    if image.get("num_channels", 1) != 1:
        raise ValueError(f"it takes {image['num_channels']} channels; a volume has one")
    if "channel_def" not in pred:
        raise ValueError(f"its {METADATA} does not say what its outputs mean (pred.channel_def)")
    found = modality or _MODALITIES.get(str(image.get("modality", "")).upper(), "")
    if not found:
        raise ValueError(
            f"its modality is {image.get('modality')!r}, which is none of DICOM's; say which"
        )
    labels = [
        {"value": int(value), "name": label, "category": _CODE, "type": _CODE}
        for value, label in sorted(pred["channel_def"].items(), key=lambda one: int(one[0]))
        if int(value) > 0 and label != "background"
    ]
    version = str(said.get("version", ""))
    return ModelCard.model_validate(
        {
            "name": _slug(name or bundle.root.strip("/") or str(said.get("name", ""))),
            "version": version if re.fullmatch(r"\d+\.\d+\.\d+", version) else "0.0.0",
            "title": str(said.get("task", "")),
            "runtime": "monai",
            "file": file,
            "sha256": hashlib.sha256(content).hexdigest(),
            "input": {"modality": found},
            "output": {"name": "pred", "labels": labels},
            "intended_use": str(said.get("intended_use", "")),
            "manufacturer": str(said.get("authors", "")) or "not stated",
        }
    )


_CODE = {"value": TISSUE.value, "scheme": TISSUE.scheme, "meaning": TISSUE.meaning}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
