"""A volume: voxels with a place in the patient.

The one convention of this house: arrays are indexed ``(slice, row, column)`` and the affine maps
``(slice, row, column, 1)`` to millimetres in the patient's coordinate system of PS3.3 C.7.6.2.1.1
(LPS: x to the patient's left, y to the back, z to the head).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.dicom.codes import Segment
from overread.dicom.pixels import kind_of, read_frames, write_values
from overread.dicom.planes import Affine, Plane
from overread.dicom.sampling import interpolate_slices, straighten
from overread.dicom.stacks import STRICT, Arrangement, Policies, arrange
from overread.dicom.study import Instance, Series
from overread.errors import Refused

__all__ = [
    "HOUNSFIELD", "Affine", "Mask", "Probability", "Source", "Volume", "read_planes", "read_volume",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Source:
    """The grid that the voxels were read on, and the way back to it.

    Whatever is done to a volume (turned, cropped, padded, resampled, registered), what comes of it
    remembers this, so that a mask finds its way back in one step, without a chain of inverses.

    Attributes
    ----------
    shape : tuple of int
        Slices, rows, columns.
    affine : ndarray, shape (4, 4), float64
        Index ``(slice, row, column)`` to LPS millimetres of the source.
    frame_of_reference : str
        FrameOfReferenceUID of the source.
    back : ndarray, shape (4, 4), float64
        LPS millimetres of the present voxels to those of the source: the identity unless the volume
        was registered to another exam.
    planes : tuple of (str, int)
        SOPInstanceUID and index of the frame of every plane that was read; none where that is all
        of the series.
    """

    shape: tuple[int, int, int]
    affine: Affine
    frame_of_reference: str = ""
    back: Affine = field(default_factory=lambda: np.eye(4))
    planes: tuple[tuple[str, int], ...] = ()

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along the source's axes, in mm: as acquired."""
        return _spacing(self.affine)


def _spacing(affine: Affine) -> tuple[float, float, float]:
    step = np.linalg.norm(affine[:3, :3], axis=0)
    return (float(step[0]), float(step[1]), float(step[2]))


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar volume.

    Attributes
    ----------
    array : ndarray, shape (slices, rows, columns)
        Values in ``unit``.
    affine : ndarray, shape (4, 4), float64
        Index ``(slice, row, column)`` to LPS millimetres.
    frame_of_reference : str
        FrameOfReferenceUID; empty where the source had none.
    unit : str
        UCUM unit of the values; ``1`` for arbitrary units, ``[hnsf'U]`` for Hounsfield units.
    modality : str
        Modality of the source images.
    source : Source, optional
        The grid that it was read on; none where that is its own.
    """

    array: NDArray[Any]
    affine: Affine
    frame_of_reference: str = ""
    unit: str = "1"
    modality: str = ""
    source: Source | None = None

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise ValueError(f"a volume has 3 axes (slice, row, column), not {self.array.ndim}")
        if self.affine.shape != (4, 4):
            raise ValueError(f"an affine is 4 by 4, not {self.affine.shape}")
        if not abs(np.linalg.det(self.affine[:3, :3])) > 0:
            raise ValueError("the affine is singular: the voxels have no volume")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (slice, row, column) axes, in mm."""
        return _spacing(self.affine)

    @property
    def origin(self) -> Source:
        """The grid that it was read on."""
        return self.source or Source(_shape(self.array), self.affine, self.frame_of_reference)

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm³, from the determinant, so that shear counts."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def with_array(self, array: NDArray[Any], *, unit: str | None = None) -> Volume:
        """Return other values on the same grid."""
        return replace(self, array=array, unit=self.unit if unit is None else unit)

    def on_grid(self, array: NDArray[Any], affine: Affine) -> Volume:
        """Return the same values on another grid of the same space; the source is remembered."""
        return replace(self, array=array, affine=affine, source=self.origin)


def _shape(array: NDArray[Any]) -> tuple[int, int, int]:
    slices, rows, columns = array.shape[-3:]
    return (slices, rows, columns)


@dataclass(frozen=True, eq=False)
class Mask:
    """Labels on a grid.

    Attributes
    ----------
    array : ndarray, shape (slices, rows, columns), uint8 or uint16
        0 is background; every other value is a segment's number.
    affine, frame_of_reference
        As for `Volume`.
    segments : tuple of Segment
        What each value stands for.
    model : str
        ``name@version`` of the model that made it; empty if none did.
    source : Source, optional
        The grid that the volume it was made from was read on; none where that is its own.
    """

    array: NDArray[Any]
    affine: Affine
    segments: tuple[Segment, ...]
    frame_of_reference: str = ""
    model: str = ""
    source: Source | None = None

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise ValueError(f"a mask has 3 axes (slice, row, column), not {self.array.ndim}")
        if self.array.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"a mask holds uint8 or uint16, not {self.array.dtype}")
        known = {0} | {segment.number for segment in self.segments}
        if set(range(int(self.array.max(initial=0)) + 1)) <= known:
            return  # without the seconds that a look for each value takes
        unknown = sorted(set(np.unique(self.array).tolist()) - known)
        if unknown:
            raise ValueError(f"the mask holds values {unknown} that no segment describes")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (slice, row, column) axes, in mm."""
        return _spacing(self.affine)

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def with_array(self, array: NDArray[Any]) -> Mask:
        """Return other labels on the same grid."""
        return replace(self, array=array)


@dataclass(frozen=True, eq=False)
class Probability:
    """How probable each segment is in each voxel.

    Attributes
    ----------
    array : ndarray, shape (segments, slices, rows, columns), float32
        0 to 1, in the order of ``segments``; segments may overlap.
    affine, segments, frame_of_reference, model, source
        As for `Mask`.
    threshold : float
        From which the model's card counts a voxel as the segment.
    """

    array: NDArray[np.float32]
    affine: Affine
    segments: tuple[Segment, ...]
    frame_of_reference: str = ""
    model: str = ""
    source: Source | None = None
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.array.ndim != 4 or self.array.shape[0] != len(self.segments):
            raise ValueError(
                f"probabilities of {len(self.segments)} segments have the axes (segment, slice, "
                f"row, column); an array of shape {self.array.shape} was given"
            )

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (slice, row, column) axes, in mm."""
        return _spacing(self.affine)

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))


