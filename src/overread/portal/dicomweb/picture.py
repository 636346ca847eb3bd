"""A frame of an image as a PNG.

Compressed pixels came from outside and are decoded by C libraries: that happens in a process of its
own, with a limit on its memory and time, so that no image takes the portal along. Large images go
there too, since some of their pixels' copies are eight times as large. Few are drawn at once, and
few wait for it, so that threads are left for those who look at pages.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian

from overread.dicom.pixels import UNREADABLE
from overread.dicom.rendering import render
from overread.dicom.study import Instance
from overread.errors import Refused

SECONDS = 30
"""How long a compressed frame may take."""

MEMORY = 4 << 30
"""Bytes of address space that it may take: the largest image that is rendered, many times over."""

_SMALL = 1 << 22
"""Pixels of the largest image that is drawn by the portal itself."""

_AT_ONCE = threading.BoundedSemaphore(2)
_WAITING = threading.BoundedSemaphore(24)
"""So many are drawn at once, or wait for their turn: fewer than the portal's 40 threads."""

_WINDOWS = ("WindowWidth", "VOILUTSequence", "SharedFunctionalGroupsSequence")
"""Where an image says how it is to be seen."""

Size = tuple[int, int]


class Busy(Exception):
    """So many pictures are being drawn that no more wait."""


@contextmanager
def turn() -> Iterator[None]:
    """Wait for one's turn with what takes much memory.

    Raises
    ------
    Busy
        Too many wait already, or it took too long.
    """
    if not _WAITING.acquire(blocking=False):
        raise Busy
    try:
        if not _AT_ONCE.acquire(timeout=2 * SECONDS):
            raise Busy
        try:
            yield
        finally:
            _AT_ONCE.release()
    finally:
        _WAITING.release()


@lru_cache(maxsize=32)
def png(path: Path, index: int, fits: Size | None = None) -> bytes:
    """Render a frame; the archive's files never change, so that it need be done once.

    Parameters
    ----------
    path : Path
        A PS3.10 file.
    index : int
        Of the frame, from 0.
    fits : tuple of int, optional
        Width and height that the picture is made to fit; its own size without.

    Returns
    -------
    bytes
        A PNG file.

    Raises
    ------
    Refused
        Its pixels cannot be read.
    Busy
        See `turn`.
    """
    with turn():
        return _apart(path, index, fits) if _is_heavy(path) else draw(path, index, fits)


def _is_heavy(path: Path) -> bool:
    syntax = read_file_meta_info(path).TransferSyntaxUID
    if syntax.is_encapsulated or syntax == DeflatedExplicitVRLittleEndian:
        return True
    size = dcmread(path, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
    return int(size.Rows) * int(size.Columns) > _SMALL


def _apart(path: Path, index: int, fits: Size | None) -> bytes:
    command = [sys.executable, "-m", __name__, str(path), str(index), *map(str, fits or ())]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False, env={})
    except subprocess.TimeoutExpired as error:
        raise Refused("its pixels took too long to decode") from error
    if done.returncode:
        raise Refused("its pixels cannot be decoded")
    return done.stdout


def draw(path: Path, index: int, fits: Size | None) -> bytes:
    """Render a frame here; see `png`."""
    try:
        picture = Pillow.fromarray(_pixels(path, index))
    except ArithmeticError as error:  # of what a header says to calculate
        raise Refused("its header cannot be calculated with") from error
    if fits is not None:
        picture.thumbnail(fits, Pillow.Resampling.BICUBIC)
    out = BytesIO()
    picture.save(out, "PNG", compress_level=3)
    return out.getvalue()


def _pixels(path: Path, index: int) -> NDArray[np.uint8]:
    """Decode a frame as it is to be looked at: grey, shape (rows, columns), or RGB (…, 3)."""
    header = dcmread(path, stop_before_pixels=True)
    if str(header.get("PhotometricInterpretation", "")).startswith("MONOCHROME"):
        is_told = any(header.get(keyword) for keyword in _WINDOWS)
        instance = Instance(header, path)
        values = next(render(instance, [index], "lut" if is_told else "none")).array
        low, high = (0.0, 1.0) if is_told else (float(values.min()), float(values.max()))
        scaled = (values - low) / max(high - low, 1e-9)
        return np.asarray((scaled.clip(0, 1) * 255).round(), dtype=np.uint8)
    try:
        colours = pixel_array(path, index=index)  # pydicom turns YBR to RGB
        if header.get("PhotometricInterpretation") == "PALETTE COLOR":
            colours = apply_color_lut(colours, header)
    except UNREADABLE as error:
        raise Refused(f"its pixels cannot be read: {type(error).__name__}") from error
    return np.asarray(colours[..., :3] >> 8 * (colours.dtype.itemsize - 1), dtype=np.uint8)


def main(arguments: list[str]) -> None:
    """Write the PNG of a frame to standard output."""
    path, index, *fits = arguments
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    size = (int(fits[0]), int(fits[1])) if fits else None
    sys.stdout.buffer.write(draw(Path(path), int(index), size))


if __name__ == "__main__":
    main(sys.argv[1:])
