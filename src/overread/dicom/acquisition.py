"""When and how an image was acquired: what numbers measured on it are compared by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from types import MappingProxyType

from pydicom import Dataset

from overread.dicom.match import text
from overread.dicom.pixel_spacing import pixel_spacing
from overread.dicom.planes import group
from overread.dicom.study import day

KEYWORDS = (
    "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "SeriesDate", "SeriesTime",
    "StudyDate", "StudyTime", "Modality", "Manufacturer", "ManufacturerModelName",
    "DeviceSerialNumber", "StationName", "MagneticFieldStrength", "ScanningSequence",
    "SequenceName", "PulseSequenceName", "MRAcquisitionType", "ContrastBolusAgent", "KVP",
    "ConvolutionKernel", "ViewPosition", "PixelSpacing", "PixelSpacingCalibrationType",
    "ImagerPixelSpacing", "NominalScannedPixelSpacing", "EstimatedRadiographicMagnificationFactor",
    "PixelAspectRatio", "SliceThickness", "SpacingBetweenSlices", "SequenceOfUltrasoundRegions",
    "SharedFunctionalGroupsSequence",
)  # fmt: skip
"""What has to be read of a header for `acquisition`."""

_SEQUENCE = {
    "MR": ("MRAcquisitionType", "ScanningSequence", "SequenceName", "PulseSequenceName"),
    "CT": ("KVP", "ConvolutionKernel"),
}
"""By modality, what a sequence is told by; of any other modality ViewPosition."""


@dataclass(frozen=True)
class Acquisition:
    """When and how an image was acquired.

    Attributes
    ----------
    at : datetime or None
        As written, without a zone: of the acquisition, else of the series, else of the study; none
        where no valid date is written.
    how : mapping of str to str
        ``scanner``, ``sequence`` and ``spacing`` (mm), in words that are the same where those are;
        one that the image does not tell is left out.
    """

    at: datetime | None = None
    how: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def acquisition(header: Dataset) -> Acquisition:
    """Read when and how an image was acquired.

    Parameters
    ----------
    header : Dataset
        With `KEYWORDS` at least.
    """
    told = {"scanner": _scanner(header), "sequence": _sequence(header), "spacing": _spacing(header)}
    how = {key: words for key, words in told.items() if words}
    return Acquisition(_at(header), MappingProxyType(how))


def moment(date: str, clock: str) -> datetime | None:
    """Read a DICOM date with its time (DA, TM); midnight where the time is not one."""
    found = day(date)
    if found is None:
        return None
    parts = re.fullmatch(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6}))?)?)?", clock.strip())
    try:
        read = (
            time(
                int(parts[1]), int(parts[2] or 0), min(int(parts[3] or 0), 59),  # 60: a leap second
                int((parts[4] or "0").ljust(6, "0")),
            )
            if parts
            else time()
        )  # fmt: skip
    except ValueError:
        read = time()
    return datetime.combine(found, read)


def _first(header: Dataset, keyword: str) -> str:
    return next(iter(text(header, keyword)), "").strip()


def _plain(value: str) -> str:
    """Write ``3`` and ``3.0`` alike."""
    try:
        return f"{float(value):g}"
    except ValueError:
        return value


def _at(header: Dataset) -> datetime | None:
    whole = _first(header, "AcquisitionDateTime")
    written = [(whole[:8], re.split(r"[+-]", whole[8:])[0])]
    written += [
        (_first(header, f"{what}Date"), _first(header, f"{what}Time"))
        for what in ("Acquisition", "Series", "Study")
    ]
    return next((at for date, clock in written if (at := moment(date, clock))), None)


def _scanner(header: Dataset) -> str:
    maker = " ".join(
        part for part in (_first(header, "Manufacturer"), _first(header, "ManufacturerModelName"))
        if part
    )  # fmt: skip
    field_strength = _plain(_first(header, "MagneticFieldStrength"))
    serial = _first(header, "DeviceSerialNumber") or _first(header, "StationName")
    parts = [maker, f"{field_strength} T" if field_strength else "", serial]
    return ", ".join(part for part in parts if part)


def _sequence(header: Dataset) -> str:
    keywords = _SEQUENCE.get(_first(header, "Modality"), ("ViewPosition",))
    told = ["\\".join(map(_plain, text(header, keyword))) for keyword in keywords]
    contrast = "contrast" if text(header, "ContrastBolusAgent") else ""
    return " ".join(part.strip() for part in [*told, contrast] if part.strip())


def _spacing(header: Dataset) -> str:
    in_plane = pixel_spacing(header).mm
    if in_plane is None:
        return ""
    measures = group(Dataset(), "PixelMeasuresSequence", header) or header
    between = _first(measures, "SpacingBetweenSlices") or _first(measures, "SliceThickness")
    try:
        lengths = [*in_plane, *([float(between)] if between else [])]
    except ValueError:
        lengths = [*in_plane]
    return " × ".join(f"{length:.2f}" for length in lengths)
