"""Turn a volume into a mask: with a model, or with a threshold."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overread import runtimes
from overread.dicom.codes import TISSUE, Segment
from overread.dicom.geometry import turn_to_axial
from overread.dicom.volume import Mask, Volume
from overread.errors import Refused, StepFailed
from overread.operators.preprocess import otsu
from overread.pipelines.envelope import Facts, axial_spacing, outside, refusal
from overread.pipelines.model import Envelope, ModelCard
from overread.pipelines.ports import Account, Context, Model
from overread.runtimes import Session

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


def infer(
    volume: Volume,
    context: Context,
    account: Account,
    *,
    model: Model,
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25,
) -> Mask:
    """Run a segmentation model over a volume.

    The volume is turned (never interpolated) to the model's orientation, checked against the
    model's envelope, and padded with zeros; windows run over it, are weighted by a Gaussian and
    averaged. A voxel takes the most probable label, if that reaches the model's threshold.

    Parameters
    ----------
    volume : Volume
        Normalised and, where the model's card asks for it, resampled in plane.
    model : Model
        ``name@version``.
    overlap : float
        Part of a window that its neighbour covers as well.

    Returns
    -------
    Mask
        On the volume's grid.

    Raises
    ------
    Refused
        The images are not what the model was made for: modality or spacing.
    ValueError
        The pipeline does not bring the volume to the spacing that the model's card asks for.
    StepFailed
        The model cannot run here, or gives another shape than its contract says.
    """
    card = model.card
    turn = turn_to_axial(volume.affine)
    _check(volume, turn.order, card)
    session = runtimes.session(model, context.device)
    probability = slide(
        session, np.ascontiguousarray(turn.turn(volume.array), np.float32), card, overlap
    )
    values = np.array([label.value for label in card.output.labels])
    kind = np.uint8 if values.max() < 256 else np.uint16
    best = values[probability.argmax(axis=0)]
    labels = np.where(probability.max(axis=0) >= card.output.threshold, best, 0).astype(kind)
    account.notes.append(f"model {card.reference}, SHA-256 {card.sha256}")
    return Mask(
        np.ascontiguousarray(turn.back(labels)),
        volume.affine,
        tuple(label.segment() for label in card.output.labels),
        volume.frame_of_reference,
        card.reference,
        volume.source,
    )


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


def slide(session: Session, array: Floats, card: ModelCard, overlap: float) -> Floats:
    """Run a model in windows over an array and average what it says.

    Parameters
    ----------
    session : Session
        The loaded model.
    array : ndarray, shape (slices, rows, columns), float32
        In the model's orientation.
    card : ModelCard
        For the window, the multiple and the number of labels.
    overlap : float
        Part of a window that its neighbour covers as well.

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
    labels = len(card.output.labels)
    total = np.zeros((labels, *padded.shape), dtype=np.float32)
    weights = np.zeros(padded.shape, dtype=np.float32)
    weight = gaussian(window, padded.shape)
    for place in windows(padded.shape, window, overlap):
        window_of = np.ascontiguousarray(padded[place])[None, None]
        found = session.run({card.input.name: window_of})[card.output.name]
        if found.shape != (1, labels, *window):
            raise StepFailed(
                f"model {card.reference} gave an array of shape {found.shape}; "
                f"{(1, labels, *window)} was expected"
            )
        total[(slice(None), *place)] += found[0] * weight
        weights[place] += weight
    total /= weights
    inside = tuple(
        slice(before, before + size) for (before, _), size in zip(padding, array.shape, strict=True)
    )
    return total[(slice(None), *inside)]


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


BRIGHT = Segment(1, "Bright", TISSUE, TISSUE)


def threshold(
    volume: Volume,
    account: Account,
    *,
    above: float | Literal["otsu"],
    segment: Segment = BRIGHT,
) -> Mask:
    """Segment what is brighter than a threshold. Needs no model: for phantoms and tests.

    Parameters
    ----------
    above : float or "otsu"
        Threshold in the volume's unit, or Otsu's.
    segment : Segment
        What is segmented.
    """
    value = otsu(volume.array) if above == "otsu" else above
    found = np.zeros(volume.array.shape, dtype=np.uint8 if segment.number < 256 else np.uint16)
    if value is not None:
        found[volume.array > value] = segment.number
        account.notes.append(f"threshold {value:g} {volume.unit}")
    return Mask(found, volume.affine, (segment,), volume.frame_of_reference, source=volume.source)
