"""Secondary captures (PS3.3 A.8): pictures for whoever has nothing but an image viewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.tag import Tag
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage as MultiFrame
from pydicom.uid import SecondaryCaptureImageStorage as SingleFrame
from pydicom.valuerep import DA, TM

from overread.dicom.codes import Code
from overread.dicom.derived import Making, clean, coded, finish, refer_to, reference, start
from overread.dicom.provenance import DerivedObject
from overread.dicom.study import Instance, group_series

KIND = "capture"

SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
"""CID 7202 *Source Image Purposes of Reference*."""

PROCESSING = Code("109102", "DCM", "Processing Equipment")
"""CID 7005 *Contributing Equipment Purposes of Reference*."""

OFTEN_ANNOTATED = frozenset({"US", "IVUS", "XC", "ES", "OT", "SC"})
"""Modalities whose images often have the patient's name in their pixels."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One frame of a capture.

    Attributes
    ----------
    pixels : ndarray, shape (rows, columns, 3), uint8
        Red, green, blue.
    label : str
        What it shows, for FrameLabelVector: at most 16 characters of it are kept.
    sources : tuple of (Instance, int)
        The images that it was drawn from, each with the index of its frame, from 0.
    """

    pixels: NDArray[np.uint8]
    label: str
    sources: tuple[tuple[Instance, int], ...]


def encode_capture(
    pictures: Sequence[Picture], making: Making, *, description: str
) -> DerivedObject:
    """Make a Secondary Capture object of pictures, in the Study of their source images.

    One picture makes a Secondary Capture Image, several a Multi-frame True Color Secondary Capture
    Image, uncompressed. What a picture was drawn from stands in SourceImageSequence; what drew it,
    in ContributingEquipmentSequence, since the IOD has no Algorithm Identification.

    BurnedInAnnotation says, as PS3.3 C.7.6.1 has it, whether the pixels identify the patient. What
    is drawn here never does; a source image may: it is YES where a source says so, or is of a kind
    that often does and does not say no.

    Parameters
    ----------
    pictures : sequence of Picture
        All of one size.
    making : Making
        The facts of the job.
    description : str
        SeriesDescription.

    Raises
    ------
    ValueError
        There are no pictures, they differ in size, or one has no source.
    """
    if not pictures or not all(picture.sources for picture in pictures):
        raise ValueError("a capture has at least one picture, and each has a source image")
    shapes = {picture.pixels.shape for picture in pictures}
    if len(shapes) > 1 or next(iter(shapes))[2:] != (3,):
        raise ValueError(f"the pictures of a capture have one size in colour, not {shapes}")
    header = pictures[0].sources[0][0].header
    made = start(
        header,
        making,
        sop_class=SingleFrame if len(pictures) == 1 else MultiFrame,
        modality="OT",
        description=description,
    )
    local = making.local(header)
    made.ConversionType = "WSD"
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.ContentDate, made.ContentTime = DA(local.date()), TM(local.time())
    made.PatientOrientation = ""  # it differs by frame, or is drawn
    made.Laterality = str(clean(header).get("Laterality") or "")
    made.DerivationDescription = f"{description}; drawn for viewing, not for measuring"
    made.ContributingEquipmentSequence = [_equipment(making)]
    _pixels(made, pictures)
    instances = _refer(made, pictures)
    made.BurnedInAnnotation = "YES" if any(map(_is_annotated, instances)) else "NO"
    _lossy(made, instances)
    return finish(made, header, making, kind=KIND, sources=[instance.uid for instance in instances])


def _pixels(made: Dataset, pictures: Sequence[Picture]) -> None:
    rows, columns, _ = pictures[0].pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 3, "RGB"
    made.PlanarConfiguration = 0
    made.Rows, made.Columns = rows, columns
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    if len(pictures) > 1:
        made.NumberOfFrames = len(pictures)
        # The Multi-frame Vector module (PS3.3 C.8.6.4): frames are pages, each with a label.
        made.FrameIncrementPointer = [Tag("PageNumberVector"), Tag("FrameLabelVector")]
        made.PageNumberVector = list(range(1, len(pictures) + 1))
        made.FrameLabelVector = [
            picture.label.replace("\\", "/")[:16].strip() or "-" for picture in pictures
        ]
    data = b"".join(np.ascontiguousarray(picture.pixels).tobytes() for picture in pictures)
    made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OB"


def _refer(made: Dataset, pictures: Sequence[Picture]) -> list[Instance]:
    """Name the source images, each once; return them."""
    frames: dict[str, set[int]] = {}
    instances: dict[str, Instance] = {}
    for picture in pictures:
        for instance, frame in picture.sources:
            instances[instance.uid] = instance
            frames.setdefault(instance.uid, set()).add(frame)
    items = []
    for uid, instance in instances.items():
        item = reference(instance)
        if int(instance.header.get("NumberOfFrames") or 1) > 1:
            item.ReferencedFrameNumber = [frame + 1 for frame in sorted(frames[uid])]
        item.PurposeOfReferenceCodeSequence = [coded(SOURCE_IMAGE)]
        items.append(item)
    made.SourceImageSequence = items
    refer_to(made, *group_series(list(instances.values())))
    return list(instances.values())


def _equipment(making: Making) -> Dataset:
    algorithm = making.algorithm
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [coded(PROCESSING)]
    item.Manufacturer = algorithm.source
    item.ManufacturerModelName = algorithm.name
    item.SoftwareVersions = algorithm.version
    item.ContributionDescription = ", ".join(
        [algorithm.family.meaning, *(f"{name}={value}" for name, value in algorithm.parameters)]
    )
    return item


def _is_annotated(instance: Instance) -> bool:
    said = str(instance.header.get("BurnedInAnnotation") or "")
    often = str(instance.header.get("Modality") or "") in OFTEN_ANNOTATED
    return said == "YES" or (often and said != "NO")


def _lossy(made: Dataset, instances: Sequence[Instance]) -> None:
    """Say that a source was compressed with loss: that does not come back."""
    for instance in instances:
        if str(instance.header.get("LossyImageCompression") or "") == "01":
            made.LossyImageCompression = "01"
            for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
                if instance.header.get(keyword):
                    made[keyword] = instance.header[keyword]
            return
