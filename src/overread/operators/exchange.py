"""What a program outside is given, and what it leaves: ``in/``, ``params.json``, ``out/``.

Nothing that it leaves is believed: every value is read as what it was to be, its grid compared with
that of the input, its images and patients with those that it was given.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray
from pydantic import ValidationError
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from overread.dicom.codes import Segment
from overread.dicom.geometry import Affine, lay_out
from overread.dicom.image import Images
from overread.dicom.provenance import DerivedObject, derive_uid
from overread.dicom.seg import read_seg
from overread.dicom.study import Exam, Instance, Series
from overread.dicom.volume import Mask, Probability, Source, Volume
from overread.errors import GeometryError, Refused, StepFailed
from overread.operators import files
from overread.pipelines.ports import Context
from overread.validation.results import Classification, Detections, Measurements

IN, OUT, PARAMETERS = "in", "out", "params.json"
"""Names in the folder that is exchanged."""

SAME_PLACE_MM = 0.1
"""How far a corner of what a program made may lie from the same corner of the input: above what
NIfTI's 32 bits round away, far below a voxel."""

_TEXT_BYTES = 64 << 20
_NIFTI: Any = nibabel
"""Its annotations are partial, so it is taken as untyped."""

_DICOM_KINDS = {
    "SEG": "segmentation",
    "RTSTRUCT": "structures",
    "SR": "report",
    "DOC": "document",
    "M3D": "mesh",
    "PR": "presentation",
}
"""Modality of what a program made, and the kind of result that it is."""


@dataclass(frozen=True)
class Wanted:
    """What a program is to make.

    Attributes
    ----------
    kind : type
        The port type.
    segments : tuple of Segment
        What a mask's values stand for; as a Segmentation or ``port.json`` says where empty.
    unit : str
        UCUM unit of a volume's values.
    file : str
        A pattern that finds the one file; empty for the only one there is.
    own_grid : bool
        Whether it may lie on other voxels than an input's.
    """

    kind: type
    segments: tuple[Segment, ...] = ()
    unit: str = "1"
    file: str = ""
    own_grid: bool = False


def lay_in(
    inputs: Mapping[str, object],
    parameters: Mapping[str, Any] | None,
    folder: Path,
    *,
    as_map: bool = False,
) -> None:
    """Lay out what a program is given.

    Parameters
    ----------
    inputs : mapping
        Port to what it takes.
    parameters : mapping, optional
        Plain data.
    folder : Path
        Gets ``in/PORT/…`` and ``params.json``.
    as_map : bool
        Only DICOM files, as a MONAI Application Package takes them.

    Raises
    ------
    StepFailed
        A MONAI Application Package is given something that is no DICOM.
    """
    (folder / IN).mkdir()
    for port, value in inputs.items():
        place = folder / IN / port
        place.mkdir()
        if isinstance(value, Exam | Series):
            value = type(value)(tuple(_handed(value.instances, place)))
        elif as_map:
            raise StepFailed(
                f"input {port} is a {type(value).__name__}; a MONAI Application Package takes "
                "DICOM: a series, or the exam"
            )
        if not as_map:
            files.save(value, place)
    (folder / PARAMETERS).write_text(json.dumps(parameters or {}, sort_keys=True), "utf-8")


def _handed(instances: Sequence[Instance], place: Path) -> Iterator[Instance]:
    """Put DICOM files into a folder, as a program outside reads them from one place."""
    for number, instance in enumerate(instances, start=1):
        if instance.file is None:
            raise FileNotFoundError(f"instance {instance.uid} has no file here")
        file = place / f"{number:05}.dcm"
        try:
            os.link(instance.file, file)
        except OSError:  # another file system, or one without links
            shutil.copyfile(instance.file, file)
        yield Instance(instance.header, file)


