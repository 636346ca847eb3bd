"""Planes: what a series is made of, each one frame of one image, and where it lies.

Single-frame images, enhanced multi-frame ones and Siemens mosaics are read. SliceThickness,
SpacingBetweenSlices and InstanceNumber are never asked: they describe how an image was acquired or
named, not where it lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from overread.dicom.element import text
from overread.dicom.mosaic import find_mosaic
from overread.dicom.study import Instance, Series
from overread.errors import GeometryError

Affine = NDArray[np.float64]
Vector = NDArray[np.float64]

UNIT_VECTOR = 0.001
"""Tolerance on the length of, and on the cosine between, the two direction vectors of a plane."""

OTHERWISE = {
    "AcquisitionTime": ("FrameAcquisitionDateTime", "AcquisitionDateTime"),
    "DiffusionBValue": ("(0019,xx0C)@SIEMENS MR HEADER",),
    "EchoTime": ("EffectiveEchoTime",),
    "TemporalPositionIdentifier": ("TemporalPositionIndex",),
    "TriggerTime": ("NominalCardiacTriggerDelayTime",),
}
"""Where the same thing stands in multi-frame images, or in those of one maker."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One frame of one instance, and where it lies.

    Attributes
    ----------
    instance : Instance
        The image that holds it.
    frame : int
        Index of the frame, from 0; 0 for a single-frame image. Of a mosaic: index of the tile.
    position : ndarray, shape (3,)
        Centre of the first voxel, LPS mm (ImagePositionPatient).
    along_row, along_column : ndarray, shape (3,)
        Unit vectors of increasing column index and of increasing row index
        (ImageOrientationPatient, first and last three values).
    spacing : tuple of float
        Distance between rows and between columns, mm (PixelSpacing).
    size : tuple of int
        Rows and columns of the plane.
    tiles : int
        How many tiles the mosaic has that it is one of; 0 where it is a whole frame.
    """

    instance: Instance
    frame: int
    position: Vector
    along_row: Vector
    along_column: Vector
    spacing: tuple[float, float]
    size: tuple[int, int]
    tiles: int = 0

    @property
    def name(self) -> str:
        """What a person calls it."""
        number = self.instance.header.get("InstanceNumber")
        image = f"image {number}" if number is not None else f"image {self.instance.uid}"
        if self.tiles:
            return f"{image} tile {self.frame + 1}"
        frames = int(self.instance.header.get("NumberOfFrames") or 1)
        return f"{image} frame {self.frame + 1}" if frames > 1 else image

    @property
    def key(self) -> tuple[str, int]:
        """SOPInstanceUID and index of the frame: which of all planes it is."""
        return self.instance.uid, self.frame

    @property
    def normal(self) -> Vector:
        """Unit normal of the plane."""
        return np.cross(self.along_row, self.along_column)

    def index_in(self, affine: Affine) -> NDArray[np.float64]:
        """Say where its corners lie in a grid.

        Returns
        -------
        ndarray, shape (3, 3)
            The first voxel, that of the last row, and that of the last column, each as
            ``(slice, row, column)`` of the grid, with fractions.
        """
        down = self.along_column * self.spacing[0] * (self.size[0] - 1)
        across = self.along_row * self.spacing[1] * (self.size[1] - 1)
        corners = np.array([self.position, self.position + down, self.position + across])
        inverse = np.linalg.inv(affine)
        return np.asarray(corners @ inverse[:3, :3].T + inverse[:3, 3])

    def values(self, address: str) -> tuple[str, ...]:
        """Read an attribute of this plane: of its frame, shared by all frames, or of the image.

        Parameters
        ----------
        address : str
            As in conditions (`overread.dicom.element`). Where multi-frame images or one maker have
            an attribute of their own for the same thing, that is read too (`OTHERWISE`).

        Returns
        -------
        tuple of str
            Its values as text; none where it is absent or empty.
        """
        header = self.instance.header
        frames = () if self.tiles else header.get("PerFrameFunctionalGroupsSequence") or ()
        shared = header.get("SharedFunctionalGroupsSequence") or ()
        groups = [*frames[self.frame : self.frame + 1], *shared[:1]]
        places = [item for one in groups for item in _items(one)]
        for place in (*places, header):  # what its frame says comes before what the image says
            for written in (address, *OTHERWISE.get(address, ())):
                if found := text(place, written):
                    return found
        return ()


def _items(group: Dataset) -> Iterator[Dataset]:
    """Yield the items of a functional group, and of what lies within it."""
    for element in group:
        for item in element.value if element.VR == "SQ" else ():
            yield item
            yield from _items(item)


def group(item: Dataset, keyword: str, header: Dataset) -> Dataset | None:
    """Return a functional group of a frame: its own, or the one that all frames share."""
    shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    for place in (item, shared[0]):
        if place.get(keyword):
            found: Dataset = place[keyword].value[0]
            return found
    return None


def planes(series: Series) -> Iterator[Plane]:
    """Yield every frame of a series with its place, in the order of the instances.

    Raises
    ------
    GeometryError
        ``mixed patients`` where an image is of another patient or study than the first; ``no
        position`` where an image does not say where it lies; ``invalid orientation`` where its
        directions are not two perpendicular unit vectors.
    """
    first = _whose(series.instances[0])
    for instance in series:
        if _whose(instance) != first:
            raise GeometryError(
                "mixed patients",
                f"image {instance.uid} is of another patient or study than image "
                f"{series.instances[0].uid}; a series of one patient was expected",
            )
        yield from _planes(instance)


def _whose(instance: Instance) -> list[str]:
    return [str(instance.header.get(keyword) or "") for keyword in _WHOSE]


_WHOSE = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID")


def _planes(instance: Instance) -> Iterator[Plane]:
    header = instance.header
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if frames:
        for index, item in enumerate(frames):
            yield _plane(
                instance,
                index,
                group(item, "PlanePositionSequence", header),
                group(item, "PlaneOrientationSequence", header),
                group(item, "PixelMeasuresSequence", header),
            )
        return
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise GeometryError(
            "no position",
            f"image {instance.uid} has {header.NumberOfFrames} frames, but no functional "
            "groups that say where each of them lies",
        )
    whole = _plane(instance, 0, header, header, header)
    mosaic = find_mosaic(header)
    if mosaic is None:
        yield whole
        return
    down, across = mosaic.corner * whole.spacing
    corner = whole.position + whole.along_column * down + whole.along_row * across
    for index, step in enumerate(mosaic.steps):
        yield replace(
            whole,
            frame=index,
            position=corner + step,
            size=mosaic.size,
            tiles=len(mosaic.steps),
        )


def _plane(
    instance: Instance,
    frame: int,
    position: Dataset | None,
    orientation: Dataset | None,
    measures: Dataset | None,
) -> Plane:
    place = _numbers(instance, frame, position, _POSITION, 3)
    direction = _numbers(instance, frame, orientation, _ORIENTATION, 6)
    spacing = _numbers(instance, frame, measures, _SPACING, 2)
    row, column = direction[:3], direction[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if (
        max(abs(length - 1) for length in lengths) > UNIT_VECTOR
        or abs(row @ column) > UNIT_VECTOR
        or not (spacing > 0).all()
    ):
        raise GeometryError(
            "invalid orientation",
            f"image {instance.uid} has ImageOrientationPatient {direction.tolist()} and "
            f"PixelSpacing {spacing.tolist()}; two perpendicular unit vectors and two positive "
            "distances were expected",
        )
    return Plane(
        instance,
        frame,
        place,
        row / lengths[0],
        column / lengths[1],
        (float(spacing[0]), float(spacing[1])),
        (int(instance.header.get("Rows") or 0), int(instance.header.get("Columns") or 0)),
    )


_POSITION = BaseTag(0x00200032), "ImagePositionPatient"
_ORIENTATION = BaseTag(0x00200037), "ImageOrientationPatient"
_SPACING = BaseTag(0x00280030), "PixelSpacing"


def _numbers(
    instance: Instance, frame: int, place: Dataset | None, what: tuple[BaseTag, str], count: int
) -> Vector:
    tag, keyword = what
    values = _decimals(place, tag) if place is not None else None
    try:
        numbers = np.array([float(value) for value in values or ()])
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.size != count or not np.isfinite(numbers).all():
        raise GeometryError(
            "no position",
            f"image {instance.uid}, frame {frame + 1}, has no usable {keyword} "
            f"({values!r}), so where it lies in the patient is not known",
        )
    return numbers


def _decimals(place: Dataset, tag: BaseTag) -> Any:
    """Return decimal strings as they are written; pydicom takes long to make its own of them.

    Of what is none, or was read before, the value.
    """
    element: Any = place.get_item(tag)
    if isinstance(element, RawDataElement) and element.VR == "DS" and element.value:
        return element.value.decode("latin-1").rstrip(" \0").split("\\")
    return None if element is None else place[tag].value
