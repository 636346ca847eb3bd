"""What a step uses while it runs: memory and processes of all it has started, and disk.

A process sets limits on itself that the kernel keeps (`overread.engine.child`); these count what no
such limit does: many processes together, and many files. They are looked at, so a step can be past
them for a moment.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from overread.errors import StepFailed

_FILES = 200_000
"""Files that a job may have: a folder of more is slow to look through, to hash and to remove."""

_SECONDS = 0.5
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Meter:
    """Watches what a step uses.

    Attributes
    ----------
    folder : Path
        Where its files are.
    memory, disk : int
        Bytes that all its processes, and all files of the folder, may take.
    tasks : int
        Processes and threads that it may have.
    """

    folder: Path
    memory: int
    disk: int
    tasks: int
    _looked: float = field(default=0.0, init=False)

    def look(self, root: int | None) -> None:
        """Look at what is used; at memory and disk not every time.

        Parameters
        ----------
        root : int, optional
            The process that began it all; none where there is none of ours.

        Raises
        ------
        StepFailed
            It is too much.
        """
        processes = list(self._processes(root)) if root else []
        if time.monotonic() - self._looked < _SECONDS:
            return
        if sum(map(_anonymous, processes)) > self.memory:
            # Pages that a fork shares count once for each process there; now share them out.
            taken = sum(map(_share, processes))
            if taken > self.memory:
                raise StepFailed(
                    f"its {len(processes)} processes took {taken / 1e9:.3g} GB of memory, more "
                    f"than the {self.memory / 1e9:.3g} GB of engine.memory"
                )
        self._look_at_disk(processes)
        self._looked = time.monotonic()

    def _processes(self, root: int) -> Iterator[int]:
        """Yield a process and all that it has started, directly or not.

        In a process-id namespace of its own nothing gets away from that tree.
        """
        front, tasks = [root], 0
        while front:
            process = front.pop()
            yield process
            with suppress(OSError):  # it has just ended
                for task in Path(f"/proc/{process}/task").iterdir():
                    tasks += 1
                    front += map(int, (task / "children").read_text().split())
            if tasks > self.tasks:
                raise StepFailed(
                    f"it started more than {self.tasks} processes and threads, and was stopped"
                )

    def _look_at_disk(self, processes: list[int]) -> None:
        taken = count = 0
        for size in _sizes(self.folder):
            taken, count = taken + size, count + 1
            if count > _FILES:
                raise StepFailed(f"the job's files are more than {_FILES}, and it was stopped")
            self._check_disk(taken)
        with suppress(FileNotFoundError):
            device = self.folder.stat().st_dev
            for process in processes:
                taken += sum(_removed(process, device))
            self._check_disk(taken)

    def _check_disk(self, taken: int) -> None:
        if taken > self.disk:
            raise StepFailed(
                f"the job's files take {taken / 1e9:.3g} GB, more than the "
                f"{self.disk / 1e9:.3g} GB of engine.disk"
            )


def _sizes(folder: Path) -> Iterator[int]:
    """Yield the space that each file and folder below takes on the disk, following no link."""
    front = [str(folder)]
    while front:
        with suppress(OSError), os.scandir(front.pop()) as entries:  # it changes as we look
            for entry in entries:
                with suppress(OSError):
                    yield entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        front.append(entry.path)


def _removed(process: int, device: int) -> Iterator[int]:
    """Yield the space of files that a process holds open though they have no name any more."""
    with suppress(OSError):  # it has just ended, or does not let us look
        for entry in os.scandir(f"/proc/{process}/fd"):
            with suppress(OSError):
                state = Path(entry.path).stat()
                if stat.S_ISREG(state.st_mode) and not state.st_nlink and state.st_dev == device:
                    yield state.st_blocks * 512


def _anonymous(process: int) -> int:
    """Bytes of a process that no file is behind; shared ones in full."""
    try:
        _, resident, shared, *_ = map(int, Path(f"/proc/{process}/statm").read_text().split())
    except (OSError, ValueError):  # it has just ended
        return 0
    return (resident - shared) * _PAGE


def _share(process: int) -> int:
    """Bytes of a process that no file is behind, and its part of those that it shares."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:  # it has just ended, or does not let us look
        return _anonymous(process)
    fields = dict(line.split(":", 1) for line in text.splitlines()[1:])
    return sum(int(fields[name].split()[0]) * 1024 for name in ("Pss_Anon", "Pss_Shmem"))
