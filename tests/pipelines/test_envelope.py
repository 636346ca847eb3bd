from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from overread.pipelines.envelope import (
    Facts,
    Words,
    axial_spacing,
    contrast,
    learn,
    outside,
    refusal,
)
from overread.pipelines.model import Envelope

ENVELOPE = Envelope.model_validate(
    {
        "modality": "MR",
        "body_part": ["BRAIN", "HEAD"],
        "words": "(?i)t1",
        "without_words": "(?i)spine",
        "contrast": "post",
        "planes": ["axial"],
        "spacing_mm": {"in_plane": [0.5, 1], "between_slices": [1, 7]},
        "slices": [10, 60],
        "field_of_view_mm": {"width": [180, 280], "depth": [180, 280], "height": [100, 220]},
        "statistics": {"rind": [1, 3], "smoothness": [0.8, 1]},
    }
)
WORDS = Words(("Head",), {"StudyDescription": "MR HEAD", "SeriesDescription": "AX T1"}, "Gadovist")
FACTS = Facts(
    modality="MR",
    words=WORDS,
    spacing_mm=(5, 0.8, 0.8),
    plane="axial",
    slices=24,
    field_of_view_mm=(240, 240, 120),
    statistics={"rind": 2.0, "smoothness": 0.95},
)


def test_what_lies_within_is_not_told_of() -> None:
    assert outside(ENVELOPE, FACTS) == []
    assert outside(ENVELOPE, Facts()) == []
    assert outside(Envelope(modality="MR"), FACTS) == []


@pytest.mark.parametrize(
    ("change", "found", "expected"),
    [
        ({"modality": "CT"}, "the images are CT", "MR"),
        ({"modality": ""}, "the images are of no modality", "MR"),
        ({"words": replace(WORDS, body_parts=("KNEE",))}, "the body part is KNEE", "BRAIN or HEAD"),
        (
            {"words": replace(WORDS, descriptions={"SeriesDescription": "T2"})},
            "the images are called SeriesDescription “T2”",
            "what matches /(?i)t1/",
        ),
        (
            {"words": replace(WORDS, descriptions={"ProtocolName": "t1 T-Spine"})},
            "ProtocolName is “t1 T-Spine”",
            "what does not match /(?i)spine/",
        ),
        ({"words": replace(WORDS, agent="NONE")}, "no", "images after contrast agent"),
        ({"plane": "coronal"}, "the images are coronal", "axial"),
        (
            {"spacing_mm": (9, 0.8, 0.8)},
            "the images have 9.00 mm between slices (of the axial plane)",
            "1 to 7 mm",
        ),
        ({"slices": 9}, "there are 9 slices", "10 to 60"),
        (
            {"field_of_view_mm": (240, 240, 60)},
            "the field of view is 60 mm high (feet to head)",
            "100 to 220 mm",
        ),
        ({"statistics": {"rind": 0.7, "smoothness": 1}}, "rind is 0.7", "1 to 3"),
        ({"statistics": {"rind": float("nan"), "smoothness": 1}}, "rind is nan", "1 to 3"),
        ({"statistics": {"smoothness": 1}}, "rind cannot be measured", "1 to 3"),
    ],
)
def test_each_thing_that_lies_outside(change: dict[str, Any], found: str, expected: str) -> None:
    (misfit,) = outside(ENVELOPE, replace(FACTS, **change))
    assert found in misfit.found
    assert misfit.expected == expected


def test_every_reason_is_given_and_one_alone_is_a_sentence() -> None:
    both = outside(ENVELOPE, replace(FACTS, modality="CT", slices=9))
    assert refusal("m@1.0.0", both) == (
        "these images are not what model m@1.0.0 was made for: the images are CT (made for MR); "
        "there are 9 slices (made for 10 to 60)"
    )
    assert refusal("m@1.0.0", both[:1]) == "the images are CT; model m@1.0.0 was made for MR"


def test_what_headers_do_not_say_is_not_held_against_them() -> None:
    silent = replace(FACTS, words=Words((), {}, "Gadovist"))
    assert outside(ENVELOPE, silent) == []


