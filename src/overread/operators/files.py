"""The files between steps: each port type as files of its field, in a folder of its own.

==================  ==============================================================================
port type           files beside ``port.json``
==================  ==============================================================================
Exam, Series        none: ``port.json`` names the files of the job's input, relative to the folder
Volume, Mask        ``image.nii`` (NIfTI-1, uncompressed, RAS millimetres)
Probability         ``image.nii``, the segments along the fifth axis (NIfTI's vector axis)
Images              ``image-0.npy``, … (float32; the rest of each stands in ``port.json``)
DerivedObject       ``object.dcm`` (PS3.10)
what is plain data  ``measurements.json``, ``detections.json``, ``classification.json``,
                    ``clinicalvalues.json``, ``description.json``
==================  ==============================================================================

``port.json`` says the type and what its files cannot: segments, unit, frame of reference, and the
affine in full precision (NIfTI keeps 32 bits of it).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from pydicom import dcmread

from overread.dicom.codes import Segment
from overread.dicom.description import Description
from overread.dicom.geometry import Affine
from overread.dicom.image import Image, Images
from overread.dicom.provenance import DerivedObject
from overread.dicom.study import Exam, Instance, Origin, Series
from overread.dicom.volume import Mask, Probability, Source, Volume
from overread.validation.results import (
    Classification,
    ClinicalValues,
    Detections,
    Measurements,
)

PORT = "port.json"
IMAGE = "image.nii"
PLAIN: dict[str, Any] = {
    kind.__name__: kind
    for kind in (Measurements, Detections, Classification, ClinicalValues, Description)
}
"""Port types that are plain data: ``to_json`` and ``from_json``."""

RESULTS: tuple[type, ...] = (Measurements, Detections, Classification, DerivedObject)
"""Port types that may be a job's results."""

OBJECT = "object.dcm"

LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

_NIFTI: Any = nibabel
"""Its annotations are partial, so it is taken as untyped."""

_SEGMENTS = TypeAdapter(tuple[Segment, ...])


def save(value: object, folder: Path) -> None:
    """Save what a step made. The same value gives the same bytes.

    Parameters
    ----------
    value : object
        Of one of the port types in the table above.
    folder : Path
        Made if absent.

    Raises
    ------
    TypeError
        No file is known for a value of this type.
    """
    folder.mkdir(parents=True, exist_ok=True)
    match value:
        case Exam() | Series():
            port: dict[str, Any] = {"instances": _name(value.instances, folder)}
        case Volume():
            _save_nifti(value.array, value.affine, folder / IMAGE)
            port = _grid(value) | {
                "unit": value.unit,
                "modality": value.modality,
            }
        case Mask():
            _save_nifti(value.array, value.affine, folder / IMAGE)
            port = _grid(value) | {
                "segments": [asdict(segment) for segment in value.segments],
                "model": value.model,
            }
        case Probability():
            _save_nifti(value.array, value.affine, folder / IMAGE)
            port = _grid(value) | {
                "segments": [asdict(segment) for segment in value.segments],
                "model": value.model,
                "threshold": value.threshold,
            }
        case Images():
            for index, image in enumerate(value):
                np.save(folder / f"image-{index}.npy", image.array)
            rest = [field.name for field in fields(Image) if field.name != "array"]
            port = {"images": [{key: getattr(one, key) for key in rest} for one in value]}
        case Measurements() | Detections() | Classification() | ClinicalValues() | Description():
            _write(folder / plain_file(type(value)), value.to_json())
            port = {}
        case DerivedObject():
            (folder / OBJECT).write_bytes(value.encode())
            port = {
                "kind": value.kind,
                "segments": [asdict(segment) for segment in value.segments],
                "sources": list(value.sources),
            }
        case _:
            raise TypeError(
                f"a step made a {type(value).__name__}; only Exam, Series, Volume, Mask, "
                f"Probability, Images, DerivedObject, {', '.join(PLAIN)} can be passed on"
            )
    # Last, so that a folder with a port.json is whole.
    _write(folder / PORT, {"type": type(value).__name__, **port})


