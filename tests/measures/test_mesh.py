from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from overread.measures.mesh import stl, surface_mesh
from tests.dicom.series import affine


def sphere(radius: float) -> Any:
    place = np.indices((int(2 * radius) + 6,) * 3) - (radius + 2.5)
    return (place**2).sum(axis=0) <= radius**2


@pytest.mark.parametrize("smoothing", [0, 10])
@pytest.mark.parametrize("spacing", [(1, 1, 1), (3, 0.8, 0.6)])
def test_a_ball_s_mesh_has_the_volume_of_its_voxels(smoothing: int, spacing: Any) -> None:
    inside = sphere(12)
    grid = affine(spacing, (10, -50, 80))
    found = surface_mesh(inside, grid, smoothing)
    assert found.volume == pytest.approx(inside.sum() * np.prod(spacing), rel=0.02)
    middle = grid @ [*np.argwhere(inside).mean(axis=0), 1]
    outward = found.corners[found.triangles].mean(axis=1) - middle[:3]
    assert (np.einsum("ij,ij->i", found.normals, outward) > 0).mean() > 0.99


@given(arrays(np.bool_, (3, 4, 5)), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_surface_is_closed_and_looks_outward(inside: Any, mirrored: bool) -> None:
    if not inside.any():
        return
    grid = affine((2, 1, 1), (5, 6, 7))
    if mirrored:
        grid[:3, 0] *= -1
    found = surface_mesh(inside, grid)
    assert found.volume > 0
    first, second = found.triangles, np.roll(found.triangles, -1, axis=1)
    edges = {tuple(edge) for edge in np.stack([first, second], -1).reshape(-1, 2).tolist()}
    assert all((b, a) in edges for a, b in edges)


def test_smoothing_takes_the_steps_off() -> None:
    inside = sphere(14)
    rough, smooth = (surface_mesh(inside, np.eye(4), passes) for passes in (0, 20))
    spread = [
        np.linalg.norm(mesh.corners - np.argwhere(inside).mean(axis=0), axis=1).std()
        for mesh in (rough, smooth)
    ]
    assert spread[1] < spread[0] / 2


def test_stl_is_what_it_says() -> None:
    mesh = surface_mesh(sphere(4), affine((2, 1, 1)))
    data = stl(mesh, "Leber, groß")
    assert data[:5] != b"solid"  # which would make it text
    (count,) = struct.unpack_from("<I", data, 80)
    assert (count, len(data)) == (len(mesh.triangles), 84 + 50 * len(mesh.triangles))
    numbers = struct.unpack_from("<12fH", data, 84)
    np.testing.assert_allclose(
        np.reshape(numbers[3:12], (3, 3)), mesh.corners[mesh.triangles[0]], rtol=1e-5
    )
    np.testing.assert_allclose(numbers[:3], mesh.normals[0], atol=1e-5)
