"""Small DICOM series, made for tests: any grid, any order, MR or CT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openjpeg.utils import encode_array
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
)
from scipy.spatial.transform import Rotation

from overread.dicom.codes import Code, Segment
from overread.dicom.provenance import derive_uid
from overread.dicom.study import Instance, Series

LESION = Segment(
    1,
    "Enhancing tumour",
    Code("49755003", "SCT", "Morphologically Abnormal Structure"),
    Code("108369006", "SCT", "Neoplasm"),
    Code("12738006", "SCT", "Brain"),
    (230, 60, 60),
)


def affine(
    spacing: Sequence[float] = (5.0, 0.9, 0.9),
    turned: Sequence[float] = (0.0, 0.0, 0.0),
    origin: Sequence[float] = (-100.0, -120.0, 30.0),
) -> NDArray[np.float64]:
    """An affine of an axial stack, turned by angles (degrees) about x, y and z."""
    axes = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=float).T
    made = np.eye(4)
    made[:3, :3] = Rotation.from_euler("xyz", turned, degrees=True).as_matrix() @ axes * spacing
    made[:3, 3] = origin
    return made


def images(
    array: NDArray[Any],
    grid: NDArray[np.float64],
    *,
    modality: str = "MR",
    name: str = "one",
    edit: Callable[[int, Dataset], object] | None = None,
) -> list[Dataset]:
    """Whole datasets of the slices of an int16 array, in order."""
    made = []
    for index in range(array.shape[0]):
        one = _image(array[index], grid, index, modality, name)
        if edit:
            edit(index, one)
        made.append(one)
    return made


def _image(
    pixels: NDArray[Any], grid: NDArray[np.float64], index: int, modality: str, name: str
) -> Dataset:
    one = Dataset()
    one.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    one.SOPInstanceUID = derive_uid(name, "instance", str(index))
    one.StudyInstanceUID = derive_uid(name, "study")
    one.SeriesInstanceUID = derive_uid(name, "series")
    one.FrameOfReferenceUID = derive_uid(name, "frame")
    one.SpecificCharacterSet = "ISO_IR 100"
    one.PatientName = "Müller^Jane"
    one.PatientID = "TEST-1"
    one.PatientBirthDate = "19700101"
    one.PatientSex = "F"
    one.StudyDate, one.StudyTime = "20260715", "101112"
    one.SeriesDate, one.SeriesTime = "20260715", "101500"
    one.AcquisitionDate, one.AcquisitionTime = "20260715", "101512"
    one.ContentDate, one.ContentTime = "20260715", "101512"
    one.StudyID, one.AccessionNumber = "S1", "A1"
    one.ReferringPhysicianName = ""
    one.StudyDescription = "MR BRAIN NAV"
    one.SeriesDescription = "T1 AX POST"
    one.SeriesNumber, one.InstanceNumber = 5, index + 1
    one.Modality = modality
    one.Manufacturer, one.ManufacturerModelName = "Test", "Maker"
    one.DeviceSerialNumber, one.SoftwareVersions = "1", "1"
    one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    place = grid @ [index, 0, 0, 1]
    spacing = np.linalg.norm(grid[:3, :3], axis=0)
    one.ImagePositionPatient = [f"{value:.9f}"[:16] for value in place[:3]]
    directions = np.concatenate([grid[:3, 2] / spacing[2], grid[:3, 1] / spacing[1]])
    one.ImageOrientationPatient = [f"{value:.12f}"[:16] for value in directions]
    one.PixelSpacing = [f"{spacing[1]:.10f}"[:16], f"{spacing[2]:.10f}"[:16]]
    one.SliceThickness = "3"
    one.Rows, one.Columns = pixels.shape
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
    one.PixelRepresentation = 1
    if modality == "CT":
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = "1", "0", "HU"
    one.PixelData = np.ascontiguousarray(pixels, dtype="<i2").tobytes()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return one


def keep(
    datasets: Sequence[Dataset],
    folder: Path,
    *,
    order: Sequence[int] | None = None,
    jpeg2000: bool = False,
) -> Series:
    """Write datasets to files and read their headers back, in the order given."""
    folder.mkdir(parents=True, exist_ok=True)
    instances = []
    for index in range(len(datasets)) if order is None else order:
        one = datasets[index]
        if jpeg2000:
            pixels = np.frombuffer(one.PixelData, "<i2").reshape(one.Rows, one.Columns)
            one.PixelData = encapsulate([encode_array(pixels, 16)])
            one["PixelData"].VR = "OB"
            one.file_meta.TransferSyntaxUID = JPEG2000Lossless
        file = folder / f"{index:04d}.dcm"
        one.save_as(file, enforce_file_format=True)
        instances.append(Instance(dcmread(file, stop_before_pixels=True), file))
    return Series(tuple(instances))


def read(folder: Path, pattern: str = "*") -> Series:
    """Read the files of a folder as one series, sorted by name."""
    files = sorted(file for file in folder.glob(pattern) if file.is_file())
    return Series(tuple(Instance(dcmread(file, stop_before_pixels=True), file) for file in files))


def ball(shape: tuple[int, int, int], radius: float = 0.3) -> NDArray[np.bool_]:
    """An ellipsoid, off the middle, so that no flip or turn maps it onto itself."""
    grid = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    middle = (0.1, -0.25, 0.35)
    return np.asarray(
        sum(((axis - at) / radius) ** 2 for axis, at in zip(grid, middle, strict=True)) <= 1
    )
