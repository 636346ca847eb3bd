"""Processed images: a volume as one object that every image viewer shows.

The object is a Multi-frame Grayscale Word Secondary Capture (PS3.3 A.8.4) whose frames say where
they lie. A Parametric Map would keep the values as floating point, but few PACS show one, and those
that do draw it in colours over the source; Enhanced CT and MR ask for acquisition parameters that
a processed volume no longer has. What it costs: values are kept in 65,536 steps over their range.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.tag import Tag
from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage
from pydicom.valuerep import DA, TM, DSfloat

from overread.dicom.codes import Code
from overread.dicom.derived import Making, coded, finish, refer_to, reference, start
from overread.dicom.planes import UNIT_VECTOR
from overread.dicom.provenance import DerivedObject, derive_uid
from overread.dicom.study import Series
from overread.dicom.volume import HOUNSFIELD, Volume

STEPS = 2**16 - 1
"""Largest stored value: 16 bits."""

SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
"""CID 7202 *Source Image Purposes of Reference*."""

SHOWN = (0.5, 99.5)
"""Percentiles of the values that the window spans."""


def write_processed(
    volume: Volume,
    source: Series,
    making: Making,
    *,
    description: str = "Processed images",
    window: tuple[float, float] | None = None,
) -> DerivedObject:
    """Write a volume as a multi-frame image into the Study of its source images.

    Whole numbers that span less than 65,536 are kept exactly; other values are rounded to steps of
    1/65,535 of their range.

    Parameters
    ----------
    volume : Volume
        On any grid; it lies where its affine says, in its own frame of reference.
    source : Series
        The images that it was made from.
    making : Making
        The facts of the job.
    description : str
        SeriesDescription.
    window : (float, float), optional
        Centre and width that it is shown with; otherwise the 0.5th to the 99.5th percentile.

    Raises
    ------
    ValueError
        Rows and columns of the volume are not perpendicular, or a value is not finite.
    """
    steps = np.linalg.norm(volume.affine[:3, :3], axis=0)
    along = volume.affine[:3, :3] / steps
    if abs(along[:, 1] @ along[:, 2]) > UNIT_VECTOR:
        raise ValueError(
            "rows and columns of the volume are not perpendicular, which an image cannot say; put "
            "a step before it that brings it onto an upright grid: resample"
        )
    stored, slope, intercept = _store(volume.array)
    header, local = source.header, making.local(source.header)
    made = start(
        header,
        making,
        sop_class=MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        modality=volume.modality or str(header.get("Modality") or "OT"),
        description=description,
    )
    made.ImageType = ["DERIVED", "SECONDARY", "VOLUME"]
    made.ConversionType = "WSD"
    made.BurnedInAnnotation = "NO"
    made.Laterality = made.PatientOrientation = made.PositionReferenceIndicator = ""
    made.ContentDate, made.ContentTime = DA(local.date()), TM(local.time())
    made.FrameOfReferenceUID = (
        volume.frame_of_reference
        or header.get("FrameOfReferenceUID")
        or derive_uid(source.uid, "frame of reference")
    )
    made.LossyImageCompression = str(header.get("LossyImageCompression") or "00")
    made.DerivationDescription = f"{making.algorithm.name} {making.algorithm.version}"
    made.SourceImageSequence = [reference(instance) for instance in source]
    for item in made.SourceImageSequence:
        item.PurposeOfReferenceCodeSequence = [coded(SOURCE_IMAGE)]
    refer_to(made, source)
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.PresentationLUTShape = "IDENTITY"
    made.NumberOfFrames, made.Rows, made.Columns = stored.shape
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 0
    made.RescaleIntercept, made.RescaleSlope = intercept, slope
    made.RescaleType = "HU" if volume.unit == HOUNSFIELD else "US"
    made.VOILUTFunction = "LINEAR_EXACT"  # whose width may be less than 1
    made.WindowCenter, made.WindowWidth = map(_decimal, window or _window(volume.array))
    _lay(made, volume, along, steps)
    made.add_new(Tag("PixelData"), "OW", stored.tobytes())
    sources = (instance.uid for instance in source)
    return finish(made, header, making, kind="processed images", sources=sources)


def _store(array: NDArray[np.floating]) -> tuple[NDArray[np.uint16], DSfloat, DSfloat]:
    """Return what is stored, RescaleSlope and RescaleIntercept."""
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("the volume holds values that are not finite, which an image cannot")
    whole = high - low <= STEPS and bool((array == np.rint(array)).all())
    slope = _decimal(1 if whole or high == low else (high - low) / STEPS)
    intercept = _decimal(low)
    # One slice at a time, so that there is no second volume of floating point.
    stored = np.empty(array.shape, "<u2")
    for index, one in enumerate(array):
        levels = np.rint((one.astype(np.float64) - float(intercept)) / float(slope))
        stored[index] = np.clip(levels, 0, STEPS)
    return stored, slope, intercept


def _window(array: NDArray[np.floating]) -> tuple[float, float]:
    every = max(1, array.size // 10**6)
    low, high = np.percentile(array.ravel()[::every], SHOWN)
    return float(low + high) / 2, max(float(high - low), 1e-6)


def _lay(
    made: Dataset, volume: Volume, along: NDArray[np.float64], steps: NDArray[np.float64]
) -> None:
    """Say where each frame lies."""
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [_decimal(v) for v in (*along[:, 2], *along[:, 1])]
    measures.PixelSpacing = [_decimal(steps[1]), _decimal(steps[2])]
    measures.SliceThickness = _decimal(steps[0])
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    made.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for index in range(volume.array.shape[0]):
        position, frame = Dataset(), Dataset()
        place = volume.affine[:3, 3] + index * volume.affine[:3, 0]
        position.ImagePositionPatient = [_decimal(value) for value in place]
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    made.PerFrameFunctionalGroupsSequence = frames
    made.FrameIncrementPointer = Tag("SliceLocationVector")
    normal = np.cross(along[:, 2], along[:, 1])
    heights = volume.affine[:3, 3] @ normal + np.arange(len(frames)) * (
        volume.affine[:3, 0] @ normal
    )
    made.SliceLocationVector = [_decimal(height) for height in heights]


def _decimal(value: float) -> DSfloat:
    return DSfloat(float(value), auto_format=True)
