"""A phantom liver donor: a drawn abdomen on contrast CT whose lobes and vessels are known exactly.

Nothing here is anyone's. Organs are ellipsoids, tubes and planes bent by smooth waves, all given
by formulae, so that what a voxel is made of can be asked at any point in it. The liver's lobes are
parted by a curved sheet from the inferior vena cava to the gallbladder, in which the middle hepatic
vein runs (Cantlie's line); the portal vein branches in both, the right and left hepatic veins each
in their own.

Coordinates are millimetres of a middle-sized patient, LPS, from the middle of the abdominal cavity
at the height of the liver's hilum.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.dicom.volume import HOUNSFIELD, Volume

Field = NDArray[np.float32]
Truth = NDArray[np.uint8]
Vector = NDArray[np.float64]
Tube = tuple[Vector, Vector, float, float]
"""Two ends, and the radius at each."""

SHAPE = (64, 256, 256)
SPACING = (3.0, 1.6, 1.6)
"""Matrix and millimetres along (slice, row, column)."""

LEFT, RIGHT, VESSELS = 1, 2, 3
NAMES = {LEFT: "left lobe", RIGHT: "right lobe", VESSELS: "liver vessels"}
"""What each value of the truth stands for. The lobes are without the vessels in them."""

_CAVITY = (136.0, 94.0)
"""Half-axes of the abdominal cavity, across and from front to back."""
_DIVIDED = 2
"""How often a voxel is divided along each axis to tell how much of it is what."""


@dataclass(frozen=True, eq=False)
class Abdomen:
    """One portal venous CT of a phantom liver donor.

    Attributes
    ----------
    image : Volume
        int16 Hounsfield units.
    truth : Volume
        uint8 on the same grid, what lies at each voxel's centre: 0 elsewhere, 1 left lobe, 2 right
        lobe, 3 vessels inside the liver (portal and hepatic veins).
    millilitres : dict
        True volume by name, from voxels divided eightfold; the count over ``truth`` comes near it.
    weight_kg : float
        What the patient weighs, by size and fat.
    """

    image: Volume
    truth: Volume
    millilitres: dict[str, float]
    weight_kg: float


def abdomen(
    seed: int,
    *,
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = SPACING,
    divided: int = _DIVIDED,
) -> Abdomen:
    """Scan a phantom liver donor.

    Parameters
    ----------
    seed : int
        Which patient: size, fat, shape and pose of every organ, contrast and noise.
    shape, spacing : tuple
        Voxels and millimetres along (slice, row, column).
    divided : int
        How often each voxel is divided along each axis for ``millilitres``; 1 counts the truth.

    Returns
    -------
    Abdomen
        The same for the same arguments.
    """
    rng = np.random.default_rng([seed, 41])
    body = _Body(rng)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, spacing[2]], [0, spacing[1], 0], [spacing[0], 0, 0]])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2) + (0, 8, -4)
    points = body.points(affine, shape)
    truth = body.liver(points)
    image = ndimage.gaussian_filter(body.tissue(points, truth), (0.35, 0.5, 0.5))
    image += _noise(shape, rng)
    grid = Volume(
        np.clip(np.round(image), -1024, 2000).astype(np.int16),
        affine,
        unit=HOUNSFIELD,
        modality="CT",
    )
    counts = _counted(body, affine, truth, divided)
    per_voxel = float(np.prod(spacing)) / 1000
    return Abdomen(
        grid,
        grid.with_array(truth, unit="1"),
        {name: float(counts[value]) * per_voxel for value, name in NAMES.items()},
        round(68 * body.size**3 + 1.1 * (body.fat - 14), 1),
    )


def _counted(body: _Body, affine: Vector, truth: Truth, divided: int) -> Vector:
    """Count voxels of each value, by fractions, in the box that holds the liver."""
    found = np.argwhere(truth)
    low = np.maximum(found.min(0) - 2, 0)
    box = np.minimum(found.max(0) + 3, truth.shape) - low
    total = np.zeros(len(NAMES) + 1)
    steps = (np.arange(divided) + 0.5) / divided - 0.5
    for offset in product(steps, repeat=3):
        part = affine.copy()
        part[:3, 3] += affine[:3, :3] @ (low + offset)
        inside = body.liver(body.points(part, tuple(box)))
        total += np.bincount(inside.ravel(), minlength=len(total))
    return total / divided**3


class _Body:
    """One patient: shapes drawn once, asked at any points."""

    def __init__(self, rng: np.random.Generator) -> None:
        def about(*centre: float, by: float = 4.0) -> Vector:
            return np.asarray(rng.normal(centre, by / 2))

        self.size = float(rng.uniform(0.9, 1.1))
        self.fat = float(rng.uniform(6, 26))
        self.tilt, self.turn = np.radians(rng.normal(0, 2.5, 2))
        self.shift = rng.normal(0, 4, 3)
        self.waves = _Waves(rng, 45.0), _Waves(rng, 20.0)
        self.level = {
            "liver": rng.uniform(85, 125),
            "enhancement": rng.uniform(45, 95),
            "aorta": rng.uniform(150, 210),
            "kidney": rng.uniform(150, 215),
        }
        self.right = about(-70, 8, -6, by=10), rng.normal((86, 90, 88), 5)
        self.left = about(16, -46, 20, by=12), rng.normal((84, 46, 42), 5)
        self.under = rng.uniform(0.34, 0.5), rng.uniform(-76, -62), rng.uniform(-0.05, 0.15)
        self.vena = about(-24, 38)
        self.aorta = about(14, 37)
        self.stomach = about(72, -10, 12, by=10), rng.normal((46, 46, 56), 4)
        self.spleen = about(104, 42, 14, by=8), rng.normal((28, 42, 46), 4)
        self.kidneys = about(-60, 58, -56, by=6), about(60, 60, -46, by=6)
        self.gallbladder = about(-44, -44, -30, by=12)
        self.bulge, self.lean = rng.normal(0, 5), rng.normal(0, 0.06)
        across = self.gallbladder[:2] - self.vena
        self.reach = float(np.linalg.norm(across))
        self.along = across / self.reach
        self.tubes = [*self._hepatic(rng), *self._portal(rng)]

    def points(self, affine: Vector, shape: tuple[int, ...]) -> Field:
        """Patient coordinates of every voxel's centre, shape (3, slices, rows, columns)."""
        turn, tilt = self.turn, self.tilt
        about_z = np.array(
            [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
        )
        about_x = np.array(
            [[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]
        )
        pose = (about_z @ about_x) / self.size
        matrix = (pose @ affine[:3, :3]).astype(np.float32)
        origin = (pose @ affine[:3, 3] + self.shift).astype(np.float32)
        k, i, j = np.meshgrid(
            *(np.arange(count, dtype=np.float32) for count in shape), indexing="ij", sparse=True
        )
        return np.stack(
            [m[0] * k + m[1] * i + m[2] * j + o for m, o in zip(matrix, origin, strict=True)]
        )

    def sheet(self, points: Field) -> Field:
        """Distance from the sheet between the lobes; positive on the left one's side."""
        x, y, z = points[0] - self.vena[0], points[1] - self.vena[1], points[2]
        along = np.clip((x * self.along[0] + y * self.along[1]) / self.reach, 0, 1)
        off = -x * self.along[1] + y * self.along[0]
        bent = self.bulge * np.sin(np.pi * along) + self.lean * (z - 40)
        return np.asarray(off * -np.sign(self.along[1]) - bent, dtype=np.float32)

    def liver(self, points: Field) -> Truth:
        """Tell what of the liver, if any, lies at each point."""
        x, y, z = points
        lumps = self.waves[0](points)
        right = (_ball(points, *self.right) - 1) * 85
        left = (_ball(points, *self.left) - 1) * 50
        whole = -6 * np.logaddexp(-right / 6, -left / 6) + 3.5 * lumps
        slope, lowest, back = self.under
        whole = np.maximum(whole, lowest + slope * (x + 110) + back * y + 3 * lumps - z)
        whole = np.maximum(whole, _outward(points) + 4)
        whole = np.maximum(whole, z - _dome(points) + 4)
        inside = whole < 0
        # What other organs leave of it, asked only where the liver could be.
        rest = points[:, inside]
        keep = np.ones(rest.shape[1], dtype=bool)
        for centre, axes in (
            ((2, 66), (40, 34)),
            (self.vena, (11, 11)),
            (self.aorta, (17, 16)),
        ):
            keep &= ((rest[0] - centre[0]) / axes[0]) ** 2 + (
                (rest[1] - centre[1]) / axes[1]
            ) ** 2 > 1
        keep &= _ball(rest, self.stomach[0], self.stomach[1] + 3) > 1
        keep &= _ball(rest, self.spleen[0], self.spleen[1] + 4) > 1
        keep &= _ball(rest, self.kidneys[0], np.array([31.0, 31.0, 54.0])) > 1
        keep &= _ball(rest, self.gallbladder, np.array([14.0, 19.0, 20.0])) > 1
        values = np.where(self.sheet(rest) > 0, LEFT, RIGHT).astype(np.uint8)
        for tube in self.tubes:
            values[_in_tube(rest, tube)] = VESSELS
        out = np.zeros(x.shape, dtype=np.uint8)
        out[inside] = np.where(keep, values, 0)
        return out

    def tissue(self, points: Field, truth: Truth) -> Field:
        """Draw Hounsfield units at the points, without blur and noise."""
        x, y, z = points
        outward = _outward(points)
        broad, fine = (wave(points) for wave in self.waves)
        image = np.full(x.shape, -1000, dtype=np.float32)
        table = np.abs(y - 0.0012 * x**2 - _CAVITY[1] - 34 - self.fat) < 2
        image[table & (np.abs(x) < 220)] = 120
        image[outward < 16 + self.fat] = 20
        image[outward < 14 + self.fat] = -105
        back = ((np.abs(x) - 40) / 34) ** 2 + ((y - 98) / 24) ** 2 < 1
        image[(outward < 13) | back] = 56
        inner = outward < 0
        image[inner] = -100
        loops = inner & (z < -8 + 0.2 * x) & (y < 40) & (fine + 0.5 * broad > -0.2)
        image[loops] = 38 + 14 * broad[loops]
        ribs = (outward > 2) & (outward < 10) & ((z - 0.45 * y) % 31 < 11) & (y > -78)
        image[ribs] = np.where(np.abs(outward[ribs] - 6) < 2, 190, 420)
        self._organs(image, points, fine)
        lungs = (outward < -2) & (z > _dome(points)) & (image < 30)
        image[lungs] = -840 + 25 * fine[lungs]
        self._midline(image, points)
        image[truth > 0] = self.level["liver"]
        image[truth > 0] += 3 * fine[truth > 0]
        image[truth == VESSELS] += self.level["enhancement"]
        return image

    def _organs(self, image: Field, points: Field, fine: Field) -> None:
        stomach = _ball(points, *self.stomach)
        image[stomach < 1] = 58
        image[stomach < 0.92] = 22
        image[(stomach < 0.92) & (points[1] < self.stomach[0][1] - 22)] = -950
        image[_ball(points, *self.spleen) < 1] = self.level["liver"] + 14
        for kidney in self.kidneys:
            shell = _ball(points, kidney, np.array([27.0, 27.0, 50.0])) + 0.03 * fine
            image[shell < 1] = self.level["kidney"]
            image[shell < 0.5] = self.level["kidney"] - 50
        image[_ball(points, self.gallbladder, np.array([13.0, 18.0, 19.0])) < 1] = 12
        for tube in self.tubes[-2:]:  # the portal trunk, below the liver
            image[_in_tube(points, tube)] = self.level["liver"] + self.level["enhancement"]

    def _midline(self, image: Field, points: Field) -> None:
        """Draw spine, aorta and vena cava."""
        x, y, z = points
        spine = np.hypot(x / 1.25, y - 74)
        image[spine < 17] = 175
        image[(spine < 17) & (spine > 15)] = 380
        image[(spine < 17) & (z % 34 < 6)] = 80
        arch = (np.hypot(x / 1.2, y - 102) < 14) | ((np.abs(x) < 4) & (y > 100) & (y < 134))
        image[arch] = 330
        image[np.hypot(x / 1.2, y - 101) < 9] = 25
        image[np.hypot(x - self.aorta[0], y - self.aorta[1]) < 11.5] = self.level["aorta"]
        vena = np.hypot(x - self.vena[0], y - self.vena[1]) < 11
        image[vena & (z < 66)] = self.level["liver"] + 0.8 * self.level["enhancement"]

    def _hepatic(self, rng: np.random.Generator) -> list[Tube]:
        """Draw the three hepatic veins, from the vena cava; the middle one in the sheet."""
        normal = np.array([-self.along[1], self.along[0]]) * -np.sign(self.along[1])
        low = self.gallbladder[2] + 16
        middle = []
        for part in np.linspace(0.04, 0.93, 6):
            z = 48 + (low - 48) * part**1.2
            off = self.bulge * np.sin(np.pi * part) + self.lean * (z - 40)
            middle.append(np.append(self.vena + self.reach * part * self.along + off * normal, z))
        root = np.append(self.vena, 48)
        right = [root - np.array((6, 0, 0)), (-74, 26, 26), (-98, 14, 0), (-112, 4, -34)]
        left = [root + np.array((6, -4, 0)), (8, -14, 40), (34, -42, 30), (62, -56, 24)]
        out = []
        for line, thick in ((middle, 5.0), (right, 5.0), (left, 4.5)):
            path = [np.asarray(point, dtype=np.float64) for point in line]
            if line is not middle:
                path[1:] = [point + rng.normal(0, 4, 3) for point in path[1:]]
            radii = np.linspace(thick, 2.2, len(path))
            out += _path(path, radii)
            if line is not middle:
                for start, radius in zip(path[1:-1], radii[1:-1], strict=True):
                    out += _tree(
                        rng, start, path[-1] - path[0], length=30.0, radius=0.7 * radius, order=1
                    )
        return out

    def _portal(self, rng: np.random.Generator) -> list[Tube]:
        """Draw the portal vein: trunk, right and left branch and theirs. The trunk comes last."""
        hilum = np.array([-26.0, 0.0, -12.0]) + rng.normal(0, 3, 3)
        right = hilum + np.array((-36, 10, 2)) + rng.normal(0, 3, 3)
        bend = hilum + np.array((34, -20, 16))
        left = hilum + np.array((44, -42, 30)) + rng.normal(0, 3, 3)
        out = _path([hilum, right], np.array([6.5, 5.5]))
        out += _path([hilum, bend, left], np.array([5.0, 4.2, 3.6]))
        out += _tree(rng, right, np.array([-1.0, 0.1, 0.1]), length=40.0, radius=4.8, order=3)
        out += _tree(rng, left, np.array([0.8, -0.3, 0.1]), length=28.0, radius=3.8, order=2)
        out += _tree(rng, left, np.array([-0.6, -0.6, 0.1]), length=22.0, radius=3.0, order=1)
        below = np.array([4.0, 10.0, -34.0])
        return out + _path(
            [hilum, below, below + np.array((18, 4, -30))], np.array([6.5, 7.0, 7.0])
        )


class _Waves:
    """A smooth random field from a few plane waves, about -1 to 1; ``length`` in mm."""

    def __init__(self, rng: np.random.Generator, length: float) -> None:
        directions = rng.standard_normal((5, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        self.waves = directions * (2 * np.pi / length / rng.uniform(0.8, 1.6, (5, 1)))
        self.phases = rng.uniform(0, 2 * np.pi, 5)

    def __call__(self, points: Field) -> Field:
        out: Field = np.zeros(points.shape[1:], dtype=np.float32)
        for wave, phase in zip(self.waves.astype(np.float32), self.phases, strict=True):
            out += np.sin(
                wave[0] * points[0] + wave[1] * points[1] + wave[2] * points[2] + np.float32(phase)
            )
        return np.asarray(out / 2, dtype=np.float32)


def _outward(points: Field) -> Field:
    """Distance from the wall of the abdominal cavity, positive outside, mm."""
    x, y = points[0], points[1]
    level = (np.abs(x / _CAVITY[0]) ** 2.3 + np.abs(y / _CAVITY[1]) ** 2.3) ** (1 / 2.3)
    return np.asarray(np.hypot(x, y) * (1 - 1 / np.maximum(level, 1e-3)), dtype=np.float32)


def _dome(points: Field) -> Field:
    """Height of the diaphragm, mm."""
    x, y = points[0], points[1]
    level = (x / _CAVITY[0]) ** 2 + (y / _CAVITY[1]) ** 2
    lower = 10 / (1 + np.exp(-x / 25)) + 8 * np.exp(-((x / 30) ** 2))
    return np.asarray(78 - lower - 58 * level**1.2, dtype=np.float32)


def _ball(points: Field, centre: Vector, axes: Vector) -> Field:
    """Distance from an ellipsoid's centre, 1 on its surface."""
    parts = [((points[a] - np.float32(centre[a])) / np.float32(axes[a])) ** 2 for a in range(3)]
    return np.asarray(np.sqrt(parts[0] + parts[1] + parts[2]), dtype=np.float32)


def _in_tube(points: Field, tube: Tube) -> NDArray[np.bool_]:
    """Say which points lie in a tube with round ends."""
    start, end, first, last = tube
    axis = end - start
    offset = [points[a] - np.float32(start[a]) for a in range(3)]
    part = sum(offset[a] * np.float32(axis[a]) for a in range(3)) / np.float32(axis @ axis)
    part = np.clip(part, 0, 1)
    away = sum((offset[a] - part * np.float32(axis[a])) ** 2 for a in range(3))
    return np.asarray(away < (first + (last - first) * part) ** 2)


def _path(points: list[Vector], radii: Vector) -> list[Tube]:
    return [
        (a, b, float(r), float(s))
        for (a, b), (r, s) in zip(pairwise(points), pairwise(radii), strict=True)
    ]


def _tree(
    rng: np.random.Generator,
    start: Vector,
    ahead: Vector,
    *,
    length: float,
    radius: float,
    order: int,
) -> list[Tube]:
    """Branch in two, and each again, ``order`` times."""
    ahead = ahead / np.linalg.norm(ahead)
    sideways = np.cross(ahead, rng.standard_normal(3))
    sideways /= np.linalg.norm(sideways)
    out: list[Tube] = []
    for sign in (-1, 1):
        way = ahead + sign * rng.uniform(0.4, 0.8) * sideways
        end = start + length * rng.uniform(0.8, 1.1) * way / np.linalg.norm(way)
        out.append((start, end, radius, 0.75 * radius))
        if order > 1:
            out += _tree(rng, end, way, length=0.75 * length, radius=0.7 * radius, order=order - 1)
    return out


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> Field:
    """Draw noise as of a soft reconstruction kernel: neighbouring pixels go together."""
    white = rng.standard_normal(shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, (0, 0.7, 0.7))
    return np.asarray(rng.uniform(6, 18) * smooth / smooth.std(), dtype=np.float32)
