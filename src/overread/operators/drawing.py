"""Draw pictures that can be read from across a desk: an image, what was found on it, and words.

A picture has a band above it (whether it may be relied on, and which image this is) and one below
(values, and what made them), so that words cover the image only where they belong to a place in it.
Everything scales with the picture; light lines and letters have a dark rim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from overread.dicom.geometry import Affine
from overread.operators.letterbox import Box

Colour = tuple[int, int, int]
Bytes = NDArray[np.uint8]
Numbers = NDArray[np.floating] | NDArray[np.integer]

GROUND, TEXT, FAINT, AMBER, RIM = (7, 9, 18), (240, 243, 252), (154, 166, 203), (240, 185, 91), 0

FILL = 0.28
"""How much of a segment's colour lies over its pixels."""

LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))
"""Ends of the patient's axes (PS3.3 C.7.6.1.1.1): at decreasing and at increasing coordinate."""

BAR_MM = (200, 100, 50, 20, 10, 5, 2, 1)
"""Lengths that a scale bar may have."""


@dataclass(frozen=True)
class Line:
    """A line of the band below: what it says, and the colour that it is drawn in above."""

    text: str
    colour: Colour | None = None


@dataclass(frozen=True)
class Mark:
    """A box over the picture; ``box`` in pixels of the source, from its outer corner."""

    box: Box
    text: str
    colour: Colour


@dataclass(frozen=True)
class Words:
    """What stands around a picture.

    Attributes
    ----------
    standing : str
        Above, at the left: ``AI · investigational``.
    place : str
        Above, at the right: which image this is.
    lines : tuple of Line
        Below: values.
    maker : str
        Below them: models and pipeline.
    """

    standing: str
    place: str
    lines: tuple[Line, ...]
    maker: str


def grey(array: Numbers, low: float, high: float) -> Bytes:
    """Map values to grey: ``low`` is black, ``high`` white."""
    scaled = (np.asarray(array, dtype=np.float32) - low) / max(high - low, 1e-6)
    return np.asarray((scaled.clip(0, 1) * 255).round(), dtype=np.uint8)


def _falls(along: NDArray[np.float64]) -> bool:
    return bool(along[int(np.abs(along).argmax())] < 0)


def upright(affine: Affine) -> tuple[slice, slice]:
    """Say how a stored plane is turned to the view that radiologists are used to.

    The patient's right is at the left of the picture, head or front above; of a sagittal plane the
    front is at the left.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Index ``(slice, row, column)`` to LPS millimetres.

    Returns
    -------
    rows, columns : slice
        Either everything, or everything backwards.
    """
    down, along = affine[:3, 1], affine[:3, 2]
    is_upside_down = _falls(down) != (int(np.abs(down).argmax()) == 2)
    return slice(None, None, -1 if is_upside_down else 1), slice(
        None, None, -1 if _falls(along) else 1
    )


def sides(affine: Affine) -> tuple[str, str]:
    """Return the letters of the patient's sides at the left and the right of an upright plane."""
    along = affine[:3, 2]
    low, high = LETTERS[int(np.abs(along).argmax())]
    return low, high


def fit(shape: tuple[int, ...], aspect: float, size: int) -> tuple[int, int]:
    """Width and height of a picture whose longer side is ``size``.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the source.
    aspect : float
        Height of its pixels over their width; the picture's are square.
    """
    high, wide = shape[0] * aspect, float(shape[1])
    scale = size / max(high, wide)
    return max(1, round(wide * scale)), max(1, round(high * scale))


def enlarge(pixels: Bytes, width: int, height: int) -> Image.Image:
    """Draw grey pixels as a colour picture of a size, smoothly."""
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).convert("RGB")


