"""Where model code runs: warm child processes that can be timed out, limited and killed.

A child is ``python -m overread.engine.child`` inside bubblewrap: no network, no other processes,
an environment of a few named variables, and a file system in which only the interpreter, the
models, the site's operators and the work folder exist; only the work folder can be written to. It
stays up from job to job, so that packages and weights load once.

The memory limit is RLIMIT_DATA, which the child sets for itself and cannot raise again: an
allocation past it fails where it is asked for, as a MemoryError with a traceback that names the
line. It holds for each process; what several take together, how many there are, and the space of
the job's files are watched from outside, which can only kill (`overread.engine.usage`).
"""

from __future__ import annotations

import json
import os
import queue
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

import structlog

from overread.engine import doors
from overread.engine.usage import Meter
from overread.errors import Refused, StepFailed
from overread.pipelines.ports import Progress

_log = structlog.get_logger(__name__)

Launch = Callable[[float, Callable[[], None]], dict[str, Any]]
"""Runs a step's program outside: given the seconds it has, and what to call while it waits. Returns
``log`` (what it printed), and ``notes`` or ``failed`` (why)."""

_READ_SECONDS = 5.0
"""That a step has at least to say what came of its program."""

_START_SECONDS = 120.0
_WATCH_SECONDS = 0.1
_ANSWER_BYTES = 64 << 20
_TMPFS_BYTES = 1 << 30
_WORD = 40
"""Characters of what is counted."""
_PASSED_ON = (
    "PATH",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "CUDA_VISIBLE_DEVICES",
)
_PASSED_ON_PREFIXES = ("OPENBLAS_", "OMP_", "MKL_", "NVIDIA_")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/sys")
SYSTEM_FILES = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
)


@dataclass(frozen=True)
class Box:
    """What a child process may use.

    Attributes
    ----------
    isolation : {"bubblewrap", "none"}
        ``none`` leaves out everything but the limits.
    memory : int
        Bytes.
    threads : int
        How many threads numerical libraries may start.
    disk : int
        Bytes that the files of its work folder may take.
    tasks : int
        Processes and threads that it may start.
    work : Path
        The one folder it may write to; `Children` gives each child its own below it.
    readable : tuple of Path
        Further files and folders it may read: models, operators.
    hidden : tuple of Path
        The site folder and its data: not there for the child, even where they lie below a folder
        that is shown, but for ``work`` and what is ``readable``.
    """

    isolation: Literal["bubblewrap", "none"]
    memory: int
    threads: int
    work: Path
    readable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    disk: int = 20 * 10**9
    tasks: int = 2000

    def problem(self) -> str:
        """Say why this isolation does not work here; empty when it does."""
        if self.isolation == "none":
            return ""
        if shutil.which("bwrap") is None:
            return "bubblewrap is not installed (Debian: apt install bubblewrap)"
        tried = subprocess.run(
            [*self._walls(), "true"], capture_output=True, text=True, check=False, timeout=30
        )
        return "" if tried.returncode == 0 else f"bubblewrap is not permitted: {tried.stderr}"

    def command(self) -> list[str]:
        """Return the command line of a child."""
        limits = [str(limit) for limit in (self.memory, self.disk, self.tasks)]
        child = [sys.executable, "-P", "-m", "overread.engine.child", *limits]
        return child if self.isolation == "none" else [*self._walls(), *child]

    def environment(self) -> dict[str, str]:
        """Return the few variables that a child gets."""
        passed = {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
        }
        threads = str(self.threads)
        return {
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            **passed,
            "OVERREAD_THREADS": threads,
            "HOME": "/tmp",  # noqa: S108, a tmpfs of the child's own
            "USER": "overread",
            "PYTHONDONTWRITEBYTECODE": "1",
            # On a virtual machine, which may have to fetch each page from its host, the first touch
            # of a volume took three times as long on huge pages as on small ones.
            "NUMPY_MADVISE_HUGEPAGE": "0",
        }

    def _walls(self) -> list[str]:
        walls = ["bwrap", "--die-with-parent", "--unshare-net", "--unshare-pid", "--unshare-ipc"]
        walls += ["--unshare-uts", "--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"]
        for place in ("/tmp", "/dev/shm"):  # noqa: S108, a tmpfs of the child's own
            walls += [*sized(), "--tmpfs", place]
        for place in (*SYSTEM, *SYSTEM_FILES):
            walls += ["--ro-bind-try", place, place]
        for device in sorted(Path("/dev").glob("nvidia*")):
            walls += ["--dev-bind-try", str(device), str(device)]
        code = {Path(sys.prefix), Path(sys.base_prefix), *(Path(entry) for entry in sys.path)}
        hidden = {name for path in self.hidden for name in (path, path.resolve())}
        within = {one for one in code - hidden if any(one.is_relative_to(path) for path in hidden)}
        for path in _there(code - within):
            walls += ["--ro-bind", path, path]
        for path in map(str, sorted(hidden)):
            walls += ["--tmpfs", path]
        for path in _there(within | set(self.readable)):
            walls += ["--ro-bind", path, path]
        walls += ["--bind", str(self.work), str(self.work), "--chdir", str(self.work)]
        for path in ("/", "/dev", *map(str, sorted(hidden))):
            walls += ["--remount-ro", path]  # what is mounted below it stays as it is
        return walls


