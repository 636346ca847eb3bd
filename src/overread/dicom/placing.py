"""Where the slices of a mask lie on the images it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from overread.dicom.derived import reference
from overread.dicom.geometry import EVEN, Affine, Plane, stack
from overread.dicom.study import Series
from overread.dicom.volume import Mask, Probability
from overread.errors import Refused

SAME_PLACE_MM = 0.1
"""How far a corner of a mask's slice may lie from the same corner of its source image: above what
headers round away, far below a voxel."""


@dataclass(frozen=True)
class Placement:
    """Which slice of an array lies on which plane.

    Attributes
    ----------
    slices : tuple of (int or None)
        For each plane, the index of the slice that lies on it; none where no slice does.
    stray : tuple of int
        Slices that lie on no plane: what a policy put where an image is missing.
    """

    slices: tuple[int | None, ...]
    stray: tuple[int, ...]

    def take(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the slices of an array, one for each plane; zeros where there is none.

        Parameters
        ----------
        array : ndarray, shape (…, slices, rows, columns)

        Returns
        -------
        ndarray, shape (…, planes, rows, columns)
            The array itself where its slices lie on the planes one by one.
        """
        if self.slices == tuple(range(array.shape[-3])):
            return array
        taken = np.zeros((*array.shape[:-3], len(self.slices), *array.shape[-2:]), array.dtype)
        for plane, index in enumerate(self.slices):
            if index is not None:
                taken[..., plane, :, :] = array[..., index, :, :]
        return taken


def planes_of(masks: Sequence[Mask | Probability], source: Series) -> tuple[Plane, ...]:
    """Return the images that the slices of masks lie on, ascending along their normal.

    Raises
    ------
    GeometryError
        The images do not say where they lie.
    ValueError
        A mask lies in another frame of reference than the images: it is of another exam. Or the
        masks were made from different volumes of the series, or of images that it lacks.
    """
    frame = str(source.header.get("FrameOfReferenceUID") or "")
    for mask in masks:
        if mask.frame_of_reference and frame and mask.frame_of_reference != frame:
            raise ValueError(
                f"the mask lies in frame of reference {mask.frame_of_reference}, the images in "
                f"{frame}; give the images that it was made from, and after register put a step "
                "before it that brings it back to them: to_source"
            )
    chosen = {mask.source.planes for mask in masks if mask.source and mask.source.planes}
    if len(chosen) > 1:
        raise ValueError("the masks were made from different volumes of the series; write each")
    return stack(source, next(iter(chosen), ()))


def check_frame(dataset: Dataset, source: Series) -> None:
    """Raise a Refused where an object says that it lies in another space than the images."""
    frames = [str(one.get("FrameOfReferenceUID") or "") for one in (dataset, source.header)]
    if all(frames) and frames[0] != frames[1]:
        raise Refused(
            f"object {dataset.get('SOPInstanceUID')} lies in frame of reference {frames[0]}, the "
            f"images in {frames[1]}: it belongs to others"
        )


def refer(plane: Plane) -> Dataset:
    """Return an item that names the image of a plane, and the frame where it has several."""
    item = reference(plane.instance)
    if not plane.tiles and int(plane.instance.header.get("NumberOfFrames") or 1) > 1:
        item.ReferencedFrameNumber = plane.frame + 1
    return item


def place(affine: Affine, shape: Sequence[int], planes: Sequence[Plane]) -> Placement:
    """Find for each plane the slice of an array that lies on it.

    Where the planes are evenly spaced, each slice must lie on one of them. Where they are not (an
    image is missing, or lies off its place, and a policy let the series pass), the array has even
    slices all the same: then a plane takes the slice that it lies in, the nearest one within half a
    step, and slices may be left over.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Index ``(slice, row, column)`` of the array to LPS millimetres.
    shape : sequence of int
        Slices, rows and columns of the array.
    planes : sequence of Plane
        The images, ascending along their normal.

    Raises
    ------
    ValueError
        The array lies elsewhere, or is turned or scaled against the images.
    """
    slices, rows, columns = shape
    if (rows, columns) != planes[0].size:
        raise ValueError(
            f"the mask has slices of {rows} × {columns}, the images {planes[0].size[0]} × "
            f"{planes[0].size[1]}; put a step before it that brings it onto them: to_source"
        )
    ours, theirs = _corners(affine, slices, rows, columns), _corners_of(planes)
    thickness = float(np.linalg.norm(affine[:3, 0]))
    way = affine[:3, 0] / thickness
    limit = max(SAME_PLACE_MM, EVEN * thickness)
    even = _evenly_spaced(planes)
    found: list[int | None] = []
    for corners in theirs:
        apart = corners - ours
        along = (apart @ way).mean(axis=1)  # mm along the stack to each slice
        index = int(np.abs(along).argmin())
        if abs(along[index]) > thickness / 2 + SAME_PLACE_MM:
            found.append(None)
            continue
        distance = float(
            np.linalg.norm(apart[index] - (0 if even else along[index] * way), axis=1).max()
        )
        if distance > limit:
            raise _elsewhere(index, distance)
        found.append(index)
    stray = tuple(sorted(set(range(slices)) - set(found)))
    if stray and (even or len(stray) == slices):
        distance = float(np.linalg.norm(theirs - ours[stray[0]], axis=-1).max(axis=-1).min())
        raise _elsewhere(stray[0], distance)
    return Placement(tuple(found), stray)


def _elsewhere(index: int, distance: float) -> ValueError:
    return ValueError(
        f"slice {index} of the mask lies {distance:.2f} mm from the nearest image; put a step "
        "before it that brings it onto them: to_source"
    )


def _evenly_spaced(planes: Sequence[Plane]) -> bool:
    heights = np.array([plane.position @ planes[0].normal for plane in planes])
    steps = np.diff(heights)
    return not steps.size or bool(np.ptp(steps) <= 2 * EVEN * np.median(steps))


def _corners(affine: Affine, slices: int, rows: int, columns: int) -> NDArray[np.float64]:
    """Return three corners of each slice, mm; shape (slices, 3, 3)."""
    ends = np.array([(0, 0), (rows - 1, 0), (0, columns - 1)])
    index = np.empty((slices, 3, 3))
    index[..., 0] = np.arange(slices)[:, None]
    index[..., 1:] = ends
    return np.asarray(index @ affine[:3, :3].T + affine[:3, 3])


def _corners_of(planes: Sequence[Plane]) -> NDArray[np.float64]:
    """Return the same three corners of each plane."""
    return np.array(
        [
            (
                plane.position,
                plane.position + plane.along_column * plane.spacing[0] * (plane.size[0] - 1),
                plane.position + plane.along_row * plane.spacing[1] * (plane.size[1] - 1),
            )
            for plane in planes
        ]
    )
