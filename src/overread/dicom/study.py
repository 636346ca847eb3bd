"""Views of what arrived: an instance, a series, an exam. Headers only; pixels stay in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydicom import Dataset, dcmread


@dataclass(frozen=True)
class Origin:
    """The association that an instance came by, as conditions may name it."""

    calling_ae_title: str = ""
    called_ae_title: str = ""
    peer_address: str = ""


@dataclass(frozen=True, eq=False)
class Instance:
    """One SOP instance.

    Attributes
    ----------
    header : Dataset
        Everything before PixelData.
    file : Path or None
        The PS3.10 file that holds it whole; none for one that is only described.
    origin : Origin
        The association it came by.
    """

    header: Dataset
    file: Path | None = None
    origin: Origin = Origin()

    @property
    def uid(self) -> str:
        """SOPInstanceUID."""
        return str(self.header.get("SOPInstanceUID", ""))

    def dataset(self) -> Dataset:
        """Read the whole object from its file.

        Raises
        ------
        FileNotFoundError
            The instance has no file, or it is gone.
        """
        if self.file is None:
            raise FileNotFoundError(f"instance {self.uid} has no file here")
        return dcmread(self.file)


@dataclass(frozen=True, eq=False)
class Series:
    """The instances of one Series, in the order they are to be read.

    Attributes
    ----------
    instances : tuple of Instance
        At least one.
    """

    instances: tuple[Instance, ...]

    def __post_init__(self) -> None:
        if not self.instances:
            raise ValueError("a series has at least one instance; none was given")

    def __len__(self) -> int:
        return len(self.instances)

    def __iter__(self) -> Iterator[Instance]:
        return iter(self.instances)

    @property
    def uid(self) -> str:
        """SeriesInstanceUID."""
        return str(self.header.get("SeriesInstanceUID", ""))

    @property
    def header(self) -> Dataset:
        """Header of the first instance, for what all of them share."""
        return self.instances[0].header


@dataclass(frozen=True, eq=False)
class Exam:
    """The instances that a job is given, or those of them that a step has chosen."""

    instances: tuple[Instance, ...]

    def __len__(self) -> int:
        return len(self.instances)

    def __iter__(self) -> Iterator[Instance]:
        return iter(self.instances)

    def series(self) -> list[Series]:
        """Group by SeriesInstanceUID, in order of first appearance."""
        return group_series(self.instances)


OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}
"""Sides of the patient, as PatientOrientation names them (PS3.3 C.7.6.1.1.1)."""


def toward(header: Dataset) -> tuple[str, str] | None:
    """Read towards which sides of the patient an image's columns and rows grow.

    Returns
    -------
    tuple of str or None
        First letters of PatientOrientation, such as ``L`` and ``F`` of an AP view as it is usually
        shown; none where the image does not say them.
    """
    value = header.get("PatientOrientation")
    letters = [str(one).strip()[:1].upper() for one in value] if value and len(value) == 2 else []
    known = all(one in OPPOSITE for one in letters)
    return (letters[0], letters[1]) if letters and known else None


def sides(header: Dataset) -> tuple[str, str] | None:
    """Read the patient's sides at the left and the right of an image off its PatientOrientation.

    Returns
    -------
    tuple of str or None
        One letter each, such as ``R`` and ``L``; none where the image does not say them.
    """
    known = toward(header)
    return (OPPOSITE[known[0]], known[0]) if known else None


def group_series(instances: Sequence[Instance]) -> list[Series]:
    """Group instances by SeriesInstanceUID, in order of first appearance."""
    groups: dict[str, list[Instance]] = {}
    for instance in instances:
        groups.setdefault(str(instance.header.get("SeriesInstanceUID", "")), []).append(instance)
    return [Series(tuple(group)) for group in groups.values()]


def day(value: str) -> date | None:
    """Read a DICOM date (DA), ``YYYYMMDD`` or as once ``YYYY.MM.DD``; none if it is not one."""
    found = re.fullmatch(r"([0-9]{4})(\.?)([0-9]{2})\2([0-9]{2})", value)
    try:
        return date(int(found[1]), int(found[3]), int(found[4])) if found else None
    except ValueError:
        return None
