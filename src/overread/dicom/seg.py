"""DICOM Segmentation objects (PS3.3 A.51): write masks as one, and read one back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from pydicom.valuerep import DA, DS, TM

from overread import __version__
from overread.dicom.codes import Code, Segment
from overread.dicom.derived import (
    LONGEST,
    MANUFACTURER,
    Making,
    clean,
    coded,
    finish,
    refer_to,
    reference,
)
from overread.dicom.geometry import Grid, Plane, group, lay_out
from overread.dicom.placing import SAME_PLACE_MM, check_frame, place, planes_of, refer
from overread.dicom.provenance import DerivedObject, derive_uid
from overread.dicom.study import Instance, Series
from overread.dicom.volume import Mask, Probability
from overread.errors import Refused

Form = Literal["binary", "fractional", "labelmap"]
"""SegmentationType: one bit a voxel and segment; its probability in 8 bits; one label a voxel."""

Compression = Literal["none", "rle", "jpeg2000"]
"""How the pixels are encoded; always without loss."""

SYNTAX = {"none": ExplicitVRLittleEndian, "rle": RLELossless, "jpeg2000": JPEG2000Lossless}

FULL = 255
"""MaximumFractionalValue: what stands for a probability of 1."""


def write_seg(
    masks: Mask | Probability | Sequence[Mask | Probability],
    source: Series,
    making: Making,
    *,
    form: Form = "binary",
    compress: Compression = "none",
) -> DerivedObject:
    """Write masks as a Segmentation into the Study of their source images.

    The same arguments give the same bytes. A mask without any voxel is written with all frames,
    since an object with none is not valid; otherwise empty frames are left out.

    Parameters
    ----------
    masks : Mask, Probability, or several of them
        On the planes of the source images, or on some of them. Their segments are numbered from 1
        in the order given, as the Standard wants it, and may overlap unless it is a label map. Of
        probabilities, what reaches their threshold counts, unless the form is fractional.
    source : Series
        The images that the masks belong to.
    making : Making
        The facts of the job.
    form : str
        ``binary``, ``fractional`` (a mask has probabilities 0 and 1) or ``labelmap``, which not
        every viewer reads yet.
    compress : str
        ``none``, ``rle`` (not for one bit a voxel: PS3.5 8.2.2) or ``jpeg2000``.

    Raises
    ------
    GeometryError
        The images do not say where they lie.
    ValueError
        A mask does not lie on the source's images, or has no segments; a label map would overlap;
        or form and compression do not go together.
    """
    import highdicom

    if form == "binary" and compress == "rle":
        raise ValueError(
            "RLE cannot hold one bit a voxel; compress: jpeg2000, or form: labelmap or fractional"
        )
    masks = [masks] if isinstance(masks, Mask | Probability) else list(masks)
    planes = planes_of(masks, source)
    pixels, segments = _pixels(masks, planes, form)
    images = _images(planes)
    first, local = images[0], making.local(source.header)
    description = making.describe(f"Segmentation: {', '.join(one.label for one in segments)}")
    seg = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=pixels,
        segmentation_type=form.upper(),
        segment_descriptions=[_describe(segment, first, making) for segment in segments],
        series_instance_uid=making.uid("series"),
        series_number=making.series_number(first, "SEG"),
        sop_instance_uid=making.uid("instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=f"{making.algorithm.name} {making.algorithm.version}"[:LONGEST],
        software_versions=f"overread {__version__}",
        device_serial_number=making.device[:LONGEST],
        content_label="SEGMENTATION",
        content_description=description,
        series_description=description,
        content_date=DA(local.date()),
        content_time=TM(local.time()),
        series_date=DA(local.date()),
        series_time=TM(local.time()),
        content_qualification="RESEARCH",  # finish says what it is
        specific_character_set="ISO_IR 192",
        transfer_syntax_uid=SYNTAX[compress],
        max_fractional_value=FULL,
        omit_empty_frames=bool(pixels.any()),
    )
    organisation = making.uid("dimensions")
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = organisation
    used = _settle_references(seg, planes, images)
    return finish(
        seg,
        source.header,
        making,
        kind="segmentation",
        sources=(one.uid for one in used),
        segments=segments,
    )


def _pixels(
    masks: Sequence[Mask | Probability], planes: Sequence[Plane], form: Form
) -> tuple[NDArray[Any], tuple[Segment, ...]]:
    """Return pixels as highdicom takes them: labels, or segments stacked along the last axis."""
    segments: list[Segment] = []
    layers: list[NDArray[Any]] = []
    for mask in masks:
        numbers = [segment.number for segment in mask.segments]
        order = sorted(range(len(numbers)), key=numbers.__getitem__)
        shape = mask.array.shape[-3:]
        array = place(mask.affine, shape, planes).take(mask.array)
        if isinstance(mask, Mask):
            if len(masks) == 1 and form != "fractional":
                array, segments = _renumber(array, mask.segments)
                return array, tuple(segments)
            layers += [array == numbers[index] for index in order]
        elif form == "fractional":
            layers += [array[index] for index in order]
        else:
            layers += [array[index] >= mask.threshold for index in order]
        segments += [mask.segments[index] for index in order]
    if not segments:
        raise ValueError("a segmentation has at least one segment; the mask describes none")
    numbered = tuple(replace(one, number=index) for index, one in enumerate(segments, start=1))
    if form == "fractional":
        stacked = np.stack(layers, axis=-1, dtype=np.float32)
        # In the steps that are stored: what rounds to 0 is left out, and highdicom, which looks for
        # every different value, finds 256.
        np.rint(stacked * FULL, out=stacked)
        stacked /= FULL
        return stacked, numbered
    labels = np.zeros(layers[0].shape, np.uint8 if len(layers) < 256 else np.uint16)
    for number, layer in enumerate(layers, start=1):
        if (labels[layer] != 0).any():
            if form == "labelmap":
                raise ValueError("a label map cannot hold segments that overlap; form: binary")
            return np.stack(layers, axis=-1).view(np.uint8), numbered
        labels[layer] = number
    return labels, numbered


def _renumber(
    labels: NDArray[Any], segments: Sequence[Segment]
) -> tuple[NDArray[Any], list[Segment]]:
    """Give segments numbers from 1 without a gap, as PS3.3 C.8.20.2 requires."""
    if not segments:
        raise ValueError("a segmentation has at least one segment; the mask describes none")
    ordered = sorted(segments, key=lambda segment: segment.number)
    if [segment.number for segment in ordered] == list(range(1, len(ordered) + 1)):
        return labels, ordered
    new = np.zeros(ordered[-1].number + 1, dtype=labels.dtype)
    for number, segment in enumerate(ordered, start=1):
        new[segment.number] = number
    return new[labels], [
        replace(segment, number=number) for number, segment in enumerate(ordered, start=1)
    ]


def _images(planes: Sequence[Plane]) -> list[Dataset]:
    """Return each plane as a single-frame image, as highdicom takes its sources.

    It takes one orientation and one spacing, to the last digit, so all have those of the first. A
    frame of several is given as an image with a UID of its own; `_settle_references` puts what is
    real back.
    """
    plane = planes[0]
    single = _single_frames(planes)
    first = clean(plane.instance.header)
    first.pop("NumberOfFrames", None)
    if not first.get("FrameOfReferenceUID"):
        # Only a broken or stripped series lacks it. A frame of its own says what is known: that
        # these images share their coordinates with the segmentation, and with nothing else.
        first.FrameOfReferenceUID = derive_uid(str(first.SeriesInstanceUID), "frame of reference")
    if not single:
        first.SOPClassUID = CTImageStorage  # any that has one frame
    first.Rows, first.Columns = plane.size
    first.ImageOrientationPatient = [
        DS(value, auto_format=True) for value in (*plane.along_row, *plane.along_column)
    ]
    first.PixelSpacing = [DS(value, auto_format=True) for value in plane.spacing]
    # A voxel of a mask is as thick as the slices are apart.
    first.SliceThickness = DS(_thickness(planes), auto_format=True)
    shared = Dataset()
    for keyword in (
        "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Rows",
        "Columns", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
    ):  # fmt: skip
        shared[keyword] = first[keyword]
    images = [first, *(Dataset() for _ in planes[1:])]
    for image in images[1:]:
        image.update(shared)
    for index, (image, plane) in enumerate(zip(images, planes, strict=True)):
        image.SOPInstanceUID = plane.instance.uid if single else f"2.25.{index}"
        image.ImagePositionPatient = [DS(value, auto_format=True) for value in plane.position]
    return images


def _thickness(planes: Sequence[Plane]) -> float:
    """Distance between neighbouring slices in mm: the usual one, where they are not even."""
    if len(planes) == 1:
        return float(planes[0].instance.header.get("SliceThickness") or 1)
    places = np.array([plane.position for plane in planes])
    return float(np.median(np.linalg.norm(np.diff(places, axis=0), axis=1)))


def _single_frames(planes: Sequence[Plane]) -> bool:
    """Say whether each plane is an image of its own, which highdicom can refer to by itself."""
    return not any(
        plane.tiles or plane.instance.header.get("NumberOfFrames") is not None for plane in planes
    )


def _settle_references(
    seg: Dataset, planes: Sequence[Plane], images: Sequence[Dataset]
) -> list[Instance]:
    """Name the real images, and the frames of multi-frame ones, where `_images` stood in."""
    used = list({plane.instance.uid: plane.instance for plane in planes}.values())
    if _single_frames(planes):
        return used
    real = {str(image.SOPInstanceUID): plane for image, plane in zip(images, planes, strict=True)}
    derived = [
        named
        for item in seg.PerFrameFunctionalGroupsSequence
        for derivation in item.get("DerivationImageSequence") or ()
        for named in derivation.SourceImageSequence
    ]
    for named in {id(named): named for named in derived}.values():  # segments share them
        named.update(refer(real[named.ReferencedSOPInstanceUID]))
    seg.SourceImageSequence = [reference(instance) for instance in used]
    refer_to(seg, Series(tuple(used)))
    return used


def _describe(segment: Segment, header: Dataset, making: Making) -> Any:
    import highdicom

    def concept(code: Code) -> Any:
        return highdicom.sr.CodedConcept(code.value, code.scheme, code.meaning)

    algorithm = making.algorithm
    tracking_id, tracking_uid = making.tracking(header, segment.label)
    described = highdicom.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.label,
        segmented_property_category=concept(segment.category),
        segmented_property_type=concept(segment.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=algorithm.name,
            family=concept(algorithm.family),
            version=algorithm.version,
            source=algorithm.source,
            parameters=dict(algorithm.parameters) or None,
        ),
        tracking_id=tracking_id,
        tracking_uid=tracking_uid,
        anatomic_regions=[concept(segment.anatomy)] if segment.anatomy else None,
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.colour),
    )
    if segment.laterality:
        (kind,) = described.SegmentedPropertyTypeCodeSequence
        kind.SegmentedPropertyTypeModifierCodeSequence = [coded(segment.laterality)]
        if segment.anatomy:
            (region,) = described.AnatomicRegionSequence
            region.AnatomicRegionModifierSequence = [coded(segment.laterality)]
    return described


def read_seg(dataset: Dataset, source: Series) -> Mask | Probability:
    """Read a Segmentation on the grid of its source images.

    Parameters
    ----------
    dataset : Dataset
        A Segmentation or Label Map Segmentation, ours or another maker's.
    source : Series
        The images it belongs to.

    Returns
    -------
    Mask or Probability
        A Mask if no voxel is of two segments. A Probability if it is FRACTIONAL, or if segments
        overlap: then with the values 0 and 1.

    Raises
    ------
    GeometryError
        The images make no regular grid.
    Refused
        It is no Segmentation, lies in another frame of reference, a frame lies on none of the
        images, or it has no pixels to read.
    """
    if str(dataset.get("Modality")) != "SEG":
        raise Refused(f"object {dataset.get('SOPInstanceUID')} is no Segmentation")
    check_frame(dataset, source)
    grid = lay_out(source)
    segments = segments_of(dataset)
    frames = _frames(dataset, grid)
    where = (grid.affine, segments, str(dataset.get("FrameOfReferenceUID", "")))
    kind = np.uint8 if max(segment.number for segment in segments) < 256 else np.uint16
    if dataset.get("SegmentationType") == "FRACTIONAL":
        full = int(dataset.get("MaximumFractionalValue", 1))
        return Probability(_layers(frames, segments, grid, np.float32(full)), *where)
    labels = np.zeros(grid.shape, dtype=kind)
    for number, index, pixels in frames:
        if number is None:
            labels[index] = pixels
            continue
        inside = pixels > 0
        if (labels[index][inside] != 0).any():
            return Probability(_layers(frames, segments, grid, np.float32(1)), *where)
        labels[index][inside] = number
    return Mask(labels, *where)


def _frames(dataset: Dataset, grid: Grid) -> list[tuple[int | None, int, NDArray[Any]]]:
    """Return each frame's segment (none in a label map), slice and pixels."""
    try:
        pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    except (AttributeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise Refused(
            f"segmentation {dataset.get('SOPInstanceUID')}: its pixels cannot be read ({error})"
        ) from error
    if pixels.shape[1:] != grid.shape[1:]:
        raise Refused(
            f"segmentation {dataset.SOPInstanceUID} has frames of {dataset.Rows} × "
            f"{dataset.Columns}, its images {grid.shape[1]} × {grid.shape[2]}"
        )
    places = frame_places(dataset, grid)
    return [(number, index, frame) for (number, index), frame in zip(places, pixels, strict=True)]


def frame_places(dataset: Dataset, grid: Grid) -> list[tuple[int | None, int]]:
    """Say of each frame of a Segmentation, which segment it is of and on which slice it lies.

    Parameters
    ----------
    dataset : Dataset
        A Segmentation; its pixels are not looked at.
    grid : Grid
        The planes of its source images.

    Returns
    -------
    list of (int or None, int)
        Segment number, none in a label map, and slice index.

    Raises
    ------
    Refused
        A frame says not where it is, or lies on none of the images.
    """
    label_map = dataset.get("SegmentationType") == "LABELMAP"
    found = []
    for item in dataset.PerFrameFunctionalGroupsSequence:
        identified = group(item, "SegmentIdentificationSequence", dataset)
        position = group(item, "PlanePositionSequence", dataset)
        if position is None or (identified is None and not label_map):
            raise Refused(f"segmentation {dataset.SOPInstanceUID}: a frame says not where it is")
        number = int(identified.ReferencedSegmentNumber) if identified else None
        index = _slice_at(np.array(position.ImagePositionPatient, dtype=float), grid)
        found.append((number, index))
    return found


def _layers(
    frames: Sequence[tuple[int | None, int, NDArray[Any]]],
    segments: Sequence[Segment],
    grid: Grid,
    full: np.float32,
) -> NDArray[np.float32]:
    layers = np.zeros((len(segments), *grid.shape), np.float32)
    place_of = {segment.number: index for index, segment in enumerate(segments)}
    for number, index, pixels in frames:
        if number is not None:
            layers[place_of[number], index] = pixels / full
    return layers


def _slice_at(position: NDArray[np.float64], grid: Grid) -> int:
    distance = [float(np.linalg.norm(plane.position - position)) for plane in grid.planes]
    nearest = int(np.argmin(distance))
    if distance[nearest] > SAME_PLACE_MM:
        raise Refused(
            f"a frame of the segmentation lies {distance[nearest]:.2f} mm from the nearest image"
        )
    return nearest


def segments_of(dataset: Dataset) -> tuple[Segment, ...]:
    """Return the segments that a Segmentation describes; the background of a label map is none."""
    return tuple(_segment(item) for item in dataset.SegmentSequence if item.SegmentNumber)


def _segment(item: Dataset) -> Segment:
    import highdicom

    def code(sequence: Any) -> Code:
        return Code(
            sequence[0].CodeValue, sequence[0].CodingSchemeDesignator, sequence[0].CodeMeaning
        )

    anatomy = item.get("AnatomicRegionSequence")
    side = item.SegmentedPropertyTypeCodeSequence[0].get(
        "SegmentedPropertyTypeModifierCodeSequence"
    )
    colour = item.get("RecommendedDisplayCIELabValue")
    segment = Segment(
        int(item.SegmentNumber),
        str(item.SegmentLabel),
        code(item.SegmentedPropertyCategoryCodeSequence),
        code(item.SegmentedPropertyTypeCodeSequence),
        code(anatomy) if anatomy else None,
        laterality=code(side) if side else None,
    )
    if not colour:
        return segment
    rgb = highdicom.color.CIELabColor.from_dicom_value(colour).to_rgb()
    return replace(segment, colour=(int(rgb[0]), int(rgb[1]), int(rgb[2])))
