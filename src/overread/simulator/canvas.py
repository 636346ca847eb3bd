"""A projection being drawn: what the beam goes through, added up, and the detector's picture of it.

Coordinates are millimetres, x to the picture's right, y down, from a middle that the canvas draws;
it is turned and scaled as the patient is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Picture = NDArray[np.float32]
Point = NDArray[np.float64]
Box = tuple[float, float, float, float]


class Canvas:
    """A picture being drawn.

    Parameters
    ----------
    extent : ndarray, shape (2,)
        Millimetres down and across.
    step : float
        Millimetres between the points that are drawn.
    size : float
        How large the patient is; 1 for a middle-sized one.
    rng : numpy.random.Generator
        Draws where the patient's middle lies and how the patient is turned.

    Attributes
    ----------
    x, y : ndarray, shape (rows, columns)
        Coordinates of each point in the patient.
    soft, bone, metal : ndarray, shape (rows, columns)
        Thickness along the beam, by how much each takes away of it: what the shapes below are
        added to.
    """

    def __init__(self, extent: Point, step: float, size: float, rng: np.random.Generator) -> None:
        rows, columns = np.round(extent / step).astype(int)
        turn = np.radians(rng.normal(0, 2.5))
        middle = extent[::-1] / 2 + rng.normal(0, 0.02, 2) * extent[::-1] + (0, 0.06 * extent[0])
        self.step, self.size, self.middle, self.extent = step, size, middle, extent
        self.turn = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        x = ((np.arange(columns) + 0.5) * step - middle[0])[None]
        y = ((np.arange(rows) + 0.5) * step - middle[1])[:, None]
        matrix = self.turn / size
        self.x = (matrix[0, 0] * x + matrix[0, 1] * y).astype(np.float32)
        self.y = (matrix[1, 0] * x + matrix[1, 1] * y).astype(np.float32)
        self.soft, self.bone, self.metal = (np.zeros(self.x.shape, np.float32) for _ in range(3))

    def ball(
        self, centre: Sequence[float] | Point, radius: float, weight: float = 0.012
    ) -> Picture:
        """Give a ball's thickness."""
        away = (self.x - centre[0]) ** 2 + (self.y - centre[1]) ** 2
        return np.asarray(weight * np.sqrt(np.maximum(radius**2 - away, 0)), dtype=np.float32)

    def rod(
        self,
        start: Sequence[float] | Point,
        end: Sequence[float] | Point,
        first: float,
        last: float,
        weight: float = 0.02,
        *,
        hollow: float = 0.25,
        cut: tuple[bool, bool] = (False, False),
    ) -> Picture:
        """Give a rod's thickness: radius at each end, share of its marrow, which ends are flat."""
        axis = np.asarray(end, float) - np.asarray(start, float)
        length = float(np.hypot(*axis))
        along = ((self.x - start[0]) * axis[0] + (self.y - start[1]) * axis[1]) / length
        part = np.clip(along / length, 0, 1)
        away = (self.x - start[0] - part * axis[0]) ** 2 + (self.y - start[1] - part * axis[1]) ** 2
        radius = first + (last - first) * part
        thick = np.sqrt(np.maximum(radius**2 - away, 0))
        thick -= hollow * np.sqrt(np.maximum((0.72 * radius) ** 2 - away, 0))
        if cut[0]:
            thick *= edge(along)
        if cut[1]:
            thick *= edge(length - along)
        return np.asarray(weight * thick, dtype=np.float32)

    def plate(
        self, centre: Sequence[float] | Point, axes: Sequence[float], turn: float, weight: float
    ) -> Picture:
        """Give an oval plate with a denser rim."""
        cos, sin = np.cos(turn), np.sin(turn)
        x, y = self.x - centre[0], self.y - centre[1]
        level = np.hypot((cos * x + sin * y) / axes[0], (cos * y - sin * x) / axes[1])
        rim = np.exp(-(((level - 0.96) * min(axes) / 2.5) ** 2))
        return np.asarray(weight * (edge((1 - level) * min(axes) / 2) + 0.8 * rim))

    def arc(self, centre: Point, radius: float, width: float, weight: float) -> Picture:
        """Give the upper half of a ring."""
        away = np.hypot(self.x - centre[0], self.y - centre[1])
        ring = np.exp(-(((away - radius) / width) ** 2))
        return np.asarray(weight * ring * edge(centre[1] - 2 - self.y))

    def box(self, corners: NDArray[np.float64], spacing: float) -> Box:
        """Bound points of the patient, in pixels of the finished picture and within it."""
        placed = (corners * self.size) @ self.turn + self.middle
        low, high = placed.min(0) / spacing, placed.max(0) / spacing
        most = np.round(self.extent / spacing)[::-1]
        low, high = np.clip(low, 0, most), np.clip(high, 0, most)
        return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))

    def exposed(self, spacing: float, rng: np.random.Generator) -> Picture:
        """Turn thickness into a detector's picture, 0 to 1, bone bright, on the wanted grid."""
        waves = _waves(self.x.shape, 30 / self.step, rng)
        texture = _waves(self.x.shape, 1.6 / self.step, rng)
        bone = self.bone * (1 + 0.10 * texture + 0.12 * waves)
        image = rng.uniform(0.35, 0.75) * self.soft * (1 + 0.10 * waves) + bone
        image = image / (image + rng.uniform(0.6, 1.3)) + 1.2 * np.minimum(self.metal, 0.5)
        slope = rng.normal(0, 0.03, 2)
        image += slope[0] * self.x / 200 + slope[1] * self.y / 200
        row, column = np.array(image.shape) * (rng.uniform(0.05, 0.2), rng.choice([0.06, 0.92]))
        tall = max(3, round(14 / self.step * self.size))
        image[int(row) : int(row) + tall, int(column) : int(column) + tall // 2] += 0.5
        shape = tuple(np.round(self.extent / spacing).astype(int))
        if shape != image.shape:
            zoom = [wanted / had for wanted, had in zip(shape, image.shape, strict=True)]
            image = ndimage.zoom(image, zoom, order=1, grid_mode=True, mode="nearest")
        blurred = ndimage.gaussian_filter(image, rng.uniform(0.3, 0.8) * max(1, 0.3 / spacing))
        grain = rng.standard_normal(shape, dtype=np.float32)
        grain = ndimage.gaussian_filter(grain, 0.5)
        out = blurred + rng.uniform(0.01, 0.03) * grain
        low, high = np.percentile(out, (0.2, 99.8))
        return np.asarray(np.clip((out - low) / (high - low), 0, 1) ** rng.uniform(0.7, 1.3))


def edge(distance: Picture) -> Picture:
    """Go from 0 to 1 within about two millimetres around where the distance is zero."""
    return np.asarray(1 / (1 + np.exp(-np.clip(2.5 * distance, -30, 30))), dtype=np.float32)


def _waves(shape: tuple[int, ...], width: float, rng: np.random.Generator) -> Picture:
    """Draw a smooth random picture, mean 0 and deviation 1; ``width`` in pixels."""
    coarse = max(1, int(width / 2))
    white = rng.standard_normal([size // coarse + 2 for size in shape], dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, max(width / coarse, 0.5))
    smooth = (smooth - smooth.mean()) / smooth.std()
    return np.asarray(
        ndimage.zoom(smooth, coarse, order=1)[: shape[0], : shape[1]], dtype=np.float32
    )
