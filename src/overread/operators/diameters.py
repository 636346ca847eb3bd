"""Measure how long and how wide what was segmented is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from overread.dicom.codes import LONG_AXIS, PERPENDICULAR_AXIS, Segment
from overread.dicom.geometry import turn_to_axial
from overread.dicom.volume import Mask
from overread.measures.diameters import Diameters, diameters
from overread.operators.measure import DECIMALS, in_patient, measured
from overread.operators.postprocess import Labels, chosen
from overread.pipelines.ports import Account
from overread.validation.results import Measurement, Measurements

Rule = Literal["none", "recist", "recist_node", "rano"]

RULES: dict[Rule, tuple[str, float, str]] = {
    "none": ("", 0.0, ""),
    "recist": ("RECIST 1.1", 10.0, "sum of longest diameters"),
    "recist_node": ("RECIST 1.1, lymph nodes", 15.0, "sum of short axes"),
    "rano": ("RANO", 10.0, "sum of products of diameters"),
}
"""Name, least measurable size in mm, and what is summed over the measurable lesions."""

THICK_MM = 5.0
"""Where slices lie further apart, the least measurable diameter is twice their distance."""


def measure_diameters(
    mask: Mask,
    account: Account,
    *,
    rule: Rule = "none",
    per: Literal["segment", "lesion"] = "segment",
    segments: Labels | None = None,
    minimum_mm: Annotated[float, Field(ge=0)] | None = None,
    targets: Annotated[int, Field(ge=1)] = 5,
) -> Measurements:
    """Measure the longest axial diameter of each segment or lesion, and the longest across it.

    In every slice (of the grid's planes that lie nearest the axial one) the outline's longest
    diameter is found, the slice with the longest is taken, and in it the longest diameter
    perpendicular to that one: the two that RECIST 1.1 and RANO measure. The outline runs halfway
    between the centres of voxels inside and outside; diameters go from edge to edge of its convex
    hull. They are exact in the patient's millimetres on any grid, and their ends are kept.

    With a rule, lesions are measured by it, and those that it calls measurable are summed:

    - ``recist``: at least 10 mm long; the sum of longest diameters.
    - ``recist_node``: at least 15 mm across; the sum of short axes.
    - ``rano``: at least 10 mm along both; each lesion's product of diameters, and their sum.

    For ``recist`` and ``rano`` it is twice the distance of the slices where they lie more than 5 mm
    apart. Which lesions are targets is a reader's decision; the sum takes the largest.

    Parameters
    ----------
    mask : Mask
        What was segmented; on the grid of the source, so that the slices are those of the images.
    rule : str
        ``none``, ``recist``, ``recist_node`` or ``rano``.
    per : str
        ``segment`` measures a segment as one; ``lesion`` each of its connected parts (26
        neighbours), numbered by size, the longest first.
    segments : list of int or str, optional
        Segments by number or label; all unless given.
    minimum_mm : float, optional
        Least measurable size, in place of the rule's.
    targets : int
        How many lesions of a segment are summed at most.

    Returns
    -------
    Measurements
        ``long axis`` and ``perpendicular axis`` in mm, with their ends; by ``rano`` the ``product
        of diameters`` in mm2; by a rule the sum. A segment that is not there has 0 mm.

    Raises
    ------
    ValueError
        The mask has no such segment.
    """
    turn = turn_to_axial(mask.affine)
    affine = turn.affine(in_patient(mask), mask.array.shape)
    frame = (mask.source or mask).frame_of_reference
    labels = turn.turn(mask.array)
    name, least, _ = RULES[rule]
    apart = float(np.linalg.norm(affine[:3, 0]))
    if rule in ("recist", "rano") and apart > THICK_MM:
        least = max(least, 2 * apart)
    least = least if minimum_mm is None else minimum_mm
    made: list[Measurement] = []
    for segment in chosen(mask, segments):
        inside = labels == segment.number
        if per == "lesion":
            lesions = _lesions(inside, affine)
        else:
            whole = diameters(inside, affine)
            lesions = [whole] if whole else []
        for number, lesion in enumerate(lesions, start=1):
            region = f"{segment.label} {number}" if per == "lesion" else segment.label
            made += _lesion(segment, region, lesion, rule, frame)
            account.notes.append(
                f"{region}: {lesion.long:.1f} × {lesion.across:.1f} mm in slice {lesion.slice + 1} "
                f"of {labels.shape[0]} from the feet"
                + ("" if _measurable(lesion, rule, least) else f"; below {least:g} mm, not summed")
            )
        if per == "segment" and (parts := _parts(inside)) > 1:
            account.notes.append(
                f"{segment.label}: its {parts} parts are measured as one; per: lesion measures each"
            )
        if not lesions:
            made += _lesion(segment, segment.label, None, rule)
        if name:
            measurable = [one for one in lesions if _measurable(one, rule, least)][:targets]
            made.append(_sum(segment, measurable, rule, least))
    return Measurements(tuple(made))


def _parts(inside: NDArray[np.bool_]) -> int:
    boxes = ndimage.find_objects(inside.view(np.uint8))
    return int(ndimage.label(inside[boxes[0]], np.ones((3, 3, 3)))[1]) if boxes else 0


def _lesions(inside: NDArray[np.bool_], affine: NDArray[np.float64]) -> list[Diameters]:
    """Measure each connected part, the longest first."""
    parts, _ = ndimage.label(inside, np.ones((3, 3, 3)))
    found: list[Diameters] = []
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        corner = np.array([edge.start for edge in box])
        there = affine.copy()
        there[:3, 3] += affine[:3, :3] @ corner
        one = diameters(parts[box] == number, there)
        if one is not None:
            found.append(replace(one, slice=one.slice + int(corner[0])))
    return sorted(found, key=lambda one: -round(one.long, DECIMALS))


def _measurable(found: Diameters, rule: Rule, least: float) -> bool:
    size = found.long if rule == "recist" else found.across
    return rule == "none" or size >= least - 10**-DECIMALS


def _lesion(
    segment: Segment, region: str, found: Diameters | None, rule: Rule, frame: str = ""
) -> Iterator[Measurement]:
    method = "longest diameter in an axial slice, edge to edge"
    across = "longest diameter perpendicular to the long axis in its slice, edge to edge"
    long, short = (found.long, found.across) if found else (0.0, 0.0)
    ends = (found.long_ends, found.across_ends) if found else (None, None)
    yield measured(
        segment,
        "long axis",
        long,
        "mm",
        method,
        concept=LONG_AXIS,
        region=region,
        points=ends[0],
        frame=frame if found else "",
    )
    yield measured(
        segment,
        "perpendicular axis",
        short,
        "mm",
        across,
        concept=PERPENDICULAR_AXIS,
        region=region,
        points=ends[1],
        frame=frame if found else "",
    )
    if rule == "rano":
        product = "long axis × perpendicular axis"
        yield measured(segment, "product of diameters", long * short, "mm2", product, region=region)


def _sum(segment: Segment, found: Sequence[Diameters], rule: Rule, least: float) -> Measurement:
    name, _, quantity = RULES[rule]
    values = {
        "recist": [one.long for one in found],
        "recist_node": [one.across for one in found],
        "rano": [one.long * one.across for one in found],
    }[rule]
    method = f"{name}: {len(found)} lesions of at least {least:g} mm"
    return measured(segment, quantity, sum(values), "mm2" if rule == "rano" else "mm", method)
