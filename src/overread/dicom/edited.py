"""A Segmentation that a person has drawn or changed: whether it belongs to the images it names.

Looked at is the header alone, so that it can be refused before anything of it is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from pydicom import Dataset
from pydicom.uid import SegmentationStorage

from overread.dicom.codes import Segment
from overread.dicom.encoded import UNREADABLE
from overread.dicom.geometry import SPACING, Grid, group, lay_out
from overread.dicom.placing import check_frame
from overread.dicom.planes import Plane
from overread.dicom.seg import frame_places, segments_of
from overread.dicom.study import Series
from overread.errors import Refused

SEGMENTATIONS = (str(SegmentationStorage), "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes of what can be an edit: Segmentation, and Label Map Segmentation."""

SAME_DIRECTION = 1e-4
"""How far direction cosines of segmentation and images may differ."""

_IDENTIFYING = ("PatientID", "StudyInstanceUID")
_IF_SAID = ("IssuerOfPatientID", "PatientBirthDate", "AccessionNumber")
"""What says whose images and which exam's these are; the second as far as the object has it."""

_UID = re.compile(r"[0-9.]{1,64}")

_UNNAMED = re.compile(r"(?i)\s*(segment\s*[0-9]*)?\s*")
"""What viewers call a segment that nobody has named."""


def referenced(header: Dataset) -> set[str]:
    """Return the SOP Instance UIDs of the images that a Segmentation says it was drawn on."""
    named = {
        str(image.get("ReferencedSOPInstanceUID", ""))
        for series in header.get("ReferencedSeriesSequence") or ()
        for image in series.get("ReferencedInstanceSequence") or ()
    }
    for frame in header.get("PerFrameFunctionalGroupsSequence") or ():
        for derivation in frame.get("DerivationImageSequence") or ():
            named |= {
                str(image.get("ReferencedSOPInstanceUID", ""))
                for image in derivation.get("SourceImageSequence") or ()
            }
    return named - {""}


def predecessors(header: Dataset) -> set[str]:
    """Return the SOP Instance UIDs of the objects that a Segmentation says it is a version of.

    PredecessorDocumentsSequence (PS3.3 C.17.2) is what viewers write for that.
    """
    return {
        str(item.get("ReferencedSOPInstanceUID", ""))
        for study in header.get("PredecessorDocumentsSequence") or ()
        for series in study.get("ReferencedSeriesSequence") or ()
        for item in series.get("ReferencedSOPSequence") or ()
    } - {""}


def check_edited(header: Dataset, source: Series, segments: Sequence[Segment]) -> None:
    """Refuse a Segmentation that is not one of these images, or not of these segments.

    Parameters
    ----------
    header : Dataset
        The Segmentation, up to its pixels.
    source : Series
        The images that the edited result was made from; headers are enough.
    segments : sequence of Segment
        What the edited result holds.

    Raises
    ------
    Refused
        With what differs, and what was expected.
    """
    try:
        _check(header, source, segments)
    except UNREADABLE as error:
        raise Refused(
            f"the segmentation is malformed ({type(error).__name__}); save it again from the viewer"
        ) from error


def _check(header: Dataset, source: Series, segments: Sequence[Segment]) -> None:
    if str(header.get("SOPClassUID")) not in SEGMENTATIONS or header.get("Modality") != "SEG":
        raise Refused("the object is no Segmentation; an edit is stored as one (Modality SEG)")
    if header.get("SegmentationType") == "FRACTIONAL":
        raise Refused("the segmentation holds probabilities; an edit is BINARY or LABELMAP")
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        if not _UID.fullmatch(str(header.get(keyword) or "")):
            raise Refused(f"the segmentation's {keyword} is no UID; save it again from the viewer")
    for keyword in (*_IDENTIFYING, *_IF_SAID):
        said, meant = (str(one.get(keyword) or "") for one in (header, source.header))
        if said != meant and (said or keyword in _IDENTIFYING):
            raise Refused(
                f"the segmentation's {keyword} is not that of the images that it was drawn on"
            )
    check_frame(header, source)
    _check_grid(header, lay_out(source))
    match(segments_of(header), segments)


