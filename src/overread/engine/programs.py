"""Run a program of this machine under bubblewrap, over files and nothing else."""

from __future__ import annotations

import hashlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from overread.engine.runs import LOG_BYTES, Ended, Run, exit_reason, too_long
from overread.engine.sandbox import SYSTEM, SYSTEM_FILES, sized
from overread.engine.usage import Meter
from overread.errors import StepFailed
from overread.operators.exchange import IN, OUT, PARAMETERS
from overread.settings import Settings

_WATCH_SECONDS = 0.1
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(task: Run, settings: Settings) -> Ended:
    """Run a program to its end.

    It is given no network, no rights, a user and processes of its own, and a file system in which
    only the system and the folders of ``engine.programs`` exist, to be read, beside ``/in``,
    ``/params.json``, ``/out`` and an empty ``/tmp``.

    Parameters
    ----------
    task : Run
        With the settings of `overread.operators.container.process`.
    settings : Settings
        Of the site.

    Raises
    ------
    StepFailed
        The program is not there or another one, or took too much.
    """
    program = Path(task.settings["program"])
    digest = _digest(program)
    wanted = task.settings["sha256"]
    if wanted and digest != wanted:
        raise StepFailed(f"{program} has SHA-256 {digest}, but this step is pinned to {wanted}")
    _check_visible(program, settings)
    process = subprocess.Popen(
        [*_limits(task), *_walls(task, settings), str(program), *task.settings["arguments"]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": _PATH, "LANG": "C.UTF-8", **task.environment},
        start_new_session=True,
    )
    try:
        log, stopped = _follow(process, task)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    notes = [f"program {program}, SHA-256 {digest}"]
    ended = exit_reason(process.returncode) if process.returncode else ""
    return Ended(log, notes, stopped or ended)


def _digest(program: Path) -> str:
    try:
        with program.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise StepFailed(f"program {program} cannot be run here: {error.strerror}") from error


def _check_visible(program: Path, settings: Settings) -> None:
    """Refuse a program that lies where the box shows nothing, which would be told as not there."""
    shown = [*SYSTEM, *map(str, settings.engine.programs)]
    if not any(program.is_relative_to(place) for place in shown):
        raise StepFailed(
            f"program {program} lies outside of what a program may read: {', '.join(shown)}; put "
            "it there, or name its folder in engine.programs of overread.yaml"
        )


def _limits(task: Run) -> list[str]:
    """Limits that the kernel keeps, for each process."""
    limits = ("prlimit", f"--data={task.memory}", f"--fsize={task.box.disk}", "--core=0", "--")
    return list(limits)


def _walls(task: Run, settings: Settings) -> list[str]:
    walls = ["bwrap", "--die-with-parent", "--unshare-all", "--unshare-user", "--uid", "1000"]
    walls += ["--gid", "1000", "--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"]
    for place in ("/tmp", "/dev/shm"):  # noqa: S108, a tmpfs of its own
        walls += [*sized(), "--tmpfs", place]
    for place in (*SYSTEM, *SYSTEM_FILES):
        walls += ["--ro-bind-try", place, place]
    walls += _bound("--ro-bind", settings.engine.programs)
    shown = [*map(Path, SYSTEM), *settings.engine.programs]
    hidden = [
        str(path)
        for path in sorted({settings.root, settings.data})
        if any(path.is_relative_to(place) for place in shown)
    ]
    for path in hidden:
        walls += ["--tmpfs", path]
    walls += _bound(
        "--ro-bind", (one for one in settings.engine.programs if one.is_relative_to(settings.root))
    )
    if task.settings["gpu"]:
        walls += _bound("--dev-bind", sorted(Path("/dev").glob("nvidia*")))
    for name in (IN, PARAMETERS):
        walls += ["--ro-bind", str(task.folder / name), f"/{name}"]
    walls += ["--bind", str(task.folder / OUT), f"/{OUT}", "--chdir", f"/{OUT}"]
    for path in ("/", "/dev", *hidden):
        walls += ["--remount-ro", path]  # what is mounted below it stays as it is
    # Within the user namespace the kernel counts the processes of this program, and no others.
    return [*walls, "--", "prlimit", f"--nproc={task.box.tasks}", "--"]


def _bound(how: str, paths: Iterable[Path]) -> list[str]:
    return [word for path in paths for word in (how, str(path), str(path))]


def _follow(process: subprocess.Popen[bytes], task: Run) -> tuple[str, str]:
    """Read what a program prints until it ends; return it, and why it is to be stopped, if so."""
    stdout = process.stdout
    assert stdout is not None  # noqa: S101, it was asked for
    meter = Meter(task.folder, task.memory, task.box.disk, task.box.tasks)
    ends, looked, log, is_open = time.monotonic() + task.seconds, 0.0, b"", True
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while process.poll() is None or is_open:
            if time.monotonic() > ends:
                return _text(log), too_long(task.seconds)
            if time.monotonic() - looked > _WATCH_SECONDS:
                looked = time.monotonic()
                try:
                    task.look()
                    meter.look(process.pid)
                except StepFailed as error:
                    return _text(log), str(error)
            if not is_open:  # it has closed its output, and goes on
                time.sleep(_WATCH_SECONDS)
            elif selector.select(_WATCH_SECONDS):
                data = os.read(stdout.fileno(), 1 << 16)
                log = (log + data)[-LOG_BYTES:]
                if not data:
                    is_open = False
                    selector.unregister(stdout)
    return _text(log), ""


def _text(log: bytes) -> str:
    return log.decode(errors="replace")
