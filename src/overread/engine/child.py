"""The child process: runs operators, one request a line on stdin, one answer a line on stdout.

It knows no database, no site folder and no archive. A request names an operator, the folders its
inputs lie in, and the folder to write to; what a step made stays in memory until a request comes
that is of another job, so that nothing is read twice.

Everything printed or logged while a step runs, by native code too, goes to the step's log file.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import queue
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from overread import registry
from overread.dicom.study import Exam, Instance, Origin, Series
from overread.engine.doors import Relays, through
from overread.engine.folders import EXAM
from overread.engine.weights import verify
from overread.errors import Refused, StepFailed
from overread.operators import files
from overread.operators.run import run
from overread.pipelines.model import ModelCard
from overread.pipelines.ports import Context, Model, Progress, signature

_TOLD_SECONDS = 0.25


Ask = Callable[[], dict[str, Any]]
"""Has the worker run the step's program; returns ``log``, and ``notes`` or ``failed``."""


class Memory:
    """What the steps of the current job have made."""

    def __init__(self) -> None:
        self._job = ""
        self._made: dict[str, object] = {}

    def of(self, job: str) -> dict[str, object]:
        """Return what is there of a job; what was there of another is let go."""
        if job != self._job:
            self._job, self._made = job, {}
        return self._made


def step(
    request: dict[str, Any],
    memory: Memory,
    progress: Progress | None = None,
    ask: Ask | None = None,
) -> dict[str, Any]:
    """Run one step.

    Parameters
    ----------
    request : dict
        ``job``, ``step``; ``operator`` and ``source`` (a file of the site's own, or none);
        ``inputs``: port to the step it takes; ``folders``: such a step to its folder; ``settings``;
        ``context``; ``models``: ``name@version`` to card, ``files`` (its own, then its folds') and
        the address of the ``server`` that runs it, or none; ``servers``: those that this step
        talks to, and where they are; ``out``: the folder to write; ``exchange``: that for a program
        outside.
    progress : Progress, optional
        Told how far the operator has come.
    ask : callable, optional
        Has the step's program run outside.

    Returns
    -------
    dict
        ``type`` of what was made, ``account``, and for a series or an exam the UIDs of its
        ``instances``.
    """
    made = memory.of(request["job"])
    name, settings = request["operator"], request["settings"]
    function = find(name, request["source"])
    ports = signature(name, function)
    given = {port: EXAM for port, kind in ports.inputs.items() if kind is Exam}
    inputs: dict[str, object] = {}
    for port, source in {**given, **request["inputs"]}.items():
        if source not in made:
            folder = Path(request["folders"][source])
            made[source] = read_exam(folder) if source == EXAM else files.load(folder)
        inputs[port] = made[source]
    wanted = {settings[setting] for setting in ports.models if setting in settings}
    models = {
        reference: _model(facts)
        for reference, facts in request["models"].items()
        if reference in wanted
    }
    context = _context(request["context"])
    outside = _Outside(Path(request["exchange"]), ask) if ports.outside and ask else None
    output, account = run(function, ports, inputs, settings, context, models, progress, outside)
    out = Path(request["out"])
    files.save(output, out)
    made[request["step"]] = output
    return {
        "type": type(output).__name__,
        "account": asdict(account),
        "instances": [one.uid for one in output] if isinstance(output, Series | Exam) else [],
    }


def read_exam(folder: Path) -> Exam:
    """Read the exam that the engine laid out: ``exam.json`` and the files it names.

    Headers are read up to PixelData; the pixels wait for the operator that wants them.
    """
    from pydicom import dcmread

    listed = json.loads((folder / "exam.json").read_text(encoding="utf-8"))
    return Exam(
        tuple(
            Instance(
                dcmread(folder / entry["file"], stop_before_pixels=True, force=True),
                folder / entry["file"],
                Origin(**entry["origin"]),
            )
            for entry in listed
        )
    )


