"""How far apart the pixels of a projection or ultrasound image lie, and what that distance means.

A radiograph's pixels have one distance at the detector and a smaller one in the patient, who stands
nearer to the tube; which of them an attribute gives is told by other attributes (PS3.3 10.7.1.3).
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import Dataset

from overread.dicom.match import text
from overread.dicom.planes import group

CENTIMETRES = "3"
"""PhysicalUnitsXDirection, PhysicalUnitsYDirection (PS3.3 C.8.5.5.1.15)."""

TWO_DIMENSIONAL = "1"
"""RegionSpatialFormat (PS3.3 C.8.5.5.1.1)."""

SAME = 1e-4
"""Relative difference below which two distances are the same one, written twice."""


@dataclass(frozen=True)
class PixelSpacing:
    """The distance between pixels.

    Attributes
    ----------
    mm : tuple of float, optional
        Between rows, between columns; none where the image does not say it.
    says : str
        The attribute that says so and what it means, or why there is none.
    aspect : float
        Height of a pixel over its width; from PixelAspectRatio where there is no distance.
    """

    mm: tuple[float, float] | None
    says: str
    aspect: float = 1.0


def pixel_spacing(header: Dataset, frame: int = 0) -> PixelSpacing:
    """Find the distance between the pixels of an image.

    In this order:

    1. of ultrasound, the scale of its two-dimensional region (SequenceOfUltrasoundRegions), if it
       is in centimetres and all such regions have the same;
    2. PixelSpacing, where PixelSpacingCalibrationType says, or an ImagerPixelSpacing that differs
       shows, that it was calibrated to the patient;
    3. ImagerPixelSpacing, divided by EstimatedRadiographicMagnificationFactor where that is known;
    4. PixelSpacing, as of CT and MR, and of old CR that does not say what it refers to;
    5. NominalScannedPixelSpacing, of digitised film.

    Parameters
    ----------
    header : Dataset
        Of the image.
    frame : int
        Index of the frame, from 0.
    """
    if header.get("SequenceOfUltrasoundRegions"):
        return _with_aspect(_of_regions(header), header)
    places = [header, *_groups(header, frame)]
    pixel = _pair(places, "PixelSpacing")
    imager = _pair(places, "ImagerPixelSpacing")
    calibration = text(header, "PixelSpacingCalibrationType")
    if pixel and calibration:
        found = PixelSpacing(pixel, f"PixelSpacing (calibrated: {calibration[0]})")
    elif pixel and imager and not _same(pixel, imager):
        found = PixelSpacing(pixel, "PixelSpacing (calibrated: it differs from ImagerPixelSpacing)")
    elif imager:
        found = _at_the_patient(imager, header)
    elif pixel:
        known = header.get("ImageOrientationPatient") or header.get(
            "SharedFunctionalGroupsSequence"
        )
        note = "" if known else " (it is not said what it refers to)"
        found = PixelSpacing(pixel, f"PixelSpacing{note}")
    elif scanned := _pair(places, "NominalScannedPixelSpacing"):
        found = PixelSpacing(scanned, "NominalScannedPixelSpacing (of the digitised film)")
    else:
        found = PixelSpacing(None, "the image does not say how far apart its pixels lie")
    return _with_aspect(found, header)


def _at_the_patient(imager: tuple[float, float], header: Dataset) -> PixelSpacing:
    factors = text(header, "EstimatedRadiographicMagnificationFactor")
    factor = _positive(factors[0]) if factors else None
    if factor is None:
        return PixelSpacing(imager, "ImagerPixelSpacing (at the detector)")
    return PixelSpacing(
        (imager[0] / factor, imager[1] / factor),
        f"ImagerPixelSpacing / {factor:g} (in the patient, at the estimated magnification)",
    )


def _of_regions(header: Dataset) -> PixelSpacing:
    scales: set[tuple[float, float]] = set()
    for region in header.SequenceOfUltrasoundRegions:
        if text(region, "RegionSpatialFormat") != (TWO_DIMENSIONAL,):
            continue
        units = {*text(region, "PhysicalUnitsXDirection"), *text(region, "PhysicalUnitsYDirection")}
        deltas = [text(region, f"PhysicalDelta{axis}") for axis in "YX"]
        values = [_positive(delta[0].lstrip("-")) if delta else None for delta in deltas]
        row, column = values
        if units == {CENTIMETRES} and row is not None and column is not None:
            scales.add((10 * row, 10 * column))
    if not scales:
        return PixelSpacing(None, "no two-dimensional region of the image is in centimetres")
    first = min(scales)
    if not all(_same(first, other) for other in scales):
        return PixelSpacing(None, "the regions of the image have different scales")
    return PixelSpacing(first, "SequenceOfUltrasoundRegions (of the two-dimensional region)")


def _with_aspect(found: PixelSpacing, header: Dataset) -> PixelSpacing:
    if found.mm:
        return PixelSpacing(found.mm, found.says, found.mm[0] / found.mm[1])
    ratio = [_positive(value) for value in text(header, "PixelAspectRatio")]
    if len(ratio) == 2 and ratio[0] and ratio[1]:
        return PixelSpacing(None, found.says, ratio[0] / ratio[1])
    return found


def _groups(header: Dataset, frame: int) -> list[Dataset]:
    """Functional groups of a frame that may hold a distance."""
    frames = header.get("PerFrameFunctionalGroupsSequence")
    item = frames[frame] if frames and frame < len(frames) else Dataset()
    keywords = ("PixelMeasuresSequence", "FramePixelDataPropertiesSequence")
    return [found for keyword in keywords if (found := group(item, keyword, header))]


def _pair(places: list[Dataset], keyword: str) -> tuple[float, float] | None:
    for place in places:
        values = [_positive(value) for value in text(place, keyword)]
        if len(values) == 2 and values[0] and values[1]:
            return values[0], values[1]
    return None


def _positive(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None


def _same(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(abs(a / b - 1) < SAME for a, b in zip(one, other, strict=True))