@cache
def sized() -> tuple[str, ...]:
    """Return the option that limits the next tmpfs, where bubblewrap has it (0.7 and later)."""
    told = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False)
    return ("--size", str(_TMPFS_BYTES)) if "--size" in told.stdout + told.stderr else ()


def _there(paths: Iterable[Path]) -> list[str]:
    """List those that can be shown to a child, outer folders first."""
    return [
        str(path)
        for path in sorted(paths)
        if path.is_absolute() and path.exists() and path != Path("/")
    ]


class Child:
    """One child process; it starts when it is first needed, and again after it died.

    Not for use by two threads at once.
    """

    def __init__(self, box: Box) -> None:
        self.box = box
        self._meter = Meter(box.work, box.memory, box.disk, box.tasks)
        self._process: subprocess.Popen[bytes] | None = None
        self._pending = b""
        self._ready = False
        self.code = ""
        """Python of others that has run in it, by digests."""

    def start(self) -> None:
        """Start the process if it does not run. It is ready some seconds later; `run` waits."""
        if self._process is not None and self._process.poll() is None:
            return
        # bubblewrap dies with the *thread* that started it. The threads that come here are the
        # worker's main one and those of its pool, which end only with the worker.
        self._pending, self._ready = b"", False
        self._process = subprocess.Popen(
            self.box.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.box.environment(),
            cwd=self.box.work,
            start_new_session=True,
        )

    def run(
        self,
        request: dict[str, Any],
        timeout: float,
        watch: Callable[[], None],
        progress: Progress | None = None,
        outside: Launch | None = None,
    ) -> dict[str, Any]:
        """Run one step.

        Parameters
        ----------
        request : dict
            See `overread.engine.child`. While the step runs, its ``servers`` can be reached, each
            by a door of its own (`overread.engine.doors`).
        timeout : float
            Seconds; then the process is killed.
        watch : callable
            Called several times a second while the step runs. What it raises ends the step: the
            process is killed and the error goes on.
        progress : Progress, optional
            Told how far the step has come.
        outside : Launch, optional
            Runs the step's program, for a step that has one.

        Returns
        -------
        dict
            What the child says of the step.

        Raises
        ------
        Refused
            The operator refused its input.
        StepFailed
            It raised, took too long, took too much memory or died.
        """
        self.start()
        if not self._ready:
            self._answer(_START_SECONDS, watch)
            self._ready = True
        with doors.opened(self.box.work, request.get("servers", {})):
            self._tell(request, timeout, watch)
            answer = self._answer(timeout, watch, progress, outside)
        if "refused" in answer:
            raise Refused(answer["refused"])
        if "memory" in answer:
            self.stop()  # what the failed allocation left behind is not worth keeping
            raise StepFailed(
                f"it asked for more memory than the {self.box.memory / 1e9:.3g} GB of "
                f"engine.memory: {answer['memory']}"
            )
        if "failed" in answer:
            raise StepFailed(answer["failed"])
        return answer

    def stop(self) -> None:
        """Kill the process and everything it has started."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue

    def _pipes(self) -> tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise StepFailed("its process is gone")
        return process, process.stdin, process.stdout

    def _tell(self, message: dict[str, Any], timeout: float, watch: Callable[[], None]) -> None:
        """Write a line to the child, which may have stopped reading."""
        _, stdin, _ = self._pipes()
        left, ends = json.dumps(message).encode() + b"\n", time.monotonic() + timeout
        os.set_blocking(stdin.fileno(), False)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(stdin, selectors.EVENT_WRITE)
                while left:
                    watch()
                    if time.monotonic() > ends:
                        raise StepFailed(_too_long(timeout))
                    if selector.select(_WATCH_SECONDS):
                        left = left[os.write(stdin.fileno(), left) :]
        except BrokenPipeError:
            raise StepFailed(self._obituary()) from None
        except BaseException:  # raised again
            self.stop()
            raise

    def _answer(
        self,
        timeout: float,
        watch: Callable[[], None],
        progress: Progress | None = None,
        outside: Launch | None = None,
    ) -> dict[str, Any]:
        """Wait for what the child says of the step; on the way, how far it has come."""
        process, _, stdout = self._pipes()
        ends, looked = time.monotonic() + timeout, 0.0

        def look() -> None:
            watch()
            self._meter.look(process.pid)

        try:
            with selectors.DefaultSelector() as selector:
                selector.register(stdout, selectors.EVENT_READ)
                while (answer := self._said(progress)) is None or "outside" in answer:
                    left = ends - time.monotonic()
                    if left <= 0:
                        raise StepFailed(_too_long(timeout))
                    if answer is not None:
                        if outside is None:  # or no more: each time gives the child some seconds
                            raise StepFailed("it asked for a program that the step does not have")
                        told, outside = outside(left, look), None
                        ends = max(ends, time.monotonic() + _READ_SECONDS)
                        self._tell(told, _READ_SECONDS, look)
                        continue
                    if time.monotonic() - looked > _WATCH_SECONDS:
                        look()
                        looked = time.monotonic()
                    if not selector.select(min(left, _WATCH_SECONDS)):
                        continue
                    data = os.read(stdout.fileno(), 1 << 16)
                    if not data:
                        raise StepFailed(self._obituary())
                    self._pending += data
                    if len(self._pending) > _ANSWER_BYTES:
                        raise StepFailed("its answer has no end")
            return answer
        except BaseException:  # raised again
            self.stop()
            raise

    def _said(self, progress: Progress | None) -> dict[str, Any] | None:
        """Take the next answer off what the child has written; pass on the progress before it."""
        while b"\n" in self._pending:
            line, self._pending = self._pending.split(b"\n", 1)
            answer = _answer_of(line)
            match answer.get("progress"):
                case None:
                    return answer
                case [int(done), int(of), str(what)] if progress and 0 <= done <= of:
                    progress(done, of, what[:_WORD])
        return None

    def _obituary(self) -> str:
        """Say what the process died of."""
        process, _, _ = self._pipes()
        code = process.wait()
        self.stop()
        number = -code if code < 0 else code - 128 if code > 128 else 0
        if number in signal.valid_signals() and number:
            name = signal.Signals(number).name
            hint = {
                "SIGKILL": "; most often the machine ran out of memory",
                "SIGSEGV": "; native code of a package went wrong",
                "SIGABRT": "; native code of a package gave up, often for want of memory",
            }.get(name, "")
            return f"its process died of {name}{hint}"
        return f"its process ended by itself with exit code {code}"


def _too_long(timeout: float) -> str:
    return f"it ran longer than its {timeout:g} s and was stopped"


def _answer_of(line: bytes) -> dict[str, Any]:
    """Read what a child said. Model code shares its process, so it may be anything."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise StepFailed("its process gave an answer that is none: model code wrote to its channel")
    return answer


