"""Draw what was found over the images, and write it as a Secondary Capture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydantic import Field

from overread.dicom.capture import Picture, encode_capture
from overread.dicom.geometry import lay_out
from overread.dicom.image import Image, Images
from overread.dicom.provenance import DerivedObject
from overread.dicom.study import Exam, Instance, Series, sides
from overread.dicom.volume import HOUNSFIELD, Mask, Volume
from overread.errors import GeometryError
from overread.operators import drawing
from overread.operators.drawing import Line, Mark, Words
from overread.operators.making import Tags, making
from overread.pipelines.ports import Account, Context
from overread.validation.results import Class, Classification, Detections, Measurement, Measurements

SOFT_TISSUE = (40.0, 400.0)
"""Centre and width in Hounsfield units of the window for CT, unless the pipeline sets one."""

PERCENTILES = (1.0, 99.7)
"""Which values become black and white where there is no window, of those above the lowest."""

MOST_LINES = 8
"""Lines of values below a picture; what does not fit is counted in the last."""

SAME_GRID = 1e-3
"""How far two affines of one grid may differ, mm."""

TEXT_HEIGHT = 1 / 44
"""Height of a letter, of the longer side of a picture."""


def write_capture(  # noqa: PLR0917 - what may be drawn, each from a step of its own
    source: Series | Exam,
    context: Context,
    account: Account,
    volume: Volume | None = None,
    mask: Mask | None = None,
    images: Images | None = None,
    detections: Detections | None = None,
    classification: Classification | None = None,
    measurements: Measurements | None = None,
    *,
    at_most: Annotated[int, Field(ge=1, le=64)] = 6,
    size: Annotated[int, Field(ge=256, le=2048)] = 1024,
    window: tuple[float, Annotated[float, Field(gt=0)]] | None = None,
    tags: Tags | None = None,
) -> DerivedObject:
    """Draw key slices or images with what was found on them, and write a secondary capture.

    For a system that shows images and nothing else. Give it either

    - `volume`, and what was segmented in it as `mask`: the slices on which each segment is largest,
      then slices spread over the segments (over the volume where there are none), with contours;
    - or `images`, and what was found in them as `detections` and `classification`: each image, with
      boxes, labels and scores.

    `measurements` stand below. Every picture says that an AI made it, that it is investigational
    unless the stage is clinical, and which model and pipeline; it has the patient's sides where
    they are known, and a scale bar where the spacing is. The patient's name is never drawn.

    A picture is for looking at: it is scaled, windowed and in colour. Measure on the source.

    Parameters
    ----------
    source : Series or Exam
        The images that it all comes from: the capture goes into their Study and names them.
    volume : Volume
        As it was read; a normalised one is drawn too, by its own values.
    mask : Mask
        On the volume's grid.
    images : Images
        As they are to be looked at.
    detections, classification : Detections, Classification
        Of those images. A class of a detection stands at its box.
    measurements : Measurements
        Values that stand below each picture.
    at_most : int
        Pictures at most; the first images, or the most telling slices.
    size : int
        Longer side of a picture, in pixels, without the bands.
    window : tuple of float, optional
        Centre and width of what is shown, in the volume's or images' unit. By itself: 40 and 400
        for Hounsfield units, else from the values.
    tags : dict, optional
        Attributes to set, by keyword.

    Raises
    ------
    ValueError
        Neither or both of `volume` and `images` are bound, the mask lies on another grid, or an
        image is not of the source.
    """
    if (volume is None) == (images is None):
        raise ValueError("write_capture draws either a volume or images: bind one of the two")
    brush = _Brush(
        size,
        window,
        standing="AI" if context.stage == "clinical" else "AI · investigational",
        maker=_maker(context, mask, detections, classification),
        values=[_value(item, mask) for item in measurements.items] if measurements else [],
    )
    if volume is not None:
        pictures = list(_slices(brush, source, volume, mask, at_most))
    else:
        assert images is not None  # noqa: S101 - one of the two is bound
        shown = [_findings(image, detections, classification) for image in images.items[:at_most]]
        pictures = list(_images(brush, source, shown, len(images)))
        account.unused += [(one.uid, "beyond at_most") for one in images.items[at_most:]]
        if not all(sides(picture.sources[0][0].header) for picture in pictures):
            account.notes.append("without the patient's sides: an image does not say them")
    model = next((one.model for one in (classification, detections, mask) if one), "")
    made = encode_capture(
        pictures, making(context, model, tags), description=f"Capture: {context.pipeline}"
    )
    account.used.extend((uid, "drawn") for uid in made.sources)
    return made


class _Brush:
    """How pictures are drawn: their size, their window, and the words that all of them have."""

    def __init__(
        self,
        size: int,
        window: tuple[float, float] | None,
        *,
        standing: str,
        maker: str,
        values: Sequence[Line],
    ) -> None:
        self.size, self.window, self.values = size, window, values
        self.unit = max(9.0, size * TEXT_HEIGHT)
        self._standing, self._maker = standing, maker

    def limits(self, array: NDArray[np.generic], unit: str) -> tuple[float, float]:
        """Return the values that become black and white."""
        centre, width = self.window or (SOFT_TISSUE if unit == HOUNSFIELD else (0.0, 0.0))
        if width:
            return centre - width / 2, centre + width / 2
        values = np.asarray(array, dtype=np.float32)
        above = values[values > values.min()]
        if not above.size:
            return float(values.min()), float(values.min()) + 1
        low, high = np.percentile(above[:: max(1, above.size // 10**6)], PERCENTILES)
        return float(low), float(high)

    def words(self, place: str, lines: Sequence[Line]) -> Words:
        """Return what stands around one picture."""
        shown = list(lines[:MOST_LINES])
        if len(lines) > MOST_LINES:
            shown[-1:] = [Line(f"and {len(lines) - MOST_LINES + 1} more")]
        return Words(self._standing, place, tuple(shown), self._maker)


def _value(item: Measurement, mask: Mask | None) -> Line:
    colours = {one.label: one.colour for one in mask.segments} if mask else {}
    digits = 0 if abs(item.value) >= 1000 else 1 if abs(item.value) >= 1 else 2
    unit = {"1": "", "%": " %"}.get(item.unit, f" {item.unit}")
    text = f"{item.region}: {item.quantity} {item.value:.{digits}f}{unit}"
    return Line(text, colours.get(item.region))


def _maker(
    context: Context,
    mask: Mask | None,
    detections: Detections | None,
    classification: Classification | None,
) -> str:
    models = [one.model for one in (detections, classification, mask) if one and one.model]
    models = list(dict.fromkeys(models or [card.reference for card in context.models]))
    who = f"Model {' and '.join(models)}" if models else "No model; rule-based"
    return f"{who} · pipeline {context.pipeline}@{context.pipeline_version}"


def _slices(
    brush: _Brush, source: Series | Exam, volume: Volume, mask: Mask | None, at_most: int
) -> Iterator[Picture]:
    """Draw the key slices of a volume, in order."""
    if mask is not None and not (
        mask.array.shape == volume.array.shape
        and len({mask.frame_of_reference, volume.frame_of_reference} - {""}) < 2
        and np.allclose(mask.affine, volume.affine, atol=SAME_GRID)
    ):
        raise ValueError(
            f"the mask ({mask.array.shape}) lies on another grid than the volume "
            f"({volume.array.shape}); put a step before it that brings it there: resample_mask"
        )
    segments = mask.segments if mask is not None else ()
    labels = mask.array if mask is not None else np.zeros(volume.array.shape, dtype=np.uint8)
    lines = list(brush.values) or [Line(one.label, one.colour) for one in segments]
    if mask is not None and not labels.any():
        lines.append(Line("Nothing was found"))
    limits = brush.limits(volume.array, volume.unit)
    turned = drawing.upright(volume.affine)
    _, down, along = volume.spacing
    area = drawing.fit(volume.array.shape[1:], down / along, brush.size)
    count, made_of = len(volume.array), _sources(source, volume)
    for index in key_slices(labels, at_most):
        grey = drawing.grey(volume.array[index][turned], *limits)
        picture = drawing.enlarge(grey, *area)
        for segment in segments:
            inside = (labels[index] == segment.number)[turned]
            if inside.any():
                picture = drawing.paint_segment(picture, inside, segment.colour)
        drawing.paint_sides(picture, drawing.sides(volume.affine), brush.unit)
        drawing.paint_bar(picture, along * volume.array.shape[2] / picture.width, brush.unit)
        words = brush.words(f"slice {index + 1} of {count}", lines)
        pixels = drawing.compose(picture, area, words, len(words.lines), brush.unit)
        yield Picture(pixels, f"slice {index + 1}/{count}", made_of[index])


def key_slices(labels: NDArray[np.generic], at_most: int) -> list[int]:
    """Choose the slices that show most.

    First those on which each segment is largest, the larger segments first; then others, spread
    evenly over the slices that hold any segment, or over all of them where none does.

    Parameters
    ----------
    labels : ndarray, shape (slices, rows, columns)
        0 is background.
    at_most : int
        How many to choose.

    Returns
    -------
    list of int
        Ascending, each once.
    """
    held = np.flatnonzero(labels.any(axis=(1, 2)))
    if not held.size:
        held = np.arange(len(labels))
    areas = [(labels == number).sum(axis=(1, 2)) for number in np.unique(labels) if number]
    areas.sort(key=lambda area: -int(area.sum()))
    chosen = list(dict.fromkeys(int(area.argmax()) for area in areas))[:at_most]
    others = np.setdiff1d(held, chosen)
    room = min(at_most - len(chosen), len(others))
    middles = (np.arange(room) + 0.5) * len(others) / max(room, 1)
    return sorted([*chosen, *others[middles.astype(int)].tolist()])


def _sources(source: Series | Exam, volume: Volume) -> list[tuple[tuple[Instance, int], ...]]:
    """List the images behind each slice; all of them where the volume is not on their grid."""
    instances = tuple(
        one
        for one in source.instances
        if not volume.frame_of_reference
        or str(one.header.get("FrameOfReferenceUID", "")) == volume.frame_of_reference
    )
    instances = instances or source.instances
    try:
        grid = lay_out(Series(instances))
    except GeometryError:  # several series in one frame of reference
        return [tuple((one, 0) for one in instances)] * len(volume.array)
    same = grid.shape == volume.array.shape and np.allclose(
        grid.affine, volume.affine, atol=SAME_GRID
    )
    if not same:
        return [tuple((one, 0) for one in instances)] * len(volume.array)
    return [((plane.instance, plane.frame),) for plane in grid.planes]


@dataclass(frozen=True)
class _Findings:
    """An image with the boxes and the words that were found in it."""

    image: Image
    marks: tuple[Mark, ...]
    lines: tuple[Line, ...]


def _findings(
    image: Image, detections: Detections | None, classification: Classification | None
) -> _Findings:
    """Gather what was found in an image; where a box was classified, its class stands at it."""
    here = (image.uid, image.frame)
    found = [one for one in detections or () if (one.image, one.frame) == here]
    classes = [one for one in classification or () if (one.image, one.frame) == here]
    of_box = {one.detection: one for one in classes if one.detection}
    boxes = {one.id for one in found}
    marks = [
        Mark(one.box, _classed(said), said.colour)
        if (said := of_box.get(one.id))
        else Mark(one.box, f"{one.label} {one.score:.2f}", one.colour)
        for one in found
    ]
    marks += [
        Mark(one.box, _classed(one), one.colour)
        for one in classes
        if one.box is not None and one.detection not in boxes
    ]
    lines = [Line(_classed(one) + _others(one), one.colour) for one in classes]
    if classification is None:
        lines += [Line(f"{one.label} {one.score:.2f}", one.colour) for one in found]
    if detections is not None and not found:
        lines.append(Line("Nothing was found"))
    return _Findings(image, tuple(marks), tuple(lines))


def _classed(one: Class) -> str:
    region = f"{one.region}: " if one.detection else ""
    return f"{region}{one.label} {one.probability:.2f}"


def _others(one: Class) -> str:
    ranked = sorted(one.probabilities.items(), key=lambda pair: -pair[1])
    others = [f"{name} {value:.2f}" for name, value in ranked if name != one.label]
    return f" ({', '.join(others)})" if others else ""


def _images(
    brush: _Brush, source: Series | Exam, shown: Sequence[_Findings], of: int
) -> Iterator[Picture]:
    """Draw images with the boxes and classes found in them."""
    known = {one.uid: one for one in source.instances}
    sizes = [drawing.fit(one.image.array.shape, one.image.aspect, brush.size) for one in shown]
    area = (max(width for width, _ in sizes), max(height for _, height in sizes))
    told = [
        brush.words(_place(one.image, number, of), [*one.lines, *brush.values])
        for number, one in enumerate(shown, start=1)
    ]
    rows = max(len(words.lines) for words in told)
    for one, size, words in zip(shown, sizes, told, strict=True):
        instance = known.get(one.image.uid)
        if instance is None:
            raise ValueError(
                f"image {one.image.uid} is not of the source that write_capture was given"
            )
        picture = _image(brush, one, size, sides(instance.header))
        pixels = drawing.compose(picture, area, words, rows, brush.unit)
        yield Picture(pixels, words.place, ((instance, one.image.frame),))


def _image(
    brush: _Brush, found: _Findings, size: tuple[int, int], letters: tuple[str, str] | None
) -> Pillow.Image:
    image = found.image
    limits = brush.limits(image.array, image.unit)
    picture = drawing.enlarge(drawing.grey(image.array, *limits), *size)
    drawing.paint_marks(picture, found.marks, image.array.shape, brush.unit)
    if letters is not None:
        drawing.paint_sides(picture, letters, brush.unit)
    if image.spacing is not None:
        mm = image.spacing[1] * image.array.shape[1] / picture.width
        drawing.paint_bar(picture, mm, brush.unit, _where(image.spacing_from))
    return picture


def _where(spacing_from: str) -> str:
    """Say where a length holds, by what `pixel_spacing` says of it; empty where in the patient."""
    if "at the detector" in spacing_from:
        return "at the detector"
    return "uncalibrated" if "not said what it refers to" in spacing_from else ""


def _place(image: Image, number: int, of: int) -> str:
    count = f"image {number} of {of}" if of > 1 else "image"
    return " · ".join(part for part in (image.view, count) if part)
