"""Bring a volume into the space of another one of the same patient. Needs SimpleITK."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from overread.dicom.interpolation import bring
from overread.dicom.volume import Affine, Volume
from overread.errors import Refused, StepFailed
from overread.pipelines.ports import Account

Kind = Literal["rigid", "affine"]

STARTS = {
    "GIVEN": "the given coordinates",
    "GEOMETRY": "middle onto middle",
    "MOMENTS": "centre of mass onto centre of mass",
}
"""Transformations to begin with, as ITK calls them, and for people."""

BINS = 50
"""Bins of the joint histogram (Mattes D et al. 2003, doi:10.1109/TMI.2003.809072)."""

SAMPLES = 100_000
"""Voxels of the fixed volume, at most, that the metric is taken from at each level."""

SEED = 20261124
"""Of the jitter of these samples: the same volumes register the same way."""

LEVELS = ((4, 2.0), (2, 1.0), (1, 0.0))
"""Shrink factor and smoothing (mm) of each level, from coarse to fine."""

ITERATIONS = 200
LEAST_STEP = 1e-4
SAME = 0.01
"""Mutual information that is lost within this is the optimiser's last step, not a failure."""

LEAST = 0.05
"""Mutual information of two volumes that tell something of each other: unrelated ones give about
0.01 by chance, with as many samples and bins."""


def register(
    moving: Volume,
    fixed: Volume,
    account: Account,
    *,
    kind: Kind = "rigid",
) -> Volume:
    """Bring a volume into the space of another one of the same patient, such as the baseline exam.

    Mutual information (Mattes) is maximised from coarse to fine, from the best of three starts: as
    the scanner's coordinates lie, middle onto middle, and centre of mass onto centre of mass. The
    result is resampled linearly onto the fixed volume's grid. It remembers its own source, and the
    way back through the registration: `to_source` puts a mask that is found on it onto the moving
    volume's own images. Both volumes come from the job's exam: to register to an earlier exam, let
    the exam be gathered ``by: patient`` and select both series.

    Needs SimpleITK: ``pip install overread[register]``. The same volumes give the same result; one
    thread, sampled with a fixed seed.

    Parameters
    ----------
    moving : Volume
        What is moved.
    fixed : Volume
        Where to; of any modality.
    kind : str
        ``rigid`` turns and shifts (6 parameters); ``affine`` also scales and shears (12).

    Returns
    -------
    Volume
        The moving volume's values on the fixed volume's grid and in its frame of reference; its own
        lowest value where it does not reach. Transformation and metric are in the step's notes.

    Raises
    ------
    Refused
        The volumes do not overlap, what was found fits worse than the start, or neither tells
        anything of the other.
    StepFailed
        SimpleITK is not installed here.
    """
    itk = _itk()
    threads = itk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    itk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # more would add up in another order
    try:
        found = _align(itk, moving, fixed, kind)
    finally:
        itk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    matrix = found.matrix
    rows = "; ".join(" ".join(f"{value:.5f}" for value in row) for row in matrix[:3])
    account.notes.append(
        f"{kind}, from {found.start}: mutual information {found.given:.4f} as given, "
        f"{found.before:.4f} at the start, {found.after:.4f} after"
    )
    account.notes.append(f"LPS mm of the fixed volume to the moving one's: [{rows}]")
    origin = moving.origin
    across = np.linalg.inv(moving.affine) @ matrix @ fixed.affine
    array = bring(
        moving.array.astype(np.float32),
        across,
        fixed.array.shape,
        linear=True,
        outside=float(moving.array.min()),
    )
    return replace(
        moving,
        array=array,
        affine=fixed.affine,
        frame_of_reference=fixed.frame_of_reference,
        source=replace(origin, back=origin.back @ matrix),
    )


@dataclass(frozen=True, eq=False)
class _Found:
    """A transformation, LPS mm of the fixed volume to the moving one's, and how well it fits."""

    matrix: Affine
    start: str
    given: float
    before: float
    after: float


