"""Write what was found as DICOM objects."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator

from overread.dicom import seg
from overread.dicom.codes import HISTOGRAM_ANALYSIS
from overread.dicom.provenance import DerivedObject
from overread.dicom.seg import Algorithm, check_tags
from overread.dicom.study import Series
from overread.dicom.volume import Mask
from overread.pipelines.ports import Account, Context

Tags = Annotated[dict[str, Any], AfterValidator(check_tags)]
"""Keyword (PS3.6) to value, checked when the site is loaded."""


def write_seg(
    mask: Mask, source: Series, context: Context, account: Account, *, tags: Tags | None = None
) -> DerivedObject:
    """Write a mask as a DICOM Segmentation into the Study of its source images.

    Name and version of the model are its algorithm's; a mask that no model made has the pipeline's.
    Outside the stage *clinical* the object says that it is investigational.

    Parameters
    ----------
    tags : dict, optional
        Attributes to set, by keyword: ``{SeriesDescription: "AI tumour"}``.

    Raises
    ------
    GeometryError
        The source images make no regular grid.
    ValueError
        The mask does not lie on the source images' grid.
    """
    made = seg.write_seg(
        mask,
        source,
        made_by=(context.job, context.step),
        at=context.at,
        zone=context.timezone,
        algorithm=_algorithm(mask, context),
        device=f"{context.pipeline}@{context.pipeline_version}",
        investigational=context.stage != "clinical",
        tags=tags,
    )
    account.used.extend((uid, "source image") for uid in made.sources)
    if not mask.array.any():
        account.notes.append("nothing was found: the segmentation is empty")
    return made


def _algorithm(mask: Mask, context: Context) -> Algorithm:
    pipeline = ("pipeline", f"{context.pipeline}@{context.pipeline_version}")
    for card in context.models:
        if mask.model in ("", card.reference):
            return Algorithm(
                card.name,
                card.version,
                source=card.manufacturer,
                parameters=(("sha256", card.sha256), pipeline),
            )
    if mask.model:
        name, _, version = mask.model.partition("@")
        return Algorithm(name, version, parameters=(pipeline,))
    return Algorithm(
        context.pipeline,
        context.pipeline_version,
        family=HISTOGRAM_ANALYSIS,
        parameters=(pipeline,),
    )
