"""Find things in images: boxes with a label and a score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overread import runtimes
from overread.dicom.image import Image, Images
from overread.errors import Refused, StepFailed
from overread.operators.letterbox import Floats, Letterbox
from overread.pipelines.envelope import Facts, outside, refusal
from overread.pipelines.model import ModelCard
from overread.pipelines.ports import Account, Context, Model, Progress
from overread.runtimes import Session
from overread.validation.results import Detection, Detections

Float = TypeVar("Float", np.float32, np.float64)

ROUNDING = 1e-3
"""How far beyond 0 and 1 a score or probability may lie: half precision rounds that far."""


def detect(
    images: Images,
    context: Context,
    account: Account,
    progress: Progress,
    *,
    model: Model,
    at_most_each: Annotated[int, Field(ge=1)] | None = None,
) -> Detections:
    """Run a detection model over images.

    Each image is scaled to the model's input size (its aspect kept, in the middle, 0 around it)
    and given to the model. A box whose score for a label reaches the model's threshold is a
    detection; one box may be several. Where the model's card sets `nms_iou`, of two boxes of one
    label that overlap more than that the better is kept; a model that needs it and does not say so
    gives each finding many times. Boxes come back in pixels of the source image, cut at its edge.

    Nothing is normalised here: put `normalise_image` before it.

    Parameters
    ----------
    images : Images
        Normalised as the model's card asks.
    model : Model
        ``name@version`` of a detection model.
    at_most_each : int, optional
        Keep so many boxes of each label in an image, the best ones: 1 where an anatomy has one.

    Returns
    -------
    Detections
        In the order of the images, the highest score first.

    Raises
    ------
    Refused
        The images are of another modality than the model was made for, or mirrored or turned where
        its card says how they must lie.
    ValueError
        The model is no detection model.
    StepFailed
        The model cannot run here, or gives what its card does not say: another shape, a score
        beyond 0 to 1, a box that is none.
    """
    card = model.card
    check(images, card, "detection")
    session = runtimes.session(model, context.device)
    found: list[Detection] = []
    for number, image in enumerate(images):
        progress(number, len(images), "images")
        here = list(_look(image, session, card, at_most_each, account))
        if card.input.toward and image.toward is None:
            account.notes.append(
                f"image {image.uid} does not say its sides (PatientOrientation): right and left "
                "are as in the usual view"
            )
        account.used.append((image.uid, f"looked at: {len(here)} found"))
        found += here
    account.notes.append(f"model {card.reference}, SHA-256 {card.sha256}")
    return Detections(
        tuple(_numbered(found)),
        tuple(dict.fromkeys(image.uid for image in images)),
        card.reference,
    )


def check(
    images: Images, card: ModelCard, task: Literal["detection", "classification"]
) -> tuple[int, int]:
    """Check a model's task, and modality and sides of the images; return the model's image size.

    Raises
    ------
    ValueError
        The model has another task.
    Refused
        An image has another modality than the model was made for, or is mirrored or turned.
    """
    if card.task != task or card.input.size is None:
        raise ValueError(f"model {card.reference} does {card.task}; one for {task} was expected")
    for image in images:
        if wrong := outside(card.input, Facts(modality=image.modality, toward=image.toward)):
            raise Refused(refusal(card.reference, wrong))
    return card.input.size


def tensor(
    session: Session, drawn: Floats, card: ModelCard, names: Iterable[str]
) -> list[NDArray[np.float64]]:
    """Run a model on one image and return its tensors without the batch axis.

    Raises
    ------
    StepFailed
        A tensor is not of one image, or not finite.
    """
    found = session.run({card.input.name: np.ascontiguousarray(drawn)[None, None]})
    for name in names:
        if found[name].ndim < 2 or found[name].shape[0] != 1:
            raise StepFailed(
                f"model {card.reference} gave {name} of shape {found[name].shape} for one image; "
                "the first axis was expected to be 1"
            )
        if not np.isfinite(found[name]).all():
            raise StepFailed(f"model {card.reference} gave values in {name} that are no numbers")
    return [np.asarray(found[name][0], dtype=np.float64) for name in names]


def check_range(values: NDArray[Float], name: str, card: ModelCard) -> NDArray[Float]:
    """Return probabilities, cut to 0 to 1; a model that gives logits is told of.

    Raises
    ------
    StepFailed
        A value is no number, or lies outside 0 to 1 by more than rounding.
    """
    if values.size and not (values.min() >= -ROUNDING and values.max() <= 1 + ROUNDING):
        raise StepFailed(
            f"model {card.reference} gave {name} from {values.min():.3g} to {values.max():.3g}; "
            "0 to 1 was expected: export it with its sigmoid or softmax"
        )
    return values.clip(0, 1)


def _look(
    image: Image, session: Session, card: ModelCard, at_most: int | None, account: Account
) -> Iterable[Detection]:
    """Look at one image: what is found, the highest score first."""
    rows, columns = image.array.shape
    assert card.input.size is not None  # noqa: S101 - check() has seen to it
    whole = (0.0, 0.0, float(columns), float(rows))
    letterbox = Letterbox.around(whole, card.input.size, image.aspect)
    names = (card.output.boxes, card.output.scores)
    boxes, scores = tensor(session, letterbox.draw(image.array), card, names)
    labels = len(card.output.labels)
    if boxes.shape != (len(boxes), 4) or scores.shape != (len(boxes), labels):
        raise StepFailed(
            f"model {card.reference} gave boxes of shape {boxes.shape} and scores of shape "
            f"{scores.shape}; (boxes, 4) and (boxes, {labels}) were expected"
        )
    scores = check_range(scores, card.output.scores, card)
    placed = letterbox.back(boxes).clip(0, [columns, rows, columns, rows])
    inside = (placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1])
    above = scores >= card.output.threshold
    if lost := int((above & ~inside[:, None]).sum()):
        account.unused.append((image.uid, f"{lost} boxes have no area inside the image"))
    found = []
    for channel, label in enumerate(card.output.labels):
        which = np.flatnonzero(above[:, channel] & inside)
        which = which[np.argsort(-scores[which, channel], kind="stable")]
        if card.output.nms_iou is not None:
            which = which[suppress(placed[which], card.output.nms_iou)]
        for index in which[:at_most]:
            x0, y0, x1, y1 = placed[index].tolist()
            found.append(
                Detection(
                    "", label.name, float(scores[index, channel]), image.uid, image.frame,
                    (x0, y0, x1, y1), label.type, label.anatomy, label.colour,
                )
            )  # fmt: skip
    return sorted(found, key=lambda one: -one.score)


def _numbered(found: Iterable[Detection]) -> Iterable[Detection]:
    return (replace(one, id=str(number)) for number, one in enumerate(found, start=1))


def overlap(one: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of a box with others, shape (boxes,)."""
    low = np.maximum(one[:2], others[:, :2])
    high = np.minimum(one[2:], others[:, 2:])
    both = (high - low).clip(0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return np.asarray(both / ((one[2:] - one[:2]).prod() + areas - both))


def suppress(boxes: NDArray[np.float64], most: float) -> list[int]:
    """Keep of boxes that overlap the better one (non-maximum suppression).

    Parameters
    ----------
    boxes : ndarray, shape (boxes, 4)
        The best first; each has an area.
    most : float
        Greatest intersection over union of two that are kept.

    Returns
    -------
    list of int
        Indices of those kept, in order.
    """
    kept: list[int] = []
    for index, box in enumerate(boxes):
        if not kept or overlap(box, boxes[kept]).max() <= most:
            kept.append(index)
    return kept
