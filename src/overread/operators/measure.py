"""Measure what was segmented."""

from __future__ import annotations

from overread.dicom.volume import Mask
from overread.measures.volumetry import volumes
from overread.validation.results import Measurement, Measurements

METHOD = "number of voxels × volume of a voxel"

DECIMALS = 6
"""A thousandth of a cubic millimetre: what lies beyond is the arithmetic's, not the patient's."""


def measure_volumes(mask: Mask) -> Measurements:
    """Measure the volume of each segment in mL; a segment that is not there has 0 mL."""
    found = volumes(mask.array, mask.affine, [segment.number for segment in mask.segments])
    return Measurements(
        tuple(
            Measurement(
                segment.label, "volume", round(found[segment.number], DECIMALS), "mL", METHOD
            )
            for segment in mask.segments
        )
    )
