"""Write what was found as DICOM objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from overread.dicom import seg
from overread.dicom.placing import place, planes_of
from overread.dicom.provenance import DerivedObject
from overread.dicom.study import Series
from overread.dicom.volume import Mask, Probability
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


def _account(
    made: DerivedObject, masks: Sequence[Mask | Probability], source: Series, account: Account
) -> None:
    """Tell which images were used, and of which slices there is none."""
    account.used.extend((uid, "source image") for uid in made.sources)
    for mask in masks:
        placed = place(mask.affine, mask.array.shape[-3:], planes_of(mask, source))
        lost = [index for index in placed.stray if mask.array[..., index, :, :].any()]
        if lost:
            account.notes.append(
                f"{len(lost)} slices in which something was found lie on no image and are left out"
            )
