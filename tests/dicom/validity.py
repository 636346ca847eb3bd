"""What an independent validator says of an object that we made: dciodvfy, of dicom3tools."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from overread.dicom.provenance import DerivedObject
from overread.dicom.study import Series


def errors(file: Path) -> list[str]:
    """The errors that dciodvfy finds in a file; it must know the IOD."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (package dicom3tools) is not installed")
    answer = subprocess.run([program, "-new", file], capture_output=True, text=True, check=False)
    lines = (answer.stdout + answer.stderr).splitlines()
    assert not any("Object Not found" in line for line in lines), "dciodvfy knows no such IOD"
    return [line for line in lines if line.startswith("Error")]


def attribute(error: str) -> str:
    """The attribute that an error is about: the last of its path."""
    found = re.findall(r"[A-Za-z]+\([0-9a-f]{4},[0-9a-f]{4}\)", error)
    return found[-1] if found else error


def inherited(ours: list[str], theirs: list[str]) -> tuple[list[str], list[str]]:
    """Part our errors into our own and those about attributes that the source has wrong as well."""
    known = {attribute(error) for error in theirs}
    return (
        [error for error in ours if attribute(error) not in known],
        [error for error in ours if attribute(error) in known],
    )


def validate(made: DerivedObject, folder: Path, source: Series | None = None) -> Dataset:
    """Write to a file, ask dciodvfy, read back.

    With a source, errors in attributes that are wrong in its first image too are not counted.
    """
    file = folder / "made.dcm"
    file.write_bytes(made.encode())
    found = errors(file)
    if source is not None and found:
        image = source.instances[0].file
        assert image is not None
        found, apart = inherited(found, errors(image))
        print(*apart, sep="\n")
    assert found == []
    return dcmread(file)
