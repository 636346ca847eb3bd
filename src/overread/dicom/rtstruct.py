"""RT Structure Sets (PS3.3 A.19): write a mask as contours, and read contours back as a mask.

A contour is the line half-way between the centres of the voxels inside and those outside. Every
centre that was inside lies inside the contour, and every other outside, so that a structure set
reads back to the very mask that it was made from, whoever fills it by the centres of voxels.

A hole is joined to the contour around it by a channel without width (PS3.3 C.8.8.6.3: an inner and
an outer contour as one CLOSED_PLANAR, the "keyhole"), so that no reader can take it for full.
Around the normal of its slice (row direction × column direction) a contour runs counter-clockwise;
contours are listed slice by slice along that normal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage
from pydicom.valuerep import DA, TM
from scipy import ndimage

from overread.dicom.codes import TISSUE, Code, Segment
from overread.dicom.derived import LONGEST, Making, coded, finish, identify, start
from overread.dicom.geometry import Grid, Plane, lay_out
from overread.dicom.placing import check_frame, place, planes_of, refer
from overread.dicom.provenance import DerivedObject, derive_uid
from overread.dicom.study import Series
from overread.dicom.volume import Mask, Probability
from overread.errors import Refused

Points = NDArray[np.float64]
"""Corners of a closed line in a slice, (column, row) in voxels; shape (corners, 2)."""

SHORT = 16
"""Characters of a Short String (SH), PS3.5 6.2."""

DETACHED_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"
"""What ReferencedSOPClassUID of a Study is: retired, and still what is asked for."""

_CONTOUR_DATA = Tag("ContourData")


def write_rtstruct(
    masks: Mask | Probability | Sequence[Mask | Probability], source: Series, making: Making
) -> DerivedObject:
    """Write masks as an RT Structure Set into the Study of their source images.

    One ROI for each segment, also for one of which nothing was found: that has no contours. It is
    written in Implicit VR, since a contour may be longer than the 64 kB that Explicit VR holds.

    Parameters
    ----------
    masks : Mask, Probability, or several of them
        On the planes of the source images, or on some of them. ROIs may overlap. Of probabilities,
        what reaches their threshold counts.
    source : Series
        The images that the masks belong to.
    making : Making
        The facts of the job.

    Returns
    -------
    DerivedObject
        Its ROIs are numbered from 1, in the order of the masks' segments. It is UNAPPROVED.

    Raises
    ------
    GeometryError
        The images do not say where they lie.
    ValueError
        A mask does not lie on the source's images, or there are no segments.
    """
    masks = [masks] if isinstance(masks, Mask | Probability) else list(masks)
    planes = planes_of(masks, source)
    parts = [part for mask in masks for part in _parts(mask, planes)]
    segments = tuple(
        replace(segment, number=number) for number, (segment, _) in enumerate(parts, start=1)
    )
    if not segments:
        raise ValueError("a structure set has at least one ROI; the mask describes no segment")
    header, local = source.header, making.local(source.header)
    names = ", ".join(segment.label for segment in segments)
    made = start(
        header,
        making,
        sop_class=RTStructureSetStorage,
        modality="RTSTRUCT",
        description=f"Structures: {names}",
    )
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    made.FrameOfReferenceUID = _frame_of_reference(header)
    made.PositionReferenceIndicator = str(header.get("PositionReferenceIndicator") or "")
    made.OperatorsName = ""
    made.StructureSetLabel = making.algorithm.name[:SHORT]
    made.StructureSetDescription = making.describe(f"Structures: {names}")
    made.StructureSetDate, made.StructureSetTime = DA(local.date()), TM(local.time())
    made.ReferencedFrameOfReferenceSequence = [_referenced(made, source, planes)]
    made.StructureSetROISequence = [_roi(segment, made, making) for segment in segments]
    made.ROIContourSequence = [
        _contours(segment, planes, rings)
        for segment, (_, rings) in zip(segments, parts, strict=True)
    ]
    made.RTROIObservationsSequence = [_observation(segment) for segment in segments]
    made.ApprovalStatus = "UNAPPROVED"
    return finish(
        made,
        header,
        making,
        kind="structure set",
        sources=(plane.instance.uid for plane in planes),
        segments=segments,
    )


def _parts(
    mask: Mask | Probability, planes: Sequence[Plane]
) -> Iterator[tuple[Segment, list[tuple[int, Points]]]]:
    """Yield each segment of a mask, and its contours: index of the plane, and line."""
    placed = place(mask.affine, mask.array.shape[-3:], planes).take(mask.array)
    numbers = [segment.number for segment in mask.segments]
    if isinstance(mask, Mask):
        boxes = ndimage.find_objects(placed, max_label=max(numbers, default=0))
    for index in sorted(range(len(numbers)), key=numbers.__getitem__):
        if isinstance(mask, Mask):
            number, labels, box = numbers[index], placed, boxes[numbers[index] - 1]
        else:
            number, labels = 1, (placed[index] >= mask.threshold).view(np.uint8)
            (box,) = ndimage.find_objects(labels, max_label=1)
        yield mask.segments[index], list(_outlines(labels, number, box))


def _frame_of_reference(header: Dataset) -> str:
    return str(
        header.get("FrameOfReferenceUID")
        or derive_uid(str(header.get("SeriesInstanceUID", "")), "frame of reference")
    )


def _referenced(made: Dataset, source: Series, planes: Sequence[Plane]) -> Dataset:
    """Return the frame of reference, and the images whose contours these are."""
    series = Dataset()
    series.SeriesInstanceUID = source.uid
    series.ContourImageSequence = [refer(plane) for plane in planes]
    study = Dataset()
    study.ReferencedSOPClassUID = DETACHED_STUDY_MANAGEMENT
    study.ReferencedSOPInstanceUID = made.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = made.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi(segment: Segment, made: Dataset, making: Making) -> Dataset:
    roi = Dataset()
    roi.ROINumber = segment.number
    roi.ReferencedFrameOfReferenceUID = made.FrameOfReferenceUID
    roi.ROIName = segment.label[:LONGEST]
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    algorithm = making.algorithm
    roi.ROIGenerationDescription = f"{algorithm.name}@{algorithm.version}"[:LONGEST]
    roi.ROIDerivationAlgorithmIdentificationSequence = [identify(algorithm)]
    return roi


def _observation(segment: Segment) -> Dataset:
    observation = Dataset()
    observation.ObservationNumber = observation.ReferencedROINumber = segment.number
    observation.ROIObservationLabel = segment.label[:SHORT]
    observation.RTROIIdentificationCodeSequence = [coded(segment.type)]
    observation.RTROIInterpretedType = ""  # target or organ at risk: for a person to say
    observation.ROIInterpreter = ""
    return observation


def _contours(
    segment: Segment, planes: Sequence[Plane], rings: Sequence[tuple[int, Points]]
) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber = segment.number
    item.ROIDisplayColor = list(segment.colour)
    named: dict[int, Dataset] = {}  # its image, once for all contours on a plane
    contours = []
    for index, ring in rings:
        if index not in named:
            named[index] = refer(planes[index])
        contours.append(_contour(planes[index], named[index], ring))
    for number, contour in enumerate(contours, start=1):
        contour.ContourNumber = number
    if contours:
        item.ContourSequence = contours
    return item


def _contour(plane: Plane, image: Dataset, ring: Points) -> Dataset:
    points = (
        plane.position
        + ring[:, :1] * (plane.along_row * plane.spacing[1])
        + ring[:, 1:] * (plane.along_column * plane.spacing[0])
    )
    contour = Dataset()
    contour.ContourImageSequence = [image]
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(ring)
    # As bytes: making a number of each of a million strings would take longer than all the rest.
    text = "\\".join(["%.4f"] * points.size) % tuple(points.ravel().tolist())
    data = (text + " " * (len(text) % 2)).encode("ascii")
    contour[_CONTOUR_DATA] = RawDataElement(_CONTOUR_DATA, "DS", len(data), data, 0, True, True)
    # As if it had been read so (PS3.5 6.1.2.1: the default character set), it is written as it is.
    contour.set_original_encoding(True, True, "iso8859")
    return contour


def _outlines(
    labels: NDArray[Any], number: int, box: tuple[slice, ...] | None
) -> Iterator[tuple[int, Points]]:
    """Yield the contours of one segment, slice by slice, holes joined to what is around them."""
    if box is None:
        return
    rows, columns = box[1], box[2]
    for index in range(box[0].start, box[0].stop):
        inside = labels[index, rows, columns] == number
        if inside.any():
            for ring in trace(inside):
                yield index, ring + np.array([columns.start, rows.start])


def trace(inside: NDArray[np.bool_]) -> list[Points]:
    """Trace the outlines of what is inside.

    Parameters
    ----------
    inside : ndarray, shape (rows, columns)

    Returns
    -------
    list of ndarray, shape (corners, 2)
        One closed line (column, row) around each connected part, holes joined to it; the first
        corner is not repeated at the end. In order of their first corner.
    """
    from contourpy import FillType, contour_generator

    generator = contour_generator(
        z=np.pad(inside, 1).astype(np.float32), name="serial", fill_type=FillType.OuterOffset
    )
    parts, offsets = cast("tuple[list[Points], list[NDArray[Any]]]", generator.filled(0.5, 2.0))
    traced = []
    for points, ends in zip(parts, offsets, strict=True):
        rings = [_corners(points[ends[i] : ends[i + 1] - 1] - 1.0) for i in range(len(ends) - 1)]
        traced.append(join(rings[0], rings[1:]))
    return traced


def _corners(ring: Points) -> Points:
    """Leave out what lies on the straight line between its neighbours."""
    ahead, behind = np.roll(ring, -1, axis=0) - ring, ring - np.roll(ring, 1, axis=0)
    return np.asarray(ring[ahead[:, 0] * behind[:, 1] != ahead[:, 1] * behind[:, 0]])


def join(outer: Points, holes: Sequence[Points]) -> Points:
    """Join holes to the line around them, each by a channel without width.

    From its leftmost corner each hole is joined to the nearest line to the left of it. Taken from
    left to right, nothing else can lie in between.

    Parameters
    ----------
    outer : ndarray, shape (corners, 2)
        Closed line (column, row), the first corner not repeated.
    holes : sequence of ndarray
        Of the same kind, inside it, running the other way.
    """
    ring = outer
    for hole in sorted(holes, key=lambda one: float(one[:, 0].min())):
        turned = np.roll(hole, -int(hole[:, 0].argmin()), axis=0)
        x, y = turned[0]
        begin, end = ring, np.roll(ring, -1, axis=0)
        crossed = np.flatnonzero((begin[:, 1] > y) != (end[:, 1] > y))
        share = (y - begin[crossed, 1]) / (end[crossed, 1] - begin[crossed, 1])
        at = begin[crossed, 0] + share * (end[crossed, 0] - begin[crossed, 0])
        at[at > x] = -np.inf
        nearest = int(at.argmax())
        door = [[at[nearest], y]]
        edge = int(crossed[nearest]) + 1
        ring = np.concatenate([ring[:edge], door, turned, turned[:1], door, ring[edge:]])
    return ring


def read_rtstruct(dataset: Dataset, source: Series) -> Mask | Probability:
    """Read a structure set on the grid of the images that it was drawn on.

    A voxel belongs to a ROI if its centre lies inside an odd number of its contours on that slice:
    so a hole is one, whether it is joined to the contour around it or stands alone. Points and open
    lines enclose nothing.

    Parameters
    ----------
    dataset : Dataset
        An RT Structure Set, ours or another maker's.
    source : Series
        The images it was drawn on.

    Returns
    -------
    Mask or Probability
        A Mask if no voxel is of two ROIs, otherwise a Probability with the values 0 and 1.

    Raises
    ------
    GeometryError
        The images make no regular grid.
    Refused
        It is no structure set, lies in another frame of reference, or a contour lies on none of the
        images.
    """
    if str(dataset.get("Modality")) != "RTSTRUCT":
        raise Refused(f"object {dataset.get('SOPInstanceUID')} is no structure set")
    check_frame(dataset, source)
    grid = lay_out(source)
    contours = {
        int(item.ReferencedROINumber): item.get("ContourSequence") or ()
        for item in dataset.get("ROIContourSequence") or ()
    }
    segments = _segments(dataset)
    filled = [_fill(contours.get(segment.number, ()), grid, dataset) for segment in segments]
    where = (grid.affine, segments, str(dataset.get("FrameOfReferenceUID", "")))
    kind = np.uint8 if max((one.number for one in segments), default=0) < 256 else np.uint16
    labels = np.zeros(grid.shape, dtype=kind)
    for segment, inside in zip(segments, filled, strict=True):
        if labels[inside].any():
            return Probability(np.stack(filled).astype(np.float32), *where)
        labels[inside] = segment.number
    return Mask(labels, *where)


def _segments(dataset: Dataset) -> tuple[Segment, ...]:
    """Describe the ROIs; what has no code is tissue, since contours say no more."""
    colours = {
        int(item.ReferencedROINumber): item.get("ROIDisplayColor")
        for item in dataset.get("ROIContourSequence") or ()
    }
    codes = {
        int(item.ReferencedROINumber): item.RTROIIdentificationCodeSequence[0]
        for item in dataset.get("RTROIObservationsSequence") or ()
        if item.get("RTROIIdentificationCodeSequence")
    }
    found = []
    for roi in dataset.get("StructureSetROISequence") or ():
        number = int(roi.ROINumber)
        code = codes.get(number)
        kind = (
            Code(code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) if code else TISSUE
        )
        segment = Segment(number, str(roi.get("ROIName", "")), TISSUE, kind)
        colour = colours.get(number)
        if colour:
            rgb = (int(colour[0]), int(colour[1]), int(colour[2]))
            segment = Segment(number, segment.label, TISSUE, kind, colour=rgb)
        found.append(segment)
    return tuple(found)


def _fill(contours: Sequence[Dataset], grid: Grid, dataset: Dataset) -> NDArray[np.bool_]:
    """Return the voxels whose centre lies inside the contours of one ROI."""
    normal = grid.planes[0].normal
    heights = np.array([plane.position @ normal for plane in grid.planes])
    step = float(np.median(np.diff(heights)))
    rings: dict[int, list[Points]] = {}
    for contour in contours:
        if not str(contour.ContourGeometricType).startswith("CLOSED"):
            continue
        points = _points(contour)
        height = float((points @ normal).mean())
        index = int(np.abs(heights - height).argmin())
        if abs(heights[index] - height) > step / 2:
            raise Refused(
                f"structure set {dataset.SOPInstanceUID}: a contour lies "
                f"{abs(heights[index] - height):.2f} mm from the nearest image"
            )
        plane = grid.planes[index]
        away = points - plane.position
        axes = (plane.along_row / plane.spacing[1], plane.along_column / plane.spacing[0])
        rings.setdefault(index, []).append(away @ np.array(axes).T)
    inside = np.zeros(grid.shape, dtype=bool)
    for index, drawn in rings.items():
        inside[index] = fill(drawn, grid.shape[1], grid.shape[2])
    return inside


def _points(contour: Dataset) -> NDArray[np.float64]:
    """Return the points of a contour in mm, past pydicom's number for each of them."""
    data = contour.get_item(_CONTOUR_DATA)
    values = data.value.decode("ascii").split("\\") if data.is_raw else data.value
    return np.array(values, dtype=np.float64).reshape(-1, 3)


