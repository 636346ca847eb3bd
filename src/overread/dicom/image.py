"""An image: pixels of a projection or of an ultrasound frame, ready for a model or for the eye."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Image:
    """One frame of one image, as it is to be looked at.

    Attributes
    ----------
    array : ndarray, shape (rows, columns), float32
        Modality LUT, VOI LUT (where asked for) and photometric interpretation are applied: larger
        is brighter.
    uid : str
        SOPInstanceUID of the image.
    frame : int
        Index of the frame, from 0.
    spacing : tuple of float, optional
        Distance between rows and between columns in mm; none where the image does not say it.
    spacing_from : str
        The attribute that says so, and what it means: ``ImagerPixelSpacing (at the detector)``.
    unit : str
        UCUM unit of the values; ``1`` for arbitrary units.
    modality, body_part, view, laterality : str
        Modality, BodyPartExamined, ViewPosition, ImageLaterality or Laterality, as written.
    aspect : float
        Height of a pixel over its width; 1 where nothing says otherwise.
    toward : tuple of str, optional
        Towards which sides of the patient columns and rows grow, ``L`` and ``F``; none where the
        image does not say it.
    """

    array: NDArray[np.float32]
    uid: str
    frame: int = 0
    spacing: tuple[float, float] | None = None
    spacing_from: str = ""
    unit: str = "1"
    modality: str = ""
    body_part: str = ""
    view: str = ""
    laterality: str = ""
    aspect: float = 1.0
    toward: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if self.array.ndim != 2:
            raise ValueError(f"an image has 2 axes (row, column), not {self.array.ndim}")


@dataclass(frozen=True, eq=False)
class Images:
    """The images that a step works on, in order."""

    items: tuple[Image, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Image]:
        return iter(self.items)
