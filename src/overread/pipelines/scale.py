"""Whether a pipeline brings values to the scale that its models were trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from overread.pipelines.check import Problem
from overread.pipelines.definition import Pipeline
from overread.pipelines.model import ModelCard

_SEES = {
    "infer": "volume",
    "infer_probability": "volume",
    "detect": "images",
    "classify": "images",
}
"""Operators that run a model, and the input that the model sees."""

_KEEPS = {
    "check_input": "volume",
    "check_images": "images",
    "reorient": "volume",
    "crop_foreground": "volume",
    "pad": "volume",
    "resample": "volume",
    "register": "moving",
}
"""Operators that leave values on their scale, and the input that they come by."""

_NORMALISES = {"normalise", "normalise_image"}
_READS = {"read_volume": "normalise", "read_image": "normalise_image"}
"""Operators that values come from, and the one that normalises what they read."""


def check_scale(pipeline: Pipeline, cards: Mapping[str, ModelCard]) -> Iterator[Problem]:
    """Find models that would see values on another scale than their card says.

    A card's ``normalise`` is the method of `normalise` or `normalise_image`. What an operator of
    the site's own or a program does to the values is not known, and not told.

    Parameters
    ----------
    pipeline : Pipeline
        The definition.
    cards : mapping of str to ModelCard
        By ``name@version``; a model without one is not looked at.

    Yields
    ------
    Problem
        At the step that normalises otherwise, or at the model's input where none does.
    """
    for name, step in pipeline.steps.items():
        card = cards.get(str(step.with_.get("model", "")))
        port = _SEES.get(step.use)
        if card is None or port is None or not card.input.normalise:
            continue
        method = card.input.normalise
        said = f"model {card.reference} was trained with normalise: {method}"
        at = _where_scaled(pipeline, step.in_.get(port, ""))
        use = pipeline.steps[at].use if at else ""
        given = pipeline.steps[at].with_.get("method") if use in _NORMALISES else None
        if given is not None and given != method:
            yield Problem(("steps", at, "with", "method"), f"{given!r}, but {said}", repr(method))
        elif use in _READS:
            expected = f"a step before it: {{use: {_READS[use]}, with: {{method: {method}}}}}"
            yield Problem(("steps", name, "in", port), f"{said}, and no step does that", expected)


def _where_scaled(pipeline: Pipeline, name: str) -> str:
    """Go back to the step that values have their scale from; an empty text where none is known."""
    seen: set[str] = set()
    while name in pipeline.steps and name not in seen:
        seen.add(name)
        step = pipeline.steps[name]
        if step.use not in _KEEPS:
            return name
        name = step.in_.get(_KEEPS[step.use], "")
    return ""
