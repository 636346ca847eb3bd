"""What a model's output is compared with: real cases with masks, and how well two masks agree.

The real cases are the two brain MR images with tumour masks that the source distribution of
pyradiomics 3.0.1 carries as its own test data (BSD licence). It is fetched from the package index
with pip, checked against its digest before anything of it is run, and only the images are unpacked.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.dicom.volume import Volume
from overread.errors import Unavailable
from overread.simulator.images import as_scanned, read_image

_SDIST = "pyradiomics==3.0.1"
_SDIST_DIGEST = "47c57f441d6cb7973fa3b2ea48d3948df78e3348e1c69e1e2ff19001601fc2f5"
# pip asks a source distribution for its metadata even when it only downloads it; this one's set-up
# needs these two (and numpy, which is here).
_TOOLS = {
    "setuptools==79.0.1": "e147c0549f27767ba362f9da434eab9c5dc0045d5304feb602a0af001089fc51",
    "versioneer==0.29": "0f1a137bb5d6811e96a79bb0486798aeae9b9c6efc24b389659cebb0ee396cb9",
}
_IMAGES = {
    "brain1_image.nrrd": "fffdb111ee8b428ede7256707393c927a7d5be912f0604cf3c6f1bd5fc9644cf",
    "brain1_label.nrrd": "ae6d8e6b84f7e99d68c210ee2fa6aaaefa0b2df0a84f55efca4feebe2b216059",
    "brain2_image.nrrd": "d35a1c6a3e1eb72bae97c5515472fbe057fb38ee8e1e199215d1c3c6f292332e",
    "brain2_label.nrrd": "15189c024936ecc337649b9a10c475117c7c40df0d53c22163f9a2023ed741a5",
}
_CASES = {
    "brain1": "a real brain MR: a tumour that enhances",
    # Its mask's median is 14 % above what surrounds it (36 % in brain1).
    "brain2": "a real brain MR: a lesion that hardly enhances, unlike the training data",
}
_PATIENCE = 300
"""Seconds that pip may take."""


@dataclass(frozen=True)
class RealCase:
    """A real image with somebody's mask of what is to be found in it.

    Attributes
    ----------
    about : str
        What it shows, in a few words.
    image, mask : Path
        NRRD files on one grid.
    """

    name: str
    about: str
    image: Path
    mask: Path

    def reference(self) -> Volume:
        """Read the mask as the scanner would have stored it: uint8, 1 inside."""
        volume = as_scanned(read_image(self.mask))
        return volume.with_array((volume.array > 0).astype(np.uint8))


@dataclass(frozen=True)
class Agreement:
    """How a found mask agrees with the reference.

    Attributes
    ----------
    dice : float
        Twice the common voxels over the sum of both (Dice 1945); 1 where both are empty.
    found_ml, reference_ml : float
        Volumes, voxels counted.
    """

    dice: float
    found_ml: float
    reference_ml: float


def agreement(found: NDArray[Any], reference: Volume) -> Agreement:
    """Compare a found mask with the reference on the same grid; what is not 0 is inside.

    Raises
    ------
    ValueError
        The two have not the same shape.
    """
    if found.shape != reference.array.shape:
        raise ValueError(f"shapes differ: found {found.shape}, reference {reference.array.shape}")
    one, other = found > 0, reference.array > 0
    total = int(one.sum()) + int(other.sum())
    millilitre = reference.voxel_volume / 1000
    return Agreement(
        dice=2 * int((one & other).sum()) / total if total else 1.0,
        found_ml=int(one.sum()) * millilitre,
        reference_ml=int(other.sum()) * millilitre,
    )


def read_segmentation(file: Path, sources: Sequence[str]) -> NDArray[np.uint8]:
    """Read a DICOM SEG over its source images, by highdicom and not by our own reader.

    Parameters
    ----------
    file : Path
        The segmentation.
    sources : sequence of str
        SOP Instance UIDs of the source images, in the order of the slices wanted.

    Returns
    -------
    ndarray, shape (slices, rows, columns)
        1 inside any segment. A source image that no frame refers to has nothing segmented.
    """
    import highdicom

    segmentation = highdicom.seg.segread(file)
    planes = segmentation.get_pixels_by_source_instance(
        list(sources), assert_missing_frames_are_empty=True
    )
    return np.asarray(planes.any(axis=-1), dtype=np.uint8)


def fetch_real_cases(folder: Path) -> list[RealCase]:
    """Return the real cases, fetching them at first.

    Parameters
    ----------
    folder : Path
        Where they are kept.

    Raises
    ------
    Unavailable
        They cannot be had here; the message says why.
    """
    if not all(_is_whole(folder / name) for name in _IMAGES):
        with tempfile.TemporaryDirectory(prefix="overread-") as work:
            _unpack(_download(Path(work)), folder)
    return [
        RealCase(name, about, folder / f"{name}_image.nrrd", folder / f"{name}_label.nrrd")
        for name, about in _CASES.items()
    ]


def _is_whole(file: Path) -> bool:
    return file.is_file() and sha256(file.read_bytes()).hexdigest() == _IMAGES[file.name]


def _download(work: Path) -> Path:
    tools = work / "tools"
    wanted = work / "tools.txt"
    wanted.write_text("".join(f"{name} --hash=sha256:{has}\n" for name, has in _TOOLS.items()))
    _pip(["install", "--only-binary=:all:", "--target", str(tools), "-r", str(wanted)])
    wanted = work / "sdist.txt"
    wanted.write_text(f"{_SDIST} --hash=sha256:{_SDIST_DIGEST}\n")
    _pip(
        [
            "download",
            "--no-binary=:all:",
            "--no-build-isolation",
            "-d",
            str(work),
            "-r",
            str(wanted),
        ],
        path=tools,
    )
    (sdist,) = work.glob("*.tar.gz")
    return sdist


def _pip(arguments: list[str], path: Path | None = None) -> None:
    """Run pip with its digests required; ``path`` is added to what its child processes import."""
    environment = dict(os.environ)
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    always = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    command = [sys.executable, "-m", "pip", arguments[0], *always, *arguments[1:]]
    try:
        subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"pip {arguments[0]} took more than {_PATIENCE} s") from error
    except subprocess.CalledProcessError as error:
        errors = [line for line in error.stderr.splitlines() if "error" in line.lower()]
        said = (errors or error.stderr.splitlines() or ["no reason given"])[-1].strip()
        raise Unavailable(f"pip {arguments[0]} failed: {said}") from error


def _unpack(sdist: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            name = Path(member.name).name
            if name in _IMAGES and member.isfile():
                member.name = name
                archive.extract(member, folder, filter="data")
    bad = [name for name in _IMAGES if not _is_whole(folder / name)]
    if bad:
        raise Unavailable(f"{_SDIST} does not hold {', '.join(bad)} as expected")
