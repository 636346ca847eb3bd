"""The house stands as ARCHITECTURE says: floors, and rooms of one concept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "overread"


def test_an_import_only_goes_down() -> None:
    """import-linter holds every contract of pyproject.toml."""
    run = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_no_room_is_a_lumber_room() -> None:
    """No module is called by a name that says nothing, and none is past 500 lines."""
    nameless = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
    modules = [path for path in SOURCE.rglob("*.py") if "vendor" not in path.parts]
    assert modules
    assert not [path for path in modules if path.stem in nameless]
    long = {
        str(path.relative_to(ROOT)): length
        for path in modules
        if (length := len(path.read_text().splitlines())) > 500
    }
    assert not long, f"rooms past 500 lines: {long}"


def test_only_process_edges_catch_everything() -> None:
    """A bare ``except Exception`` stands only where a comment beside it says where it is kept."""
    silent = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SOURCE.rglob("*.py")
        if "vendor" not in path.parts
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if ("except Exception" in line or "except BaseException" in line) and "#" not in line
    ]
    assert not silent, f"say beside it where the error is recorded: {silent}"
