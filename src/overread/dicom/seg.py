"""DICOM Segmentation objects (PS3.3 A.51): write a mask as one, and read one back as a mask."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.tag import Tag
from pydicom.valuerep import DA, DS, TM, PersonName, validate_value

from overread import __version__
from overread.dicom.codes import ARTIFICIAL_INTELLIGENCE, Code, Segment
from overread.dicom.geometry import Affine, Grid, Plane, group, lay_out
from overread.dicom.provenance import DerivedObject, derive_uid
from overread.dicom.study import Series
from overread.dicom.volume import Mask
from overread.errors import Refused

MANUFACTURER = "Overread"

SAME_PLACE_MM = 0.1
"""How far a corner of a mask's slice may lie from the same corner of its source image: above what
headers round away, far below a voxel."""

OWNED = frozenset(
    {
        "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
        "FrameOfReferenceUID", "PatientID", "PatientName", "IssuerOfPatientID", "PatientBirthDate",
        "AccessionNumber", "StudyID", "Modality", "SpecificCharacterSet", "TimezoneOffsetFromUTC",
        "InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime",
        "ContentQualification",
    }
)  # fmt: skip
"""What a pipeline may not set: identity, form and time of the object are its writer's business."""

OWNED_GROUPS = frozenset({0x0002, 0x0028, 0x0062, 0x5200, 0x7FE0})
"""Groups of the same kind: file meta, pixels' form, segments, functional groups, pixels."""

IDENTITY = frozenset(
    {"PatientID", "PatientName", "AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID"}
)
"""Taken from the source images as it stands, whatever it looks like."""

DESCRIPTIVE_GROUPS = frozenset({0x0008, 0x0010, 0x0012})
"""Groups of which a value that does not fit its VR is left out, not copied."""

TEXT_VRS = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UT"})


@dataclass(frozen=True)
class Algorithm:
    """What made the segmentation (PS3.3 table 10-19).

    Attributes
    ----------
    name, version : str
        AlgorithmName and AlgorithmVersion.
    family : Code
        AlgorithmFamilyCodeSequence.
    source : str
        AlgorithmSource: who makes it.
    parameters : tuple of (str, str)
        AlgorithmParameters: names and values.
    """

    name: str
    version: str
    family: Code = ARTIFICIAL_INTELLIGENCE
    source: str = MANUFACTURER
    parameters: tuple[tuple[str, str], ...] = ()


