"""WADO-RS rendered resources (PS3.18 section 10.4.1.1.3): for a browser that knows no DICOM.

An image is given as a PNG, a document as the PDF that it holds. Of the parameters of PS3.18 section
8.3.5.1 there is ``viewport``, two numbers, which the picture is made to fit. An image is shown by
its own window, or, where it has none, from its least to its greatest value.
"""

from __future__ import annotations

import re
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import EncapsulatedPDFStorage

from overread.dicom.pixels import UNREADABLE
from overread.portal.auth import require
from overread.portal.dicomweb.media import accepted, matches
from overread.portal.dicomweb.retrieve import asked, note
from overread.portal.state import Here, Portal
from overread.store.tables import Instance

router = APIRouter(
    prefix="/dicom-web", include_in_schema=False, dependencies=[Depends(require("image.see"))]
)

PNG, PDF = "image/png", "application/pdf"

MOST_PIXELS = 1 << 25
"""Pixels of the largest image that is rendered: more would take gigabytes to decode."""

LARGEST_VIEWPORT = 4096

_INSTANCE = "/studies/{study}/series/{series}/instances/{instance}"


@router.get(_INSTANCE + "/rendered")
def rendered_instance(
    request: Request, portal: Here, *, study: str, series: str, instance: str, viewport: str = ""
) -> Response:
    """Give an image as a PNG, its first frame if it has several, or a document as its PDF."""
    one = asked(portal, study, series, instance)[0]
    if one.sop_class_uid == EncapsulatedPDFStorage:
        note(request, portal, [one])
        return _pdf(request, portal, one)
    return _png(request, portal, one, 1, viewport)


@router.get(_INSTANCE + "/frames/{number}/rendered")
def rendered_frame(
    request: Request,
    portal: Here,
    *,
    study: str,
    series: str,
    instance: str,
    number: str,
    viewport: str = "",
) -> Response:
    """Give one frame of an image as a PNG."""
    if not re.fullmatch("0*[1-9][0-9]{0,8}", number):
        raise HTTPException(400, f"{number!r} is no frame; expected a number from 1")
    one = asked(portal, study, series, instance)[0]
    return _png(request, portal, one, int(number), viewport)


def _check_accepted(request: Request, kind: str) -> None:
    if not any(matches(wish, kind, ()) for wish in accepted(request)):
        raise HTTPException(406, f"this is rendered as {kind} only")


def _png(request: Request, portal: Portal, one: Instance, number: int, viewport: str) -> Response:
    _check_accepted(request, PNG)
    if not one.rows or not one.columns:
        raise HTTPException(406, "the object is no image")
    if not 1 <= number <= one.frames:
        raise HTTPException(404, f"there is no frame {number}; the object has {one.frames}")
    if one.rows * one.columns > MOST_PIXELS:
        raise HTTPException(406, f"{one.rows} × {one.columns} pixels are too many to be rendered")
    fits = _viewport(viewport)
    note(request, portal, [one])
    try:
        data = _rendered(portal.archive.path(one.key), number - 1, fits)
    except UNREADABLE as error:
        raise HTTPException(406, f"its pixels cannot be read: {type(error).__name__}") from error
    return Response(data, media_type=PNG)


def _viewport(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4}),([1-9][0-9]{0,4})", text)
    if found is None or max(int(found[1]), int(found[2])) > LARGEST_VIEWPORT:
        raise HTTPException(
            400, f"viewport {text!r} is not WIDTH,HEIGHT of at most {LARGEST_VIEWPORT}"
        )
    return int(found[1]), int(found[2])


@lru_cache(maxsize=32)
def _rendered(path: Path, index: int, fits: tuple[int, int] | None) -> bytes:
    """Render a frame; the archive's files never change, so that it need be done once."""
    picture = Pillow.fromarray(render(path, index))
    if fits is not None:
        picture.thumbnail(fits, Pillow.Resampling.BICUBIC)
    out = BytesIO()
    picture.save(out, "PNG", compress_level=3)
    return out.getvalue()


def render(path: Path, index: int) -> NDArray[np.uint8]:
    """Decode a frame as it is to be looked at.

    Parameters
    ----------
    path : Path
        A PS3.10 file.
    index : int
        Of the frame, from 0.

    Returns
    -------
    ndarray, shape (rows, columns) or (rows, columns, 3), uint8
        Grey or RGB: modality LUT, window or VOI LUT, and photometric interpretation are applied.
    """
    header = dcmread(path, stop_before_pixels=True)
    array = pixel_array(path, index=index)
    if array.ndim == 3:  # pydicom gives RGB, whatever it was stored as
        bits = int(header.get("BitsStored", 8))
        return np.asarray(array >> max(0, bits - 8), dtype=np.uint8)
    if str(header.get("PhotometricInterpretation")) == "PALETTE COLOR":
        return np.asarray(apply_color_lut(array, header) >> 8, dtype=np.uint8)
    values = apply_modality_lut(array, header).astype(np.float32)
    low, high, values = _range(values, array, header)
    grey = ((values - low) / max(high - low, 1e-9)).clip(0, 1) * 255
    if str(header.get("PhotometricInterpretation")) == "MONOCHROME1":
        grey = 255 - grey
    return np.asarray(grey.round(), dtype=np.uint8)


def _range(
    values: NDArray[np.float32], stored: NDArray[Any], header: Dataset
) -> tuple[float, float, NDArray[np.float32]]:
    """Return what is black and what is white, and the values that they are of."""
    if header.get("VOILUTSequence"):
        table = header.VOILUTSequence[0]
        shown = apply_voi_lut(apply_modality_lut(stored, header), header).astype(np.float32)
        return 0.0, float((1 << int(table.LUTDescriptor[2])) - 1), shown
    centre, width = _first(header, "WindowCenter"), _first(header, "WindowWidth")
    if centre is not None and width is not None and width >= 1:
        # PS3.3 C.11.2.1.2.1: a width of w covers w - 1 steps around the centre less one half.
        return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2, values
    return float(values.min()), float(values.max()), values


def _first(header: Dataset, keyword: str) -> float | None:
    value = header.get(keyword)
    values = value if isinstance(value, MultiValue) else [value]
    return None if not values or values[0] in (None, "") else float(values[0])


def _pdf(request: Request, portal: Portal, one: Instance) -> Response:
    _check_accepted(request, PDF)
    dataset = dcmread(portal.archive.path(one.key))
    document = bytes(dataset.get("EncapsulatedDocument") or b"")
    if not document.startswith(b"%PDF-"):
        raise HTTPException(406, "the object says that it holds a PDF, and does not")
    length = int(dataset.get("EncapsulatedDocumentLength") or len(document))
    return Response(
        document[:length],
        media_type=PDF,
        headers={
            "Content-Disposition": 'inline; filename="report.pdf"',
            # It has nothing to load; the browser's own PDF viewer needs its styles.
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
            "object-src 'self'; frame-ancestors 'self'",
        },
    )
