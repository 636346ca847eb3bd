"""Two versions of a segmentation, one over the other: outlines, Dice, and how volumes differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from overread.dicom.planes import Plane
from overread.measures.overlap import dice, surface_distances
from overread.portal import drawn, opened
from overread.portal.auth import require, tell
from overread.portal.drawn import Drawn
from overread.portal.state import Here
from overread.store import edits
from overread.store.tables import Result, User
from overread.store.users import Signed

router = APIRouter(include_in_schema=False)

MaySee = Annotated[Signed, Depends(require("image.see"))]


@dataclass(frozen=True)
class Compared:
    """One segment in both versions.

    Attributes
    ----------
    first, second : float
        Volume, mL.
    dice : float
        Overlap, 0 to 1.
    distance : float or None
        Mean distance of the surfaces, mm; none where only one version has the segment.
    """

    label: str
    first: float
    second: float
    dice: float
    distance: float | None

    @property
    def difference(self) -> float:
        """Second less first, mL."""
        return self.second - self.first

    @property
    def percent(self) -> float | None:
        """The difference in per cent of the first; none where that is 0."""
        return 100 * self.difference / self.first if self.first else None


def compared(one: Drawn, other: Drawn) -> list[Compared]:
    """Compare two versions on one grid, segment by segment.

    Raises
    ------
    HTTPException
        409 where they lie on different images.
    """
    if one.mask.array.shape != other.mask.array.shape or not np.allclose(
        one.mask.affine, other.mask.affine, atol=1e-3
    ):
        raise HTTPException(409, "the two versions lie on different images")
    millilitres = one.mask.voxel_volume / 1000
    found = []
    for segment in one.segments:
        inside = one.mask.array == segment.number, other.mask.array == segment.number
        where = box(inside[0] | inside[1])
        first, second = (each[where] for each in inside)
        distances = surface_distances(first, second, one.mask.affine)
        found.append(
            Compared(
                segment.label,
                float(first.sum()) * millilitres,
                float(second.sum()) * millilitres,
                dice(first, second),
                distances.mean if distances is not None else None,
            )
        )
    return found


def box(inside: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return where something is, so that a small lesion is not looked for in all of a CT."""
    filled = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    if not filled[0].size:
        return (slice(0, 1),) * 3
    return tuple(slice(int(each[0]), int(each[-1]) + 1) for each in filled)


def outline(inside: NDArray[np.bool_]) -> str:
    """Return the edges of a region of one slice as an SVG path, in pixels from the outer corner."""
    padded = np.pad(inside, 1)
    parts = [
        f"M{start} {row}h{length}"
        for row, start, length in _runs(padded[1:, 1:-1] != padded[:-1, 1:-1])
    ]
    parts += [
        f"M{column} {start}v{length}"
        for column, start, length in _runs((padded[1:-1, 1:] != padded[1:-1, :-1]).T)
    ]
    return "".join(parts)


def _runs(edges: NDArray[np.bool_]) -> Iterator[tuple[int, int, int]]:
    """Yield line, start and length of each unbroken run."""
    steps = np.diff(np.pad(edges.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    starts, ends = np.argwhere(steps == 1), np.argwhere(steps == -1)
    for (line, start), (_, end) in zip(starts.tolist(), ends.tolist(), strict=True):
        yield line, start, end - start


@router.get("/cases/{case_id}/compare")
def compare_versions(
    request: Request, portal: Here, signed: MaySee, *, case_id: str, a: str, b: str
) -> Response:
    """Show two versions of a segmentation over the images."""
    with portal.database.read() as session:
        case = opened.find(portal, session, signed, case_id, "image.see")
        (first, one), (second, other) = (
            drawn.find(portal, session, case, result_id) for result_id in (a, b)
        )
        names = [_name(session, signed, each) for each in (first, second)]
        root = f"/cases/{case.id}/dicom-web"
        context = {
            "signed": signed,
            "id": case.id,
            "case": case.case,
            "names": names,
            "versions": [
                (each.id, _name(session, signed, each))
                for each in edits.versions(session, case.case.id, first.name, case.sight)
                if each.id in {first.id, second.id} or each.superseded_by is None
            ],
            "a": a,
            "b": b,
            "found": compared(one, other),
            "slices": list(_slices(one, other, root)),
            "size": one.mask.array.shape[1:],
        }
    with portal.database.write() as session:
        tell(session, request, "compare versions", f"case {case_id}", {"results": [a, b]})
    return portal.templates.TemplateResponse(request, "compare.html", context)


def _name(session: Session, signed: Signed, result: Result) -> str:
    if not result.author:
        return (
            f"{result.model or result.pipeline} {result.model_version or result.pipeline_version}"
        )
    user = session.get(User, result.author)
    who = "you" if result.author == signed.account.id else user.name if user else "a reader"
    return f"{who}, version {result.version}"


def _slices(one: Drawn, other: Drawn, root: str) -> Iterator[dict[str, Any]]:
    """Describe each slice that either version has something on: its image, and both outlines."""
    filled = (one.mask.array | other.mask.array).any(axis=(1, 2))
    for index in np.flatnonzero(filled):
        yield {
            "image": _image(one.grid.planes[index], root),
            "number": int(index) + 1,
            "a": outline(one.mask.array[index] > 0),
            "b": outline(other.mask.array[index] > 0),
        }


def _image(plane: Plane, root: str) -> str:
    header = plane.instance.header
    return (
        f"{root}/studies/{header.StudyInstanceUID}/series/{header.SeriesInstanceUID}"
        f"/instances/{header.SOPInstanceUID}/frames/{plane.frame + 1}/rendered"
    )