def check_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Check attributes that a pipeline sets in the objects it makes.

    Parameters
    ----------
    tags : mapping
        Keyword (PS3.6) to value.

    Raises
    ------
    ValueError
        A keyword is unknown or not the pipeline's to set, or a value does not fit its VR.
    """
    checked: dict[str, str] = {}
    for keyword, value in tags.items():
        number = tag_for_keyword(keyword)
        if number is None:
            raise ValueError(f"{keyword} is not the keyword of a DICOM attribute")
        if keyword in OWNED or Tag(number).group in OWNED_GROUPS:
            raise ValueError(f"{keyword} is set by Overread and cannot be set by a pipeline")
        vr = dictionary_VR(number)
        if vr in ("SQ", "OB", "OW", "UN", "OB or OW", "OF", "OD", "OL", "OV"):
            raise ValueError(f"{keyword} holds {vr}, which cannot be written as text")
        for part in str(value).split("\\"):
            validate_value(vr, part, RAISE)
        checked[keyword] = str(value)
    return checked


def write_seg(
    mask: Mask,
    source: Series,
    *,
    made_by: tuple[str, ...],
    at: datetime,
    zone: str,
    algorithm: Algorithm,
    device: str,
    investigational: bool,
    tags: Mapping[str, Any] | None = None,
) -> DerivedObject:
    """Write a mask as a BINARY Segmentation into the Study of its source images.

    The same arguments give the same bytes: UIDs are derived from ``made_by``, dates and times are
    ``at``. A mask without any voxel is written with all frames, since an object with none is not
    valid; otherwise empty frames are left out.

    Parameters
    ----------
    mask : Mask
        On the grid of the source images, or on some of its slices.
    source : Series
        The images that the mask belongs to.
    made_by : tuple of str
        What identifies this object: job and step.
    at : datetime
        When it was made, aware.
    zone : str
        The zone of the source's dates and times, where they do not say their offset themselves.
    algorithm : Algorithm
        What made it.
    device : str
        DeviceSerialNumber: which configuration made it (pipeline and version).
    investigational : bool
        Marked so in ContentQualification (RESEARCH), ContentDescription and, unless ``tags`` sets
        it, SeriesDescription.
    tags : mapping, optional
        Further attributes; see `check_tags`.

    Returns
    -------
    DerivedObject
        Its segments are numbered from 1, as the Standard wants it.

    Raises
    ------
    GeometryError
        The source makes no regular grid.
    Refused
        The source has several multi-frame images.
    ValueError
        The mask does not lie on the source's grid, or has no segments, or a tag is wrong.
    """
    import highdicom

    wanted = check_tags(tags or {})
    grid = lay_out(source)
    labels, segments = _renumber(place(mask, grid), mask.segments)
    images, labels = _images(grid, labels)
    zone_offset = _offset(images[0], zone, at)
    local = at.astimezone(timezone(zone_offset))
    suffix = " (investigational)" if investigational else ""
    description = f"Segmentation: {', '.join(segment.label for segment in segments)}"
    seg = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=labels,
        segmentation_type="BINARY",
        segment_descriptions=[_describe(segment, algorithm) for segment in segments],
        series_instance_uid=derive_uid(*made_by, "series"),
        series_number=abs(int(images[0].get("SeriesNumber") or 0)) % 10**7 * 100 + 1,
        sop_instance_uid=derive_uid(*made_by, "instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=f"{algorithm.name} {algorithm.version}"[:64],
        software_versions=f"overread {__version__}",
        device_serial_number=device[:64],
        content_label="SEGMENTATION",
        content_description=description[: 64 - len(suffix)] + suffix,
        series_description=description[: 64 - len(suffix)] + suffix,
        content_date=DA(local.date()),
        content_time=TM(local.time()),
        series_date=DA(local.date()),
        series_time=TM(local.time()),
        content_qualification="RESEARCH" if investigational else "PRODUCT",
        specific_character_set="ISO_IR 192",
        omit_empty_frames=bool(labels.any()),
    )
    _settle(seg, made_by, local)
    for keyword, value in wanted.items():
        text = value.split("\\") if "\\" in value else value
        seg.add(DataElement(keyword, dictionary_VR(keyword), text))
    if investigational and "investigational" not in seg.ContentDescription.lower():
        seg.ContentDescription = seg.ContentDescription[: 64 - len(suffix)] + suffix
    sources = tuple(dict.fromkeys(plane.instance.uid for plane in grid.planes))
    return DerivedObject(seg, "segmentation", segments, sources)


def place(mask: Mask, grid: Grid) -> NDArray[Any]:
    """Put each slice of a mask where its corners say it lies in a grid.

    Returns
    -------
    ndarray, shape of the grid
        The labels; 0 on slices that the mask does not have.

    Raises
    ------
    ValueError
        A slice of the mask lies on no slice of the grid, or is turned or scaled against it.
    """
    shape = mask.array.shape
    if shape[1:] != grid.shape[1:]:
        raise ValueError(
            f"the mask has slices of {shape[1]} × {shape[2]}, the images {grid.shape[1]} × "
            f"{grid.shape[2]}; put a step before it that brings it onto them: resample_mask"
        )
    ours, theirs = _corners(mask.affine, shape), _corners(grid.affine, grid.shape)
    placed = np.zeros(grid.shape, dtype=mask.array.dtype)
    for index in range(shape[0]):
        distance = np.linalg.norm(theirs - ours[index], axis=-1).max(axis=1)
        nearest = int(distance.argmin())
        if distance[nearest] > SAME_PLACE_MM:
            raise ValueError(
                f"slice {index} of the mask lies {distance[nearest]:.2f} mm from the nearest "
                "image; put a step before it that brings it onto them: resample_mask"
            )
        placed[nearest] = mask.array[index]
    return placed


def _corners(affine: Affine, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return three corners of each slice, mm; shape (slices, 3, 3)."""
    slices = np.arange(shape[0])[:, None, None]
    ends = np.array([[0, 0], [shape[1] - 1, 0], [0, shape[2] - 1]])[None]
    index = np.concatenate(
        [np.broadcast_to(slices, (shape[0], 3, 1)), np.broadcast_to(ends, (shape[0], 3, 2))], axis=2
    )
    return np.asarray(index @ affine[:3, :3].T + affine[:3, 3])


def _renumber(
    labels: NDArray[Any], segments: Sequence[Segment]
) -> tuple[NDArray[Any], tuple[Segment, ...]]:
    """Give segments numbers from 1 without a gap, as PS3.3 C.8.20.2 requires."""
    if not segments:
        raise ValueError("a segmentation has at least one segment; the mask describes none")
    ordered = sorted(segments, key=lambda segment: segment.number)
    new = np.zeros(ordered[-1].number + 1, dtype=labels.dtype)
    for number, segment in enumerate(ordered, start=1):
        new[segment.number] = number
    return new[labels], tuple(
        replace(segment, number=number) for number, segment in enumerate(ordered, start=1)
    )


