"""Pictures of the volumes and masks between a job's steps, a slice at a time."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from overread.dicom.volume import Mask, Probability, Volume
from overread.engine.folders import JobFolder
from overread.errors import UsageError
from overread.operators.drawing import fit, grey, upright
from overread.operators.files import IMAGE, PORT, load
from overread.portal.engineering.artifacts import Files

PICTURED = ("Volume", "Mask", "Probability")
"""Port types of which there are pictures."""

LARGEST = 400_000_000
"""Bytes of an image that is read for a picture."""
SIZE = 512


@dataclass(frozen=True)
class Grid:
    """What can be leafed through.

    Attributes
    ----------
    kind : str
        The port type.
    slices : int
    shape : tuple of int
        Slices, rows, columns.
    segments : tuple of str
        What a mask or probability marks.
    """

    kind: str
    slices: int
    shape: tuple[int, ...]
    segments: tuple[str, ...]


def read(folder: JobFolder, step: str, files: Files, scratch: Path) -> Volume | Mask | Probability:
    """Read what a step made, if there is a picture of it; the last two stay in memory.

    Parameters
    ----------
    files : mapping
        What is recorded of its files.
    scratch : Path
        Where bytes may lie for the moment.

    Raises
    ------
    UsageError
        It is nothing that is drawn, or too large to be.
    FileNotFoundError, StepFailed
        As of `JobFolder.read`.
    """
    if PORT not in files or IMAGE not in files:
        raise UsageError(f"step {step} has made no volume or mask")
    if int(files[IMAGE].get("size", 0)) > LARGEST:
        raise UsageError(f"what step {step} has made is too large for a picture; download it")
    digests = (str(files[PORT]["sha256"]), str(files[IMAGE]["sha256"]))
    return _read(folder, step, digests, scratch)


@lru_cache(maxsize=2)
def _read(
    folder: JobFolder, step: str, digests: tuple[str, str], scratch: Path
) -> Volume | Mask | Probability:
    port, image = (
        folder.read(step, name, digest) for name, digest in zip((PORT, IMAGE), digests, strict=True)
    )
    if json.loads(port).get("type") in PICTURED:
        # The bytes that were compared with their digests are the ones that are read.
        with tempfile.TemporaryDirectory(dir=scratch, prefix=".preview-") as place:
            (Path(place) / PORT).write_bytes(port)
            (Path(place) / IMAGE).write_bytes(image)
            made = load(Path(place))
            if isinstance(made, Volume | Mask | Probability):
                return replace(made, array=np.array(made.array))
    raise UsageError(f"step {step} has made no volume or mask")


def grid(made: Volume | Mask | Probability) -> Grid:
    """Say what can be leafed through."""
    shape = _spatial(made)
    segments = () if isinstance(made, Volume) else tuple(one.label for one in made.segments)
    return Grid(type(made).__name__, shape[0], shape, segments)


def _spatial(made: Volume | Mask | Probability) -> tuple[int, ...]:
    return tuple(made.array.shape[-3:])


def middle(made: Volume | Mask | Probability) -> int:
    """Return the slice that is shown first: of a mask the one with the most of it."""
    if isinstance(made, Mask):
        counts = np.asarray(made.array > 0).sum(axis=(1, 2))
        if counts.any():
            return int(counts.argmax())
    return _spatial(made)[0] // 2


def png(made: Volume | Mask | Probability, index: int) -> bytes:
    """Draw one slice, turned as radiologists are used to.

    Raises
    ------
    UsageError
        There is no such slice.
    """
    slices = _spatial(made)[0]
    if not 0 <= index < slices:
        raise UsageError(f"there is no slice {index}; there are {slices}, from 0")
    affine = np.asarray(made.affine, np.float64)
    rows, columns = upright(affine)
    pixels = _drawn(made, index)[rows, columns]
    down, along = np.linalg.norm(affine[:3, 1]), np.linalg.norm(affine[:3, 2])
    width, height = fit(pixels.shape, float(down / along) if along else 1.0, SIZE)
    picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
    out = BytesIO()
    picture.save(out, "PNG", optimize=False)
    return out.getvalue()


def _drawn(made: Volume | Mask | Probability, index: int) -> NDArray[np.uint8]:
    if isinstance(made, Volume):
        plane = np.nan_to_num(np.asarray(made.array[index], np.float32))
        sample = np.nan_to_num(np.asarray(made.array[::4, ::4, ::4], np.float32))
        low, high = np.percentile(sample, (1, 99.5))
        return grey(plane, float(low), float(high))
    if isinstance(made, Probability):
        return grey(np.nan_to_num(made.array[:, index].max(axis=0)), 0.0, 1.0)
    plane = np.asarray(made.array[index])
    coloured = np.zeros((*plane.shape, 3), np.uint8)
    for segment in made.segments:
        coloured[plane == segment.number] = segment.colour
    return coloured
