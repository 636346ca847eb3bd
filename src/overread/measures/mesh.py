"""The surface of a region as triangles. Arrays and numbers only."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from skimage.measure import marching_cubes

Floats = NDArray[np.float64]

SHRINK, GROW = 0.5, -0.53
"""Factors of a pass of smoothing and of the one that undoes its shrinking (Taubin G 1995,
doi:10.1145/218380.218473)."""

STL_HEADER = 80
_marching_cubes: Any = marching_cubes
"""It has no annotations."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A closed surface.

    Attributes
    ----------
    corners : ndarray, shape (corners, 3)
        Millimetres.
    triangles : ndarray of int, shape (triangles, 3)
        Indices of corners, counter-clockwise from outside.
    """

    corners: Floats
    triangles: NDArray[np.intp]

    @property
    def volume(self) -> float:
        """What the surface encloses, mm³, by the divergence theorem."""
        first, second, third = (self.corners[self.triangles[:, one]] for one in range(3))
        return float(np.einsum("ij,ij->i", first, np.cross(second, third)).sum() / 6)

    @property
    def normals(self) -> Floats:
        """Unit normals of the triangles, outward; 0 for one without area."""
        first, second, third = (self.corners[self.triangles[:, one]] for one in range(3))
        normal = np.cross(second - first, third - first)
        length = np.linalg.norm(normal, axis=1, keepdims=True)
        return np.asarray(normal / np.where(length > 0, length, 1))


def surface_mesh(inside: NDArray[np.bool_], affine: Floats, smoothing: int = 0) -> Mesh:
    """Draw the surface of a region, halfway between the voxels inside and outside.

    Marching cubes (Lewiner T et al. 2003, doi:10.1080/10867651.2003.10487582), on the region with
    one layer of background around it, so that the surface is closed at the edge of the array too.

    Parameters
    ----------
    inside : ndarray of bool, shape (slices, rows, columns)
        The region; not empty.
    affine : ndarray, shape (4, 4)
        Voxel index to millimetres.
    smoothing : int
        Passes of Taubin's smoothing, which takes the steps off and keeps the volume.

    Returns
    -------
    Mesh
        In the millimetres that the affine gives.
    """
    box: Any = ndimage.find_objects(inside.astype(np.uint8))[0]
    start = np.array([edge.start for edge in box])
    padded = np.pad(inside[box], 1).astype(np.float32)
    corners, triangles, _, _ = _marching_cubes(padded, 0.5)
    places = (corners.astype(np.float64) + start - 1) @ affine[:3, :3].T + affine[:3, 3]
    mesh = Mesh(_smoothed(places, triangles, smoothing), triangles.astype(np.intp))
    return mesh if mesh.volume > 0 else Mesh(mesh.corners, mesh.triangles[:, ::-1])


def _smoothed(corners: Floats, triangles: NDArray[Any], passes: int) -> Floats:
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    both = np.unique(np.concatenate([sides, sides[:, ::-1]]), axis=0)
    size = len(corners)
    near = sparse.csr_array((np.ones(len(both)), (both[:, 0], both[:, 1])), shape=(size, size))
    count = np.maximum(np.asarray(near.sum(axis=1)).reshape(-1, 1), 1)
    for _ in range(passes):
        for factor in (SHRINK, GROW):
            corners = corners + factor * (near @ corners / count - corners)
    return corners


def stl(mesh: Mesh, title: str = "") -> bytes:
    """Encode a mesh as binary STL, millimetres.

    Parameters
    ----------
    mesh : Mesh
        The surface.
    title : str
        Written into the header as ASCII, cut to fit.
    """
    header = f"binary STL, mm {title}".encode("ascii", "replace")[:STL_HEADER].ljust(STL_HEADER)
    kind = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    facets = np.zeros(len(mesh.triangles), kind)
    facets["normal"] = mesh.normals
    facets["corners"] = mesh.corners[mesh.triangles]
    return header + struct.pack("<I", len(facets)) + facets.tobytes()
