"""The weights of a model, compared with the digest that a job is pinned to."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from overread.errors import StepFailed


def verify(file: Path, digest: str, pinned: str = "this job is pinned to") -> None:
    """Compare a model's file with the digest that a job is pinned to.

    A file of the same device, inode, size and time of change is not read again by this process.

    Parameters
    ----------
    pinned : str
        In words, what the digest is compared for.

    Raises
    ------
    StepFailed
        The file is not there, or is another one.
    """
    try:
        state = file.stat()
    except FileNotFoundError:
        raise StepFailed(
            f"the model file {file.name} is not there any more; expected it with SHA-256 {digest}"
        ) from None
    found = _digest(file, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    if found != digest:
        raise StepFailed(
            f"the model file {file.name} has SHA-256 {found}, but {pinned} {digest}; "
            "put back the file that model.yaml describes, or give the new one a new version"
        )


@cache
def _digest(file: Path, _device: int, _inode: int, _size: int, _changed: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