def load(folder: Path) -> object:  # noqa: PLR0911, one return a port type
    """Load what `save` saved.

    Raises
    ------
    FileNotFoundError
        The folder has no ``port.json``, or a file that it names is gone.
    ValueError
        ``port.json`` names a type that is not known.
    """
    port = json.loads((folder / PORT).read_text(encoding="utf-8"))
    match port["type"]:
        case "Exam":
            return Exam(_find(port["instances"], folder))
        case "Series":
            return Series(_find(port["instances"], folder))
        case "Volume":
            return Volume(
                _load_nifti(folder / IMAGE),
                np.array(port["affine"]),
                port["frame_of_reference"],
                port["unit"],
                port["modality"],
                _source(port["source"]),
            )
        case "Mask":
            return Mask(
                _load_nifti(folder / IMAGE),
                np.array(port["affine"]),
                _SEGMENTS.validate_python(port["segments"]),
                port["frame_of_reference"],
                port["model"],
                _source(port["source"]),
            )
        case "Probability":
            return Probability(
                _load_nifti(folder / IMAGE),
                np.array(port["affine"]),
                _SEGMENTS.validate_python(port["segments"]),
                port["frame_of_reference"],
                port["model"],
                _source(port["source"]),
                port["threshold"],
            )
        case "Images":
            return Images(
                tuple(
                    _image(rest, np.load(folder / f"image-{index}.npy"))
                    for index, rest in enumerate(port["images"])
                )
            )
        case kind if kind in PLAIN:
            data = json.loads((folder / plain_file(PLAIN[kind])).read_text(encoding="utf-8"))
            return PLAIN[kind].from_json(data)
        case "DerivedObject":
            return DerivedObject(
                dcmread(folder / OBJECT),
                port["kind"],
                _SEGMENTS.validate_python(port["segments"]),
                tuple(port["sources"]),
            )
        case kind:
            raise ValueError(f"{folder / PORT} names the type {kind!r}, which is not known")


def _image(rest: dict[str, Any], array: NDArray[np.float32]) -> Image:
    pairs = {name: rest[name] and tuple(rest[name]) for name in ("spacing", "toward")}
    return Image(array, **{**rest, **pairs})


def plain_file(kind: type) -> str:
    """Name of the file of a port type that is plain data."""
    return f"{kind.__name__.lower()}.json"


def _grid(value: Volume | Mask | Probability) -> dict[str, Any]:
    source = value.source
    return {
        "affine": value.affine.tolist(),
        "frame_of_reference": value.frame_of_reference,
        "source": source
        and {
            "shape": source.shape,
            "affine": source.affine.tolist(),
            "frame_of_reference": source.frame_of_reference,
            "back": source.back.tolist(),
            "planes": source.planes,
        },
    }


def _source(data: dict[str, Any] | None) -> Source | None:
    if data is None:
        return None
    slices, rows, columns = data["shape"]
    return Source(
        (slices, rows, columns),
        np.array(data["affine"]),
        data["frame_of_reference"],
        np.array(data["back"]),
        tuple((uid, frame) for uid, frame in data["planes"]),
    )


def _write(file: Path, data: dict[str, Any]) -> None:
    file.write_text(json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False), "utf-8")


def _name(instances: Sequence[Instance], folder: Path) -> list[dict[str, Any]]:
    listed = []
    for instance in instances:
        if instance.file is None:
            raise FileNotFoundError(f"instance {instance.uid} has no file here")
        relative = os.path.relpath(instance.file.resolve(), folder.resolve())
        listed.append({"file": relative, "origin": asdict(instance.origin)})
    return listed


def _find(listed: Sequence[dict[str, Any]], folder: Path) -> tuple[Instance, ...]:
    found = []
    for entry in listed:
        file = (folder / entry["file"]).resolve()
        header = dcmread(file, stop_before_pixels=True, force=True)
        found.append(Instance(header, file, Origin(**entry["origin"])))
    return tuple(found)


def to_ras(affine: Affine) -> Affine:
    """Turn an affine of (slice, row, column) to LPS into one of (column, row, slice) to RAS."""
    return np.asarray(LPS_RAS @ affine[:, [2, 1, 0, 3]])


def _save_nifti(array: NDArray[Any], affine: Affine, file: Path) -> None:
    ras = to_ras(affine)
    turned = array.T if array.ndim == 3 else array.transpose(3, 2, 1, 0)[:, :, :, None]
    image = _NIFTI.Nifti1Image(turned, ras, dtype=array.dtype)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(ras, code=1)
    image.set_qform(ras, code=1)
    _NIFTI.save(image, file)


def _load_nifti(file: Path) -> NDArray[Any]:
    image = _NIFTI.load(file, mmap=False)
    array = np.asarray(image.dataobj, dtype=image.get_data_dtype().newbyteorder("="))
    return array.T if array.ndim == 3 else array[:, :, :, 0].transpose(3, 2, 1, 0)
