"""Measure what was segmented."""

from __future__ import annotations

from overread.dicom.volume import Mask
from overread.measures.volumetry import volumes
from overread.validation.results import Measurement, Measurements

METHOD = "number of voxels × volume of a voxel"


def measure_volumes(mask: Mask) -> Measurements:
    """Measure the volume of each segment in mL; a segment that is not there has 0 mL."""
    found = volumes(mask.array, mask.affine, [segment.number for segment in mask.segments])
    return Measurements(
        tuple(
            Measurement(segment.label, "volume", found[segment.number], "mL", METHOD)
            for segment in mask.segments
        )
    )
