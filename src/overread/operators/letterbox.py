"""Show a model an image, or a region of it, in the one size that it takes, and find the way back.

The region is scaled to fit, keeps its aspect, lies in the middle, and what is left is filled with
0. One number scales both axes, so the way back is exact: nothing is rounded to whole pixels.

Coordinates are ``x0, y0, x1, y1``: column and row in pixels, from the outer corner of the first
pixel, so that a whole image of 100 columns goes from 0 to 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Letterbox:
    """How an image lies in a model's image.

    Attributes
    ----------
    window : tuple of float
        What the model's whole image shows, in pixels of the source; it may reach beyond it.
    size : tuple of int
        Rows and columns of the model's image.
    region : tuple of float
        The part of the window that is not padding.
    """

    window: Box
    size: tuple[int, int]
    region: Box

    @classmethod
    def around(cls, region: Box, size: tuple[int, int], aspect: float = 1.0) -> Letterbox:
        """Fit a region into a model's image.

        Parameters
        ----------
        region : tuple of float
            In pixels of the source.
        size : tuple of int
            Rows and columns of the model's image.
        aspect : float
            Height of a pixel of the source over its width: where its pixels are not square, the
            model sees what they show, not them.

        Raises
        ------
        ValueError
            The region has no area, or the aspect is not above 0.
        """
        x0, y0, x1, y1 = region
        if not (x1 > x0 and y1 > y0 and aspect > 0):
            raise ValueError(f"a region of {region} with pixels of aspect {aspect} shows nothing")
        rows, columns = size
        scale = max((x1 - x0) / columns, (y1 - y0) * aspect / rows)
        wide, high = scale * columns / 2, scale * rows / aspect / 2
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        return cls((x - wide, y - high, x + wide, y + high), size, region)

    def draw(self, array: Floats) -> Floats:
        """Draw the model's image: bilinear, smoothed where it shrinks; 0 outside the region.

        Parameters
        ----------
        array : ndarray, shape (rows, columns), float32
            The source.

        Returns
        -------
        ndarray, shape ``size``, float32
        """
        from PIL import Image

        x0, y0, x1, y1 = self.window
        rows, columns = array.shape
        left, top = max(0, int(np.ceil(-x0))), max(0, int(np.ceil(-y0)))
        right, bottom = max(0, int(np.ceil(x1 - columns))), max(0, int(np.ceil(y1 - rows)))
        kept = np.zeros((rows + top + bottom, columns + left + right), dtype=np.float32)
        # Outside the region is padding also where the source goes on.
        a, b = max(0, round(self.region[0])), min(columns, round(self.region[2]))
        c, d = max(0, round(self.region[1])), min(rows, round(self.region[3]))
        kept[top + c : top + d, left + a : left + b] = array[c:d, a:b]
        window = (x0 + left, y0 + top, x1 + left, y1 + top)
        shape = (self.size[1], self.size[0])
        drawn = Image.fromarray(kept).resize(shape, Image.Resampling.BILINEAR, window)
        return np.asarray(drawn, dtype=np.float32)

    def into(self, boxes: NDArray[np.floating] | Sequence[Box]) -> NDArray[np.float64]:
        """Bring boxes of the source, shape (…, 4), into the model's image."""
        low, step = self._frame()
        return (np.asarray(boxes, dtype=np.float64) - low) / step

    def back(self, boxes: NDArray[np.floating] | Sequence[Box]) -> NDArray[np.float64]:
        """Bring boxes of the model's image, shape (…, 4), back to the source."""
        low, step = self._frame()
        return np.asarray(boxes, dtype=np.float64) * step + low

    def _frame(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x0, y0, x1, y1 = self.window
        step = ((x1 - x0) / self.size[1], (y1 - y0) / self.size[0])
        return np.array([x0, y0, x0, y0]), np.array([*step, *step])
