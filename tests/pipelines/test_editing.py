"""Which steps measure an edited mask, and which are not run for it."""

from __future__ import annotations

from typing import Any

import pytest

from overread import registry
from overread.pipelines.check import order
from overread.pipelines.definition import Pipeline
from overread.pipelines.editing import EDITED, READS, Remeasuring, remeasuring
from overread.pipelines.ports import signature
from overread.validation.results import Measurements

SEGMENT = {"number": 1, "label": "liver"}

BEGIN: dict[str, Any] = {
    "ct": {"use": "select_series", "with": {"where": "always"}},
    "volume": {"use": "read_volume", "in": {"series": "ct"}},
    "norm": {"use": "normalise", "in": {"volume": "volume"}, "with": {"method": "zscore"}},
    "raw": {"use": "infer", "in": {"volume": "norm"}, "with": {"model": "liver@1.0.0"}},
    "onto": {"use": "to_source", "in": {"mask": "raw"}},
    "mask": {"use": "keep_components", "in": {"mask": "onto"}, "with": {"largest": 1}},
    "seg": {"use": "write_seg", "in": {"mask": "mask", "source": "ct"}},
}
VOLUMES = {"use": "measure_volumes", "in": {"mask": "mask"}}


def derive(steps: dict[str, Any], *results: str, edited: str = "seg") -> Remeasuring:
    pipeline = Pipeline.model_validate(
        {
            "name": "liver", "version": "1.0.0", "ae_title": "LIVER", "steps": steps,
            "results": [*results, edited], "send": {"clinical": ["PACS"]},
        }
    )  # fmt: skip
    uses = {step.use for step in pipeline.steps.values()} - {"gone"}
    known = {name: signature(name, registry.load("operators", name)) for name in uses}
    return remeasuring(pipeline, edited, known, Measurements, [SEGMENT])


def test_the_mask_is_read_and_measured_and_no_model_is_run() -> None:
    found = derive({**BEGIN, "volumes": VOLUMES}, "volumes")
    definition = found.definition
    assert definition is not None and found.left_out == {}
    assert set(definition.steps) == {"ct", "mask", "volumes"}
    mask = definition.steps["mask"]
    assert (mask.use, mask.in_) == (READS, {"segmentation": EDITED, "source": "ct"})
    assert mask.with_ == {"segments": [SEGMENT]}
    assert definition.results == ("volumes",) and definition.send == {}
    assert order(definition) == ["ct", "mask", "volumes"]


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        # What the images say is read again.
        (
            {"m": {"use": "measure_intensity", "in": {"mask": "mask", "volume": "volume"}}},
            {"ct", "volume", "mask", "m"},
        ),
        # A mask before the last clean-up stands for the same.
        ({"m": {"use": "measure_volumes", "in": {"mask": "onto"}}}, {"ct", "mask", "m"}),
        ({"m": {"use": "measure_volumes", "in": {"mask": "raw"}}}, {"ct", "mask", "m"}),
        # What is made of the mask afterwards is made again.
        (
            {
                "halves": {"use": "split_left_right", "in": {"mask": "mask"}},
                "m": {"use": "measure_diameters", "in": {"mask": "halves"}},
            },
            {"ct", "mask", "halves", "m"},
        ),
        # Several measurements in one.
        (
            {
                "volumes": VOLUMES,
                "long": {"use": "measure_diameters", "in": {"mask": "mask"}},
                "m": {"use": "join_measurements", "in": {"first": "volumes", "second": "long"}},
            },
            {"ct", "mask", "volumes", "long", "m"},
        ),
        # Values from elsewhere.
        (
            {
                "weight": {"use": "clinical_values", "with": {"values": {}}},
                "m": {"use": "measure_shares", "in": {"mask": "mask", "values": "weight"}},
            },
            {"ct", "mask", "weight", "m"},
        ),
    ],
)
def test_all_that_a_measurement_needs_is_kept(steps: dict[str, Any], kept: set[str]) -> None:
    definition = derive({**BEGIN, **steps}, "m").definition
    assert definition is not None
    assert set(definition.steps) == kept


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        (
            {
                "other": {"use": "infer", "in": {"volume": "norm"}, "with": {"model": "b@1.0.0"}},
                "m": {"use": "compare_masks", "in": {"mask": "mask", "reference": "other"}},
            },
            "step other runs a model",
        ),
        (
            {
                "tool": {"use": "container", "in": {"mask": "mask"},
                         "with": {"image": "x", "makes": "mask", "segments": []}},
                "m": {"use": "measure_volumes", "in": {"mask": "tool"}},
            },
            "step tool runs a program of its own",
        ),
        (
            {"m": {"use": "measure_volumes", "in": {"mask": "lost"}},
             "lost": {"use": "gone", "in": {"mask": "mask"}}},
            "step lost needs the operator gone, which this site does not have",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_made_again_is_left_out_and_says_why(
    steps: dict[str, Any], why: str
) -> None:
    found = derive({**BEGIN, "volumes": VOLUMES, **steps}, "volumes", "m")
    assert found.definition is not None and found.definition.results == ("volumes",)
    assert found.left_out == {"m": why}


def test_labels_that_are_changed_on_the_way_are_not_the_same() -> None:
    steps = {
        **BEGIN,
        "merged": {"use": "merge_labels", "in": {"mask": "mask"}, "with": {"groups": []}},
        "seg": {"use": "write_seg", "in": {"mask": "merged", "source": "ct"}},
        "parts": {"use": "measure_volumes", "in": {"mask": "mask"}},
        "whole": {"use": "measure_volumes", "in": {"mask": "merged"}},
    }
    found = derive(steps, "parts", "whole")
    assert found.definition is not None and found.definition.results == ("whole",)
    assert "runs a model" in found.left_out["parts"]


def test_measurements_of_something_else_are_not_made_again() -> None:
    steps = {
        **BEGIN,
        "bright": {"use": "threshold", "in": {"volume": "volume"}},
        "other": {"use": "measure_volumes", "in": {"mask": "bright"}},
    }
    found = derive(steps, "other")
    assert found.definition is None and found.left_out == {}


def test_an_object_that_was_made_of_no_mask_is_not_measured() -> None:
    steps = {
        "ct": BEGIN["ct"],
        "seg": {"use": "container", "in": {"series": "ct"},
                "with": {"image": "x", "makes": "dicom"}},
        "volumes": {"use": "container", "in": {"series": "ct"},
                    "with": {"image": "y", "makes": "measurements"}},
    }  # fmt: skip
    found = derive(steps, "volumes")
    assert found.definition is None
    assert "was not made from a mask" in found.left_out["volumes"]