def _images(grid: Grid, labels: NDArray[Any]) -> tuple[list[Dataset], NDArray[Any]]:
    """Return the source images as highdicom takes them, and the labels in the same order.

    It takes one orientation and one spacing, to the last digit, and for a multi-frame image only
    from its shared groups: they are given as the grid has them.
    """
    header = grid.planes[0].instance.header
    first = _clean(header)
    if not first.get("FrameOfReferenceUID"):
        # Only a broken or stripped series lacks it. A frame of its own says what is known: that
        # these images share their coordinates with the segmentation, and with nothing else.
        first.FrameOfReferenceUID = derive_uid(str(first.SeriesInstanceUID), "frame of reference")
    orientation, measures = _orientation(grid), _measures(grid)
    if not header.get("PerFrameFunctionalGroupsSequence"):
        first.update(orientation)
        first.update(measures)
        return [first, *(_reference(plane, first) for plane in grid.planes[1:])], labels
    if any(plane.instance.header is not header for plane in grid.planes):
        raise Refused("the series has several multi-frame images; one was expected")
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    first.SharedFunctionalGroupsSequence = [shared]
    ordered = np.empty_like(labels)
    for index, plane in enumerate(grid.planes):
        ordered[plane.frame] = labels[index]
        position = Dataset()
        position.ImagePositionPatient = [DS(value, auto_format=True) for value in plane.position]
        item = Dataset()
        item.PlanePositionSequence = [position]
        first.PerFrameFunctionalGroupsSequence[plane.frame] = item
    return [first], ordered


def _orientation(grid: Grid) -> Dataset:
    found = Dataset()
    plane = grid.planes[0]
    found.ImageOrientationPatient = [
        DS(value, auto_format=True) for value in (*plane.along_row, *plane.along_column)
    ]
    return found


def _measures(grid: Grid) -> Dataset:
    """Pixel measures; a voxel of a mask is as thick as the slices are apart."""
    found = Dataset()
    found.PixelSpacing = [DS(value, auto_format=True) for value in grid.planes[0].spacing]
    found.SliceThickness = DS(float(np.linalg.norm(grid.affine[:3, 0])), auto_format=True)
    return found


def _reference(plane: Plane, first: Dataset) -> Dataset:
    """Return what highdicom asks of each further image, shared attributes as the first has them."""
    found = Dataset()
    for keyword in (
        "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Rows",
        "Columns", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
    ):  # fmt: skip
        setattr(found, keyword, first[keyword].value)
    found.SOPInstanceUID = plane.instance.uid
    found.ImagePositionPatient = plane.instance.header.ImagePositionPatient
    return found


def _clean(header: Dataset) -> Dataset:
    """Copy the header that patient and study are taken from, as Unicode and without bad values."""
    clean = deepcopy(header)
    clean.decode()
    for element in list(clean):
        if element.tag.group in DESCRIPTIVE_GROUPS and element.keyword not in IDENTITY:
            values = element.value if element.VM > 1 else [element.value]
            try:
                for value in values if element.VR in TEXT_VRS else ():
                    validate_value(element.VR, str(value or ""), RAISE)
            except ValueError:
                del clean[element.tag]
    for keyword in ("PatientID", "AccessionNumber", "StudyID"):
        if clean.get(keyword) is None:
            setattr(clean, keyword, "")
    for keyword, kind in (("StudyDate", DA), ("StudyTime", TM), ("PatientBirthDate", DA)):
        try:
            setattr(clean, keyword, kind(clean.get(keyword) or None))
        except ValueError:  # in the form of its VR, but no date: 20261399
            setattr(clean, keyword, None)
    for keyword in ("PatientName", "ReferringPhysicianName"):
        setattr(clean, keyword, PersonName(str(clean.get(keyword) or "")))
    sex = str(clean.get("PatientSex") or "")
    clean.PatientSex = sex if sex in ("M", "F", "O") else ""
    return clean


