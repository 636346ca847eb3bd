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
    """

    number: int
    label: str
    category: Code
    type: Code
    anatomy: Code | None = None
    colour: tuple[int, int, int] = (90, 205, 230)


TISSUE = Code("85756007", "SCT", "Tissue")
"""CID 7150 *Segmentation Property Category*."""

ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
"""CID 7162 *Surface Processing Algorithm Family*."""

HISTOGRAM_ANALYSIS = Code("123105", "DCM", "Histogram Analysis")
"""CID 7162 *Surface Processing Algorithm Family*."""
