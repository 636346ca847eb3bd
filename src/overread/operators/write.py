"""Write what was found as DICOM objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from overread.dicom import rtstruct, seg
from overread.dicom.placing import place, planes_of
from overread.dicom.processed import write_processed
from overread.dicom.provenance import DerivedObject
from overread.dicom.study import Series
from overread.dicom.volume import Mask, Probability, Volume
from overread.operators.making import Tags, making
from overread.pipelines.ports import Account, Context


def write_seg(
    mask: Mask | Probability,
    source: Series,
    context: Context,
    account: Account,
    *,
    form: seg.Form = "binary",
    compress: seg.Compression = "none",
    tags: Tags | None = None,
    **further: Mask | Probability,
) -> DerivedObject:
    """Write masks as a DICOM Segmentation into the Study of their source images.

    The masks must lie on the images: put `to_source` before this step where the volume was turned,
    cropped, resampled or registered. Name and version of the model are the algorithm's; a mask that
    no model made has the pipeline's. Outside the stage *clinical* the object says that it is
    investigational. A mask in which nothing was found is written too, with all its frames empty.

    Parameters
    ----------
    mask : Mask or Probability
        What to write. Of probabilities, what reaches the model's threshold counts, unless the form
        is fractional; segments of probabilities may overlap.
    source : Series
        The images that it lies on.
    **further : Mask or Probability
        More of them, under any name: their segments stand after those of the first, in the order of
        the file, and may overlap.
    form : str
        ``binary``; ``fractional``, which keeps probabilities in steps of 1/255; or ``labelmap``,
        which is smaller with many segments, but which not every viewer reads yet.
    compress : str
        ``none``, ``rle`` (not for ``binary``) or ``jpeg2000``; both lossless. OHIF opens all of
        them; an older PACS may take only ``none``.
    tags : dict, optional
        Attributes to set, by keyword: ``{SeriesDescription: "AI tumour"}``.

    Returns
    -------
    DerivedObject
        The segmentation, its segments numbered from 1.

    Raises
    ------
    ValueError
        A mask does not lie on the source images, a label map would overlap, or form and compression
        do not go together.
    """
    masks = [mask, *further.values()]
    made = seg.write_seg(
        masks, source, making(context, mask.model, tags), form=form, compress=compress
    )
    _account(made, masks, source, account)
    if not any(np.any(one.array) for one in masks):
        account.notes.append("nothing was found: the segmentation is empty")
    return made


def write_rtstruct(
    mask: Mask | Probability,
    source: Series,
    context: Context,
    account: Account,
    *,
    tags: Tags | None = None,
    **further: Mask | Probability,
) -> DerivedObject:
    """Write masks as a DICOM RT Structure Set into the Study of their source images.

    Each segment becomes a ROI with closed contours on the planes of the images, in any orientation.
    A contour runs half-way between the voxels inside and those outside, and a hole is joined to the
    contour around it, so that the structure set reads back to the same mask. The masks must lie on
    the images: put `to_source` before this step where the volume was turned, cropped, resampled or
    registered. The structure set is UNAPPROVED, its ROIs AUTOMATIC, and their interpreted type
    (target, organ at risk) is left open for a person to say. A segment of which nothing was found
    becomes a ROI without contours.

    Parameters
    ----------
    mask : Mask or Probability
        What to write. Of probabilities, what reaches the model's threshold counts.
    source : Series
        The images that it lies on.
    **further : Mask or Probability
        More of them, under any name: their ROIs stand after those of the first, in the order of the
        file, and may overlap.
    tags : dict, optional
        Attributes to set, by keyword: ``{StructureSetLabel: "AI liver"}``.

    Returns
    -------
    DerivedObject
        The structure set, its ROIs numbered from 1.

    Raises
    ------
    ValueError
        A mask does not lie on the source images.
    """
    masks = [mask, *further.values()]
    made = rtstruct.write_rtstruct(masks, source, making(context, mask.model, tags))
    _account(made, masks, source, account)
    if not any("ContourSequence" in roi for roi in made.dataset.ROIContourSequence):
        account.notes.append("nothing was found: the structure set has no contours")
    return made


def write_derived(
    volume: Volume,
    source: Series,
    context: Context,
    account: Account,
    *,
    window: tuple[float, float] | None = None,
    description: str = "Processed images",
    tags: Tags | None = None,
) -> DerivedObject:
    """Write a processed volume as DICOM images into the Study of its source images.

    For what a step made of the images and a person should see: registered, resampled, normalised.
    It is one multi-frame grey-scale image (Secondary Capture with 16 bits) whose frames say where
    they lie, so that it can be scrolled and compared beside its source in any viewer. Whole numbers
    that span less than 65,536 are kept exactly, other values in 65,536 steps over their range.

    Parameters
    ----------
    volume : Volume
        What to write; on any grid, in its own frame of reference.
    source : Series
        The images that it was made from.
    window : tuple of float, optional
        Centre and width that it is shown with, in the volume's unit; otherwise from the 0.5th to
        the 99.5th percentile.
    description : str
        SeriesDescription.
    tags : dict, optional
        Attributes to set, by keyword.

    Returns
    -------
    DerivedObject
        The image.

    Raises
    ------
    ValueError
        The volume's rows and columns are not perpendicular, or a value is not finite.
    """
    made = write_processed(
        volume, source, making(context, "", tags), description=description, window=window
    )
    account.used.extend((uid, "source image") for uid in made.sources)
    return made


def _account(
    made: DerivedObject, masks: Sequence[Mask | Probability], source: Series, account: Account
) -> None:
    """Tell which images were used, and of which slices there is none."""
    account.used.extend((uid, "source image") for uid in made.sources)
    planes = planes_of(masks, source)
    for mask in masks:
        placed = place(mask.affine, mask.array.shape[-3:], planes)
        lost = [index for index in placed.stray if mask.array[..., index, :, :].any()]
        if lost:
            account.notes.append(
                f"left out, since no image lies there: slices {', '.join(map(str, lost))} of the "
                "mask, in which something was found"
            )
