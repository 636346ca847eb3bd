"""DICOM instances as a scanner makes them: from a volume, or from other instances under new names.

Attributes follow the modules of the MR Image, CT Image, CR Image and Digital X-Ray Image IODs
(PS3.3 A.4, A.3, A.2, A.26).
Every UID is derived from the order's seed, so that the same order makes the same instances.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

from overread.dicom.provenance import derive_uid
from overread.dicom.volume import Volume
from overread.errors import UsageError

Modality = Literal["MR", "CT", "CR", "DX"]

_SOP_CLASS: dict[Modality, UID] = {
    "MR": MRImageStorage,
    "CT": CTImageStorage,
    "CR": ComputedRadiographyImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
}
_PROJECTIONS = ("CR", "DX")
"""Modalities whose images say nothing of where they lie in the patient."""
_STANDARD_ROOT = "1.2.840.10008."
"""UIDs below it name things of the Standard (PS3.6 annex A), not things of a hospital."""

# What the IODs want beside geometry and pixels; the order's ``attributes`` override these.
_ACQUISITION: dict[Modality, dict[str, Any]] = {
    "MR": {
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "SE"],
        "ScanningSequence": "SE",
        "SequenceVariant": "SK",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "RepetitionTime": "667",
        "EchoTime": "8.1",
        "EchoTrainLength": "1",
        "MagneticFieldStrength": "1.5",
        "FlipAngle": "90",
    },
    "CT": {
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "KVP": "120",
        "AcquisitionNumber": "1",
        "RescaleType": "HU",
    },
    "CR": {
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "KVP": "70",
        "BodyPartExamined": "",
        "ViewPosition": "",
    },
    "DX": {
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "PresentationIntentType": "FOR PRESENTATION",
        "KVP": "75",
        "BodyPartExamined": "",
        "ViewPosition": "",
        "ImageLaterality": "U",
        "DetectorType": "DIRECT",
        "PositionerType": "NONE",
        "AcquisitionDeviceProcessingDescription": "",
        "PixelIntensityRelationship": "LIN",
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "00",
        "AcquisitionContextSequence": [],
        "RescaleIntercept": "0",
        "RescaleSlope": "1",
        "RescaleType": "US",
    },
}
_IDENTIFYING = (
    "AccessionNumber",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDescription",
    "StationName",
)
_PLACES = ("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName")


@dataclass(frozen=True)
class Order:
    """What a scanner is told: whom it images, for what, and what it writes on the images.

    Everything here is made up; a real patient's name has no business in a simulator.

    Attributes
    ----------
    seed : str
        Two orders with the same seed give the same UIDs.
    performed : datetime
        When the study began, in the site's own time, as DICOM writes it.
    modality : {"MR", "CT", "CR", "DX"}
        Which IOD is written.
    first_number : int
        InstanceNumber of the first image, for a series that is made in several parts.
    frame_of_reference : str
        Name for the FrameOfReferenceUID, so that studies can share one; the seed's own if empty.
    attributes : mapping
        Further attributes by keyword, such as ``ProtocolName`` or ``EchoTime``; they win.
    """

    seed: str
    patient_id: str
    patient_name: str
    accession: str
    study_description: str
    series_description: str
    station_name: str
    performed: datetime
    modality: Modality = "MR"
    patient_birth_date: str = ""
    patient_sex: str = ""
    series_number: int = 1
    first_number: int = 1
    frame_of_reference: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def uid(self, *parts: str) -> UID:
        """Derive a UID of this order."""
        return derive_uid("simulator", self.seed, *parts)

    @property
    def study_uid(self) -> UID:
        """StudyInstanceUID."""
        return self.uid("study")


def make_instances(volume: Volume, order: Order) -> list[Dataset]:
    """Make one instance of each slice of a volume.

    Parameters
    ----------
    volume : Volume
        Its slices become images as they are: row axis down the image, column axis across. MR takes
        arbitrary values, CT takes Hounsfield units. CR and DX ignore where it lies; DX takes its
        spacing for the detector's.
    order : Order
        Whose and what it is.

    Returns
    -------
    list of Dataset
        In the order of the volume's slices, each with its file meta information (Explicit VR
        Little Endian).

    Raises
    ------
    UsageError
        Rows and columns do not stand at a right angle: no DICOM image can say where it lies.
    """
    stored, scale = _stored(volume.array, order.modality)
    common = _common(order) | scale | _ACQUISITION[order.modality]
    if order.modality == "DX":
        spacing = [_ds(value) for value in volume.spacing[1:]]
        common |= {"PixelSpacing": spacing, "ImagerPixelSpacing": spacing}
    if order.modality not in _PROJECTIONS:
        common |= _plane(volume)
        common["FrameOfReferenceUID"] = volume.frame_of_reference or order.uid(
            "frame of reference", order.frame_of_reference
        )
    common |= dict(order.attributes)
    if order.modality == "DX" or common.get("BodyPartExamined"):
        del common["Laterality"]  # only of a paired part, and of one not told by the image
    if order.modality == "DX":  # which of the two is shown bright (PS3.3 C.8.11.3)
        inverse = common["PhotometricInterpretation"] == "MONOCHROME1"
        common["PresentationLUTShape"] = "INVERSE" if inverse else "IDENTITY"
        common["PixelIntensityRelationshipSign"] = 1 if inverse else -1
    made = []
    for index, pixels in enumerate(stored):
        number = index + order.first_number
        dataset = _new(order, "image", str(number - 1))
        for keyword, value in common.items():
            setattr(dataset, keyword, value)
        dataset.InstanceNumber = number
        moment = order.performed + timedelta(seconds=59 + number)
        dataset.AcquisitionDate = dataset.ContentDate = moment.strftime("%Y%m%d")
        dataset.AcquisitionTime = dataset.ContentTime = moment.strftime("%H%M%S")
        if order.modality not in _PROJECTIONS:
            corner = volume.affine[:3, 3] + index * volume.affine[:3, 0]
            dataset.ImagePositionPatient = [_ds(value) for value in corner]
            normal = np.cross(volume.affine[:3, 2], volume.affine[:3, 1])
            dataset.SliceLocation = _ds(float(corner @ normal / np.linalg.norm(normal)))
        dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
        made.append(dataset)
    return made


def renamed(datasets: Iterable[Dataset], order: Order) -> list[Dataset]:
    """Give existing instances fresh UIDs and fictional identifiers, by one consistent mapping.

    Pixels and transfer syntax stay as they are. Patient, accession, descriptions and dates become
    the order's; series keep their own numbers, and their descriptions where the order's is empty.
    Private attributes and persons' names go. This is no de-identification of real patients' images.

    Parameters
    ----------
    datasets : iterable of Dataset
        Read from files, with their file meta information. They are changed.
    order : Order
        Its seed and each old UID give the new one, so that references still hold.

    Returns
    -------
    list of Dataset
        The same objects.
    """
    out = []
    for dataset in datasets:
        dataset.remove_private_tags()
        for element in dataset.iterall():
            if element.VR == "UI" and element.value:
                element.value = _new_uid(order, element.value)
            elif element.VR == "PN" or element.keyword in _PLACES:
                element.value = ""
        dataset.StudyInstanceUID = order.study_uid
        common = _common(order)
        for keyword in _IDENTIFYING:
            setattr(dataset, keyword, common[keyword])
        if order.series_description:
            dataset.SeriesDescription = order.series_description
        for element in dataset:
            if element.VR == "DA" and element.keyword != "PatientBirthDate" and element.value:
                element.value = common["StudyDate"]
        dataset.StudyDate, dataset.StudyTime = common["StudyDate"], common["StudyTime"]
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        for keyword, value in order.attributes.items():
            setattr(dataset, keyword, value)
        out.append(dataset)
    return out


def read_dicom(path: Path) -> list[Dataset]:
    """Read every DICOM file of a folder (and of the folders in it), or one file.

    Raises
    ------
    UsageError
        There is none.
    """
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    found: list[Dataset] = []
    for file in files:
        try:
            dataset = dcmread(file)
        except InvalidDicomError:
            continue
        if "SOPInstanceUID" in dataset:
            found.append(dataset)
    if not found:
        raise UsageError(f"{path} holds no DICOM file")
    return found


def write(datasets: Iterable[Dataset], folder: Path) -> list[Path]:
    """Write instances as PS3.10 files, named by their number in the sequence given.

    Returns
    -------
    list of Path
        In the order given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, dataset in enumerate(datasets, start=1):
        file = folder / f"{number:05d}.dcm"
        dataset.save_as(file, enforce_file_format=True)
        files.append(file)
    return files


