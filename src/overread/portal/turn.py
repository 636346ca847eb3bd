"""A segment as a surface that can be turned: drawn here by marching cubes, shown by the browser."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response

from overread.measures.mesh import surface_mesh
from overread.portal import drawn, opened
from overread.portal.auth import require, tell
from overread.portal.compare import box
from overread.portal.state import Here
from overread.store.users import Signed

router = APIRouter(include_in_schema=False)

SMOOTHING = 10
"""Passes of smoothing, as `write_mesh` has it; steps between slices do not look like anatomy."""

LARGEST = 40_000_000
"""Voxels around a segment of which its surface is drawn as it is; of a larger one every other."""

MaySee = Annotated[Signed, Depends(require("image.see"))]


@router.get("/cases/{case_id}/turn/{result}")
def turn(request: Request, portal: Here, signed: MaySee, case_id: str, result: str) -> Response:
    """Show the segments of a segmentation in three dimensions."""
    with portal.database.read() as session:
        case = opened.find(portal, session, signed, case_id, "image.see")
        _, made = drawn.find(portal, session, case, result)
        present = set(np.unique(made.mask.array).tolist())
        context = {
            "signed": signed,
            "id": case.id,
            "case": case.case,
            "result": result,
            "segments": [one for one in made.segments if one.number in present],
        }
    with portal.database.write() as session:
        tell(session, request, "turn segmentation", f"result {result}")
    return portal.templates.TemplateResponse(request, "turn.html", context)


@router.get("/cases/{case_id}/turn/{result}/{number}")
def surface(portal: Here, signed: MaySee, case_id: str, result: str, number: int) -> Response:
    """Give the surface of a segment.

    Little endian: the number of corners and of triangles (uint32), the corners in LPS mm (float32),
    the triangles (uint32).
    """
    with portal.database.read() as session:
        case = opened.find(portal, session, signed, case_id, "image.see")
        _, made = drawn.find(portal, session, case, result)
    inside = made.mask.array == number
    if not inside.any():
        raise HTTPException(404, "there is nothing of that segment")
    where = box(inside)
    affine = made.mask.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [one.start for one in where]
    region = inside[where]
    if region.size > LARGEST:
        region = region[::2, ::2, ::2]
        affine[:3, :3] *= 2
    mesh = surface_mesh(region, affine, SMOOTHING)
    head = np.array([len(mesh.corners), len(mesh.triangles)], "<u4")
    body = (head, mesh.corners.astype("<f4"), mesh.triangles.astype("<u4"))
    return Response(
        b"".join(each.tobytes() for each in body),
        media_type="application/octet-stream",
        headers={"Cache-Control": "private, no-cache"},
    )
