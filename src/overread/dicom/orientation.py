"""In which plane of the patient an image lies: axial, coronal, sagittal, or oblique."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from overread.dicom.planes import group
from overread.dicom.study import Instance

Plane = Literal["axial", "coronal", "sagittal", "oblique"]

WITHIN_DEGREES = 30.0
"""How far the normal of a plane may lie from the patient's axis: heads are imaged tilted by up to
some 25° (along the skull base), and 45° would leave nothing oblique."""

_NORMALS: dict[Plane, tuple[float, float, float]] = {
    "sagittal": (1, 0, 0),
    "coronal": (0, 1, 0),
    "axial": (0, 0, 1),
}


def plane_of(normal: NDArray[np.float64], within_degrees: float = WITHIN_DEGREES) -> Plane:
    """Name the plane that has this normal.

    Parameters
    ----------
    normal : ndarray, shape (3,)
        In LPS; of any length and either sign.
    within_degrees : float
        Greatest angle to the patient's axis; a plane that is further off from all three is
        ``oblique``.
    """
    plane, angle = nearest_plane(normal)
    return plane if angle <= within_degrees else "oblique"


def nearest_plane(normal: NDArray[np.float64]) -> tuple[Plane, float]:
    """Return the plane of the patient that is nearest, and the angle to it in degrees."""
    unit = normal / np.linalg.norm(normal)
    angles: dict[Plane, float] = {
        name: float(np.degrees(np.arccos(min(1.0, abs(float(unit @ np.array(axis)))))))
        for name, axis in _NORMALS.items()
    }
    nearest = min(angles, key=lambda name: angles[name])
    return nearest, angles[nearest]


def normals(instance: Instance) -> Iterator[NDArray[np.float64] | None]:
    """Yield the normal of each frame of an image; none where it does not say how it lies."""
    header = instance.header
    for place in _orientations(header):
        try:
            given = None if place is None else place.get("ImageOrientationPatient")
            values = [float(value) for value in given or ()]
        except (TypeError, ValueError):
            values = []
        normal = np.cross(values[:3], values[3:]) if len(values) == 6 else np.zeros(3)
        yield normal if np.linalg.norm(normal) > 0.5 else None


def _orientations(header: Dataset) -> Iterator[Dataset | None]:
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if not frames:
        yield header
        return
    for item in frames:
        yield group(item, "PlaneOrientationSequence", header)
