"""Small radiographs and ultrasound images, written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    UltrasoundMultiFrameImageStorage,
)

from overread.dicom.study import Instance


def radiograph(folder: Path, pixels: NDArray[Any], uid: str = "1.2.3.1", **values: Any) -> Instance:
    """Write an image: grey where pixels have two axes, frames where three, colour where four."""
    one = Dataset()
    one.SOPClassUID = DigitalXRayImageStorageForPresentation
    one.SOPInstanceUID, one.SeriesInstanceUID, one.StudyInstanceUID = UID(uid), "1.2.3", "1.2"
    one.Modality, one.SeriesNumber, one.InstanceNumber = "DX", 1, int(uid.rsplit(".", 1)[1])
    one.PhotometricInterpretation, one.SamplesPerPixel = "MONOCHROME2", 1
    one.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim > 2:
        one.SOPClassUID, one.Modality = UltrasoundMultiFrameImageStorage, "US"
        one.NumberOfFrames = pixels.shape[0]
    if pixels.ndim == 4:
        one.PhotometricInterpretation, one.SamplesPerPixel = "RGB", 3
        one.PlanarConfiguration = 0
    one.Rows, one.Columns = pixels.shape[1:3] if pixels.ndim > 2 else pixels.shape
    bits = 8 * pixels.dtype.itemsize
    one.BitsAllocated, one.BitsStored, one.HighBit = bits, bits, bits - 1
    for keyword, value in values.items():
        setattr(one, keyword, value)
        if keyword == "BitsStored":
            one.HighBit = value - 1
    data = np.ascontiguousarray(pixels).tobytes()
    one.PixelData = data + b"\0" * (len(data) % 2)
    one["PixelData"].VR = "OW" if bits == 16 else "OB"
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
    one.file_meta.MediaStorageSOPInstanceUID = UID(uid)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{uid}.dcm"
    one.save_as(file, enforce_file_format=True)
    return Instance(dcmread(file, stop_before_pixels=True), file)


def table(first: int, bits: int, data: list[int], **values: Any) -> Dataset:
    """A lookup table of PS3.3 C.11.1 or C.11.2."""
    made = Dataset()
    made.LUTDescriptor = [len(data), first, bits]
    made.LUTData = data
    for keyword, value in values.items():
        setattr(made, keyword, value)
    made["LUTDescriptor"].VR, made["LUTData"].VR = ("SS" if first < 0 else "US"), "US"
    return made