HOUNSFIELD = "[hnsf'U]"

UNITS = {"BQML": "Bq/mL", "CNTS": "{counts}", "GML": "g/mL", "PROPCPS": "1", "NONE": "1"}
"""Units of a PET image (PS3.3 C.8.9.1.1.3) in UCUM."""

THREADS = 4
"""Threads that read images; reading and converting uncompressed pixels lets others run."""

BATCH = 16
"""Images that a thread reads at a time, so that handing them out costs nothing."""


def read_volume(series: Series, policies: Policies = STRICT) -> Volume:
    """Read the pixels of a series as one volume.

    Every transfer syntax that pydicom decodes is read. Each slice's own RescaleSlope and
    RescaleIntercept (or ModalityLUTSequence) are applied. Values of MONOCHROME1 images are *not*
    inverted: that attribute says how to show them, not what they are. Padding stays as it is.

    Parameters
    ----------
    series : Series
        In any order; single-frame or multi-frame, or Siemens mosaics.
    policies : Policies
        What may be read that is no plain regular volume; by default nothing.

    Returns
    -------
    Volume
        float32; in Hounsfield units for a CT, unless its RescaleType says otherwise.

    Raises
    ------
    GeometryError
        The slices make no regular grid.
    Refused
        An image has no pixels, colour pixels, or pixels that cannot be decoded; or the values of
        some are of another kind (RescaleType, Units).
    """
    return read_planes(arrange(series, policies))


def read_planes(arrangement: Arrangement) -> Volume:
    """Read the pixels of planes that were arranged as one volume.

    Memory is at most that of two such volumes, and some slices.

    Raises
    ------
    Refused
        As `read_volume`.
    """
    planes = arrangement.planes
    unit = _common_unit(planes)
    array = np.empty((len(planes), *planes[0].size), np.float32)
    _read(planes, array)
    if not np.array_equal(arrangement.places, np.arange(len(planes))):
        array = interpolate_slices(array, arrangement.places)
    affine = arrangement.affine
    header = planes[0].instance.header
    frame_of_reference = str(header.get("FrameOfReferenceUID", ""))
    source = None
    if arrangement.straighten or arrangement.left_out:
        chosen = tuple(plane.key for plane in planes) if arrangement.left_out else ()
        source = Source(_shape(array), affine, frame_of_reference, planes=chosen)
    if arrangement.straighten:
        array, affine = straighten(array, affine)
    modality = str(header.get("Modality", ""))
    return Volume(array, affine, frame_of_reference, unit, modality, source)


def _common_unit(planes: Sequence[Plane]) -> str:
    units = {_unit(plane): plane for plane in planes}
    if len(units) > 1:
        told = ", ".join(f"{unit} in {plane.name}" for unit, plane in units.items())
        raise Refused(f"the values of the images are of different kinds: {told}; one was expected")
    return next(iter(units))


def _unit(plane: Plane) -> str:
    header = plane.instance.header
    match str(header.get("Modality", "")):
        case "CT":
            return HOUNSFIELD if kind_of(plane) in ("", "HU") else "1"
        case "PT":
            return UNITS.get(str(header.get("Units", "")), "1")
        case _:
            return "1"


def _read(planes: Sequence[Plane], array: NDArray[np.float32]) -> None:
    """Read planes into an array: those of one image by one thread, so that it is read once."""
    images: dict[Instance, list[int]] = {}
    for index, plane in enumerate(planes):
        images.setdefault(plane.instance, []).append(index)

    def read(batch: Sequence[Instance]) -> None:
        for image in batch:
            indices = sorted(images[image], key=lambda index: planes[index].frame)
            frames = read_frames(image, [planes[index].frame for index in indices])
            for index, stored in zip(indices, frames, strict=True):
                write_values(planes[index], stored, array[index])

    every = list(images)
    batches = [every[start : start + BATCH] for start in range(0, len(every), BATCH)]
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(read, batches):
            pass