def paint_segment(picture: Image.Image, inside: NDArray[np.bool_], colour: Colour) -> Image.Image:
    """Lay a segment over a picture: a thin fill, a clear contour.

    Parameters
    ----------
    inside : ndarray of bool, shape (rows, columns)
        In pixels of the source; its edge is smoothed as the picture's pixels are.
    """
    size = (picture.width, picture.height)
    soft = Image.fromarray(inside * np.uint8(255)).resize(size, Image.Resampling.BILINEAR)
    shown = np.asarray(soft) > 127
    width = max(1, round(max(size) / 380))
    edge = shown & ~ndimage.binary_erosion(shown, iterations=width)
    pixels = np.asarray(picture, dtype=np.float32).copy()
    pixels[shown] = pixels[shown] * (1 - FILL) + np.array(colour, dtype=np.float32) * FILL
    rim = ndimage.binary_dilation(shown, iterations=max(1, width // 2)) & ~shown
    pixels[rim] *= 0.4
    pixels[edge] = colour
    return Image.fromarray(pixels.round().astype(np.uint8))


def paint_marks(
    picture: Image.Image, marks: Sequence[Mark], shape: tuple[int, ...], unit: float
) -> None:
    """Draw boxes with their words: above each box, or inside it where there is no room above."""
    draw = ImageDraw.Draw(picture)
    font = _font(round(unit * 0.9), bold=True)
    width = max(2, round(unit / 9))
    across, down = picture.width / shape[1], picture.height / shape[0]
    for mark in marks:
        x0, y0, x1, y1 = (
            round(value * scale) for value, scale in zip(mark.box, (across, down) * 2, strict=True)
        )
        frame = (x0, y0, max(x0 + 1, x1 - 1), max(y0 + 1, y1 - 1))
        draw.rectangle(
            (frame[0] - 1, frame[1] - 1, frame[2] + 1, frame[3] + 1),
            outline=GROUND,
            width=width + 2,
        )
        draw.rectangle(frame, outline=mark.colour, width=width)
        text = shown_as(mark.text)
        box = draw.textbbox((0, 0), text, font=font)
        wide, high, pad = box[2] - box[0], round(unit * 1.15), round(unit * 0.3)
        left = min(max(0, x0), max(0, picture.width - wide - 2 * pad))
        top = y0 - high - 2 if y0 >= high + 2 else y0 + width
        draw.rectangle((left, top, left + wide + 2 * pad, top + high), fill=GROUND)
        draw.text((left + pad, top + high / 2), text, font=font, fill=mark.colour, anchor="lm")


def paint_sides(picture: Image.Image, letters: tuple[str, str], unit: float) -> None:
    """Write the patient's sides in the upper corners, where the fewest findings are."""
    draw, font = ImageDraw.Draw(picture), _font(round(unit * 1.5), bold=True)
    rim = max(2, round(unit / 7))
    places = ((unit * 0.5, "lt"), (picture.width - unit * 0.5, "rt"))
    for letter, (x, anchor) in zip(letters, places, strict=True):
        draw.text(
            (x, unit * 0.5), letter, font=font, fill=TEXT, anchor=anchor,
            stroke_width=rim, stroke_fill=GROUND,
        )  # fmt: skip


def paint_bar(picture: Image.Image, mm_per_pixel: float, unit: float, where: str = "") -> None:
    """Draw a scale bar of a round length at the lower right, where one fits into a quarter.

    Parameters
    ----------
    where : str
        Where the length holds, if not in the patient: ``at the detector``.
    """
    room = picture.width * 0.25 * mm_per_pixel
    length = next((one for one in BAR_MM if one <= room), None)
    if length is None:
        return
    draw, font = ImageDraw.Draw(picture), _font(round(unit * 0.8))
    right, bottom = picture.width - unit * 0.6, picture.height - unit * 0.7
    left, tick = right - length / mm_per_pixel, unit * 0.3
    for colour, width in ((GROUND, max(4, round(unit / 4))), (TEXT, max(2, round(unit / 10)))):
        draw.line((left, bottom, right, bottom), fill=colour, width=width)
        draw.line((left, bottom - tick, left, bottom + tick), fill=colour, width=width)
        draw.line((right, bottom - tick, right, bottom + tick), fill=colour, width=width)
    draw.text(
        (right, bottom - tick), f"{length} mm {where}".rstrip(), font=font, fill=TEXT, anchor="rb",
        stroke_width=max(2, round(unit / 9)), stroke_fill=GROUND,
    )  # fmt: skip


def compose(
    picture: Image.Image, area: tuple[int, int], words: Words, rows: int, unit: float
) -> Bytes:
    """Put a picture between its bands.

    Parameters
    ----------
    area : tuple of int
        Width and height that the picture is centred in.
    rows : int
        Lines of values that there is room for below.
    unit : float
        Height of a letter, in pixels.

    Returns
    -------
    ndarray, shape (rows, columns, 3), uint8
    """
    width, height = area
    head, foot = round(unit * 2), round(unit * (1.4 * rows + 2))
    sheet = Image.new("RGB", (width, head + height + foot), GROUND)
    sheet.paste((0, 0, 0), (0, head, width, head + height))
    sheet.paste(picture, ((width - picture.width) // 2, head + (height - picture.height) // 2))
    draw = ImageDraw.Draw(sheet)
    bold, plain, small = (
        _font(round(unit), bold=True), _font(round(unit)), _font(round(unit * 0.8))
    )  # fmt: skip
    edge = unit * 0.6
    draw.text((edge, head / 2), words.standing, font=bold, fill=AMBER, anchor="lm")
    draw.text((width - edge, head / 2), shown_as(words.place), font=plain, fill=TEXT, anchor="rm")
    y = head + height + unit * 1.1
    for line in words.lines[:rows]:
        left = edge
        if line.colour is not None:
            draw.rectangle((left, y - unit * 0.4, left + unit * 0.8, y + unit * 0.4), line.colour)
            left += unit * 1.3
        room = width - left - edge
        draw.text((left, y), _cut(line.text, plain, room), font=plain, fill=TEXT, anchor="lm")
        y += unit * 1.4
    bottom = sheet.height - unit * 0.8
    maker = _cut(words.maker, small, width - 2 * edge)
    draw.text((edge, bottom), maker, font=small, fill=FAINT, anchor="lm")
    return np.asarray(sheet, dtype=np.uint8)


def _cut(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    text = shown_as(text)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text.rstrip() + "..."


def shown_as(text: str) -> str:
    """Return a text in the letters that the font has (Latin-1); others as a question mark."""
    return text.encode("latin-1", "replace").decode("latin-1")


@cache
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Bitstream Vera, which comes with reportlab: the same letters on every machine."""
    import reportlab

    file = Path(reportlab.__file__).parent / "fonts" / ("VeraBd.ttf" if bold else "Vera.ttf")
    return ImageFont.truetype(file, max(8, size))
