"""Phantom abdomens and real slices for the liver model, and training samples drawn from them.

Axes are (Z, Y, X): slices from feet to head, rows from anterior to posterior, columns from the
patient's right to left. Pixels are 2 mm; intensities are the window -120 to 240 HU as 0 to 1.
"""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from pydicom import dcmread
from scipy import ndimage
from torch import Tensor
from torch.nn import functional
from training.brain_tumour.data import STACK, smooth_field, stack_at, warp

from overread.simulator.abdomen import abdomen

REAL = Path("../shared/data/ct_liver")
PIXEL = 2.0
SIZE = 192
LEVEL, WIDTH = 60.0, 360.0
CLASSES = 4
TRAINING = range(1000, 1160)
"""Seeds of the phantoms trained on. No other seed was ever seen in training."""
HELD_OUT = range(1, 21)
"""Seeds of the phantoms that accuracy is measured on."""
LIVER = 5
"""Value of the liver in the reference of the real slices."""


@dataclass(frozen=True)
class Scan:
    """One scan with its reference.

    Attributes
    ----------
    image : numpy.ndarray
        float16 (Z, Y, X), in 0 to 1.
    truth : numpy.ndarray
        uint8 (Z, Y, X): 1 left lobe, 2 right lobe, 3 vessels; of a real scan, 1 all of the liver.
    lobes : bool
        Whether the truth tells lobes and vessels apart.
    """

    image: NDArray[np.float16]
    truth: NDArray[np.uint8]
    lobes: bool


def window(hounsfield: NDArray) -> NDArray:
    """Bring Hounsfield units to 0 to 1, as the pipeline's ``normalise`` does."""
    return np.clip((hounsfield - (LEVEL - WIDTH / 2)) / WIDTH, 0, 1)


def phantom_spacing(seed: int) -> dict[str, tuple]:
    """Shape and spacing in which a training phantom is drawn: slices 1.5 to 4 mm apart."""
    gap = float(np.random.default_rng([seed, 7]).uniform(1.5, 4.0))
    return {"shape": (round(190 / gap), SIZE, SIZE), "spacing": (gap, PIXEL, PIXEL)}


def phantom_scan(seed: int) -> Scan:
    """Draw a training phantom with slices 1.5 to 4 mm apart.

    Parameters
    ----------
    seed : int
        The patient.

    Returns
    -------
    Scan
        SIZE x SIZE pixels of PIXEL mm.
    """
    drawn = abdomen(seed, **phantom_spacing(seed), divided=1)
    return Scan(window(drawn.image.array).astype(np.float16), drawn.truth.array, True)


def real_scan(folder: Path) -> Scan:
    """Read the 20 real slices with the reference's liver, at PIXEL mm.

    Parameters
    ----------
    folder : pathlib.Path
        The data set's folder.

    Returns
    -------
    Scan
        Without lobes.
    """
    slices = [dcmread(path) for path in (folder / "dicom").glob("*.dcm")]
    slices.sort(key=lambda each: float(each.ImagePositionPatient[2]))
    array = np.stack([each.pixel_array + float(each.RescaleIntercept) for each in slices])
    # The NIfTI file runs right to left, back to front, feet to head.
    labels = nib.load(folder / "totalsegmentator_reference.nii.gz").get_fdata()
    liver = (labels.transpose(2, 1, 0)[:, ::-1] == LIVER).astype(np.float32)
    shrink = (1, *(float(v) / PIXEL for v in slices[0].PixelSpacing))
    image = ndimage.zoom(ndimage.gaussian_filter(window(array), (0, 0.8, 0.8)), shrink, order=1)
    truth = ndimage.zoom(liver, shrink, order=1) > 0.5
    return Scan(image.astype(np.float16), truth.astype(np.uint8), False)


class Sampler:
    """Draw augmented training samples without end.

    Parameters
    ----------
    phantoms, real : list of Scan
        Training scans.
    seed : int
        For numpy's generator here and torch's global one.
    """

    def __init__(self, phantoms: list[Scan], real: list[Scan], seed: int) -> None:
        self.phantoms, self.real = phantoms, real
        self.random = np.random.default_rng(seed)
        torch.manual_seed(seed)

    def batch(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw samples; the last is real, the others are phantoms.

        Parameters
        ----------
        count : int
            How many.

        Returns
        -------
        tuple of torch.Tensor
            float32 images (count, STACK, SIZE, SIZE), int64 values (count, SIZE, SIZE), and for
            each sample whether it tells lobes apart, bool (count,).
        """
        picked = [self.phantoms] * (count - 1) + [self.real or self.phantoms]
        scans = [scans[self.random.integers(len(scans))] for scans in picked]
        images, truths = zip(*(self.sample(scan) for scan in scans), strict=True)
        return torch.stack(images), torch.stack(truths), torch.tensor([s.lobes for s in scans])

    def sample(self, scan: Scan) -> tuple[Tensor, Tensor]:
        """Draw one sample.

        Parameters
        ----------
        scan : Scan
            From which scan.

        Returns
        -------
        tuple of torch.Tensor
            float32 image (STACK, SIZE, SIZE) in 0 to 1 and int64 values (SIZE, SIZE).
        """
        centre = int(self.random.integers(len(scan.image)))
        step, top = self.random.uniform(0.7, 1.3), len(scan.image) - 1
        image = stack_at(scan.image, centre, step, top)
        # One channel a class, so that the values are moved as smoothly as the image.
        truth = torch.from_numpy(scan.truth[centre].astype(np.int64))
        planes = functional.one_hot(truth, CLASSES).permute(2, 0, 1).float()
        turned, scale = self.random.normal(0, 0.08), np.exp(self.random.normal(0, 0.09))
        cos, sin = np.cos(turned) / scale, np.sin(turned) / scale
        shift = self.random.normal(0, 8, 2)
        matrix = np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])
        bend = smooth_field(2, SIZE, 5, 2.5) if self.random.random() < 0.4 else None
        moved = warp(torch.cat([image, planes[1:]]), matrix, SIZE, bend)
        liver = moved[STACK:]
        values = torch.cat([1 - liver.sum(0, keepdim=True), liver]).argmax(0)
        return self.shade(moved[:STACK]), values

    def shade(self, image: Tensor) -> Tensor:
        """Change enhancement, sharpness and noise as other patients and scanners would.

        Parameters
        ----------
        image : torch.Tensor
            float32 (STACK, SIZE, SIZE), in 0 to 1.

        Returns
        -------
        torch.Tensor
            The same shape and range.
        """
        draw = self.random.uniform
        if draw() < 0.3:
            image = functional.avg_pool2d(image[None], 3, 1, 1)[0]
        if draw() < 0.5:
            image = image + draw(0, 0.06) * torch.randn_like(image)
        return (image * draw(0.9, 1.1) + draw(-0.05, 0.05)).clamp(0, 1)
