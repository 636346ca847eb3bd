"""Describe what an exam holds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from overread.dicom.description import Description, describe
from overread.dicom.element import parse_address
from overread.dicom.selection import name
from overread.dicom.study import Exam
from overread.operators.select import Address
from overread.pipelines.ports import Account

TAGS = (
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "ProtocolName",
    "BodyPartExamined",
    "ViewPosition",
    "ImageLaterality",
    "AcquisitionDate",
    "AcquisitionTime",
)


def describe_exam(
    exam: Exam,
    account: Account,
    *,
    tags: tuple[Address, ...] = TAGS,
    at_most: Annotated[int, Field(ge=0, le=10_000)] = 1000,
) -> Description:
    """Describe an exam: every series and every image, with the attributes that are asked for.

    Headers only; no pixels are read. An attribute that all images of a series say alike stands once
    with the series, what differs stands with each image: so the several views of a radiograph's
    series are told apart, and a thousand slices are not told a thousand times what they share.
    Where one image or series cannot be described in full, the others are, and ``problems`` says
    which and why: an attribute whose value is not what its type says, a sequence that is broken, a
    number of frames that is not that of its frames.

    ::

        {"images": 3, "frames": 3, "problems": [],
         "series": [{"uid": "1.2…", "images": 3, "frames": 3, "views": ["AP R", "LATERAL R"],
                     "tags": {"Modality": ["DX"]}, "not_listed": 0, "problems": [],
                     "each": [{"uid": "1.2…", "number": "1", "frames": 1,
                               "tags": {"ViewPosition": ["AP"]}}, …]}]}

    Values are texts, as in conditions, at most 256 characters long and 64 of an attribute.

    Parameters
    ----------
    tags : tuple of str
        Addresses as conditions write them: keywords, ``(gggg,eeee)``, private elements
        ``(0019,xx0C)@SIEMENS MR HEADER``, and paths through sequences.
    at_most : int
        Most images of a series that are listed one by one; ``not_listed`` counts the others, of
        which what they share and their problems are told as well.

    Returns
    -------
    Description
        Plain JSON.
    """
    found = describe(exam, [parse_address(tag) for tag in tags], at_most)
    for series, told in zip(exam.series(), found.data["series"], strict=True):
        wrong = told["problems"]
        if wrong:
            what = "; ".join(f"image {one['image'] or '?'}: {one['what']}" for one in wrong[:5])
            more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            account.notes.append(f"{name(series)}: {what}{more}")
        account.used.append((series.uid, f"{name(series)}: described"))
    return found
