"""Every error that Overread raises, in one tree, branched by who must act.

::

    OverreadError
    ├── SiteError        the site's engineer: a file of the site folder is wrong
    ├── UsageError       the person at the command line: the command asks for what is not there
    ├── Refused          the clinician: this exam is not what the pipeline may be given
    │   └── GeometryError    ... because its slices do not make a volume
    ├── StepFailed       the pipeline's engineer: an operator raised, ran too long or took too much
    └── Unavailable      nobody: the other side is away or busy; it is tried again

Anything else that is raised is a defect of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class OverreadError(Exception):
    """The root of the tree. Never raised itself."""


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that is wrong in a site folder.

    Attributes
    ----------
    file : Path
        The file, relative to the site folder where it lies in it.
    line : int
        Line in the file, counted from 1; 0 when the fault is the file itself (absent, say).
    what : str
        What was found.
    expected : str
        What was expected, or what to do.
    """

    file: Path
    line: int
    what: str
    expected: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}; expected {self.expected}"


class SiteError(OverreadError):
    """The site folder has faults; all of them are listed, not only the first."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(sorted(faults))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class UsageError(OverreadError):
    """What the command line asked for does not exist or makes no sense here."""


class Refused(OverreadError):
    """The exam is not what the pipeline may be given; the job ends *refused*, with this reason.

    The message is read by a clinician: it says what was found, with numbers, and what was expected.
    """


class GeometryError(Refused):
    """The instances do not make one regular volume.

    Attributes
    ----------
    problem : str
        A short name: ``several volumes``, ``missing slice``, ``gantry tilt``,
        ``uneven increment``, ``mixed orientation``, ``mixed size``, ``mixed spacing``,
        ``localiser``, ``duplicate position``, ``too few slices``, ``no position``,
        ``invalid orientation``, ``mixed frame of reference``, ``mixed patients``.
    """

    def __init__(self, problem: str, message: str) -> None:
        self.problem = problem
        super().__init__(f"{problem}: {message}")


class StepFailed(OverreadError):
    """An operator raised, ran past its time or its memory, or its process died."""


class Unavailable(OverreadError):
    """The other side is away or busy. Nobody has to act: it is tried again."""
