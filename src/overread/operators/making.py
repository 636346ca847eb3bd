"""From the facts of a job to what stands in the objects that its steps write."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator

from overread.dicom.codes import HISTOGRAM_ANALYSIS
from overread.dicom.derived import Algorithm, Making, check_tags
from overread.pipelines.ports import Context

Tags = Annotated[dict[str, Any], AfterValidator(check_tags)]
"""Keyword (PS3.6) to value, checked when the site is loaded."""


def making(context: Context, model: str = "", tags: Tags | None = None) -> Making:
    """Say what stands in an object that this step writes.

    Parameters
    ----------
    context : Context
        The facts of the job.
    model : str
        ``name@version`` of the model that made the input (``mask.model``); empty if it says none.
        Then the nearest model before this step is the algorithm, or the pipeline where there is
        none.
    tags : dict, optional
        Attributes that the pipeline sets.
    """
    return Making(
        made_by=(context.job, context.step),
        at=context.at,
        zone=context.timezone,
        algorithm=_algorithm(model, context),
        device=f"{context.pipeline}@{context.pipeline_version}",
        investigational=context.stage != "clinical",
        tags=tags or {},
    )


def _algorithm(model: str, context: Context) -> Algorithm:
    pipeline = ("pipeline", f"{context.pipeline}@{context.pipeline_version}")
    for card in context.models:
        if model in ("", card.reference):
            return Algorithm(
                card.name,
                card.version,
                source=card.manufacturer,
                parameters=(("sha256", card.sha256), pipeline),
            )
    if model:
        name, _, version = model.partition("@")
        return Algorithm(name, version, parameters=(pipeline,))
    return Algorithm(
        context.pipeline,
        context.pipeline_version,
        family=HISTOGRAM_ANALYSIS,
        parameters=(pipeline,),
    )
