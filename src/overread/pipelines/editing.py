"""Measure again what a reader has drawn: the pipeline's own measuring steps on an edited mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overread.dicom.provenance import DerivedObject
from overread.dicom.volume import Mask, Probability
from overread.pipelines.check import fits
from overread.pipelines.definition import Pipeline, Step
from overread.pipelines.ports import Signature

EDITED = "_edited"
"""Stands for the edited object among a step's inputs; no step can be called that."""

READS = "read_segmentation"
"""The operator that reads it as a mask."""

SAME_LABELS = {
    "keep_components": "mask",
    "remove_small": "mask",
    "fill_holes": "mask",
    "to_source": "mask",
    "resample_mask": "mask",
    "probability_to_source": "probability",
    "threshold": "volume",
}
"""Operators that clean a mask up or move it, and the port that it comes in by: what comes in stands
for the same as what goes out, so an edit of the one is an edit of the other."""


@dataclass(frozen=True)
class Remeasuring:
    """How an edited mask is measured.

    Attributes
    ----------
    definition : Pipeline or None
        The steps that measure it, and those that they need; none where nothing can be measured.
    left_out : mapping of str to str
        Results that hold measurements of the mask and are not made again, and why.
    """

    definition: Pipeline | None
    left_out: Mapping[str, str]


class _Unfit(Exception):
    """A step is not run for an edit, for this reason."""


def remeasuring(
    pipeline: Pipeline,
    edited: str,
    operators: Mapping[str, Signature],
    measurements: type,
    segments: Sequence[Mapping[str, Any]] = (),
) -> Remeasuring:
    """Derive how an edit of one of a pipeline's segmentations is measured.

    The step that made the mask is replaced by one that reads the edited object; so is every mask
    that it was made from without a change of labels. Each result that holds measurements, and
    depends on them, is made again with all the steps it needs. No model and no program is run, and
    no object is written; a result that would need that is left out.

    Parameters
    ----------
    pipeline : Pipeline
        The definition that made the segmentation.
    edited : str
        The step that wrote it.
    operators : mapping of str to Signature
        Those that the pipeline uses, by name.
    measurements : type
        What the results that are made again are.
    segments : sequence of mapping
        What the labels of the mask stand for, as plain data; passed on to the reading step.
    """
    steps = pipeline.steps
    mask, source = (steps[edited].in_.get(port) for port in ("mask", "source"))
    if mask not in steps or source not in steps:
        why = f"step {edited} was not made from a mask that measuring steps could be given"
        return Remeasuring(None, dict.fromkeys(_measuring(pipeline, operators, measurements), why))
    same = _same(steps, mask, operators)
    reading = Step(
        use=READS,
        in_={"segmentation": EDITED, "source": source},
        with_={"segments": [dict(one) for one in segments]} if segments else {},
    )
    changed = {
        name: reading
        if name == mask
        else step.model_copy(
            update={"in_": {port: mask if of in same else of for port, of in step.in_.items()}}
        )
        for name, step in steps.items()
    }
    needed: set[str] = set()
    results, left_out = [], {}
    for name in _measuring(pipeline, operators, measurements):
        try:
            found = _needed(changed, name, operators, mask)
        except _Unfit as why:
            left_out[name] = str(why)
            continue
        if mask in found:
            needed |= found
            results.append(name)
    if not results:
        return Remeasuring(None, left_out)
    kept = {name: step for name, step in changed.items() if name in needed}
    return Remeasuring(
        pipeline.model_copy(update={"steps": kept, "results": tuple(results), "send": {}}), left_out
    )


def _measuring(
    pipeline: Pipeline, operators: Mapping[str, Signature], measurements: type
) -> list[str]:
    """List the results that hold measurements."""
    return [
        name for name in pipeline.results if _makes(pipeline.steps[name], operators) is measurements
    ]


def _makes(step: Step, operators: Mapping[str, Signature]) -> Any:
    known = operators.get(step.use)
    return known.makes(step.with_) if known else None


def _same(steps: Mapping[str, Step], mask: str, operators: Mapping[str, Signature]) -> set[str]:
    """Return the mask's step, and those whose masks it was made from without a change of labels."""
    found, front = {mask}, mask
    while (port := SAME_LABELS.get(steps[front].use)) is not None:
        before = steps[front].in_.get(port, "")
        if before not in steps or _makes(steps[before], operators) not in (Mask, Probability):
            break
        found.add(before)
        front = before
    return found


def _needed(
    steps: Mapping[str, Step], name: str, operators: Mapping[str, Signature], mask: str
) -> set[str]:
    """Return the steps that a result needs, itself included; one that may not run is `_Unfit`."""
    found, front = {name}, [name]
    while front:
        here = front.pop()
        step = steps[here]
        if here != mask:
            _check(here, step, operators, mask)
        for source in step.in_.values():
            if source in steps and source not in found:
                found.add(source)
                front.append(source)
    return found


def _check(name: str, step: Step, operators: Mapping[str, Signature], mask: str) -> None:
    known = operators.get(step.use)
    if known is None:
        raise _Unfit(f"step {name} needs the operator {step.use}, which this site does not have")
    if known.models:
        raise _Unfit(f"step {name} runs a model")
    if known.outside:
        raise _Unfit(f"step {name} runs a program of its own")
    if known.makes(step.with_) is DerivedObject:
        raise _Unfit(f"step {name} writes an object")
    for port, source in step.in_.items():
        if source == mask and not fits(Mask, known.takes(port)):
            raise _Unfit(f"step {name} takes no mask at its port {port}")
