"""Say what an image, or each region of it, shows: classes with probabilities."""

from __future__ import annotations

import numpy as np

from overread import runtimes
from overread.dicom.image import Image, Images
from overread.errors import StepFailed
from overread.operators.detect import check, check_range, tensor
from overread.operators.letterbox import Box, Letterbox
from overread.pipelines.model import ModelCard
from overread.pipelines.ports import Account, Context, Model, Progress
from overread.runtimes import Session
from overread.validation.results import Class, Classification, Detection, Detections

WHOLE = "image"
"""What a class of a whole image is said to be of."""


def classify(
    images: Images,
    context: Context,
    account: Account,
    progress: Progress,
    regions: Detections | None = None,
    *,
    model: Model,
) -> Classification:
    """Run a classification model over images, or over each region that a detector found in them.

    A region is enlarged on each side by the part of it that the model's card calls `margin`, and
    cut at the image's edge. Image or region is scaled to the model's input size (its aspect kept,
    in the middle, 0 around it) and given to the model. All probabilities are kept, and the most
    probable class is named, also where it does not reach the model's threshold; that is noted.

    Nothing is normalised here: put `normalise_image` before it.

    Parameters
    ----------
    images : Images
        Normalised as the model's card asks.
    regions : Detections
        What to classify; the whole images if nothing is bound here. Where nothing was found,
        nothing is classified.
    model : Model
        ``name@version`` of a classification model.

    Returns
    -------
    Classification
        One class for each image or region, in their order.

    Raises
    ------
    Refused
        The images are of another modality than the model was made for, or mirrored or turned where
        its card says how they must lie.
    ValueError
        The model is no classification model, or a region is of an image that was not given.
    StepFailed
        The model cannot run here, or gives what its card does not say: another shape, or a
        probability beyond 0 to 1.
    """
    card = model.card
    size = check(images, card, "classification")
    session = runtimes.session(model, context.device)
    places = _places(images, regions, card.output.margin)
    items = []
    for number, (image, box, found) in enumerate(places):
        progress(number, len(places), "regions" if regions is not None else "images")
        letterbox = Letterbox.around(box, size, image.aspect)
        item = _class(image, found, _probabilities(image, letterbox, session, card), card)
        if item.probability < card.output.threshold:
            account.notes.append(
                f"{item.region}: no class reaches {card.output.threshold:g}; {item.label} is the "
                f"most probable, with {item.probability:.2f}"
            )
        items.append(item)
    account.used.extend((image.uid, "looked at") for image in images)
    if regions is not None and not places:
        account.notes.append("no region was found, so nothing was classified")
    account.notes.append(f"model {card.reference}, SHA-256 {card.sha256}")
    return Classification(
        tuple(items), tuple(dict.fromkeys(image.uid for image in images)), card.reference
    )


def _places(
    images: Images, regions: Detections | None, margin: float
) -> list[tuple[Image, Box, Detection | None]]:
    """List what is to be classified: image, region, and the detection that gave it."""
    if regions is None:
        return [
            (image, (0.0, 0.0, float(image.array.shape[1]), float(image.array.shape[0])), None)
            for image in images
        ]
    known = {(image.uid, image.frame): image for image in images}
    places: list[tuple[Image, Box, Detection | None]] = []
    for found in regions:
        image = known.get((found.image, found.frame))
        if image is None:
            raise ValueError(
                f"region {found.id} ({found.label}) is of image {found.image} frame "
                f"{found.frame + 1}, which classify was not given; detect and classify take the "
                "same images"
            )
        places.append((image, enlarge(found.box, margin, image.array.shape), found))
    return places


def enlarge(box: Box, margin: float, shape: tuple[int, ...]) -> Box:
    """Enlarge a box on each side by a part of it, and cut it at the image's edge.

    Parameters
    ----------
    box : tuple of float
        In pixels of the image.
    margin : float
        Part of the box's width, and of its height.
    shape : tuple of int
        Rows and columns of the image.
    """
    x0, y0, x1, y1 = box
    wide, high = (x1 - x0) * margin, (y1 - y0) * margin
    return (
        max(0.0, x0 - wide),
        max(0.0, y0 - high),
        min(float(shape[1]), x1 + wide),
        min(float(shape[0]), y1 + high),
    )


def _probabilities(
    image: Image, letterbox: Letterbox, session: Session, card: ModelCard
) -> list[float]:
    (values,) = tensor(session, letterbox.draw(image.array), card, [card.output.name])
    labels = len(card.output.labels)
    if values.shape != (labels,):
        raise StepFailed(
            f"model {card.reference} gave {card.output.name} of shape {(1, *values.shape)}; "
            f"(1, {labels}) was expected"
        )
    return [float(value) for value in check_range(values, card.output.name, card)]


def _class(
    image: Image, found: Detection | None, probabilities: list[float], card: ModelCard
) -> Class:
    best = int(np.argmax(probabilities))
    label = card.output.labels[best]
    return Class(
        region=found.label if found else WHOLE,
        label=label.name,
        probability=probabilities[best],
        probabilities={
            one.name: value for one, value in zip(card.output.labels, probabilities, strict=True)
        },
        image=image.uid,
        frame=image.frame,
        box=found.box if found else None,
        detection=found.id if found else "",
        code=label.type,
        site=(found.site if found else None) or label.anatomy,
        colour=label.colour,
    )
