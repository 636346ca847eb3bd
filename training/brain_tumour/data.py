"""Scans of the Brain-Tumor-Progression subset, and the training samples drawn from them.

Axes are (Z, Y, X): slices from feet to head, rows from anterior to posterior, columns across.
The files hold (X, Y, Z). Their affine is a placeholder (unit spacing), so the layout was read
from pictures: drawn with the first index as the column and the second as the row, the nose points
up and the occiput down, and slices run from the neck (0) to the vertex (19), followed by four blank
padding slices. Left and right cannot be told from the pictures; training flips them at random.

The makers of the subset brought every slice to 256 x 256 by nearest neighbour and dropped slices
at the ends. Heads are about 182 pixels broad and 234 long, so a pixel is taken to be 0.86 mm
(a field of view of 220 mm); slices are taken to be 6.5 mm apart.
"""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional
from training.brain_tumour.normalise import UPPER, normalise_foreground

DATA = Path("../shared/data/brain_tumour")
PATIENTS = ("01", "02", "03", "04", "06", "07", "11")
HELD_OUT = ("03", "07")
TIMES = ("Pre", "Post")
NEIGHBOURS = 2
STACK = 2 * NEIGHBOURS + 1


@dataclass(frozen=True)
class Scan:
    """One scan with its reference.

    Attributes
    ----------
    patient, time : str
        Such as ``"03"`` and ``"Pre"``.
    image : numpy.ndarray
        float32 (Z, Y, X), normalised (brain about 1), blank padding included.
    mask : numpy.ndarray
        bool (Z, Y, X), enhancing tumour.
    brain : numpy.ndarray
        bool (Z, Y, X), a rough brain mask, made by `rough_brain`.
    slices : int
        How many slices from the bottom are not padding.
    """

    patient: str
    time: str
    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    brain: NDArray[np.bool_]
    slices: int


