"""The work folder of a job: its exam laid out, and what each step has made.

A child writes there while the worker reads, and is not trusted: nothing is followed out of the
folder, and nothing that is no plain file is opened.

::

    JOB/_exam/exam.json, 00001.dcm …   copies of the exam's files, and the associations they came by
    JOB/STEP/…                         what a step made; named so only once it is whole
    JOB/STEP.log                       what it printed and logged
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from overread.dicom.study import Origin
from overread.errors import StepFailed

EXAM = "_exam"
"""Name of the exam's folder, and of the exam among a step's inputs; no step can be called that."""

_LOG_BYTES = 200_000


@dataclass(frozen=True)
class JobFolder:
    """The work folder of one job.

    Attributes
    ----------
    root : Path
        The folder itself.
    """

    root: Path

    @property
    def exam(self) -> Path:
        """Where the exam's files lie."""
        return self.root / EXAM

    def step(self, name: str) -> Path:
        """Where lies what a step made."""
        return self.root / name

    def unfinished(self, name: str) -> Path:
        """Where a step writes while it runs."""
        return self.root / f".{name}.unfinished"

    def exchange(self, name: str) -> Path:
        """Where a step exchanges files with a program that runs outside of its box."""
        return self.root / f".{name}.exchange"

    def log_file(self, name: str) -> Path:
        """Where a step's output and log go while it runs."""
        return self.root / f"{name}.log"

    def lay_out(self, files: Iterable[tuple[Path, Origin]]) -> None:
        """Copy the exam's files here, once.

        Copies, not links: model code can reach the work folder, and must not reach the archive.
        """
        if self.exam.exists():
            return
        unfinished = self.fresh(EXAM)
        listed = []
        for number, (file, origin) in enumerate(files, start=1):
            name = f"{number:05}.dcm"
            shutil.copyfile(file, unfinished / name)
            listed.append({"file": name, "origin": asdict(origin)})
        (unfinished / "exam.json").write_text(json.dumps(listed), encoding="utf-8")
        unfinished.rename(self.exam)

    def fresh(self, name: str) -> Path:
        """Make the folder that a step writes to, empty."""
        unfinished = self.unfinished(name)
        for left in (unfinished, self.exchange(name)):
            remove(left)
        unfinished.mkdir(mode=0o700, parents=True)
        return unfinished

    def finish(self, name: str) -> None:
        """Give what a step made its name; what an earlier run of it left there goes."""
        for left in (self.step(name), self.exchange(name)):
            remove(left)
        self.unfinished(name).rename(self.step(name))

    def log(self, name: str) -> str:
        """Return what a step printed and logged; of a long one the end."""
        try:
            with _plain(self.log_file(name)) as stream:
                cut = os.fstat(stream.fileno()).st_size - _LOG_BYTES
                stream.seek(max(0, cut))
                return ("…" if cut > 0 else "") + stream.read(_LOG_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return ""
        except StepFailed as error:
            return str(error)

    def read(self, step: str, name: str, digest: str) -> bytes:
        """Return the bytes of a file that a step made.

        Parameters
        ----------
        name : str
            The file's path in the step's folder.
        digest : str
            The SHA-256 that was recorded of it.

        Raises
        ------
        FileNotFoundError
            It is not there any more.
        StepFailed
            It lies outside of the step's folder, is no plain file, or is another one by now.
        """
        own, file = self.step(step), self.step(step) / name
        if own.parent != self.root or not own.resolve() == self.root.resolve() / step:
            raise StepFailed(f"{step} is no folder of a step")
        if not file.parent.resolve().is_relative_to(own.resolve()):
            raise StepFailed(f"{name} lies outside of the step's folder")
        try:
            with _plain(file) as stream:
                content = stream.read()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{name} of step {step} is not kept on this machine any more; the time that work "
                "folders stay is engine.keep_work, and `overread job retry` makes it again"
            ) from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise StepFailed(f"{name} of step {step} is not what was recorded of it")
        return content

    def whole(self, name: str, files: dict[str, Any]) -> bool:
        """Say whether what a step made is still there, as it was recorded."""
        try:
            return digests(self.step(name)) == files
        except StepFailed:
            return False


