"""A site's own operators: every public function of the files in ``operators/``.

A file is imported on its own, under a name that nothing else has, and without leaving anything in
the folder. What it does while it is imported can fail in any way; that is a fault of the file and
keeps no other file from being read.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from overread.errors import Fault
from overread.pipelines.ports import signature

Operator = Callable[..., Any]


class _Loader(SourceFileLoader):
    """Runs a text that has been read, and leaves no compiled files in the site folder."""

    def __init__(self, name: str, path: str, text: bytes) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        """Compile the text."""
        return self.source_to_code(self._text, self.get_filename(fullname))


def read_operators(
    file: Path, shown: Path | None = None, text: bytes | None = None
) -> tuple[dict[str, Operator], list[Fault]]:
    """Import a file and return its operators.

    An operator is a public function that the file defines itself; each parameter and the return
    value must be annotated (`overread.pipelines.ports`).

    Parameters
    ----------
    file : Path
        A Python file.
    shown : Path, optional
        The file as faults show it.
    text : bytes, optional
        What the file holds; read where absent.

    Returns
    -------
    dict of str to callable
        Operators by name.
    list of Fault
        What is wrong with the file.
    """
    shown = shown or file
    module, fault = _import(file, shown, file.read_bytes() if text is None else text)
    if module is None:
        return {}, [fault] if fault else []
    operators: dict[str, Operator] = {}
    faults: list[Fault] = []
    for name, function in vars(module).items():
        own = inspect.isfunction(function) and function.__module__ == module.__name__
        if not own or name.startswith("_"):
            continue
        line = function.__code__.co_firstlineno
        try:
            ports = signature(name, function)
        except (TypeError, NameError) as error:
            expected = "every parameter and the result annotated, or a name that begins with _"
            faults.append(Fault(shown, line, str(error), expected))
            continue
        if ports.outside:
            what = f"operator {name} asks to run programs outside of its box"
            faults.append(Fault(shown, line, what, "a step that uses container or process"))
        else:
            operators[name] = function
    return operators, faults


def _import(file: Path, shown: Path, text: bytes) -> tuple[ModuleType | None, Fault | None]:
    name = f"overread_site_{hashlib.sha256(str(file).encode()).hexdigest()[:16]}"
    loader = _Loader(name, str(file), text)
    spec = spec_from_loader(name, loader)
    assert spec is not None  # noqa: S101  (a loader was given)
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        loader.exec_module(module)
    except SyntaxError as error:
        return None, Fault(shown, error.lineno or 0, f"syntax error: {error.msg}", "valid Python")
    except (Exception, SystemExit) as error:  # noqa: BLE001  (a stranger's code; recorded as a fault)
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename == str(file)), 0) or 0
        what = f"cannot be imported: {type(error).__name__}: {error}"
        return None, Fault(shown, line, what, "a file that can be imported here")
    return module, None
