"""The archive: objects by key, plain files below one folder, on disk before ``put`` returns.

A key is a relative path of plain segments, sharded by hour, and never made from patient data.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from overread.store.tables import new_id

_KEY = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")

Buffer = bytes | bytearray | memoryview


def new_key(kind: str, at: datetime, suffix: str = ".dcm") -> str:
    """Make a key: what it is, the hour it came (UTC), an opaque id.

    Parameters
    ----------
    kind : str
        ``instances``, ``quarantine``, or another room's word.
    at : datetime
        Aware.
    suffix : str
        Ending of the file's name.
    """
    return f"{kind}/{at.astimezone(UTC):%Y/%m/%d/%H}/{new_id()}{suffix}"


class Archive:
    """Objects kept as files.

    Parameters
    ----------
    root : Path
        The folder; made when it is not there, readable by its owner only.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """Return the file of a key, whether or not it exists.

        Raises
        ------
        ValueError
            The key has an empty, hidden or parent segment, a leading slash, or other characters
            than letters, digits, ``.``, ``_`` and ``-``.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no object key: plain segments, separated by slashes")
        return self.root / key

    def put(self, key: str, data: Buffer | Iterable[Buffer]) -> None:
        """Keep an object under a key that is new. When this returns it is on disk.

        Parameters
        ----------
        key : str
            See `new_key`.
        data : bytes-like or iterable of bytes-like
            The object; the parts of an iterable are written one after the other.

        Raises
        ------
        FileExistsError
            There is an object under that key; nothing is changed.
        OSError
            It could not be written; nothing is left behind.
        """
        path = self.path(key)
        self._make_folder(path.parent)
        parts = [data] if isinstance(data, (bytes, bytearray, memoryview)) else data
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                for part in parts:
                    rest = memoryview(part)
                    while rest:
                        rest = rest[os.write(file, rest) :]
                os.fsync(file)
            finally:
                os.close(file)
            _sync_folder(path.parent)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def remove(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        self.path(key).unlink(missing_ok=True)

    def free(self) -> int:
        """Bytes free on the archive's disk."""
        return shutil.disk_usage(self.root).free

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and sync the entry of each one that is new."""
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