def fill(rings: Sequence[Points], rows: int, columns: int) -> NDArray[np.bool_]:
    """Return the pixels whose centre lies inside an odd number of closed lines.

    Parameters
    ----------
    rings : sequence of ndarray, shape (corners, 2)
        Closed lines (column, row) in pixels.
    rows, columns : int
        Shape of what is returned.
    """
    inside = np.zeros((rows, columns), bool)
    begin = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    # From low to high, so that there and back through a channel the same numbers come out.
    swap = begin[:, 1] > end[:, 1]
    begin[swap], end[swap] = end[swap], begin[swap].copy()
    first = np.clip(np.ceil(begin[:, 1]), 0, rows).astype(np.int64)
    beyond = np.clip(np.ceil(end[:, 1]), 0, rows).astype(np.int64)
    count = beyond - first
    edge = np.repeat(np.arange(len(begin)), count)
    if not edge.size:
        return inside
    row = np.arange(edge.size) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    share = (row - begin[edge, 1]) / (end[edge, 1] - begin[edge, 1])
    crossing = begin[edge, 0] + share * (end[edge, 0] - begin[edge, 0])
    column = np.clip(np.ceil(crossing), 0, columns).astype(np.int64)
    # Count the lines that lie left of each centre, in the box that they are in.
    top, left = int(row.min()), int(column.min())
    height, width = int(row.max()) - top + 1, int(column.max()) - left + 1
    at = (row - top) * width + (column - left)
    passed = np.bincount(at, minlength=height * width).reshape(height, width).cumsum(axis=1)
    inside[top : top + height, left : left + width - 1] = passed[:, :-1] % 2 == 1
    return inside
