"""Gather what is known of training images, of whatever files they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from overread.dicom.orientation import normals
from overread.dicom.selection import name as name_of
from overread.dicom.study import Exam, Instance, Series, group_series
from overread.dicom.volume import Volume, read_volume
from overread.errors import Refused, UsageError
from overread.operators.check_input import facts_of_image, facts_of_volume
from overread.operators.image import read_image
from overread.pipelines.envelope import Facts
from overread.pipelines.ports import Account
from overread.simulator import images as research

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Sample:
    """One training volume or image that is to be looked at.

    Attributes
    ----------
    name : str
        The file, or the folder and the series.
    facts : callable
        Reads it and gathers what is known of it; more than one where it is several images.
    """

    name: str
    facts: Callable[[], list[Facts]]


def samples(
    paths: Sequence[Path], pattern: str, modality: str, spacing: Spacing | None
) -> list[Sample]:
    """List the training images below folders: NIfTI and NRRD files, and DICOM series.

    Parameters
    ----------
    paths : sequence of Path
        Folders that are looked through, or files.
    pattern : str
        What a file's name must match, with ``*`` and ``?``.
    modality : str
        Of the images that do not say it: NIfTI and NRRD.
    spacing : tuple of float, optional
        Between slices, rows and columns of NIfTI and NRRD images whose own was lost.

    Raises
    ------
    UsageError
        There are none, or a research format is there and no modality is given.
    """
    found: list[Sample] = []
    instances: list[Instance] = []
    for file in _files(paths, pattern):
        if research.is_image(file):
            if not modality:
                raise UsageError(f"{file} does not say its modality; --modality MR (or another)")
            found.append(_of_file(file, modality, spacing))
        elif (header := _header(file)) is not None:
            instances.append(header)
    found += [_of_series(series) for series in group_series(instances)]
    if not found:
        listed = ", ".join(map(str, paths))
        raise UsageError(f"there is no NIfTI, NRRD or DICOM image {pattern} below {listed}")
    return found


def _files(paths: Sequence[Path], pattern: str) -> Iterator[Path]:
    for path in paths:
        if not path.exists():
            raise UsageError(f"there is no file or folder {path}")
        if path.is_file():
            yield path
        else:
            yield from sorted(one for one in path.rglob(pattern) if one.is_file())


def _header(file: Path) -> Instance | None:
    try:
        header = dcmread(file, stop_before_pixels=True)
    except (InvalidDicomError, OSError, EOFError, ValueError, AttributeError):
        return None
    return Instance(header, file) if header.get("Rows") else None


def _of_file(file: Path, modality: str, spacing: Spacing | None) -> Sample:
    def facts() -> list[Facts]:
        volume = replace(research.read_image(file), modality=modality)
        return [facts_of_volume(_spaced(volume, spacing))]

    return Sample(str(file), facts)


def _spaced(volume: Volume, spacing: Spacing | None) -> Volume:
    if spacing is None:
        return volume
    affine = volume.affine.copy()
    affine[:3, :3] *= np.array(spacing) / np.linalg.norm(affine[:3, :3], axis=0)
    return replace(volume, affine=affine)


def _of_series(series: Series) -> Sample:
    projection = any(normal is None for one in series for normal in normals(one))

    def facts() -> list[Facts]:
        if not projection:
            return [facts_of_volume(read_volume(series), series)]
        read = read_image(Exam(series.instances), Account(), _silent)
        headers = {one.uid: one for one in series}
        return [facts_of_image(image, headers[image.uid]) for image in read]

    folder = series.instances[0].file
    return Sample(f"{folder.parent if folder else '?'}: {name_of(series)}", facts)


def _silent(done: int, of: int, what: str) -> None:
    """One image among many is not told."""


def gather(
    listed: Sequence[Sample], told: Callable[[str], None]
) -> tuple[list[Facts], list[tuple[str, str]]]:
    """Look at the samples, one by one.

    Parameters
    ----------
    listed : sequence of Sample
        What to look at.
    told : callable
        Called with the name of each when it is done.

    Returns
    -------
    list of Facts
        What is known of those that could be read.
    list of (str, str)
        Those that could not, and why.
    """
    known: list[Facts] = []
    unread: list[tuple[str, str]] = []
    for sample in listed:
        try:
            known += sample.facts()
        except (Refused, UsageError) as error:
            unread.append((sample.name, str(error)))
        told(sample.name)
    return known, unread
