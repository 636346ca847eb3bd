"""Turn a volume into a mask with a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overread import runtimes
from overread.dicom.geometry import turn_to_axial
from overread.dicom.volume import Mask, Probability, Volume
from overread.errors import Refused, StepFailed
from overread.operators.detect import check_range
from overread.pipelines.envelope import Facts, axial_spacing, outside, refusal
from overread.pipelines.model import Envelope, ModelCard
from overread.pipelines.ports import Account, Context, Model, Progress
from overread.runtimes import Precision, Session, VolumeSession

Floats = NDArray[np.float32]

WINDOW_VOXELS = 64 * 256 * 256
"""Most voxels that a model sees at once where its card leaves the slices open: 16 MB of input, and
a hundred times that of activations."""

LEAST_SLICES = 16
"""Fewest slices of such a window, so that those at its ends are few."""

SIGMA = 1 / 8
"""Standard deviation of a window's weights, as a fraction of its size: voxels near its edge, which
the model saw without their surroundings, count little."""

RESAMPLED = 0.02
"""Relative tolerance on the spacing that a model expects after resampling."""


Axis = Literal["slices", "rows", "columns"]


def infer(
    volume: Volume,
    context: Context,
    account: Account,
    progress: Progress,
    *,
    model: Model,
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25,
    flips: bool | tuple[Axis, ...] = False,
    batch: Annotated[int, Field(ge=1)] = 1,
    precision: Precision = "auto",
) -> Mask:
    """Run a segmentation model over a volume, and label each voxel.

    The volume is turned (never interpolated) to the model's orientation, refused where it is not
    what the model was made for, and padded with zeros. Windows run over it; what they say is
    weighted by a Gaussian and averaged. A voxel takes the most probable label, if that reaches the
    threshold on the model's card. Of an ensemble (``folds`` on the card) every member runs, and
    the mean counts.

    A MONAI bundle brings transforms and windows of its own: these are run instead, and the result
    is brought back to the volume's grid.

    It does not resample, normalise or clean up: those are steps of their own.

    Parameters
    ----------
    volume : Volume
        Normalised and, where the model's card asks for it, resampled in plane.
    model : Model
        ``name@version``.
    overlap : float
        Part of a window that its neighbour covers as well.
    flips : bool or list of {"slices", "rows", "columns"}
        Whether each window is also run mirrored along slices, rows and columns, in every
        combination, and the mean taken: 2, 4 or 8 times the work. ``[slices, rows]`` leaves columns
        as they are: for a model that tells left from right.
    batch : int
        Windows that are run at once, where the model leaves its batch axis open: faster on a GPU,
        and takes so much more memory.
    precision : {"auto", "full", "half"}
        ``half`` lets a model of PyTorch compute in float16 on a GPU, in bfloat16 on a CPU; ``auto``
        does so on a GPU only. Other runtimes take the model as it is.

    Returns
    -------
    Mask
        On the volume's grid.

    Raises
    ------
    Refused
        The images are not what the model was made for: modality or spacing.
    ValueError
        The pipeline does not bring the volume to the spacing that the model's card asks for, or
        gives settings for windows to a model that has its own.
    StepFailed
        The model cannot run here, or gives another shape than its contract says, or values that are
        no probabilities.
    """
    how = How(overlap, _axes(flips), batch, precision)
    found = _probabilities(volume, context, account, progress, model, how)
    labels = model.card.output.labels
    values = np.array([label.value for label in labels])
    kind = np.uint8 if values.max() < 256 else np.uint16
    best = values[found.argmax(axis=0)]
    mask = np.where(found.max(axis=0) >= model.card.output.threshold, best, 0).astype(kind)
    return Mask(
        mask,
        volume.affine,
        tuple(label.segment() for label in labels),
        volume.frame_of_reference,
        model.card.reference,
        volume.source,
    )


def infer_probability(
    volume: Volume,
    context: Context,
    account: Account,
    progress: Progress,
    *,
    model: Model,
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25,
    flips: bool | tuple[Axis, ...] = False,
    batch: Annotated[int, Field(ge=1)] = 1,
    precision: Precision = "auto",
) -> Probability:
    """Run a segmentation model over a volume, and keep how probable each label is in each voxel.

    As `infer`, but without the decision: for a fractional segmentation, for a threshold that the
    pipeline sets itself, for labels that may overlap.

    Parameters
    ----------
    volume : Volume
        Normalised and, where the model's card asks for it, resampled in plane.
    model, overlap, flips, batch, precision
        As in `infer`.

    Returns
    -------
    Probability
        On the volume's grid; one channel for each label of the card, with the card's threshold.

    Raises
    ------
    Refused, ValueError, StepFailed
        As in `infer`.
    """
    how = How(overlap, _axes(flips), batch, precision)
    return Probability(
        _probabilities(volume, context, account, progress, model, how),
        volume.affine,
        tuple(label.segment() for label in model.card.output.labels),
        volume.frame_of_reference,
        model.card.reference,
        volume.source,
        model.card.output.threshold,
    )


@dataclass(frozen=True)
class How:
    """How a model is run over a volume; see `infer`."""

    overlap: float = 0.25
    flips: tuple[int, ...] = ()
    batch: int = 1
    precision: Precision = "auto"


def _axes(flips: bool | tuple[Axis, ...]) -> tuple[int, ...]:
    names = get_args(Axis)
    return tuple(
        index for index, name in enumerate(names) if flips is True or name in (flips or ())
    )


def _probabilities(  # noqa: PLR0917 - what the two operators pass on
    volume: Volume,
    context: Context,
    account: Account,
    progress: Progress,
    model: Model,
    how: How,
) -> Floats:
    """Return the probability of each label, shape (labels, slices, rows, columns)."""
    card = model.card
    if card.task != "segmentation":
        raise ValueError(f"model {card.reference} is for {card.task}, not for segmentation")
    turn = turn_to_axial(volume.affine)
    _check(volume, turn.order, card)
    session = runtimes.session(model, context.device, how.precision)
    account.notes.append(f"model {card.reference}, SHA-256 {card.sha256}")
    account.notes += [f"and its fold, SHA-256 {fold.sha256}" for fold in card.folds]
    if isinstance(session, VolumeSession):
        if how.flips or how.batch > 1:
            raise ValueError(
                f"model {card.reference} has windows of its own; flips and batch are set within it"
            )
        progress(0, 1, "volumes")
        found = session.segment(np.ascontiguousarray(volume.array, np.float32), volume.affine)
        expected = (len(card.output.labels), *volume.array.shape)
        if found.shape != expected:
            raise StepFailed(
                f"model {card.reference} gave an array of shape {found.shape}; {expected} was "
                "expected"
            )
        return check_range(found, card.output.name, card)
    array = np.ascontiguousarray(turn.turn(volume.array), np.float32)
    found = slide(session, array, card, how, progress)
    found = check_range(found, card.output.name, card)
    return np.stack([turn.back(label) for label in found])


def _check(volume: Volume, order: tuple[int, int, int], card: ModelCard) -> None:
    """Refuse what the model was not made for. `check_input` looks at more than a volume says."""
    known = Facts(volume.modality, spacing_mm=axial_spacing(volume.origin.affine))
    if found := outside(card.input, known):
        raise Refused(refusal(card.reference, found))
    _check_resampled(volume, order, card.input)


def _check_resampled(volume: Volume, order: tuple[int, int, int], wanted: Envelope) -> None:
    target = wanted.resample_in_plane_mm
    if target is None:
        return
    for axis in order[1:]:
        if abs(volume.spacing[axis] / target - 1) > RESAMPLED:
            raise ValueError(
                f"the model expects {target:g} mm in plane, the volume has "
                f"{volume.spacing[axis]:.3f} mm; put a step before it: resample, with "
                f"in_plane_mm: {target:g}"
            )


def slide(session: Session, array: Floats, card: ModelCard, how: How, progress: Progress) -> Floats:
    """Run a model in windows over an array and average what it says.

    Parameters
    ----------
    session : Session
        The loaded model.
    array : ndarray, shape (slices, rows, columns), float32
        In the model's orientation.
    card : ModelCard
        For the window, the multiple and the number of labels.
    how : How
        Overlap, flips and batch.
    progress : Progress
        Told of each window.

    Returns
    -------
    ndarray, shape (labels, slices, rows, columns), float32
        Probabilities.

    Raises
    ------
    StepFailed
        The model gives another shape than its contract says.
    """
    window = window_size(array.shape, card.input)
    padding = [
        (max(0, side - size) // 2, max(0, side - size) - max(0, side - size) // 2)
        for size, side in zip(array.shape, window, strict=True)
    ]
    padded = np.pad(array, padding)
    total = np.zeros((len(card.output.labels), *padded.shape), dtype=np.float32)
    weights = np.zeros(padded.shape, dtype=np.float32)
    weight = gaussian(window, padded.shape)
    places = list(windows(padded.shape, window, how.overlap))
    for start in range(0, len(places), how.batch):
        progress(start, len(places), "windows")
        some = places[start : start + how.batch]
        found = _run(session, np.stack([padded[place] for place in some])[:, None], card, how.flips)
        for place, one in zip(some, found, strict=True):
            total[(slice(None), *place)] += one * weight
            weights[place] += weight
    progress(len(places), len(places), "windows")
    total /= weights
    inside = tuple(
        slice(before, before + size) for (before, _), size in zip(padding, array.shape, strict=True)
    )
    return total[(slice(None), *inside)]


def _run(session: Session, some: Floats, card: ModelCard, flips: tuple[int, ...]) -> Floats:
    """Run the model on windows, shape (batch, 1, *window), once for each way to mirror them."""
    count, _, *window = some.shape
    expected = (count, len(card.output.labels), *window)
    total = np.zeros(expected, dtype=np.float32)
    ways = [way for size in range(len(flips) + 1) for way in combinations(flips, size)]
    for way in ways:
        axes = tuple(axis + 2 for axis in way)
        seen = np.ascontiguousarray(np.flip(some, axes))
        found = session.run({card.input.name: seen})[card.output.name]
        if found.shape != expected:
            raise StepFailed(
                f"model {card.reference} gave an array of shape {found.shape}; {expected} was "
                "expected"
            )
        total += np.flip(found, axes)
    total /= len(ways)
    return total


def window_size(shape: tuple[int, ...], envelope: Envelope) -> tuple[int, int, int]:
    """Size of the window: the card's; where it says 0, the axis, in plane to the next multiple."""
    plane = [
        side or -(-size // envelope.multiple) * envelope.multiple
        for side, size in zip(envelope.window[1:], shape[1:], strict=True)
    ]
    most = max(LEAST_SLICES, WINDOW_VOXELS // (plane[0] * plane[1]))
    return (envelope.window[0] or min(shape[0], most), plane[0], plane[1])


def windows(
    shape: tuple[int, ...], window: tuple[int, ...], overlap: float
) -> Iterator[tuple[slice, ...]]:
    """Yield windows that cover the shape, evenly spread, each neighbour overlapping at least so."""
    starts = []
    for size, side in zip(shape, window, strict=True):
        stride = max(1, int(side * (1 - overlap)))
        count = -(-(size - side) // stride) + 1
        starts.append(np.linspace(0, size - side, count).round().astype(int).tolist())
    for corner in product(*starts):
        yield tuple(slice(start, start + side) for start, side in zip(corner, window, strict=True))


def gaussian(window: tuple[int, ...], shape: tuple[int, ...]) -> Floats:
    """Weights of a window: a Gaussian along each axis that it does not fill, 1 along the others."""
    weight = np.ones(window, dtype=np.float32)
    for axis, (side, size) in enumerate(zip(window, shape, strict=True)):
        if side < size:
            offset = (np.arange(side) - (side - 1) / 2) / (SIGMA * side)
            along = np.maximum(np.exp(-(offset**2) / 2), 1e-3).astype(np.float32)
            weight *= along.reshape([-1 if other == axis else 1 for other in range(3)])
    return weight
