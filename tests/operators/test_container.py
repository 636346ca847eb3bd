"""Steps that run a program are checked before anything runs: image, what is made, what is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from overread.dicom.provenance import DerivedObject
from overread.dicom.volume import Mask
from overread.operators.container import KINDS, container, process
from overread.operators.files import RESULTS
from overread.operators.measure import measure_volumes
from overread.operators.read import read_volume
from overread.operators.select import select_series
from overread.pipelines.check import check
from overread.pipelines.definition import Pipeline
from overread.pipelines.ports import signature

FUNCTIONS: list[Callable[..., Any]] = [
    select_series,
    read_volume,
    container,
    process,
    measure_volumes,
]
OPERATORS = {one.__name__: signature(one.__name__, one) for one in FUNCTIONS}
IMAGE = f"registry.local/liver:2@sha256:{'a' * 64}"


def problems(use: str = "container", /, **more: Any) -> list[str]:
    """What is wrong with a pipeline that measures what a program made."""
    given = {"image": IMAGE} if use == "container" else {"program": "/opt/tool"}
    step = {"use": use, "in": {"any_name": "volume"}, "with": {**given, "makes": "mask"}}
    step = {**step, **more, "with": {**step["with"], **more.get("with", {})}}  # type: ignore[dict-item]  # plain JSON
    steps = {
        "t1": {"use": "select_series", "with": {"where": {"Modality": "MR"}}},
        "volume": {"use": "read_volume", "in": {"series": "t1"}},
        "mask": step,
        "volumes": {"use": "measure_volumes", "in": {"mask": "mask"}},
    }
    pipeline = Pipeline.model_validate(
        {"name": "p", "version": "1.0.0", "ae_title": "P", "steps": steps, "results": ["volumes"]}
    )
    found = check(pipeline, OPERATORS, (), result_types=RESULTS)
    return [f"{'.'.join(map(str, one.path))}: {one.what}; {one.expected}" for one in found]


def test_any_input_and_what_the_setting_says() -> None:
    assert problems() == problems("process") == []
    assert problems("container", **{"in": {"a": "volume", "b": "t1", "c": "volume"}}) == []
    assert problems("container", **{"in": {}}) == []
    assert OPERATORS["container"].makes({"makes": "mask"}) is Mask
    assert OPERATORS["container"].makes({"makes": "dicom"}) is DerivedObject
    assert set(KINDS.values()) >= set(RESULTS)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            {"with": {"makes": "volume"}},
            "steps.volumes.in.mask: step mask makes Volume; a step that makes Mask",
        ),
        ({"with": {"makes": "picture"}}, "steps.mask.with.makes: 'picture' does not fit"),
        ({"with": {"image": "liver:2"}}, "NAME@sha256:DIGEST, since a tag can be moved"),
        ({"with": {"image": "liver@sha256:abc"}}, "does not say which image it is"),
        ({"with": {"memory": "lots"}}, "'lots' is not a size"),
        ({"with": {"environment": {"a b": "x"}}}, "steps.mask.with.environment"),
        ({"with": {"segments": [{"number": 1}]}}, "steps.mask.with.segments.0.label"),
        ({"in": {"image": "volume"}}, "has no input 'image'; a plain word that is none of its"),
        ({"in": {"../x": "volume"}}, "has no input '../x'"),
        ({"in": {"outside": "volume"}}, "has no input 'outside'"),
        ({"in": {"a": "nothing"}}, "there is no step 'nothing'"),
    ],
)
def test_what_is_wrong_is_told_before_it_runs(more: dict[str, Any], told: str) -> None:
    assert any(told in one for one in problems(**more)), problems(**more)


@pytest.mark.parametrize("program", ["tool", "./tool", "/opt/../etc/x", ""])
def test_a_program_has_an_absolute_path(program: str) -> None:
    (told,) = problems("process", **{"with": {"program": program}})
    assert "is no path of a program; an absolute one" in told