def _new(order: Order, *parts: str) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = _SOP_CLASS[order.modality]
    dataset.SOPInstanceUID = order.uid("series", str(order.series_number), *parts)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    return dataset


def _common(order: Order) -> dict[str, Any]:
    """List what all instances of an order share: patient, study, series, equipment."""
    date, time = order.performed.strftime("%Y%m%d"), order.performed.strftime("%H%M%S")
    out: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "StudyDate": date,
        "SeriesDate": date,
        "StudyTime": time,
        "SeriesTime": time,
        "AccessionNumber": order.accession,
        "Modality": order.modality,
        "Manufacturer": "Overread simulator",
        "ManufacturerModelName": "Phantom One",
        "InstitutionName": "Overread Demonstration Hospital",
        "StationName": order.station_name,
        "DeviceSerialNumber": "0",
        "SoftwareVersions": "1",
        "ReferringPhysicianName": "",
        "StudyDescription": order.study_description,
        "SeriesDescription": order.series_description,
        "PatientName": order.patient_name,
        "PatientID": order.patient_id,
        "PatientBirthDate": order.patient_birth_date,
        "PatientSex": order.patient_sex,
        "PositionReferenceIndicator": "",
        "Laterality": "",
        "StudyInstanceUID": order.study_uid,
        "SeriesInstanceUID": order.uid("series", str(order.series_number)),
        "StudyID": order.accession[-16:],
        "SeriesNumber": order.series_number,
        "ProtocolName": order.series_description,
    }
    if order.modality in _PROJECTIONS:
        del out["PositionReferenceIndicator"]
        out["PatientOrientation"] = ""
    else:
        out["PatientPosition"] = "HFS"
    return out


