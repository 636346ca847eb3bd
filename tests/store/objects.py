"""Small objects for the tests of what is kept."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid


def ct(**changes: Any) -> Dataset:
    """One CT slice, 32 × 32; always the same but for ``changes``, where none removes a tag."""
    one = Dataset()
    one.SpecificCharacterSet = "ISO_IR 100"
    one.SOPClassUID = CTImageStorage
    one.SOPInstanceUID = "1.2.3.4.1"
    one.StudyDate, one.StudyTime = "20260102", "030405"
    one.AccessionNumber = "A1"
    one.Modality = "CT"
    one.StudyDescription = "Kopf für Test"
    one.PatientName = "Müller^Jane"
    one.PatientID = "P1"
    one.PatientBirthDate = "19700101"
    one.StudyInstanceUID = "1.2.3.4"
    one.SeriesInstanceUID = "1.2.3.4.5"
    one.SeriesNumber, one.InstanceNumber = 3, 7
    one.ImagePositionPatient = [-10, -20, 30.5]
    one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    one.PixelSpacing = [0.5, 0.5]
    one.SamplesPerPixel = 1
    one.PhotometricInterpretation = "MONOCHROME2"
    one.Rows = one.Columns = 32
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
    one.PixelData = np.arange(1024, dtype="<u2").tobytes()
    for keyword, value in changes.items():
        if value is None:
            delattr(one, keyword)
        else:
            setattr(one, keyword, value)
    return one


def fresh(**changes: Any) -> Dataset:
    """A CT slice of its own instance, in the same series."""
    return ct(SOPInstanceUID=generate_uid(), **changes)


def as_file(dataset: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Encode as a PS3.10 file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "1.2")
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2")
    meta.TransferSyntaxUID = UID(transfer_syntax)
    dataset.file_meta = meta
    buffer = BytesIO()
    if UID(transfer_syntax).is_private:  # pydicom has to be told how those are encoded
        dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)
    else:
        dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
