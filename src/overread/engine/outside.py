"""Programs that run outside of a step's box: containers, and programs of this machine.

The step itself (`overread.operators.container`) runs in its child as any other. It lays out what
the program is given and asks the worker to run it; *what* is run the worker takes from the job's
own definition, so that nothing a child says can make it run anything else. Then the child reads
what the program left, which is not trusted any more than the child is.

While the program runs, its files lie beside the box, where the child cannot reach them::

    BOX/JOB/.STEP.exchange/{in,params.json}       laid out by the child, moved away
    BOX.outside/{in,params.json,out}              what the program sees, and no more of the site
    BOX/JOB/.STEP.exchange/out                    moved back, once it is nothing but plain files
"""

from __future__ import annotations

import inspect
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from overread import registry
from overread.engine import containers, programs
from overread.engine.folders import remove
from overread.engine.runs import Ended, Run
from overread.engine.sandbox import Box, Launch
from overread.engine.usage import Meter
from overread.errors import StepFailed
from overread.operators.container import container, process
from overread.operators.exchange import IN, OUT, PARAMETERS
from overread.operators.run import read_settings
from overread.pipelines.ports import signature
from overread.settings import Settings
from overread.site import SiteFolder

_DEEPEST = 64
"""Folders within folders."""

_LINE = 300
"""Characters of a program's last line, as a reason shows it."""


def launch(request: dict[str, Any], box: Box, settings: Settings) -> Launch | None:
    """Return what runs the program of a step; none for a step without one.

    Parameters
    ----------
    request : dict
        See `overread.engine.child`; from the job, which is pinned.
    box : Box
        The child's: it says the limits, and where the files are.
    settings : Settings
        Of the site.
    """
    if request["source"] is not None:
        return None
    function = registry.load("operators", request["operator"])
    runners: dict[Any, Callable[[Run], Ended]] = {
        container: lambda run: containers.run(run, settings.containers.socket),
        process: lambda run: programs.run(run, settings),
    }
    runner = runners.get(function)
    if runner is None:
        return None
    given = _settings(request["operator"], function, request["settings"])

    def launched(seconds: float, look: Callable[[], None]) -> dict[str, Any]:
        run = Run(
            job=request["job"],
            step=request["step"],
            settings=given,
            folder=outside_of(box.work),
            box=box,
            device=request["context"].get("device", "cpu"),
            seconds=seconds,
            look=look,
        )
        try:
            return _around(Path(request["exchange"]), run, runner)
        except StepFailed as error:
            return {"failed": str(error), "log": ""}

    return launched


def outside_of(box: Path) -> Path:
    """Return the folder beside a box that holds what its step's program sees."""
    return box.with_name(f"{box.name}.outside")


def clean(site: SiteFolder, boxes: Iterable[Path]) -> None:
    """End and remove what a worker that was killed has left running for its boxes."""
    used = {step.use for pipeline in site.pipelines.values() for step in pipeline.steps.values()}
    if "container" in used:
        containers.clean_boxes(site.settings.containers.socket, map(str, boxes))
    for box in boxes:
        remove(outside_of(box))


def _settings(name: str, function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    defaults = {
        parameter.name: parameter.default
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is not parameter.empty
    }
    return defaults | read_settings(signature(name, function), given, {})


def _around(exchange: Path, run: Run, runner: Callable[[Run], Ended]) -> dict[str, Any]:
    """Take over what the child has laid out, run the program, and hand back what it left."""
    handle = _enter(exchange)
    try:
        remove(run.folder)
        run.folder.mkdir(mode=0o700)
        os.rename(IN, run.folder / IN, src_dir_fd=handle)
        os.rename(PARAMETERS, run.folder / PARAMETERS, src_dir_fd=handle)
        _check(run.folder)
        (run.folder / OUT).mkdir()
        (run.folder / OUT).chmod(0o777)  # nobody else comes this far: the folder above is ours
        ended = runner(run)
        if ended.failed:
            return {"failed": _with_last_line(ended), "log": ended.log}
        try:
            _check(run.folder / OUT)
            Meter(run.folder / OUT, run.box.memory, run.box.disk, run.box.tasks).look(None)
        except StepFailed as error:
            return {"failed": str(error), "log": ended.log}
        os.rename(run.folder / OUT, OUT, dst_dir_fd=handle)
        return {"notes": ended.notes, "log": ended.log}
    except OSError as error:  # the child has moved things away, or the disk is full
        raise StepFailed(f"its files cannot be exchanged: {error}") from error
    finally:
        os.close(handle)
        remove(run.folder)


def _enter(exchange: Path) -> int:
    """Open the child's folder, following no link: it can make some in all of its box."""
    flags = os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        job = os.open(exchange.parent, flags)
        try:
            return os.open(exchange.name, flags, dir_fd=job)
        finally:
            os.close(job)
    except OSError as error:
        raise StepFailed(f"its files cannot be exchanged: {error}") from error


def _check(folder: Path) -> None:
    """Make all in a folder readable for everybody; refuse what is neither folder nor plain file.

    The child that laid it out may still hold it and change it meanwhile, so nothing is looked at by
    a path that a link could lead astray.

    Raises
    ------
    StepFailed
        Something is a link, a device, a pipe or the like, or lies too deep.
    """
    shown = folder.parent if folder.name == OUT else folder
    for place, folders, names, handle in os.fwalk(folder, onerror=_again):
        where = Path(place).relative_to(shown)
        if len(where.parts) > _DEEPEST:
            raise StepFailed(f"/{Path(*where.parts[:3])}… is deeper than {_DEEPEST} folders")
        for name in sorted(folders + names):
            entry = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=handle)
            try:
                _permit(entry, f"/{where / name}")
            finally:
                os.close(entry)


def _permit(entry: int, name: str) -> None:
    mode = os.fstat(entry).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise StepFailed(f"{name} is a {_kind(mode)}; only files and folders may be there")
    with suppress(PermissionError):  # of another user: it is readable, or the child will say so
        # A handle of this kind cannot be given modes, what it stands for can.
        Path(f"/proc/self/fd/{entry}").chmod(0o755 if stat.S_ISDIR(mode) else 0o644)


def _again(error: OSError) -> None:
    raise error


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "link",
        stat.S_IFIFO: "pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFBLK: "device",
        stat.S_IFCHR: "device",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")


def _with_last_line(ended: Ended) -> str:
    last = next((line for line in reversed(ended.log.splitlines()) if line.strip()), "")
    return f"{ended.failed}: {last.strip()[:_LINE]}" if last else ended.failed