def rough_brain(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Find most of the brain: the largest body of brain-like voxels, once parted from the scalp.

    Parameters
    ----------
    image : numpy.ndarray
        float32 (Z, Y, X), normalised, about 0.9 mm in plane.

    Returns
    -------
    numpy.ndarray
        bool (Z, Y, X). Tumour and ventricles inside are filled in, slice by slice.
    """
    disc = np.hypot(*np.mgrid[-5:6, -5:6])[None] <= 5
    smooth = ndimage.gaussian_filter(image, (0, 1, 1))
    parted = ndimage.binary_erosion((smooth > 0.55) & (smooth < 1.5), disc)
    labels, count = ndimage.label(parted)
    if not count:
        return np.zeros(image.shape, dtype=bool)
    body = labels == 1 + np.argmax(ndimage.sum_labels(parted, labels, range(1, count + 1)))
    body = ndimage.binary_dilation(body, disc)
    return np.stack([ndimage.binary_fill_holes(ndimage.binary_closing(s, disc[0])) for s in body])


def load_scan(folder: Path, patient: str, time: str) -> Scan:
    """Read one scan and its mask.

    Parameters
    ----------
    folder : pathlib.Path
        The data set's folder.
    patient, time : str
        Such as ``"03"`` and ``"Pre"``.

    Returns
    -------
    Scan
        In (Z, Y, X) order.
    """

    def read(name: str) -> NDArray[np.float32]:
        array = nib.load(folder / patient / f"{time}_{name}.nii.gz").get_fdata(dtype=np.float32)
        return np.ascontiguousarray(array.transpose(2, 1, 0))

    raw = read("Scan_T1")
    image = normalise_foreground(raw)
    slices = 1 + int(np.flatnonzero(np.ptp(raw, axis=(1, 2)))[-1])
    return Scan(patient, time, image, read("Mask") > 0, rough_brain(image), slices)


def load_scans(folder: Path, patients: tuple[str, ...]) -> list[Scan]:
    """Read both scans of each patient.

    Parameters
    ----------
    folder : pathlib.Path
        The data set's folder.
    patients : tuple of str
        Their numbers.

    Returns
    -------
    list of Scan
        In the order of `patients`, "Pre" before "Post".
    """
    return [load_scan(folder, patient, time) for patient in patients for time in TIMES]


def stack_at(volume: NDArray, centre: int, step: float, top: int) -> Tensor:
    """Take a slice and its neighbours at any distance, interpolating between slices.

    Parameters
    ----------
    volume : numpy.ndarray
        (Z, Y, X).
    centre : int
        Index of the middle slice.
    step : float
        Distance between the slices of the stack, in slices.
    top : int
        Index of the last slice to use; beyond either end the end slice is repeated.

    Returns
    -------
    torch.Tensor
        float32 (STACK, Y, X).
    """
    positions = np.clip(centre + step * np.arange(-NEIGHBOURS, NEIGHBOURS + 1), 0, top)
    lower = np.floor(positions).astype(int)
    part = (positions - lower).astype(np.float32)[:, None, None]
    upper = np.minimum(lower + 1, top)
    return torch.from_numpy(
        volume[lower].astype(np.float32) * (1 - part) + volume[upper].astype(np.float32) * part
    )


def warp(image: Tensor, matrix: NDArray, size: int, bend: Tensor | None = None) -> Tensor:
    """Resample planes about an output frame's centre.

    Parameters
    ----------
    image : torch.Tensor
        float32 (C, Y, X).
    matrix : numpy.ndarray
        (2, 3), from output (x, y, 1) to input (x, y) in pixels, both from their frame's centre.
    size : int
        Output rows and columns.
    bend : torch.Tensor, optional
        float32 (1, 2, size, size), displacement in input pixels added to the positions.

    Returns
    -------
    torch.Tensor
        float32 (C, size, size); zero outside the input.
    """
    rows, columns = image.shape[-2:]
    half = torch.tensor([columns / 2, rows / 2])
    theta = torch.as_tensor(matrix, dtype=torch.float32).clone()
    theta[:, :2] *= size / 2
    grid = functional.affine_grid(theta[None], [1, 1, size, size], align_corners=False)
    if bend is not None:
        grid = grid + bend.permute(0, 2, 3, 1)
    return functional.grid_sample(image[None], grid / half, align_corners=False)[0]


def smooth_field(channels: int, size: int, knots: int, sigma: float) -> Tensor:
    """Draw a smooth random field.

    Parameters
    ----------
    channels, size, knots : int
        Channels, rows and columns of the field; rows and columns of its control points.
    sigma : float
        Standard deviation at the control points.

    Returns
    -------
    torch.Tensor
        float32 (1, channels, size, size).
    """
    points = sigma * torch.randn(1, channels, knots, knots)
    return functional.interpolate(points, size=(size, size), mode="bicubic", align_corners=True)


class Sampler:
    """Draw augmented training samples without end.

    Parameters
    ----------
    scans : list of Scan
        Training scans.
    size : int
        Rows and columns of a sample.
    seed : int
        For numpy's generator here and torch's global one.
    paste : float
        Chance that a lesion from another patient is pasted into the sample.
    """

    def __init__(self, scans: list[Scan], size: int, seed: int, paste: float) -> None:
        self.scans, self.size, self.paste = scans, size, paste
        self.random = np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.tumour = [np.flatnonzero(scan.mask.any(axis=(1, 2))) for scan in scans]

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return bool(self.random.random() < probability)

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw samples, every other one from a slice with tumour, the rest from slices without.

        Parameters
        ----------
        count : int
            How many.

        Returns
        -------
        tuple of torch.Tensor
            float32 images (count, STACK, size, size) and masks (count, 1, size, size).
        """
        images, masks = zip(*(self.sample(i % 2 == 0) for i in range(count)), strict=True)
        return torch.stack(images), torch.stack(masks)

    def sample(self, with_tumour: bool) -> tuple[Tensor, Tensor]:
        """Draw one sample.

        Parameters
        ----------
        with_tumour : bool
            Whether to take a slice that has tumour, or one that has none.

        Returns
        -------
        tuple of torch.Tensor
            float32 image (STACK, size, size) and mask (1, size, size), in 0 to 1.
        """
        which = int(self.random.integers(len(self.scans)))
        scan = self.scans[which]
        choices = self.tumour[which]
        if not with_tumour:
            choices = np.setdiff1d(np.arange(scan.slices), choices)
        centre = int(self.random.choice(choices))
        step = self.random.uniform(0.45, 1.15)
        top = min(scan.slices - 1 + 2 * self.chance(0.5), len(scan.image) - 1)
        image = stack_at(scan.image, centre, step, top)
        mask = torch.from_numpy(scan.mask[centre].astype(np.float32))[None]
        if self.chance(self.paste):
            image, mask = self.paste_lesion(image, mask, scan, centre)
        if self.chance(0.3):
            outside = torch.from_numpy(~scan.brain[centre]).float() * (1 - mask[0])
            soft = functional.avg_pool2d(outside[None], 5, 1, 2)
            image = image * (1 - soft * float(self.random.uniform(0, 1)))
        planes = self.move(torch.cat([image, mask]))
        return self.shade(planes[:-1]), planes[-1:]

    def paste_lesion(
        self, image: Tensor, mask: Tensor, scan: Scan, centre: int
    ) -> tuple[Tensor, Tensor]:
        """Blend another patient's lesion, turned and resized, into the brain of this slice.

        Parameters
        ----------
        image, mask : torch.Tensor
            float32 (STACK, Y, X) and (1, Y, X).
        scan : Scan
            Where they come from.
        centre : int
            Index of the slice.

        Returns
        -------
        tuple of torch.Tensor
            Image and mask of the same shapes.
        """
        inside = np.argwhere(scan.brain[centre])
        donors = [i for i, other in enumerate(self.scans) if other.patient != scan.patient]
        if len(inside) < 1500 or not donors:
            return image, mask
        which = int(self.random.choice(donors))
        donor = self.scans[which]
        level = int(self.random.choice(self.tumour[which]))
        labels, count = ndimage.label(ndimage.binary_dilation(donor.mask[level], iterations=2))
        part = labels == self.random.integers(1, count + 1)
        step, top = self.random.uniform(0.3, 1.0), donor.slices - 1
        source = stack_at(donor.image, level, step, top)
        near = ndimage.binary_dilation(part, iterations=3)
        lesions = stack_at(donor.mask & near, level, step, top)
        cover = np.stack([ndimage.binary_fill_holes(plane > 0.5) for plane in lesions.numpy()])
        cover = ndimage.binary_dilation(cover, iterations=2, structure=np.ones((1, 3, 3)))
        soft = ndimage.gaussian_filter(cover.astype(np.float32), (0, 1.5, 1.5))
        rows, columns = image.shape[-2:]
        goal = inside[self.random.integers(len(inside))] - (rows / 2, columns / 2)
        start = np.array(ndimage.center_of_mass(part)) - (rows / 2, columns / 2)
        matrix = self.turn(np.pi, np.exp(self.random.uniform(np.log(0.4), np.log(1.3))))
        matrix[:, 2] = start[::-1] - matrix[:, :2] @ goal[::-1]
        planes = warp(torch.cat([source, torch.from_numpy(soft), lesions]), matrix, rows)
        moved, alpha, lesion = planes.split(STACK)
        alpha = alpha * torch.from_numpy(scan.brain[centre]).float()
        gain = float(self.random.uniform(0.85, 1.2))
        image = alpha * moved * gain + (1 - alpha) * image
        middle = slice(NEIGHBOURS, NEIGHBOURS + 1)
        hard = alpha[middle] > 0.5
        return image, torch.where(hard, lesion[middle], mask)

    def turn(self, angle: float, scale: float) -> NDArray:
        """Draw a rotation with shear, stretch and flip.

        Parameters
        ----------
        angle : float
            Greatest rotation, radians.
        scale : float
            How much larger things become in the output.

        Returns
        -------
        numpy.ndarray
            (2, 3), output to input, without shift.
        """
        turned = self.random.uniform(-angle, angle)
        cos, sin = np.cos(turned), np.sin(turned)
        stretch = np.diag(np.exp(self.random.normal(0, 0.06, 2)))
        shear = np.array([[1, self.random.normal(0, 0.05)], [0, 1]])
        flip = np.diag([-1.0 if self.chance(0.5) else 1.0, 1.0])
        linear = flip @ np.array([[cos, -sin], [sin, cos]]) @ shear @ stretch / scale
        return np.hstack([linear, np.zeros((2, 1))])

    def move(self, planes: Tensor) -> Tensor:
        """Rotate, scale, flip, shift and bend, and crop to the sample's size about the head.

        Parameters
        ----------
        planes : torch.Tensor
            float32 (STACK + 1, Y, X), the mask last.

        Returns
        -------
        torch.Tensor
            float32 (STACK + 1, size, size).
        """
        scale = np.exp(self.random.uniform(np.log(0.65), np.log(1.4)))
        matrix = self.turn(0.35 if self.chance(0.8) else np.pi, scale)
        rows, columns = np.nonzero(planes[NEIGHBOURS].numpy() > 0.3)
        if len(rows):
            middle = np.array([columns.min() + columns.max(), rows.min() + rows.max()]) / 2
            matrix[:, 2] = middle - np.array(planes.shape[:0:-1]) / 2
        lesion = np.argwhere(planes[-1].numpy() > 0.5)
        if scale > 1.15 and len(lesion):
            point = lesion[self.random.integers(len(lesion))] - np.array(planes.shape[1:]) / 2
            matrix[:, 2] += self.random.uniform(0, 0.6) * (point[::-1] - matrix[:, 2])
        matrix[:, 2] += self.random.normal(0, 12, 2)
        bend = None
        if self.chance(0.5):
            bend = smooth_field(2, self.size, int(self.random.integers(4, 9)), 4.0)
        return warp(planes, matrix, self.size, bend)

    def shade(self, image: Tensor) -> Tensor:
        """Change brightness, contrast, sharpness and noise as other scanners would.

        Parameters
        ----------
        image : torch.Tensor
            float32 (STACK, size, size), normalised.

        Returns
        -------
        torch.Tensor
            Same shape, in 0 to 5.
        """
        draw = self.random.uniform
        if self.chance(0.15):
            order = torch.arange(STACK)
            order[:NEIGHBOURS] = order[NEIGHBOURS] - int(self.chance(0.5))
            image = image[order] if self.chance(0.5) else image.flip(0)[order].flip(0)
        if self.chance(0.5):
            field = smooth_field(1, self.size, int(self.random.integers(2, 5)), draw(0.05, 0.25))
            image = image * field[0].exp()
        if self.chance(0.6):
            image = image.clamp(min=1e-3) ** draw(0.7, 1.4)
        if self.chance(0.2):
            image = (UPPER / 2) * torch.tanh(image / (UPPER / 2))
        image = image * draw(0.8, 1.25)
        if self.chance(0.25):
            side = int(self.size * draw(0.45, 0.9))
            small = functional.interpolate(image[None], size=(side, side), mode="area")
            image = functional.interpolate(small, size=self.size, mode="bilinear")[0]
        elif self.chance(0.35):
            sigma = draw(0.3, 1.3)
            blurred = ndimage.gaussian_filter(image.numpy(), (0, sigma, sigma), truncate=3)
            weight = draw(0.5, 1.0) if self.chance(0.7) else -draw(0.2, 0.8)
            image = image + weight * (torch.from_numpy(blurred) - image)
        if self.chance(0.5):
            sigma = draw(0.01, 0.1)
            noise = sigma * torch.randn(2, *image.shape)
            image = ((image + noise[0]) ** 2 + noise[1] ** 2).sqrt()
        return image.clamp(0, UPPER)