class JobFolders:
    """Where the folders of jobs lie: together, or in the box of the child that runs the job.

    A box is the one folder that a child can write to, so a child reaches the job that it runs and
    no other. A folder goes in and out by one rename: wherever a process is killed, it is whole and
    in one place, and whoever takes the job up finds it there.

    Parameters
    ----------
    kept : Path
        Where they lie together, out of every child's reach.
    boxes : Path
        Has the boxes of all workers, on the same file system.
    """

    def __init__(self, kept: Path, boxes: Path) -> None:
        self.kept = kept
        self.boxes = boxes
        self._lent: dict[str, Path] = {}

    def of(self, job: str) -> JobFolder:
        """Return the folder of a job, where it lies now."""
        return JobFolder(self._lent.get(job, self.kept) / job)

    def fetch(self, job: str) -> JobFolder:
        """Return the folder of a job that no child of ours runs; from a box it was left in."""
        for left in self.boxes.glob(f"*/{job}"):
            _move(left, self.kept)
        return JobFolder(self.kept / job)

    @contextmanager
    def lent(self, job: str, box: Path) -> Iterator[None]:
        """Let a child have the folder of a job, by its box, and take it back afterwards."""
        self.empty(box)
        self.fetch(job)
        with suppress(FileNotFoundError):  # no step has begun
            (self.kept / job).rename(box / job)
        self._lent[job] = box
        try:
            yield
        finally:
            if self._lent.get(job) == box:
                del self._lent[job]
            self.empty(box)

    def empty(self, box: Path) -> None:
        """Take back what lies in a box."""
        for left in box.iterdir():
            _move(left, self.kept)


def _move(left: Path, to: Path) -> None:
    """Move a folder, unless there is one of that name; what is no folder is removed."""
    with suppress(FileNotFoundError):  # another worker has been faster
        if left.is_symlink() or not left.is_dir():
            left.unlink()
            return
        try:
            left.rename(to / left.name)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            remove(left)


def remove(folder: Path) -> None:
    """Remove a folder that model code wrote to, however deep it is and whatever its modes are."""
    if folder.is_symlink():
        folder.unlink()
        return
    # By programs: Python's own way stumbles over the depth.
    for command in (["rm", "-rf"], ["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        if not folder.exists():
            return
        subprocess.run([*command, "--", str(folder)], check=False, stderr=subprocess.DEVNULL)


@contextmanager
def _plain(file: Path) -> Iterator[BufferedReader]:
    """Open a file that model code has made, if it is one.

    Raises
    ------
    StepFailed
        It is a link, a pipe or the like.
    """
    try:
        # Without O_NONBLOCK the opening of a pipe would wait for its writer.
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError:
        raise StepFailed(f"{file.name} is no plain file") from None
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise StepFailed(f"{file.name} is no plain file")
        yield stream


def digests(folder: Path) -> dict[str, dict[str, Any]]:
    """Describe the files of a folder that a step made: relative path to ``sha256`` and ``size``.

    Raises
    ------
    StepFailed
        It is no folder, or something in it is neither a folder nor a plain file.
    """
    if folder.is_symlink() or folder.parent.is_symlink() or not folder.is_dir():
        raise StepFailed(f"{folder.name} is no folder")
    found: dict[str, dict[str, Any]] = {}
    try:
        files = sorted(folder.rglob("*"))
    except RecursionError:
        raise StepFailed(f"{folder.name} holds folders within folders without end") from None
    for file in files:
        if stat.S_ISDIR(file.lstat().st_mode):
            continue
        with _plain(file) as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            size = os.fstat(stream.fileno()).st_size
        found[str(file.relative_to(folder))] = {"sha256": digest, "size": size}
    return found