def _check_grid(header: Dataset, grid: Grid) -> None:
    size = (int(header.get("Rows") or 0), int(header.get("Columns") or 0))
    if size != grid.shape[1:]:
        raise Refused(
            f"the segmentation has frames of {size[0]} × {size[1]} pixels, its images "
            f"{grid.shape[1]} × {grid.shape[2]}"
        )
    frames = header.PerFrameFunctionalGroupsSequence
    if len(frames) != int(header.get("NumberOfFrames") or 0):
        raise Refused("the segmentation has another number of frames than it says where they lie")
    for frame in frames:
        _check_frame(frame, header, grid.planes[0])
    places = frame_places(header, grid)
    if len(set(places)) != len(places):
        raise Refused("two frames of the segmentation are of one segment on one image")
    for frame, (_, index) in zip(frames, places, strict=True):
        _check_source(frame, grid.planes[index])


def _check_source(frame: Dataset, plane: Plane) -> None:
    """Refuse a frame that lies on another image than the one that it says it was drawn on."""
    named = [
        str(image.get("ReferencedSOPInstanceUID", ""))
        for derivation in frame.get("DerivationImageSequence") or ()
        for image in derivation.get("SourceImageSequence") or ()
    ]
    if len(named) == 1 and named[0] != str(plane.instance.header.SOPInstanceUID):
        raise Refused(
            "a frame of the segmentation lies on another image than the one that it was drawn on"
        )


def _check_frame(frame: Dataset, header: Dataset, plane: Plane) -> None:
    position = group(frame, "PlanePositionSequence", header)
    if (
        position is not None
        and not np.isfinite(np.array(position.ImagePositionPatient, dtype=float)).all()
    ):
        raise Refused("a frame of the segmentation says not where it is")
    turned = group(frame, "PlaneOrientationSequence", header)
    if turned is not None:
        apart = np.abs(
            np.array(turned.ImageOrientationPatient, dtype=float)
            - np.array([*plane.along_row, *plane.along_column])
        ).max()
        if not apart <= SAME_DIRECTION:  # what is no number is not, either
            raise Refused(
                "the segmentation is turned against its images; draw on the original ones"
            )
    measured = group(frame, "PixelMeasuresSequence", header)
    if measured is not None:
        spacing = np.array(measured.PixelSpacing, dtype=float)
        if not np.abs(spacing / np.array(plane.spacing) - 1).max() <= SPACING:
            raise Refused(
                f"the segmentation's pixels are {spacing[0]:g} × {spacing[1]:g} mm, those of its "
                f"images {plane.spacing[0]:g} × {plane.spacing[1]:g} mm"
            )


def match(found: Iterable[Segment], known: Sequence[Segment]) -> dict[int, Segment]:
    """Say which of the known segments each segment of an edit is.

    By its label; by its number where nobody has named it.

    Returns
    -------
    dict
        Number in the edit to the known segment.

    Raises
    ------
    Refused
        One is none of the known, or two are the same.
    """
    labels = {_plain(one.label): one for one in known}
    numbers = {one.number: one for one in known}
    matched: dict[int, Segment] = {}
    for one in found:
        meant = labels.get(_plain(one.label))
        if meant is None and _UNNAMED.fullmatch(one.label):
            meant = numbers.get(one.number)
        names = ", ".join(f"“{each.label}”" for each in known)
        if meant is None:
            raise Refused(
                f"segment {one.number} “{one.label}” is none of the result's own ({names}); draw "
                "with one of those, and delete the other"
            )
        if meant in matched.values():
            raise Refused(f"two segments are “{meant.label}”; merge them, or delete one")
        matched[one.number] = meant
    return matched


def _plain(label: str) -> str:
    return " ".join(label.split()).casefold()