def _align(itk: Any, moving: Volume, fixed: Volume, kind: Kind) -> _Found:
    method = _method(itk, fixed)
    still, moved = _image(itk, fixed), _image(itk, moving)
    starts = [_start(itk, name, still, moved) for name in STARTS]
    scores = [_fit(method, start, still, moved) for start in starts]
    if max(scores) == float("-inf"):
        raise Refused("the volumes do not overlap; two volumes of one region were expected")
    best = int(np.argmax(scores))
    found = itk.Euler3DTransform(starts[best])
    for step in ("rigid", "affine") if kind == "affine" else ("rigid",):
        found = _widen(itk, found) if step == "affine" else found
        method.SetShrinkFactorsPerLevel([shrink for shrink, _ in LEVELS])
        method.SetSmoothingSigmasPerLevel([sigma for _, sigma in LEVELS])
        method.SetInitialTransform(found, inPlace=True)
        try:
            method.Execute(still, moved)
        except RuntimeError as error:  # ITK's only exception: all samples map outside, mostly
            raise Refused(f"the volumes could not be registered: {_reason(error)}") from error
    after = _fit(method, found, still, moved)
    if scores[best] - SAME < after < scores[best]:  # the start fitted already
        found, after = starts[best], scores[best]
    if after < max(scores[best], LEAST):
        raise Refused(
            f"the registration failed: mutual information {scores[best]:.3f} at the start, "
            f"{after:.3f} after; more than at the start and at least {LEAST:g} was expected, as of "
            "two volumes of one region of one patient"
        )
    return _Found(_matrix(found), list(STARTS.values())[best], scores[0], scores[best], after)


def _itk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise StepFailed(
            "register needs SimpleITK, which is not installed here: pip install overread[register]"
        ) from error
    return SimpleITK


def _image(itk: Any, volume: Volume) -> Any:
    """Return a volume as ITK has it: axes (column, row, slice), and its affine."""
    image = itk.GetImageFromArray(np.ascontiguousarray(volume.array, dtype=np.float32))
    spacing = np.array(volume.spacing)
    direction = (volume.affine[:3, :3] / spacing)[:, ::-1]
    image.SetSpacing(spacing[::-1].tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetDirection(direction.ravel().tolist())
    return image


def _method(itk: Any, fixed: Volume) -> Any:
    method = itk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(min(1.0, SAMPLES / fixed.array.size), SEED)
    method.SetInterpolator(itk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, LEAST_STEP, ITERATIONS)
    method.SetOptimizerScalesFromPhysicalShift()
    return method


def _start(itk: Any, name: str, fixed: Any, moving: Any) -> Any:
    """Return a rigid transformation to begin with; it turns about the fixed volume's middle."""
    start = itk.Euler3DTransform()
    if name == "GIVEN":
        middle = [(size - 1) / 2 for size in fixed.GetSize()]
        start.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint(middle))
        return start
    mode = getattr(itk.CenteredTransformInitializerFilter, name)
    return itk.Euler3DTransform(itk.CenteredTransformInitializer(fixed, moving, start, mode))


def _widen(itk: Any, rigid: Any) -> Any:
    wide = itk.AffineTransform(3)
    wide.SetCenter(rigid.GetCenter())
    wide.SetMatrix(rigid.GetMatrix())
    wide.SetTranslation(rigid.GetTranslation())
    return wide


def _fit(method: Any, transform: Any, fixed: Any, moving: Any) -> float:
    """Return the mutual information under a transformation; minus infinity without overlap."""
    method.SetInitialTransform(transform, inPlace=False)
    try:
        return -float(method.MetricEvaluate(fixed, moving))
    except RuntimeError:  # ITK's only exception: no sample maps into the moving volume
        return float("-inf")


def _reason(error: RuntimeError) -> str:
    """Return what ITK says, without where in its source it says it."""
    return str(error).strip().splitlines()[-1].split("): ")[-1].strip()


def _matrix(transform: Any) -> NDArray[np.float64]:
    """Return a transformation as one matrix: LPS mm of the fixed volume to the moving one's."""
    linear = np.array(transform.GetMatrix()).reshape(3, 3)
    centre, shift = np.array(transform.GetCenter()), np.array(transform.GetTranslation())
    matrix: Affine = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre + shift - linear @ centre
    return matrix