class Children:
    """The children of one worker: one for each job that runs at once.

    Parameters
    ----------
    box : Box
        What they may use. Each has a folder of its own below ``box.work``, made here.
    name : str
        Begins the names of those folders; unique among the workers that share them.
    count : int
        How many.

    Attributes
    ----------
    boxes : list of Path
        Those folders.
    """

    def __init__(self, box: Box, name: str, count: int) -> None:
        self.boxes = [box.work / f"{name}-{number}" for number in range(count)]
        for folder in self.boxes:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._all = [Child(replace(box, work=folder)) for folder in self.boxes]
        self._free: queue.LifoQueue[Child] = queue.LifoQueue()
        for child in self._all:
            self._free.put(child)

    @contextmanager
    def one(self, code: str = "") -> Iterator[Child]:
        """Lend a child for the length of a job; wait for one to be free.

        Parameters
        ----------
        code : str
            Which Python of others the job brings. It can leave threads behind, which would reach
            the files and doors of the next job: so a child that has run some runs nothing else.
        """
        child = self._free.get()
        if child.code not in ("", code):
            child.stop()
        child.code = code
        try:
            yield child
        finally:
            self._free.put(child)

    def warm(self) -> None:
        """Start them all, without waiting until they are ready."""
        for child in self._all:
            child.start()

    def stop(self) -> None:
        """Kill them all."""
        for child in self._all:
            child.stop()
