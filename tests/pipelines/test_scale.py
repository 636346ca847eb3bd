"""A model sees values on the scale of its training, or the pipeline is refused."""

from __future__ import annotations

from typing import Any

import pytest

from overread.pipelines.definition import Pipeline
from overread.pipelines.model import ModelCard
from overread.pipelines.scale import check_scale

CODE = {"value": "1", "scheme": "99TEST", "meaning": "thing"}
CARD = ModelCard.model_validate(
    {
        "name": "net",
        "version": "1.0.0",
        "file": "net.onnx",
        "sha256": "0" * 64,
        "input": {"modality": "MR", "normalise": "zscore"},
        "output": {"labels": [{"value": 1, "name": "thing", "category": CODE, "type": CODE}]},
    }
)
READ = {"volume": {"use": "read_volume", "in": {"series": "one"}}}
FINE = {"fine": {"use": "resample", "in": {"volume": "volume"}, "with": {"in_plane_mm": 1}}}


def norm(method: str, after: str = "fine") -> dict[str, Any]:
    return {"norm": {"use": "normalise", "in": {"volume": after}, "with": {"method": method}}}


def problems(seen: str, **steps: Any) -> list[tuple[tuple[str | int, ...], str]]:
    found = {"use": "infer", "in": {"volume": seen}, "with": {"model": "net@1.0.0"}}
    pipeline = Pipeline.model_validate(
        {
            "name": "p",
            "version": "1.0.0",
            "ae_title": "P",
            "steps": {"one": {"use": "select_series"}, **steps, "found": found},
            "results": ["found"],
        }
    )
    return [(one.path, one.expected) for one in check_scale(pipeline, {"net@1.0.0": CARD})]


@pytest.mark.parametrize(
    ("seen", "steps"),
    [
        ("norm", {**READ, **FINE, **norm("zscore")}),
        ("fine", {**READ, **norm("zscore", "volume"),
                  "fine": {"use": "resample", "in": {"volume": "norm"}}}),
        ("own", {**READ, "own": {"use": "smooth", "in": {"volume": "volume"}}}),  # not known
        ("fine", {"fine": {"use": "resample", "in": {"volume": "fine"}}}),  # told elsewhere
    ],
)  # fmt: skip
def test_what_is_right_or_not_known_is_not_told(seen: str, steps: dict[str, Any]) -> None:
    assert problems(seen, **steps) == []


def test_another_method_is_told_at_the_step_that_normalises() -> None:
    found = problems("norm", **READ, **FINE, **norm("percentile"))
    assert found == [(("steps", "norm", "with", "method"), "'zscore'")]


def test_none_at_all_is_told_at_the_model() -> None:
    ((path, expected),) = problems("fine", **READ, **FINE)
    assert path == ("steps", "found", "in", "volume")
    assert expected == "a step before it: {use: normalise, with: {method: zscore}}"
