"""One run of a program outside: what is asked for, and what came of it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overread.engine.sandbox import Box

LOG_BYTES = 200_000
"""Of a long log its end is kept."""


@dataclass(frozen=True)
class Run:
    """What is to be run.

    Attributes
    ----------
    job, step : str
        Whose program it is.
    settings : mapping
        Of the operator, read, with its defaults.
    folder : Path
        Has ``in``, ``params.json`` and ``out``.
    box : Box
        Its limits hold for the program too.
    device : str
        ``cpu``, ``cuda:N`` or ``auto``.
    seconds : float
        That it may take.
    look : callable
        To be called several times a second; what it raises ends the program.
    """

    job: str
    step: str
    settings: Mapping[str, Any]
    folder: Path
    box: Box
    device: str
    seconds: float
    look: Callable[[], None]

    @property
    def memory(self) -> int:
        """Bytes that it may use: its own setting, and not more than the site allows."""
        return min(self.settings["memory"] or self.box.memory, self.box.memory)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that it is given."""
        threads = str(self.box.threads)
        return {
            "HOME": "/tmp",  # noqa: S108, a tmpfs of its own
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            **(self.settings["environment"] or {}),
        }


@dataclass(frozen=True)
class Ended:
    """What came of a run.

    Attributes
    ----------
    log : str
        What it printed, of much the end.
    notes : list of str
        What a person should know.
    failed : str
        Why it failed; empty where it did not.
    """

    log: str
    notes: list[str] = field(default_factory=list)
    failed: str = ""


def too_long(seconds: float) -> str:
    """Say that a program ran out of its time."""
    return f"its program was still running after the {seconds:.3g} s that were left to it"


def exit_reason(code: int) -> str:
    """Say with what code a program ended; above 128 it is a signal's."""
    number = -code if code < 0 else code - 128
    if number == signal.SIGXFSZ:
        return "its program wrote a larger file than engine.disk allows"
    if number in signal.valid_signals() and number > 0:
        return f"its program died of {signal.Signals(number).name}"
    return f"its program ended with exit code {code}"
