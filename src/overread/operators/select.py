"""Choose what a pipeline works on: a series, or single images."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from overread.dicom.element import parse_address, text
from overread.dicom.match import Condition
from overread.dicom.orientation import WITHIN_DEGREES, Plane
from overread.dicom.selection import (
    RELATIVE,
    Order,
    Preference,
    Reference,
    Wanted,
    image_name,
    name,
)
from overread.dicom.study import Exam, Instance, Series
from overread.errors import Refused
from overread.pipelines.ports import Account


def _address(written: str) -> str:
    parse_address(written)
    return written


Address = Annotated[str, AfterValidator(_address)]
"""An attribute, as conditions write it: a keyword, a tag, a path through sequences."""

Degrees = Annotated[float, Field(ge=0, le=54)]
"""Beyond 54.7° the three planes of the patient leave nothing oblique."""


def select_series(
    exam: Exam,
    account: Account,
    reference: Series | Exam | None = None,
    *,
    where: Condition,
    orientation: tuple[Plane, ...] | Plane = (),
    within_degrees: Degrees = WITHIN_DEGREES,
    same_frame_of_reference: bool = False,
    prefer: tuple[Preference, ...] = (),
) -> Series:
    """Choose one series of an exam.

    What is asked for is asked of every image, not of a series' first. A series is a candidate with
    those of its images that fit; so a localiser that shares a series with an axial stack is left
    out by ``orientation: axial``.

    Parameters
    ----------
    reference : Series or Exam, optional
        Images that another step chose, which the series is to go with: ``in: {reference: t1c}``.
        They are no candidates themselves.
    where : Condition
        What an image must be, as a condition: ``{Modality: MR, SeriesDescription: {like: "*T1*"}}``
    orientation : str or tuple of str
        ``axial``, ``coronal``, ``sagittal``, ``oblique``: planes of the patient that an image may
        lie in, by its ImageOrientationPatient; of a multi-frame image, all of its frames.
    within_degrees : float
        Greatest angle between an image's normal and the patient's axis that still counts as that
        plane; what is further off from all three is ``oblique``.
    same_frame_of_reference : bool
        Whether an image must share the FrameOfReferenceUID of the reference.
    prefer : tuple
        What decides between several candidates, first things first:

        - ``most_instances``, ``fewest_instances``: by the number of images, frames counted;
        - ``most_slices``: by the number of different positions, so that three echoes of 24 slices
          are 24;
        - ``largest``: by rows times columns;
        - ``latest``, ``earliest``: by acquisition date and time, else the series', else the
          content's; what has none is neither;
        - ``nearest_in_time``: to the reference;
        - ``same_frame_of_reference``: as that of the reference;
        - a condition that all images of the better one fulfil.

    Returns
    -------
    Series
        The chosen series' images that fit, in the order of arrival.

    Raises
    ------
    Refused
        No series fits, or several do and ``prefer`` does not settle which.
    ValueError
        Something is to be compared with a reference, and none is bound.
    """
    held = _reference(reference, same_frame_of_reference, prefer)
    planes: tuple[Plane, ...] = (orientation,) if isinstance(orientation, str) else orientation
    wanted = Wanted(where, planes, within_degrees, same_frame_of_reference, held)
    candidates: list[Series] = []
    reasons: list[str] = []
    for series in exam.series():
        why_not = {id(one): wanted.why_not(one) for one in series}
        fitting = [one for one in series if not why_not[id(one)]]
        if fitting:
            candidates.append(Series(tuple(fitting)))
            account.unused += [(one.uid, why_not[id(one)]) for one in series if why_not[id(one)]]
        else:
            reason = why_not[id(series.instances[0])]
            reasons.append(f"{name(series)}: {reason}")
            account.unused.append((series.uid, reason))
    if not candidates:
        there = "; ".join(reasons) or "the exam has no images"
        raise Refused(
            f"no series fits what the pipeline asks for. There: {there}. Send the exam with the "
            "series that is wanted"
        )
    order = Order(prefer, held)
    taken, left = order.first(candidates, 1)
    if len(taken) > 1:
        listed = "; ".join(name(series) for series in taken)
        raise Refused(
            f"{len(taken)} series fit what the pipeline asks for, and nothing says which to "
            f"take: {listed}. Send only the one that is wanted, or let the pipeline prefer one"
        )
    chosen = taken[0]
    account.unused += [
        (series.uid, f"{name(series)}: {order.why(series, chosen, 'series')}") for series in left
    ]
    account.used.append((chosen.uid, f"{name(chosen)} fits what the pipeline asks for"))
    return chosen


def select_instances(
    exam: Exam,
    account: Account,
    reference: Series | Exam | None = None,
    *,
    where: Condition,
    orientation: tuple[Plane, ...] | Plane = (),
    within_degrees: Degrees = WITHIN_DEGREES,
    same_frame_of_reference: bool = False,
    per: tuple[Address, ...] = (),
    prefer: tuple[Preference, ...] = (),
    at_most: Annotated[int, Field(ge=1)] | None = None,
    at_least: Annotated[int, Field(ge=1)] = 1,
) -> Exam:
    """Choose single images of an exam, of one series or of several.

    For radiographs, mammograms and ultrasound, where one series holds several views, and several
    series the views of one exam. For stacks of slices there is `select_series`.

    Parameters
    ----------
    reference, where, orientation, within_degrees, same_frame_of_reference
        As for `select_series`.
    per : tuple of str
        Attributes that part the images into groups, of each of which ``at_most`` are taken:
        ``per: [ViewPosition, ImageLaterality], at_most: 1`` takes one image of each view.
    prefer : tuple
        What decides which images are taken where more than ``at_most`` fit; as for
        `select_series`, for single images.
    at_most : int, optional
        Most images taken of each group; all that fit, where it is left out.
    at_least : int
        Fewest images that there must be in all.

    Returns
    -------
    Exam
        The images chosen, in the order of arrival.

    Raises
    ------
    Refused
        Too few images fit, or too many, and ``prefer`` does not settle which are taken.
    ValueError
        Something is to be compared with a reference, and none is bound.
    """
    held = _reference(reference, same_frame_of_reference, prefer)
    planes: tuple[Plane, ...] = (orientation,) if isinstance(orientation, str) else orientation
    wanted = Wanted(where, planes, within_degrees, same_frame_of_reference, held)
    reasons: dict[int, str] = {}
    groups: dict[tuple[tuple[str, ...], ...], list[Series]] = {}
    for one in exam:
        why = "it is no image" if not one.header.get("Rows") else wanted.why_not(one)
        if why:
            reasons[id(one)] = why
        else:
            key = tuple(text(one.header, address) for address in per)
            groups.setdefault(key, []).append(Series((one,)))
    order = Order(prefer, held)
    chosen: list[Instance] = []
    for key, candidates in groups.items():
        taken, left = order.first(candidates, at_most or len(candidates))
        if at_most is not None and len(taken) > at_most:
            of = f" of {_group(per, key)}" if per else ""
            listed = "; ".join(image_name(one.instances[0]) for one in taken)
            raise Refused(
                f"{len(taken)} images{of} fit what the pipeline asks for, at most {at_most} may be "
                f"taken, and nothing says which: {listed}. Send only those that are wanted, or let "
                "the pipeline prefer some"
            )
        chosen += [one.instances[0] for one in taken]
        reasons |= {id(one.instances[0]): order.why(one, taken[-1], "image") for one in left}
    account.unused += [(one.uid, reasons[id(one)]) for one in exam if id(one) in reasons]
    if len(chosen) < at_least:
        there = "; ".join(f"{what}: {why}" for what, why in _told(exam, reasons))
        raise Refused(
            f"{len(chosen)} of the exam's {len(exam)} images fit what the pipeline asks for, at "
            f"least {at_least} expected. Not taken: {there or 'none'}. Send the exam with the "
            "images that are wanted"
        )
    account.used += [
        (one.uid, f"{image_name(one)} fits what the pipeline asks for") for one in chosen
    ]
    picked = set(map(id, chosen))
    return Exam(tuple(one for one in exam if id(one) in picked))


def _reference(
    reference: Series | Exam | None, same_frame: bool, prefer: tuple[Preference, ...]
) -> Reference:
    if reference is None and (same_frame or any(one in RELATIVE for one in prefer)):
        raise ValueError(
            "a choice by frame of reference or nearness in time is relative to other images; bind "
            "them: in: {reference: STEP}"
        )
    return Reference.of(reference or ())


def _group(per: tuple[str, ...], key: tuple[tuple[str, ...], ...]) -> str:
    return ", ".join(
        f"{address} {' '.join(values) or 'absent'}"
        for address, values in zip(per, key, strict=True)
    )


def _told(exam: Exam, reasons: dict[int, str]) -> list[tuple[str, str]]:
    """Say of each series once what is said of all of its images, else of each image."""
    told = []
    for series in exam.series():
        why = {reasons.get(id(one), "") for one in series}
        if len(why) == 1 and len(series) > 1 and "" not in why:
            told.append((name(series), why.pop()))
        else:
            told += [(image_name(one), reasons[id(one)]) for one in series if id(one) in reasons]
    return told
