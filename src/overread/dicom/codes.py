"""Coded terms, in tables that cite the Standard, and what a segment is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """A coded term (PS3.3 section 8): value, scheme and meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Segment:
    """What one label of a mask stands for (PS3.3 C.8.20.2).

    Attributes
    ----------
    number : int
        The label's value, from 1.
    label : str
        SegmentLabel, as people read it.
    category, type : Code
        SegmentedPropertyCategory and SegmentedPropertyType.
    anatomy : Code, optional
        Anatomic region.
    colour : tuple of int
        RGB, 0 to 255.
    laterality : Code, optional
        Which of a pair it is (CID 244): the modifier of the property type, and of the anatomic
        region where there is one.
    """

    number: int
    label: str
    category: Code
    type: Code
    anatomy: Code | None = None
    colour: tuple[int, int, int] = (90, 205, 230)
    laterality: Code | None = None


TISSUE = Code("85756007", "SCT", "Tissue")
"""CID 7150 *Segmentation Property Category*."""

ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
"""CID 7162 *Surface Processing Algorithm Family*."""

HISTOGRAM_ANALYSIS = Code("123105", "DCM", "Histogram Analysis")
"""CID 7162 *Surface Processing Algorithm Family*."""

RIGHT = Code("24028007", "SCT", "Right")
"""CID 244 *Laterality*."""

LEFT = Code("7771000", "SCT", "Left")
"""CID 244 *Laterality*."""

VOLUME = Code("118565006", "SCT", "Volume")
"""CID 7472 *Volume Measurement*."""

LONG_AXIS = Code("103339001", "SCT", "Long axis")
"""CID 7470 *Linear Measurement*."""

PERPENDICULAR_AXIS = Code("131189007", "SCT", "Perpendicular Axis")
"""CID 7470 *Linear Measurement*."""

ATTENUATION = Code("110850", "DCM", "X-Ray Attenuation")
"""CID 7469 *Generic Intensity and Size Measurement*: what a CT shows, in Hounsfield units."""

MR_SIGNAL = Code("110852", "DCM", "MR signal intensity")
"""CID 7469 *Generic Intensity and Size Measurement*."""

MEAN = Code("373098007", "SCT", "Mean")
"""CID 7464 *General Region of Interest Measurement Modifier*."""

STANDARD_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
"""CID 7464 *General Region of Interest Measurement Modifier*."""

MEDIAN = Code("373099004", "SCT", "Median")
"""CID 7464 *General Region of Interest Measurement Modifier*."""

CT_MODEL = Code("85040-4", "LN", "CT 3D CAM model")
"""CID 7061 *Model Document Title*."""

MR_MODEL = Code("85041-2", "LN", "MR 3D CAM model")
"""CID 7061 *Model Document Title*."""

MIXED_MODEL = Code("129019", "DCM", "Mixed Modality 3D CAM model")
"""CID 7061 *Model Document Title*."""

PLANNING = Code("129013", "DCM", "Planning Intent")
"""CID 7064 *Model Usage*."""

MILLIMETRE = Code("mm", "UCUM", "mm")
"""CID 7063 *Model Scale Unit*."""

SOURCE_IMAGE = Code("121324", "DCM", "Source image")
"""CID 7060 *Encapsulated Document Source Purpose of Reference*."""
