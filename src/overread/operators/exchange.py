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
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from pydantic import ValidationError
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from overread.dicom.codes import Segment
from overread.dicom.image import Images
from overread.dicom.provenance import DerivedObject, derive_uid
from overread.dicom.seg import read_seg
from overread.dicom.study import Exam, Instance, Series
from overread.dicom.volume import Mask, Probability, Volume
from overread.errors import GeometryError, Refused, StepFailed
from overread.operators import files
from overread.operators.detect import ROUNDING
from overread.operators.exchange_grids import Grid, OnGrid, grids, place
from overread.pipelines.ports import Context
from overread.validation.results import Classification, Detections, Measurements

IN, OUT, PARAMETERS = "in", "out", "params.json"
"""Names in the folder that is exchanged."""

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


_NEEDED = ("PatientID", "StudyInstanceUID")
_WHOSE = (*_NEEDED, "IssuerOfPatientID", "PatientName", "PatientBirthDate", "AccessionNumber")
"""What an object must have in common with the images that it was made of."""


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
        here = folder / IN / port
        here.mkdir()
        handed = value
        if isinstance(value, Exam | Series):
            handed = type(value)(tuple(_handed(value.instances, here)))
        elif as_map:
            raise StepFailed(
                f"input {port} is a {type(value).__name__}; a MONAI Application Package takes "
                "DICOM: a series, or the exam"
            )
        if not as_map:
            files.save(handed, here)
    (folder / PARAMETERS).write_text(json.dumps(parameters or {}, sort_keys=True), "utf-8")


def _handed(instances: Sequence[Instance], here: Path) -> Iterator[Instance]:
    """Put DICOM files into a folder, as a program outside reads them from one place."""
    for number, instance in enumerate(instances, start=1):
        if instance.file is None:
            raise FileNotFoundError(f"instance {instance.uid} has no file here")
        file = here / f"{number:05}.dcm"
        try:
            os.link(instance.file, file)
        except OSError:  # another file system, or one without links
            shutil.copyfile(instance.file, file)
        yield Instance(instance.header, file)


def take(
    out: Path, wanted: Wanted, inputs: Mapping[str, object], context: Context, *, model: str
) -> Any:
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
    except GeometryError:  # of the exam's own images
        raise
    except (ValidationError, InvalidDicomError, ImageFileError, Refused) as error:
        raise StepFailed(_told(f"what is in /out is no {name}: {error}", out)) from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        what = f"{type(error).__name__}: {error}"
        raise StepFailed(
            _told(f"what is in /out is no {name} that can be read: {what}", out)
        ) from error
    _check_images(made, inputs)
    if isinstance(made, Mask | Probability | Detections | Classification):
        return replace(made, model=model)
    return made


def _told(message: str, out: Path) -> str:
    """Name the folder as the program knows it."""
    return message.replace(str(out), f"/{OUT}")


def _read(out: Path, wanted: Wanted, inputs: Mapping[str, object], context: Context) -> object:
    name = wanted.kind.__name__
    if (out / files.PORT).exists() and not wanted.file:
        said = json.loads(_text(out / files.PORT)).get("type")
        if said != name:
            raise StepFailed(f"/out/{files.PORT} says {said!r}; a {name} was to be made")
        if wanted.kind is not DerivedObject:
            made = files.load(out)
            if isinstance(made, Volume | Mask | Probability):
                return _placed(made, wanted, grids(inputs))
            return _finite(made)
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
    there = grids(inputs)
    return _placed(_nifti(file, wanted, there), wanted, there)


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


def _nifti(file: Path, wanted: Wanted, there: list[Grid]) -> Volume | Mask:
    """Read a plain NIfTI file; its pixels only if there can be no more of them than were given."""
    image = _NIFTI.load(file, mmap=False)
    shape = tuple(size for at, size in enumerate(image.shape) if at < 3 or size != 1)
    if len(shape) != 3:
        raise StepFailed(f"{file.name} has the shape {image.shape}; a volume has three axes")
    if not wanted.own_grid and not any(sorted(shape) == sorted(grid.shape) for grid in there):
        has = "; ".join(f"{grid.port} has {grid.shape}" for grid in there) or "no input has any"
        raise StepFailed(f"{file.name} has {shape[::-1]} voxels, as no input has: {has}")
    affine = np.asarray(files.LPS_RAS @ image.affine, dtype=float)[:, [2, 1, 0, 3]]
    if not np.isfinite(affine).all():
        raise StepFailed(f"{file.name} does not say where it lies: its affine is {affine.tolist()}")
    values = np.asarray(image.dataobj).reshape(shape).T
    if not np.isfinite(values).all():
        raise StepFailed(f"{file.name} holds {(~np.isfinite(values)).sum()} values that are none")
    if wanted.kind is Volume:
        return Volume(values.astype(np.float32), affine, unit=wanted.unit)
    low, high = values.min(), values.max()
    if low < 0 or high > np.iinfo(np.uint16).max or (values != np.rint(values)).any():
        raise StepFailed(
            f"{file.name} holds values from {low:g} to {high:g}, not all of them whole; a mask "
            "holds whole numbers from 0 to 65535"
        )
    if not wanted.segments:
        raise StepFailed("nothing says what the mask's values stand for; give the step `segments`")
    return Mask(values.astype(np.uint8 if high < 256 else np.uint16), affine, wanted.segments)


def _placed(made: OnGrid, wanted: Wanted, there: list[Grid]) -> OnGrid:
    low, high = float(made.array.min()), float(made.array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise StepFailed("it holds values that are no numbers")
    if isinstance(made, Probability) and not -ROUNDING <= low <= high <= 1 + ROUNDING:
        raise StepFailed(f"its probabilities lie from {low:.3g} to {high:.3g}; expected 0 to 1")
    if isinstance(made, Mask) and wanted.segments:
        made = replace(made, segments=wanted.segments)
    return place(made, there, own_grid=wanted.own_grid)


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
    same = [one for one in series if all(_agree(dataset, one.header, key) for key in _WHOSE)]
    if not same:
        study = dataset.get("StudyInstanceUID") or "unnamed"
        raise StepFailed(
            "the DICOM object that was made is of another patient or study than the inputs "
            f"(study {study}); it is not kept"
        )
    _check_references(dataset, inputs)
    referenced = {
        str(item.get("SeriesInstanceUID")) for item in dataset.get("ReferencedSeriesSequence", [])
    }
    found = next((one for one in same if one.uid in referenced), None if referenced else same[0])
    if found is None:
        raise StepFailed(
            f"the DICOM object that was made refers to series {min(referenced)}, which the step "
            "was not given"
        )
    return found


def _agree(made: Dataset, given: Dataset, keyword: str) -> bool:
    """Say whether an object names the same as an image; a name may be left out, a UID or ID not."""
    mine, theirs = (str(one.get(keyword) or "").strip().rstrip("^=") for one in (made, given))
    return mine == theirs or (not mine and keyword not in _NEEDED)


def _check_references(dataset: Dataset, inputs: Mapping[str, object]) -> None:
    """Refuse an object that refers to others than the step was given, or than those refer to."""
    made = [one for one in inputs.values() if isinstance(one, DerivedObject)]
    known = {one.uid for one in _instances(inputs)} | {one.uid for one in made}
    foreign = _referenced(dataset) - known
    if foreign:
        headers = [one.header for one in _instances(inputs)] + [one.dataset for one in made]
        foreign -= set().union(*map(_referenced, headers))
    if foreign:
        raise StepFailed(
            f"the DICOM object that was made refers to object {min(foreign)}, which the step was "
            "not given"
        )


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