def take(
    out: Path, wanted: Wanted, inputs: Mapping[str, object], context: Context, *, model: str
) -> object:
    """Read what a program made.

    Parameters
    ----------
    out : Path
        The folder it wrote to; nothing but folders and plain files is in it.
    wanted : Wanted
        What it was to make.
    inputs : mapping
        What it was given.
    context : Context
        The facts of the job.
    model : str
        What made it, as ``name@version``.

    Returns
    -------
    object
        Of the type that was wanted.

    Raises
    ------
    StepFailed
        It is not what it was to be, with numbers.
    """
    name = wanted.kind.__name__
    try:
        made = _read(out, wanted, inputs, context)
    except (ValidationError, InvalidDicomError, ImageFileError, Refused) as error:
        raise StepFailed(f"what is in /out is no {name}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        what = f"{type(error).__name__}: {error}"
        raise StepFailed(f"what is in /out is no {name} that can be read: {what}") from error
    _check_images(made, inputs)
    if isinstance(made, Mask | Probability | Detections | Classification):
        return replace(made, model=model)
    return made


def _read(out: Path, wanted: Wanted, inputs: Mapping[str, object], context: Context) -> object:
    name = wanted.kind.__name__
    if (out / files.PORT).exists() and not wanted.file:
        said = json.loads(_text(out / files.PORT)).get("type")
        if said != name:
            raise StepFailed(f"/out/{files.PORT} says {said!r}; a {name} was to be made")
        if wanted.kind is not DerivedObject:
            made = files.load(out)
            return _placed(made, wanted, inputs) if isinstance(made, _ON_GRID) else _finite(made)
    if name in files.PLAIN:
        file = _one(out, wanted.file or files.plain_file(wanted.kind))
        return _finite(files.PLAIN[name].from_json(json.loads(_text(file))))
    if wanted.kind is DerivedObject:
        return _dicom(_one(out, wanted.file or "**/*.dcm"), inputs, context)
    if wanted.kind not in (Volume, Mask):
        raise StepFailed(f"/out has no {files.PORT}; a {name} is not known without it")
    patterns = [wanted.file] if wanted.file else ["**/*.nii", "**/*.nii.gz"]
    if wanted.kind is Mask and not wanted.file:
        patterns.append("**/*.dcm")
    file = _one(out, *patterns)
    if file.suffix == ".dcm":
        dataset = dcmread(file)
        return read_seg(dataset, _checked(dataset, inputs))
    return _placed(_nifti(file, wanted, _grids(inputs)), wanted, inputs)


def _one(out: Path, *patterns: str) -> Path:
    """Find the one file that is meant."""
    found = sorted({file for pattern in patterns for file in out.glob(pattern) if file.is_file()})
    if len(found) != 1:
        there = sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
        shown = ", ".join(there[:10]) or "nothing"
        raise StepFailed(
            f"/out has {len(found)} files {' or '.join(patterns)}; one was expected; "
            f"there is {shown}"
        )
    return found[0]


def _text(file: Path) -> str:
    if file.stat().st_size > _TEXT_BYTES:
        raise StepFailed(f"{file.name} has {file.stat().st_size} bytes; at most {_TEXT_BYTES}")
    return file.read_text(encoding="utf-8")


def _finite(made: object) -> object:
    """Refuse numbers that are none, which JSON can hold as Python reads it."""
    numbers: list[tuple[str, float]] = []
    if isinstance(made, Measurements):
        numbers = [(f"{item.quantity} of {item.region}", item.value) for item in made.items]
    elif isinstance(made, Detections):
        numbers = [(item.id, one) for item in made for one in (item.score, *item.box)]
    elif isinstance(made, Classification):
        numbers = [(one.label, number) for one in made for number in one.probabilities.values()]
    for what, number in numbers:
        if not math.isfinite(number):
            raise StepFailed(f"{what} is {number}; a number was expected")
    return made


# Grids


@dataclass(frozen=True)
class _Grid:
    """The voxels of an input."""

    port: str
    shape: tuple[int, ...]
    affine: Affine
    frame_of_reference: str
    source: Source | None = None
    modality: str = ""


_ON_GRID = (Volume, Mask, Probability)


def _grids(inputs: Mapping[str, object]) -> list[_Grid]:
    """List the grids of the inputs that have one, in the order of the ports."""
    found = []
    for port, value in inputs.items():
        if isinstance(value, _ON_GRID):
            modality = value.modality if isinstance(value, Volume) else ""
            shape = value.array.shape[-3:]
            found.append(
                _Grid(port, shape, value.affine, value.frame_of_reference, value.source, modality)
            )
        elif isinstance(value, Series):
            try:
                grid = lay_out(value)
            except GeometryError:  # no volume: what is made of it cannot be one either
                continue
            header = value.header
            frame = str(header.get("FrameOfReferenceUID", ""))
            modality = str(header.get("Modality", ""))
            found.append(_Grid(port, grid.shape, grid.affine, frame, None, modality))
    return found


def _nifti(file: Path, wanted: Wanted, grids: list[_Grid]) -> Volume | Mask:
    """Read a plain NIfTI file; its pixels only if there can be no more of them than were given."""
    image = _NIFTI.load(file, mmap=False)
    shape = tuple(size for at, size in enumerate(image.shape) if at < 3 or size != 1)
    if len(shape) != 3:
        raise StepFailed(f"{file.name} has the shape {image.shape}; a volume has three axes")
    if not wanted.own_grid and not any(sorted(shape) == sorted(grid.shape) for grid in grids):
        there = "; ".join(f"{grid.port} has {grid.shape}" for grid in grids) or "no input has any"
        raise StepFailed(f"{file.name} has {shape[::-1]} voxels, as no input has: {there}")
    affine = np.asarray(files.LPS_RAS @ image.affine, dtype=float)[:, [2, 1, 0, 3]]
    if not np.isfinite(affine).all():
        raise StepFailed(f"{file.name} does not say where it lies: its affine is {affine.tolist()}")
    values = np.asarray(image.dataobj).reshape(shape).T
    if not np.isfinite(values).all():
        raise StepFailed(f"{file.name} holds {(~np.isfinite(values)).sum()} values that are none")
    if wanted.kind is Volume:
        return Volume(values.astype(np.float32), affine, unit=wanted.unit)
    low, high = values.min(initial=0), values.max(initial=0)
    if low < 0 or high > np.iinfo(np.uint16).max or (values != np.rint(values)).any():
        raise StepFailed(
            f"{file.name} holds values from {low:g} to {high:g}, not all of them whole; a mask "
            "holds whole numbers from 0 to 65535"
        )
    if not wanted.segments:
        raise StepFailed("nothing says what the mask's values stand for; give the step `segments`")
    return Mask(values.astype(np.uint8 if high < 256 else np.uint16), affine, wanted.segments)


def _placed(
    made: Volume | Mask | Probability, wanted: Wanted, inputs: Mapping[str, object]
) -> Volume | Mask | Probability:
    """Put what was made on the voxels of the input that it lies on, by turning axes only."""
    if wanted.segments and isinstance(made, Mask):
        made = replace(made, segments=wanted.segments)
    grids = _grids(inputs)
    misses = []
    for grid in grids:
        array, miss = _onto(made.array, made.affine, grid)
        if array is not None:
            return _at(made, array, grid.affine, grid, grid.source)
        misses.append(f"{miss} of {grid.port}")
    if not wanted.own_grid:
        lies = "; ".join(misses) or "but no input has a grid"
        raise StepFailed(f"what was made does not lie on the voxels of an input: {lies}")
    if not grids:
        return made
    first = grids[0]
    slices, rows, columns = first.shape
    own = first.source or Source((slices, rows, columns), first.affine, first.frame_of_reference)
    return _at(made, made.array, made.affine, first, own)


def _at(  # noqa: PLR0917
    made: Volume | Mask | Probability,
    array: NDArray[Any],
    affine: Affine,
    grid: _Grid,
    source: Source | None,
) -> Volume | Mask | Probability:
    place = {"frame_of_reference": grid.frame_of_reference, "source": source}
    if isinstance(made, Volume):
        modality = made.modality or grid.modality
        return replace(made, array=array, affine=affine, modality=modality, **place)
    return replace(made, array=array, affine=affine, **place)


def _onto(array: NDArray[Any], affine: Affine, grid: _Grid) -> tuple[NDArray[Any] | None, str]:
    """Turn an array so that its axes run as those of a grid.

    Returns
    -------
    ndarray or None
        None where its voxels are not the grid's.
    str
        How it misses the grid, in words.
    """
    step = np.linalg.inv(grid.affine) @ affine
    turn = np.rint(step[:3, :3])
    if (abs(turn).sum(axis=0) != 1).any() or (abs(turn).sum(axis=1) != 1).any():
        return None, "its voxels have another size or direction than those"
    axes = [int(np.argmax(abs(turn[axis]))) for axis in range(3)]
    shape = array.shape[-3:]
    if tuple(shape[axis] for axis in axes) != tuple(grid.shape):
        return None, f"its shape {shape} is not the {tuple(grid.shape)}"
    back = turn.sum(axis=1) < 0
    exact = np.eye(4)
    exact[:3, :3] = turn
    exact[:3, 3] = np.where(back, np.array(grid.shape) - 1, 0)
    corners = np.array([[*at, 1] for at in product(*((0, size - 1) for size in shape))]).T
    away = np.linalg.norm(((affine - grid.affine @ exact) @ corners)[:3], axis=0).max()
    if away > SAME_PLACE_MM:
        return None, f"a corner lies {away:.2f} mm from that"
    leading = list(range(array.ndim - 3))
    turned = array.transpose(*leading, *(axis + len(leading) for axis in axes))
    flipped = np.flip(turned, [at + len(leading) for at in range(3) if back[at]])
    return np.ascontiguousarray(flipped), ""


# Images and patients


def _instances(inputs: Mapping[str, object]) -> list[Instance]:
    return [
        one
        for value in inputs.values()
        if isinstance(value, Exam | Series)
        for one in value.instances
    ]


def _check_images(made: object, inputs: Mapping[str, object]) -> None:
    """Refuse what is said of images that the program was not given."""
    given = {one.uid for one in _instances(inputs)}
    given |= {one.uid for value in inputs.values() if isinstance(value, Images) for one in value}
    if isinstance(made, Images):
        said = {one.uid for one in made}
    elif isinstance(made, Detections | Classification):
        said = {one.image for one in made} | set(made.images)
    else:
        return
    foreign = sorted(said - given - {""})
    if foreign:
        raise StepFailed(f"something is said of image {foreign[0]}, which the step was not given")


def _checked(dataset: Dataset, inputs: Mapping[str, object]) -> Series:
    """Return the series that a DICOM object belongs to, of the same patient and study.

    Raises
    ------
    StepFailed
        There is none.
    """
    series = [
        one
        for value in inputs.values()
        for one in ([value] if isinstance(value, Series) else [])
        + (value.series() if isinstance(value, Exam) else [])
    ]
    identity = ("PatientID", "StudyInstanceUID")
    of = [str(dataset.get(keyword) or "") for keyword in identity]
    same = [one for one in series if [str(one.header.get(key) or "") for key in identity] == of]
    if not same:
        raise StepFailed(
            "the DICOM object that was made is of another patient or study than the inputs "
            f"(study {of[1] or 'unnamed'}); it is not kept"
        )
    referenced = {
        str(item.get("SeriesInstanceUID")) for item in dataset.get("ReferencedSeriesSequence", [])
    }
    return next((one for one in same if one.uid in referenced), same[0])


def _dicom(file: Path, inputs: Mapping[str, object], context: Context) -> DerivedObject:
    """Take a DICOM object as a result, under a UID of our own.

    A program makes its UIDs at random. Those of the object and of its series become derived ones:
    of the job, the step and the content, so that the same content has the same UID, and other
    content another.
    """
    dataset = dcmread(file)
    source = _checked(dataset, inputs)
    given = {one.uid for one in _instances(inputs)}
    if "SOPClassUID" not in dataset or str(dataset.get("SOPInstanceUID", "")) in ("", *given):
        raise StepFailed(f"{file.name} is an image that the step was given, or no object at all")
    kind = _DICOM_KINDS.get(str(dataset.get("Modality", "")), "image")
    segments: tuple[Segment, ...] = ()
    if kind == "segmentation" and str(dataset.get("SegmentationType")) != "LABELMAP":
        segments = read_seg(dataset, source).segments
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    names = (context.job, context.step)
    dataset.SeriesInstanceUID = derive_uid(*names, digest, "series")
    dataset.SOPInstanceUID = derive_uid(*names, digest, "instance")
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    referenced = _referenced(dataset) & given
    return DerivedObject(
        dataset, kind, segments, tuple(sorted(referenced or {one.uid for one in source}))
    )


def _referenced(dataset: Dataset) -> set[str]:
    """Every SOP Instance UID that an object refers to, at any depth."""
    found: set[str] = set()
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                found |= _referenced(item)
        elif element.keyword == "ReferencedSOPInstanceUID":
            found.add(str(element.value))
    return found
