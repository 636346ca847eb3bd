"""The archive: objects by key, plain files below one folder, on disk before ``put`` returns.

A key is a relative path of plain segments, sharded by hour, and never made from patient data.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from overread.store.tables import new_id

_KEY = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")

_AT_ONCE = 32
"""Syncs that one process has going on at the same time."""

Buffer = bytes | bytearray | memoryview


def new_key(kind: str, at: datetime, *, writer: str = "", suffix: str = ".dcm") -> str:
    """Make a key: what it is, the hour it came (UTC), an opaque id.

    Parameters
    ----------
    kind : str
        ``instances``, ``quarantine``, or another room's word.
    at : datetime
        Aware.
    writer : str
        Who writes it; `Archive.written` finds its objects again.
    suffix : str
        Ending of the file's name.
    """
    return f"{kind}/{at.astimezone(UTC):%Y/%m/%d/%H}/{writer}{new_id()}{suffix}"


class Pending:
    """An object that is written, and on its way to the disk.

    File and folder entry are synced at the same time: the journal of the file system is then
    written once for both, and for what else its caller syncs meanwhile.

    Parameters
    ----------
    path : Path
        The object's file.
    syncs : sequence of Future
        What goes on.
    """

    def __init__(self, path: Path, syncs: Sequence[Future[None]]) -> None:
        self._path = path
        self._syncs = syncs

    def wait(self) -> None:
        """Wait until the object and its folder entry are on disk.

        Raises
        ------
        OSError
            They cannot be; the object is removed.
        """
        errors = [error for error in (sync.exception() for sync in self._syncs) if error]
        if errors:
            self._path.unlink(missing_ok=True)
            raise errors[0]


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
        self._syncs = ThreadPoolExecutor(_AT_ONCE, "archive-sync")

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
        self.begin(key, data).wait()

    def begin(self, key: str, data: Buffer | Iterable[Buffer]) -> Pending:
        """Write an object that is not on disk before its `Pending.wait` returns.

        Between the two a caller can do what also takes the disk's time, such as a commit. It is
        `put` otherwise.
        """
        path = self.path(key)
        self._make_folder(path.parent)
        parts = [data] if isinstance(data, bytes | bytearray | memoryview) else data
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            for part in parts:
                rest = memoryview(part)
                while rest:
                    rest = rest[os.write(file, rest) :]
        except BaseException:  # raised again
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        return self._sync(file, path)

    def sync(self, key: str) -> None:
        """Wait until an object that is written is on disk.

        Raises
        ------
        OSError
            It is not there, or the disk fails.
        """
        path = self.path(key)
        self._sync(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path).wait()

    def remove(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        self.path(key).unlink(missing_ok=True)

    def written(self, kind: str, writer: str, since: datetime, until: datetime) -> Iterator[str]:
        """Find the keys of what one writer wrote in the hours from ``since`` to ``until``."""
        hour = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        while hour <= until:
            folder = self.root / f"{kind}/{hour:%Y/%m/%d/%H}"
            for path in sorted(folder.glob(f"{writer}*")):
                yield str(path.relative_to(self.root))
            hour += timedelta(hours=1)

    def free(self) -> int:
        """Bytes free on the archive's disk."""
        return shutil.disk_usage(self.root).free

    def _sync(self, file: int, path: Path) -> Pending:
        syncs = (
            self._syncs.submit(_sync_and_close, file),
            self._syncs.submit(_sync_folder, path.parent),
        )
        return Pending(path, syncs)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and sync the entry of each one that is new."""
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    _sync_and_close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def _sync_and_close(file: int) -> None:
    try:
        os.fsync(file)
    finally:
        os.close(file)
