"""Read projections and ultrasound: images that make no volume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from overread.dicom.image import Image, Images
from overread.dicom.match import text
from overread.dicom.pixel_spacing import pixel_spacing
from overread.dicom.rendering import Voi, render
from overread.dicom.selection import image_name
from overread.dicom.study import Exam, Instance, Series, toward
from overread.errors import Refused
from overread.pipelines.ports import Account, Progress

_BODY_PART = (
    "BodyPartExamined",
    "AnatomicRegionSequence.CodeMeaning",
    "SharedFunctionalGroupsSequence.FrameAnatomySequence.AnatomicRegionSequence.CodeMeaning",
)
_VIEW = ("ViewPosition", "ViewCodeSequence.CodeMeaning")
_LATERALITY = (
    "ImageLaterality",
    "Laterality",
    "SharedFunctionalGroupsSequence.FrameAnatomySequence.FrameLaterality",
)


def read_image(
    instances: Exam | Series,
    account: Account,
    progress: Progress,
    *,
    voi: Voi = "none",
    frames: Literal["all", "first", "middle"] = "all",
    every: Annotated[int, Field(ge=1)] = 1,
    unreadable: Literal["refuse", "skip"] = "refuse",
) -> Images:
    """Read images that make no volume: radiographs, mammograms, fluoroscopy, ultrasound.

    Every frame becomes one image whose larger values are brighter: the modality LUT is applied
    (RescaleSlope and RescaleIntercept, or ModalityLUTSequence), then the VOI LUT if it is asked
    for, MONOCHROME1 is inverted, colour (RGB, YBR, PALETTE COLOR) becomes luminance, and pixels of
    PixelPaddingValue become the darkest. Nothing is resampled or cropped: boxes found on an image
    are in pixels of the file, also where a pixel is not square (`Image.aspect`).

    The spacing is taken from the attribute that says it, and what that means goes with it: of a
    radiograph PixelSpacing where it is calibrated, else ImagerPixelSpacing, divided by
    EstimatedRadiographicMagnificationFactor where that is known; of ultrasound the scale of its
    two-dimensional region. Where nothing says it, an image has no spacing, and nothing can be
    measured on it in millimetres.

    Parameters
    ----------
    instances : Exam or Series
        The images chosen.
    voi : str
        ``none``: values stay what they are after the modality LUT. ``window``: the image's first
        window brings them to 0 … 1. ``lut``: its first VOI LUT does, or its window where it has no
        LUT. An image with neither is scaled from the whole range of its stored values, and the
        step's account says so. Colour is 0 … 255 with ``none``, else 0 … 1.
    frames : str
        Of a multi-frame image: ``all`` frames, the ``first`` or the ``middle`` one.
    every : int
        Of ``all`` frames take every n-th, from the first.
    unreadable : str
        ``refuse``: an image that cannot be read ends the job; all of them are named. ``skip``: it
        is left out, and the account says why; the job ends only where none can be read.

    Returns
    -------
    Images
        In the order of the instances, then of the frames.

    Raises
    ------
    Refused
        An image has no pixels, or pixels or tables that cannot be read: each with the reason.
    """
    items: list[Image] = []
    problems: list[str] = []
    held = tuple(instances)
    for done, instance in enumerate(held):
        progress(done, len(held), "images")
        try:
            found = list(_images(instance, account, voi, frames, every))
        except Refused as error:
            problems.append(f"{image_name(instance)}: {error}")
            account.unused.append((instance.uid, str(error)))
            continue
        items += found
        account.used.append((instance.uid, _told(found[0], len(found))))
    if problems and (unreadable == "refuse" or not items):
        raise Refused(
            f"{len(problems)} of {len(held)} images cannot be read: {'; '.join(problems)}"
        )
    if not items:
        raise Refused("there is no image to read; send the exam with its images")
    progress(len(held), len(held), "images")
    return Images(tuple(items))


def _images(
    instance: Instance,
    account: Account,
    voi: Voi,
    frames: Literal["all", "first", "middle"],
    every: int,
) -> Iterator[Image]:
    header = instance.header
    said = text(header, "NumberOfFrames")
    if said and not said[0].isdecimal():
        raise Refused(f"its NumberOfFrames is {said[0]!r}; a number was expected")
    count = max(1, int(said[0])) if said else 1
    wanted = {"all": range(0, count, every), "first": range(1), "middle": range(count // 2, count)}
    indices = list(wanted[frames]) if frames == "all" else [wanted[frames][0]]
    for rendered in render(instance, indices, voi):
        spacing = pixel_spacing(header, rendered.index)
        for note in rendered.notes if rendered.index == indices[0] else ():
            account.notes.append(f"{image_name(instance)}: {note}")
        yield Image(
            rendered.array,
            instance.uid,
            rendered.index,
            spacing.mm,
            spacing.says,
            modality=str(header.get("Modality") or ""),
            body_part=_first(instance, _BODY_PART),
            view=_first(instance, _VIEW),
            laterality=_first(instance, _LATERALITY),
            aspect=spacing.aspect,
            toward=toward(header),
        )


def _first(instance: Instance, addresses: tuple[str, ...]) -> str:
    """Return the first value that is there, of several attributes that say the same."""
    return next((value for one in addresses for value in text(instance.header, one)), "")


def _told(image: Image, count: int) -> str:
    rows, columns = image.array.shape
    spacing = (
        f"pixels of {image.spacing[0]:.4g} × {image.spacing[1]:.4g} mm by {image.spacing_from}"
        if image.spacing
        else f"without spacing: {image.spacing_from}"
    )
    shown = f"{count} frames of " if count > 1 else ""
    return f"{shown}{rows} × {columns}, {spacing}"
