"""A client of DICOMweb, as far as the tests need one."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import httpx
import numpy as np
from pydicom import Dataset, FileMetaDataset, dcmread, dcmwrite
from pydicom.uid import (
    ExplicitVRLittleEndian,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)
from starlette.testclient import TestClient

from overread.dicom.provenance import derive_uid

BOUNDARY = "a boundary, with spaces"


def parts(answer: httpx.Response) -> list[tuple[str, bytes]]:
    """Take a multipart answer apart: the content type and the bytes of each part."""
    kind = answer.headers["content-type"]
    assert kind.startswith("multipart/related; type=")
    boundary = kind.partition("boundary=")[2].encode()
    *found, end = answer.content.split(b"--" + boundary)
    assert end == b"--\r\n"
    taken = []
    for part in found[1:]:
        head, _, body = part.partition(b"\r\n\r\n")
        assert body.endswith(b"\r\n")
        lines = head.decode().strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        taken.append((headers["Content-Type"], body[:-2]))
    return taken


def stow_body(*files: bytes) -> tuple[bytes, dict[str, str]]:
    """Pack files for STOW-RS; the body and its headers."""
    body = b"".join(
        b"--" + BOUNDARY.encode() + b"\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n"
        for file in files
    )
    kind = f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"'
    return body + b"--" + BOUNDARY.encode() + b"--\r\n", {"content-type": kind}


def store(client: TestClient, *files: bytes) -> None:
    """Store files; those who sign in as staff may."""
    body, headers = stow_body(*files)
    answer = client.post("/dicom-web/studies", content=body, headers=headers)
    assert answer.status_code == 200, answer.text


def url_of(dataset: Dataset) -> str:
    """The address of an instance."""
    return (
        f"/dicom-web/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
        f"/instances/{dataset.SOPInstanceUID}"
    )


def image(name: str, pixels: Any, bits: int, **more: Any) -> Dataset:
    """A secondary capture; ``pixels`` has shape (frames, rows, columns)."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    frames, one.Rows, one.Columns = pixels.shape
    single = MultiFrameSingleBitSecondaryCaptureImageStorage
    one.SOPClassUID = single if bits == 1 else SecondaryCaptureImageStorage
    one.SOPInstanceUID = derive_uid(name, "instance")
    one.SpecificCharacterSet = "ISO_IR 192"
    one.StudyInstanceUID, one.SeriesInstanceUID = derive_uid(name), derive_uid(name, "series")
    one.PatientName, one.PatientID, one.Modality = f"PHANTOM^{name.upper()}", f"PH-{name}", "OT"
    one.AccessionNumber, one.StudyDate, one.StudyDescription = f"ACC-{name}", "20260602", name
    one.InstanceNumber, one.SeriesNumber = 1, 1
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated = one.BitsStored = bits
    one.HighBit, one.PixelRepresentation = bits - 1, 0
    if frames > 1 or bits == 1:
        one.NumberOfFrames = frames
    if bits == 1:
        data = np.packbits(pixels.ravel(), bitorder="little").tobytes()
    else:
        data = pixels.astype(f"<u{bits // 8}").tobytes()
    one.PixelData = data + b"\0" * (len(data) % 2)
    for keyword, value in more.items():
        setattr(one, keyword, value)
    return one


def encode(dataset: Dataset, **how: Any) -> bytes:
    """A PS3.10 file."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True, **how)
    return buffer.getvalue()


def decode(file: bytes) -> Dataset:
    """Read one."""
    return dcmread(BytesIO(file))