def _plane(volume: Volume) -> dict[str, Any]:
    """Write the Image Plane Module (PS3.3 C.7.6.2) of all slices but their position."""
    slice_step, down, across = volume.affine[:3, 0], volume.affine[:3, 1], volume.affine[:3, 2]
    _, height, width = volume.spacing
    if abs(down @ across) > 1e-4 * height * width:
        raise UsageError("the image's rows and columns do not stand at a right angle")
    normal = np.cross(across / width, down / height)
    gap = abs(float(slice_step @ normal))
    orientation = [*(across / width), *(down / height)]
    return {
        "ImageOrientationPatient": [_ds(value) for value in orientation],
        "PixelSpacing": [_ds(height), _ds(width)],
        "SliceThickness": _ds(gap),
        "SpacingBetweenSlices": _ds(gap),
    }


def _stored(array: NDArray[Any], modality: Modality) -> tuple[NDArray[Any], dict[str, Any]]:
    """Turn values into stored ones, and say how (Image Pixel, Modality LUT, VOI LUT)."""
    out: dict[str, Any] = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
    low, high = float(array.min()), float(array.max())
    whole = np.issubdtype(array.dtype, np.integer) or bool(np.all(array == np.round(array)))
    if modality == "CT":
        intercept = min(-1024.0, np.floor(low))
        stored = np.clip(np.round(array - intercept), 0, 65535).astype("<u2")
        out |= {"RescaleIntercept": _ds(intercept), "RescaleSlope": "1"}
        centre, width = 40.0, 400.0
    else:
        if whole and low >= 0 and high <= 65535:
            stored = array.astype("<u2")
        else:
            # MR and CR units are arbitrary, and their IODs have no rescale to undo this with.
            step = (high - min(low, 0.0)) / 4095 or 1.0
            stored = np.round((array - min(low, 0.0)) / step).astype("<u2")
        bottom, top = (float(value) for value in np.percentile(stored, (1, 99.5)))
        centre, width = (bottom + top) / 2, max(top - bottom, 1.0)
    bits = max(12, int(stored.max()).bit_length())
    out |= {
        "Rows": stored.shape[1],
        "Columns": stored.shape[2],
        "BitsAllocated": 16,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "WindowCenter": _ds(centre),
        "WindowWidth": _ds(width),
    }
    return stored, out


def _new_uid(order: Order, value: Any) -> Any:
    if isinstance(value, str):
        return value if value.startswith(_STANDARD_ROOT) else order.uid("was", value)
    return [_new_uid(order, item) for item in value]


def _ds(value: float) -> str:
    """Write a number as a Decimal String: 16 characters at most (PS3.5 table 6.2-1)."""
    for digits in range(15, 0, -1):
        text = f"{float(value) + 0.0:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(f"{value!r} has no Decimal String")
