"""Measure what was segmented."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overread.dicom.codes import (
    ATTENUATION,
    MEAN,
    MEDIAN,
    MR_SIGNAL,
    STANDARD_DEVIATION,
    VOLUME,
    Code,
    Segment,
)
from overread.dicom.volume import HOUNSFIELD, Affine, Mask, Probability, Volume
from overread.errors import Refused
from overread.measures import overlap
from overread.measures.volumetry import MM3_PER_ML, volumes, voxel_volume
from overread.operators.postprocess import Labels, chosen
from overread.pipelines.ports import Account
from overread.validation.results import ClinicalValues, Measurement, Measurements

METHOD = "number of voxels × volume of a voxel"
PARTIAL = "sum of probabilities × volume of a voxel"

DECIMALS = 6
"""A thousandth of a cubic millimetre: what lies beyond is the arithmetic's, not the patient's."""

SAME_GRID_MM = 0.01
"""How far two grids may differ anywhere and be one: what files and headers round away."""


def measured(
    segment: Segment,
    quantity: str,
    value: float,
    unit: str,
    method: str,
    *,
    concept: Code | None = None,
    derivation: Code | None = None,
    region: str = "",
    points: NDArray[np.float64] | None = None,
    frame: str = "",
) -> Measurement:
    """Return one measurement of a segment, with the segment's own codes.

    ``region`` names a part of it, such as one lesion, which is no segment of its own; ``frame`` is
    the frame of reference of ``points``.
    """
    ends = () if points is None else tuple((float(x), float(y), float(z)) for x, y, z in points)
    return Measurement(
        region or segment.label,
        quantity,
        round(value, DECIMALS),
        unit,
        method,
        0 if region and region != segment.label else segment.number,
        concept,
        segment.type,
        segment.anatomy,
        ends,
        derivation,
        frame,
    )


def in_patient(mask: Mask | Probability) -> Affine:
    """Return what takes an index to LPS mm of the images as acquired.

    Registration is undone: an affine one changes sizes, and what is measured is the patient.
    """
    return np.asarray(mask.source.back @ mask.affine if mask.source else mask.affine)


def measure_volumes(
    mask: Mask | Probability, *, ignore_below: Annotated[float, Field(ge=0, lt=1)] = 0.0
) -> Measurements:
    """Measure the volume of each segment in mL; a segment that is not there has 0 mL.

    Of a mask, the number of voxels times the volume of one. Of probabilities, their sum times the
    volume of a voxel: a voxel counts by as much as is probable (partial volume), so that a boundary
    is not rounded to whole voxels. Which of both it was stands in each measurement's method. The
    volume of a voxel is the determinant of the affine, so that sheared grids count right; where the
    images were registered, it is that of the images as acquired.

    Measure on the grid of the source (`to_source`, `probability_to_source`) unless there is a
    reason not to.

    Parameters
    ----------
    mask : Mask or Probability
        What was segmented.
    ignore_below : float
        For probabilities: what lies below counts as 0. Far from the object a model's small
        probabilities add up to millilitres.

    Returns
    -------
    Measurements
        ``volume`` of each segment, mL.
    """
    method = METHOD
    if isinstance(mask, Probability):
        method = PARTIAL
        if ignore_below:
            method += f", those below {ignore_below:g} left out"
        each = voxel_volume(in_patient(mask)) / MM3_PER_ML
        found = {
            segment.number: float(one[one >= ignore_below].sum(dtype=np.float64)) * each
            for segment, one in zip(mask.segments, mask.array, strict=True)
        }
    else:
        found = volumes(mask.array, in_patient(mask), [one.number for one in mask.segments])
    return Measurements(
        tuple(
            measured(segment, "volume", found[segment.number], "mL", method, concept=VOLUME)
            for segment in mask.segments
        )
    )


def measure_shares(
    mask: Mask,
    account: Account,
    values: ClinicalValues | None = None,
    *,
    total: Labels | None = None,
    remaining: Labels | None = None,
    graft: Labels | None = None,
    density_g_per_ml: Annotated[float, Field(gt=0)] = 1.0,
    weight: str = "recipient_weight",
) -> Measurements:
    """Measure each region as a share of the whole; what remains; the graft against the recipient.

    For surgical planning, liver donation above all. Volumes are numbers of voxels times the volume
    of one.

    Parameters
    ----------
    mask : Mask
        What was segmented, such as the lobes and vessels of a liver.
    values : ClinicalValues, optional
        Where the recipient's weight stands; needed with ``graft`` only.
    total : list of int or str, optional
        The segments that make the whole, by number or label; all unless given.
    remaining : list of int or str, optional
        The segments that stay with the patient: gives the ``remnant share``.
    graft : list of int or str, optional
        The segments that are given to the recipient: gives the ``graft-to-recipient weight ratio``
        = graft volume × density / recipient's weight, in %.
    density_g_per_ml : float
        Of the graft.
    weight : str
        Name of the recipient's weight among ``values``; in ``kg`` or ``g``.

    Returns
    -------
    Measurements
        ``share`` of each segment of the whole, in % of the whole; ``remnant share`` in %;
        ``graft-to-recipient weight ratio`` in %.

    Raises
    ------
    Refused
        The whole is empty, or the recipient's weight is not known or is no weight.
    ValueError
        The mask has no such segment; or what remains is no part of the whole.
    """
    whole = chosen(mask, total)
    found = volumes(mask.array, in_patient(mask), [one.number for one in mask.segments])
    in_all = sum(found[segment.number] for segment in whole)
    if not in_all > 0:
        names = ", ".join(segment.label for segment in whole)
        raise Refused(
            f"nothing of {names or 'any segment'} was found, so there are no shares of it"
        )
    of = "% of the volume of " + ", ".join(segment.label for segment in whole)
    made = [
        measured(segment, "share", 100 * found[segment.number] / in_all, "%", of)
        for segment in whole
    ]
    if remaining is not None:
        stays = chosen(mask, remaining)
        if not {one.number for one in stays} <= {one.number for one in whole}:
            raise ValueError("what remains must be among the segments of total")
        part = sum(found[segment.number] for segment in stays)
        names = " + ".join(segment.label for segment in stays)
        made.append(Measurement(names, "remnant share", _rounded(100 * part / in_all), "%", of))
    if graft is not None:
        given = chosen(mask, graft)
        kilograms, source = _weight(values, weight)
        grams = sum(found[segment.number] for segment in given) * density_g_per_ml
        ratio = 100 * grams / 1000 / kilograms
        method = (
            f"graft volume × {density_g_per_ml:g} g/mL / {kilograms:g} kg (weight from {source})"
        )
        account.used.append((weight, f"{kilograms:g} kg, from {source}"))
        names = " + ".join(segment.label for segment in given)
        made.append(
            Measurement(names, "graft-to-recipient weight ratio", _rounded(ratio), "%", method)
        )
    return Measurements(tuple(made))


def _rounded(value: float) -> float:
    return round(value, DECIMALS)


KILOGRAMS = {"kg": 1.0, "g": 0.001}
"""UCUM units that a weight may have."""


def _weight(values: ClinicalValues | None, name: str) -> tuple[float, str]:
    known = values.get(name) if values else None
    if known is None:
        raise Refused(
            f"the recipient's weight ({name}) is not known, so the graft cannot be weighed against "
            "it; a weight in kg was expected"
        )
    if isinstance(known.value, str) or known.unit not in KILOGRAMS or not known.value > 0:
        raise Refused(
            f"the recipient's weight ({name}, from {known.source}) is {known.value} "
            f"{known.unit or 'without unit'}; a weight above 0 in kg was expected"
        )
    return known.value * KILOGRAMS[known.unit], known.source


def measure_intensity(
    mask: Mask,
    volume: Volume,
    account: Account,
    *,
    percentiles: tuple[Annotated[float, Field(ge=0, le=100)], ...] = (5.0, 50.0, 95.0),
    segments: Labels | None = None,
) -> Measurements:
    """Measure the values of the images in each segment.

    Bind the volume as it was read, not a normalised one: the values are then the source's, such as
    Hounsfield units. A segment that is not there has no values; that is noted.

    Parameters
    ----------
    mask : Mask
        What was segmented.
    volume : Volume
        The images, on the mask's grid.
    percentiles : list of float
        Which, interpolated linearly between values.
    segments : list of int or str, optional
        Segments by number or label; all unless given.

    Returns
    -------
    Measurements
        ``mean``, ``standard deviation`` (of all voxels, not of a sample) and percentiles of each
        segment, in the volume's unit.

    Raises
    ------
    ValueError
        Mask and volume lie on different grids; or the mask has no such segment.
    """
    _one_grid(mask, volume, "volume")
    concept = {HOUNSFIELD: ATTENUATION}.get(volume.unit)
    if concept is None and volume.modality == "MR":
        concept = MR_SIGNAL
    made: list[Measurement] = []
    for segment in chosen(mask, segments):
        values = volume.array[mask.array == segment.number].astype(np.float64)
        if not values.size:
            account.unused.append((f"segment {segment.label}", "is empty: it has no values"))
            continue
        numbers: list[tuple[str, float, Code | None]] = [
            ("mean", float(values.mean()), MEAN),
            ("standard deviation", float(values.std()), STANDARD_DEVIATION),
        ]
        for percentile, value in zip(percentiles, np.percentile(values, percentiles), strict=True):
            median = percentile == 50
            name = "median" if median else f"{percentile:g}th percentile"
            numbers.append((name, float(value), MEDIAN if median else None))
        made += [
            measured(
                segment,
                name,
                value,
                volume.unit,
                f"of {values.size} voxels",
                concept=concept if derivation else None,
                derivation=derivation if concept else None,
            )
            for name, value, derivation in numbers
        ]
    return Measurements(tuple(made))


def compare_masks(
    mask: Mask,
    reference: Mask,
    account: Account,
    *,
    percentile: Annotated[float, Field(gt=0, le=100)] = overlap.PERCENTILE,
    segments: Labels | None = None,
) -> Measurements:
    """Compare a mask with a reference, segment by segment.

    Segments are compared with those of the same number. The surface of a segment is made of the
    faces between voxels inside and outside, weighted by their area; the mean surface distance is
    over both surfaces, the Hausdorff distance the greater of both directions at the percentile.
    Where neither has the segment they agree (Dice 1, distances 0); where one has it, Dice is 0 and
    there is no distance, which is noted.

    Parameters
    ----------
    mask : Mask
        What is compared.
    reference : Mask
        What it is compared with, on the same grid (`resample_mask`).
    percentile : float
        Of the Hausdorff distance: 95 gives HD95, 100 the classical one.
    segments : list of int or str, optional
        Segments of the mask by number or label; all of either unless given.

    Returns
    -------
    Measurements
        ``Dice`` (unit 1), ``mean surface distance`` and ``HD95`` in mm.

    Raises
    ------
    ValueError
        The masks lie on different grids, or there is no such segment.
    """
    _one_grid(mask, reference, "reference")
    compared = list(chosen(mask, segments))
    if segments is None:
        known = {segment.number for segment in compared}
        compared += [one for one in reference.segments if one.number not in known]
    hausdorff = f"HD{percentile:g}"
    made: list[Measurement] = []
    for segment in compared:
        one, other = mask.array == segment.number, reference.array == segment.number
        score = overlap.dice(one, other)
        made.append(measured(segment, "Dice", score, "1", "2 |A ∩ B| / (|A| + |B|)"))
        found = overlap.surface_distances(one, other, mask.affine, percentile)
        if found is None:
            which = "the reference" if one.any() else "the mask"
            account.notes.append(f"{segment.label}: not in {which}, so there is no distance")
            continue
        mean = "mean over the faces of both surfaces, weighted by area"
        made.append(measured(segment, "mean surface distance", found.mean, "mm", mean))
        worst = f"{percentile:g}th percentile over a surface's area, the greater of both directions"
        made.append(measured(segment, hausdorff, found.hausdorff, "mm", worst))
    return Measurements(tuple(made))


def _one_grid(mask: Mask, other: Volume | Mask, name: str) -> None:
    frames = {mask.frame_of_reference, other.frame_of_reference} - {""}
    if len(frames) > 1:
        raise ValueError(
            f"mask and {name} lie in different frames of reference ({' and '.join(sorted(frames))})"
            ": they are of two exams; bring the one to the other by register"
        )
    shape = np.array(mask.array.shape)
    apart = np.abs(mask.affine - other.affine)[:3] @ [*shape, 1]
    if mask.array.shape != other.array.shape or apart.max() > SAME_GRID_MM:
        raise ValueError(
            f"mask and {name} lie on different grids: {mask.array.shape} and {other.array.shape} "
            f"voxels, up to {apart.max():.2f} mm apart; put a step before it that brings the mask "
            "onto the other: to_source or resample_mask"
        )
