"""The work folder of a job: its exam laid out, and what each step has made.

::

    JOB/_exam/exam.json, 00001.dcm …   copies of the exam's files, and the associations they came by
    JOB/STEP/…                         what a step made; named so only once it is whole
    JOB/STEP.log                       what it printed and logged
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from overread.dicom.study import Origin

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
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700, parents=True)
        return unfinished

    def finish(self, name: str) -> None:
        """Give what a step made its name; what an earlier run of it left there goes."""
        shutil.rmtree(self.step(name), ignore_errors=True)
        self.unfinished(name).rename(self.step(name))

    def log(self, name: str) -> str:
        """Return what a step printed and logged; of a long one the end."""
        try:
            text = self.log_file(name).read_bytes()
        except FileNotFoundError:
            return ""
        cut = len(text) > _LOG_BYTES
        return ("…" if cut else "") + text[-_LOG_BYTES:].decode(errors="replace")

    def whole(self, name: str, files: dict[str, Any]) -> bool:
        """Say whether what a step made is still there, as it was recorded."""
        return self.step(name).is_dir() and digests(self.step(name)) == files


def digests(folder: Path) -> dict[str, dict[str, Any]]:
    """Describe the files of a folder: relative path to ``sha256`` and ``size``."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            found[str(file.relative_to(folder))] = {"sha256": digest, "size": file.stat().st_size}
    return found