def find(name: str, source: str | None) -> Callable[..., Any]:
    """Return an operator: an installed one, or one of a file of the site's own."""
    if source is None:
        found: Callable[..., Any] = registry.load("operators", name)
        return found
    module_name = f"site_operators_{Path(source).stem}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, source)
        if spec is None or spec.loader is None:
            raise StepFailed(f"operator {name}: {source} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
    function: Callable[..., Any] = getattr(sys.modules[module_name], name)
    return function


def _model(facts: dict[str, Any]) -> Model:
    card = ModelCard.model_validate(facts["card"])
    first, *folds = map(Path, facts["files"])
    verify(first, card.sha256)
    for file, fold in zip(folds, card.folds, strict=True):
        verify(file, fold.sha256)
    return Model(card, first, tuple(folds), facts["server"])


def _context(facts: dict[str, Any]) -> Context:
    return Context(
        **{
            **facts,
            "at": datetime.fromisoformat(facts["at"]),
            "models": tuple(ModelCard.model_validate(card) for card in facts["models"]),
        }
    )


def _line(error: Exception, source: str | None) -> str:
    """Say in which line of the site's own file an operator failed."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if source and frame.filename == source]
    return f" (line {lines[-1]} of the operator's file)" if lines else ""


def answer(
    request: dict[str, Any],
    memory: Memory,
    progress: Progress | None = None,
    ask: Ask | None = None,
) -> dict[str, Any]:
    """Run one request, whatever becomes of it, and say what did."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    outside = os.dup(2)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        return step(request, memory, progress, ask)
    except Refused as error:
        return {"refused": str(error)}
    except StepFailed as error:
        return {"failed": str(error)}
    except MemoryError as error:
        traceback.print_exc()
        return {"memory": str(error) or "an allocation failed"}
    except Exception as error:  # noqa: BLE001, the edge of this process: told to the worker
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}{_line(error, request['source'])}"}
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(outside, 1)
        os.dup2(outside, 2)
        os.close(outside)
        os.close(log)


def _listen(lines: queue.Queue[str]) -> None:
    """Pass requests on; when the worker is gone, end at once, whatever runs."""
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def _say(channel: TextIO, message: dict[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


class _Telling:
    """Tells the worker how far a step has come, a few times a second at most."""

    def __init__(self, channel: TextIO) -> None:
        self._channel = channel
        self._told = 0.0

    def __call__(self, done: int, of: int, what: str) -> None:
        if time.monotonic() - self._told > _TOLD_SECONDS:
            self._told = time.monotonic()
            _say(self._channel, {"progress": [done, of, what]})


class _Outside:
    """Has a step's program run by the worker (`overread.pipelines.ports.Outside`)."""

    def __init__(self, folder: Path, ask: Ask) -> None:
        self.folder = folder
        self._ask = ask
        folder.mkdir(mode=0o700)

    def __call__(self) -> list[str]:
        told = self._ask()
        print(told["log"], end="", flush=True)
        if "failed" in told:
            raise StepFailed(told["failed"])
        return list(told["notes"])


def _limit(memory: int, disk: int, tasks: int) -> None:
    """Set the limits that the kernel keeps, for this process and each that it starts."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (disk, disk))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if counts_its_own_tasks():
        resource.setrlimit(resource.RLIMIT_NPROC, (tasks, tasks))


def counts_its_own_tasks() -> bool:
    """Say whether RLIMIT_NPROC counts what runs in this box, and not all that the user runs.

    It does so in a user namespace of one's own, since Linux 5.14.
    """
    version = tuple(map(int, os.uname().release.split(".")[:2]))
    return version >= (5, 14) and Path("/proc/self/uid_map").read_text().split()[2] == "1"


def main() -> None:
    """Serve requests until the worker closes our stdin."""
    _limit(*map(int, sys.argv[1:]))
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what operators print is not an answer
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    import highdicom  # noqa: F401, loaded now so that the first job does not wait for it

    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    memory, relays = Memory(), Relays(Path())

    def ask() -> dict[str, Any]:
        _say(channel, {"outside": True})
        told: dict[str, Any] = json.loads(lines.get())
        return told

    _say(channel, {"ready": True})
    while True:
        request = through(json.loads(lines.get()), relays)
        _say(channel, answer(request, memory, _Telling(channel), ask))


if __name__ == "__main__":
    main()