@pytest.mark.parametrize(
    ("agent", "series", "given"),
    [
        ("Gadovist", "T1", True),
        ("NO", "T1 POST", False),
        (None, "AX T1 POST", True),
        (None, "T1 +C", True),
        (None, "T1 Gd", True),
        (None, "T1_POST_CONTRAST", True),
        (None, "T1 C+", True),
        (None, "CT LIVER WITH CONTRAST", True),
        (None, "T1 without contrast", False),
        (None, "T1 W/O CONTRAST", False),
        (None, "T1 PRE", False),
        (None, "T1_PRE_CONTRAST", False),
        (None, "AX T1 POSTCONTRAST", True),
        (None, "T1 POST NON FAT SAT", True),
        (None, "t1_gd", True),
        (None, "T1 W WO CONTRAST", False),
        (None, "non contrast", False),
        (None, "T1 SAG", False),
        (None, "posterior fossa", False),
        ("", "T1 POST", True),
        (None, "", False),
    ],
)
def test_whether_a_contrast_agent_was_given(agent: str | None, series: str, given: bool) -> None:
    words = Words((), {"StudyDescription": "BRAIN W CONTRAST", "SeriesDescription": series}, agent)
    assert contrast(words) is given
    pre = Envelope(modality="MR", contrast="pre")
    assert bool(outside(pre, Facts(words=words))) is given


def test_spacing_is_that_of_the_axial_plane() -> None:
    coronal = np.eye(4)
    coronal[:3, :3] = np.array([[0, -1.5, 0], [0, 0, -2.0], [-1.0, 0, 0]]).T
    assert axial_spacing(coronal) == (2.0, 1.5, 1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"statistics": {"rind": [3, 1]}}, "3 to 1 is no range"),
        ({"words": "("}, "no regular expression"),
        ({"contrast": "maybe"}, "'', 'pre' or 'post'"),
        ({"planes": ["diagonal"]}, "axial"),
    ],
)
def test_a_wrong_envelope_is_refused_when_it_is_read(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Envelope.model_validate({"modality": "MR", **wrong})


FACT = st.builds(
    Facts,
    modality=st.just("MR"),
    words=st.just(WORDS),
    spacing_mm=st.tuples(*[st.floats(0.1, 10)] * 3),
    plane=st.sampled_from(["axial", "coronal", "sagittal", "oblique"]),
    slices=st.integers(1, 999),
    field_of_view_mm=st.tuples(*[st.floats(1, 600)] * 3),
    statistics=st.fixed_dictionaries({"rind": st.floats(-900, 900), "solid": st.floats(0, 1)}),
)


@given(st.lists(FACT, min_size=1, max_size=6), st.floats(0, 2))
def test_what_was_learnt_from_lies_within_what_was_learnt(
    known: list[Facts], margin: float
) -> None:
    envelope = Envelope.model_validate(learn(known, margin, {"solid": 1.0}))
    for facts in known:
        assert outside(envelope, facts) == []
    assert envelope.statistics["solid"][1] <= 1
    assert envelope.statistics["solid"][0] >= 0
    assert envelope.contrast == "post"
    assert set(envelope.body_part) == {"Head"}


def test_ranges_are_widened_by_the_margin_and_at_least_by_a_tenth() -> None:
    known = [Facts(modality="MR", statistics={"a": value, "b": 100.0}) for value in (1.0, 3.0)]
    assert learn(known, 0.25)["statistics"] == {"a": [0.5, 3.5], "b": [90.0, 110.0]}


@pytest.mark.parametrize(
    ("ways", "learnt"),
    [
        ([("L", "F"), ("L", "F")], ["L", "F"]),
        ([("L", "F"), ("R", "F")], None),
        ([("L", "F"), None], None),
        ([None, None], None),
    ],
)
def test_how_pictures_lie_is_learnt_where_all_lie_alike(ways: Any, learnt: Any) -> None:
    known = [Facts(modality="DX", toward=way) for way in ways]
    found = learn(known, 0.25)
    assert found.get("toward") == learnt
    mirrored = outside(Envelope.model_validate(found), Facts(modality="DX", toward=("R", "F")))
    assert [one.expected for one in mirrored] == (["L\\F"] if learnt else [])


def test_what_some_do_not_say_is_not_asked_for() -> None:
    known = [FACTS, Facts(modality="CT")]
    assert learn(known, 0.5) == {
        "modality": "",
        "body_part": ["Head"],
        "contrast": "post",
        "statistics": {},
    }