def _offset(header: Dataset, zone: str, at: datetime) -> timedelta:
    """Offset from UTC of all dates and times of the object.

    There is one for the whole object (PS3.3 C.12.1.1), the study's date and time included: the
    source's, or that of the site's zone on the day of the study.
    """
    written = re.fullmatch(r"([+-])(\d\d)(\d\d)", str(header.get("TimezoneOffsetFromUTC") or ""))
    if written:
        ahead = timedelta(hours=int(written[2]), minutes=int(written[3]))
        return -ahead if written[1] == "-" else ahead
    day = header.get("StudyDate")
    when = datetime(day.year, day.month, day.day, 12) if day else at.replace(tzinfo=None)  # noqa: DTZ001
    return ZoneInfo(zone).utcoffset(when) or timedelta(0)


def _describe(segment: Segment, algorithm: Algorithm) -> Any:
    import highdicom

    def coded(code: Code) -> Any:
        return highdicom.sr.CodedConcept(code.value, code.scheme, code.meaning)

    return highdicom.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.label,
        segmented_property_category=coded(segment.category),
        segmented_property_type=coded(segment.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=algorithm.name,
            family=coded(algorithm.family),
            version=algorithm.version,
            source=algorithm.source,
            parameters=dict(algorithm.parameters) or None,
        ),
        anatomic_regions=[coded(segment.anatomy)] if segment.anatomy else None,
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.colour),
    )


def _settle(seg: Dataset, made_by: tuple[str, ...], local: datetime) -> None:
    """Put derived values where highdicom asked the clock or made a random UID."""
    seg.InstanceCreationDate = DA(local.date())
    seg.InstanceCreationTime = TM(local.time())
    seg.TimezoneOffsetFromUTC = f"{local:%z}"
    seg.ContributingEquipmentSequence[-1].ContributionDateTime = f"{local:%Y%m%d%H%M%S.%f%z}"
    organisation = derive_uid(*made_by, "dimensions")
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = organisation


def read_seg(dataset: Dataset, source: Series) -> Mask:
    """Read a Segmentation as a mask on the grid of its source images.

    Parameters
    ----------
    dataset : Dataset
        A BINARY or FRACTIONAL Segmentation (a fraction above half counts).
    source : Series
        The images it belongs to.

    Raises
    ------
    Refused
        It is no Segmentation, its segments overlap, or a frame lies on none of the images.
    """
    if str(dataset.get("Modality")) != "SEG":
        raise Refused(f"object {dataset.get('SOPInstanceUID')} is no Segmentation")
    grid = lay_out(source)
    segments = tuple(_segment(item) for item in dataset.SegmentSequence)
    kind = np.uint8 if max(segment.number for segment in segments) < 256 else np.uint16
    labels = np.zeros(grid.shape, dtype=kind)
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    half = int(dataset.get("MaximumFractionalValue", 1)) / 2
    for item, frame in zip(dataset.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        identified = group(item, "SegmentIdentificationSequence", dataset)
        position = group(item, "PlanePositionSequence", dataset)
        if identified is None or position is None:
            raise Refused(f"segmentation {dataset.SOPInstanceUID}: a frame says not where it is")
        number = int(identified.ReferencedSegmentNumber)
        index = _slice_at(np.array(position.ImagePositionPatient, dtype=float), grid)
        inside = frame > half
        if (labels[index][inside] != 0).any():
            raise Refused(f"segmentation {dataset.SOPInstanceUID}: its segments overlap")
        labels[index][inside] = number
    return Mask(labels, grid.affine, segments, str(dataset.get("FrameOfReferenceUID", "")))


def _slice_at(position: NDArray[np.float64], grid: Grid) -> int:
    distance = [float(np.linalg.norm(plane.position - position)) for plane in grid.planes]
    nearest = int(np.argmin(distance))
    if distance[nearest] > SAME_PLACE_MM:
        raise Refused(
            f"a frame of the segmentation lies {distance[nearest]:.2f} mm from the nearest image"
        )
    return nearest


def _segment(item: Dataset) -> Segment:
    import highdicom

    def code(sequence: Any) -> Code:
        return Code(
            sequence[0].CodeValue, sequence[0].CodingSchemeDesignator, sequence[0].CodeMeaning
        )

    anatomy = item.get("AnatomicRegionSequence")
    colour = item.get("RecommendedDisplayCIELabValue")
    segment = Segment(
        int(item.SegmentNumber),
        str(item.SegmentLabel),
        code(item.SegmentedPropertyCategoryCodeSequence),
        code(item.SegmentedPropertyTypeCodeSequence),
        code(anatomy) if anatomy else None,
    )
    if not colour:
        return segment
    rgb = highdicom.color.CIELabColor.from_dicom_value(colour).to_rgb()
    return replace(segment, colour=(int(rgb[0]), int(rgb[1]), int(rgb[2])))
