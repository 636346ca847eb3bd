"""Segmentations as a viewer stores them: drawn by hand on images, for tests of what is edited."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmwrite

from overread.dicom.codes import Code, Segment
from overread.dicom.derived import Algorithm, Making
from overread.dicom.geometry import lay_out
from overread.dicom.provenance import derive_uid
from overread.dicom.seg import Form, write_seg
from overread.dicom.study import Instance, Series
from overread.dicom.volume import Mask

TISSUE = Code("85756007", "SCT", "Tissue")


def drawn(
    images: list[Dataset],
    inside: NDArray[Any],
    *,
    name: str,
    label: str = "Segment 1",
    form: Form = "binary",
    **changes: Any,
) -> bytes:
    """A PS3.10 file of a Segmentation drawn on ``images``, in the order of their slices.

    Parameters
    ----------
    inside : ndarray
        What was drawn, on the images' grid; or numbers of segments, which are all called the same
        but for their number.
    name : str
        Gives the object its UIDs.
    changes
        Attributes to set.
    """
    series = Series(tuple(Instance(image) for image in images))
    numbers = [int(one) for one in np.unique(inside) if one] or [1]
    segments = tuple(
        Segment(one, label if len(numbers) == 1 else f"{label} {one}", TISSUE, TISSUE)
        for one in numbers
    )
    made = write_seg(
        Mask(inside.astype(np.uint8), lay_out(series).affine, segments),
        series,
        Making(
            made_by=("drawn", name),
            at=datetime(2026, 6, 3, tzinfo=UTC),
            zone="UTC",
            algorithm=Algorithm("by hand", "1"),
            device="viewer",
        ),
        form=form,
    ).dataset
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    made.SOPInstanceUID = derive_uid("drawn", name)
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    buffer = BytesIO()
    dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()
