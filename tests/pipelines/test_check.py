"""What is wrong with a pipeline: every kind of fault, in its place, with the nearest right name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from overread.dicom.match import Condition
from overread.dicom.study import Exam, Series
from overread.dicom.volume import Mask, Volume
from overread.pipelines.check import check, fits, order, type_name
from overread.pipelines.definition import Pipeline
from overread.pipelines.ports import Account, Context, Model, signature


class Report:
    """A result."""


class SpecialMask(Mask):
    """A kind of mask."""


def choose(
    exam: Exam, account: Account, *, where: Condition, prefer: tuple[Condition | str, ...] = ()
) -> Series:
    raise NotImplementedError


def read(series: Series) -> Volume:
    raise NotImplementedError


def infer(
    volume: Volume,
    prior: Mask | None = None,
    *,
    model: Model,
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    mode: Literal["fast", "good"] = "good",
) -> SpecialMask:
    raise NotImplementedError


def look(source: Series | Exam) -> Series:
    raise NotImplementedError


def measure(mask: Mask | Volume, context: Context, *, limit: int | None = None) -> Report:
    raise NotImplementedError


FUNCTIONS: list[Callable[..., Any]] = [choose, look, read, infer, measure]
OPERATORS = {one.__name__: signature(one.__name__, one) for one in FUNCTIONS}
RIGHT: dict[str, Any] = {
    "name": "tumour",
    "version": "1.0.0",
    "ae_title": "TUMOUR",
    "steps": {
        "t1": {"use": "choose", "with": {"where": {"Modality": "MR"}}},
        "volume": {"use": "read", "in": {"series": "t1"}},
        "mask": {"use": "infer", "in": {"volume": "volume"}, "with": {"model": "net@1.0.0"}},
        "sizes": {"use": "measure", "in": {"mask": "mask"}},
    },
    "results": ["sizes"],
    "send": {"clinical": ["PACS"]},
}


def pipeline(**steps: Any) -> Pipeline:
    return Pipeline.model_validate({**RIGHT, "steps": {**RIGHT["steps"], **steps}})


def problems(given: Pipeline) -> list[tuple[tuple[str | int, ...], str, str]]:
    found = check(
        given, OPERATORS, {"net@1.0.0", "other@2.0.0"}, result_types=[Report], destinations={"PACS"}
    )
    return [(one.path, one.what, one.expected) for one in found]


def test_a_right_one_has_none() -> None:
    assert problems(pipeline()) == []
    assert order(pipeline()) == ["t1", "volume", "mask", "sizes"]


WRONG: list[tuple[dict[str, Any], tuple[str | int, ...], str, str]] = [
    ({"sizes": {"use": "mesure", "in": {"mask": "mask"}}}, ("steps", "sizes", "use"),
     "no operator 'mesure'", "perhaps measure"),
    ({"volume": {"use": "read"}}, ("steps", "volume", "in"),
     "input 'series' of operator read is not bound", "STEP makes Series"),
    ({"t1": {"use": "look"}}, ("steps", "t1", "in"),
     "input 'source' of operator look is not bound", "STEP makes Series or Exam"),
    ({"volume": {"use": "read", "in": {"series": "t2"}}}, ("steps", "volume", "in", "series"),
     "no step 't2'", "t1"),
    ({"volume": {"use": "read", "in": {"series": "t1", "serie": "t1"}}},
     ("steps", "volume", "in", "serie"), "no input 'serie'", "series"),
    ({"sizes": {"use": "measure", "in": {"mask": "t1"}}}, ("steps", "sizes", "in", "mask"),
     "step t1 makes Series", "Mask or Volume"),
    ({"t1": {"use": "choose"}}, ("steps", "t1", "with"),
     "setting 'where' of operator choose is missing", "Condition"),
    ({"t1": {"use": "choose", "with": {"where": "always", "wher": 1}}},
     ("steps", "t1", "with", "wher"), "no setting 'wher'", "where"),
    ({"t1": {"use": "choose", "with": {"where": {"all": [{"Modalty": "MR"}]}}}},
     ("steps", "t1", "with", "where", "all", 0, "Modalty"), "no attribute", "Modality"),
    ({"sizes": {"use": "measure", "in": {"mask": "mask"}, "with": {"limit": "many"}}},
     ("steps", "sizes", "with", "limit"), "'many' does not fit", "integer"),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "path", "what", "expected"), WRONG)
def test_one_fault(
    steps: dict[str, Any], path: tuple[str | int, ...], what: str, expected: str
) -> None:
    ((at, found, hint),) = problems(pipeline(**steps))
    assert at == path
    assert what in found
    assert expected in hint


@pytest.mark.parametrize(
    ("settings", "name", "what", "expected"),
    [
        ({"model": "nett@1.0.0"}, "model", "no model 'nett@1.0.0'", "net@1.0.0"),
        ({"model": ["net@1.0.0"]}, "model", "no model", "net@1.0.0"),
        ({"model": "net@1.0.0", "overlap": 1}, "overlap", "1 does not fit", "less than 1"),
        ({"model": "net@1.0.0", "mode": "best"}, "mode", "'best'", "'fast' or 'good'"),
    ],
)
def test_a_setting_is_checked_against_its_annotation(
    settings: dict[str, Any], name: str, what: str, expected: str
) -> None:
    step = {"use": "infer", "in": {"volume": "volume"}, "with": settings}
    ((path, found, hint),) = problems(pipeline(mask=step))
    assert path == ("steps", "mask", "with", name)
    assert what in found
    assert expected in hint


def test_an_optional_port_may_be_bound_or_not_and_a_subclass_fits() -> None:
    step = {"use": "infer", "in": {"volume": "volume", "prior": "mask"}}
    again = {**step, "with": {"model": "net@1.0.0"}}
    assert problems(pipeline(again=again)) == []


def test_a_circle_is_shown() -> None:
    made = pipeline(
        volume={"use": "read", "in": {"series": "t1"}},
        a={
            "use": "infer",
            "in": {"volume": "volume", "prior": "b"},
            "with": {"model": "net@1.0.0"},
        },
        b={
            "use": "infer",
            "in": {"volume": "volume", "prior": "a"},
            "with": {"model": "net@1.0.0"},
        },
    )
    assert [(path, what) for path, what, _ in problems(made)] == [
        (("steps",), "steps take from each other in a circle: a <- b <- a")
    ]
    with pytest.raises(ValueError, match="circle"):
        order(made)


def test_results_destinations_and_times() -> None:
    data = {
        **RIGHT,
        "results": ["sizes", "size", "mask"],
        "send": {"validation": ["PACS"], "clinical": ["PASC"]},
        "complete": {"quiet": "2h", "deadline": "1h"},
    }
    found = problems(Pipeline.model_validate(data))
    assert [path for path, _, _ in found] == [
        ("complete", "quiet"),
        ("results", 1),
        ("results", 2),
        ("send", "clinical", 0),
    ]
    assert found[1][2] == "an existing step, perhaps sizes"
    assert found[2][1] == "step mask makes SpecialMask, which is no result"
    assert found[3][2] == "an existing destination, perhaps PACS"


def test_all_faults_are_found_at_once() -> None:
    made = pipeline(
        volume={"use": "reed", "in": {"series": "t1"}},
        mask={"use": "infer", "in": {"volum": "volume"}, "with": {"overlap": "x"}},
        sizes={"use": "measure", "in": {"mask": "msk"}},
    )
    assert [path for path, _, _ in problems(made)] == [
        ("steps", "volume", "use"),
        ("steps", "mask", "in", "volum"),
        ("steps", "mask", "with", "overlap"),
        ("steps", "mask", "in"),
        ("steps", "mask", "with"),
        ("steps", "sizes", "in", "mask"),
    ]


@pytest.mark.parametrize(
    ("made", "wanted", "expected"),
    [
        (Mask, Mask, True),
        (SpecialMask, Mask, True),
        (Mask, SpecialMask, False),
        (Mask, Mask | None, True),
        (Mask | None, Mask, False),
        (Mask, Mask | Volume, True),
        (Mask | Volume, Mask | Volume | None, True),
        (Mask | Volume, Mask, False),
        (list[Mask], list[Mask], True),
        (list[Mask], list[Volume], False),
        (Mask, Any, True),
    ],
)
def test_what_fits_into_a_port(made: Any, wanted: Any, expected: bool) -> None:
    assert fits(made, wanted) is expected


def test_types_are_named_as_people_say_them() -> None:
    assert type_name(Mask | None) == "Mask"
    assert type_name(Mask | Volume) == "Mask or Volume"


@given(st.data())
def test_the_order_is_that_of_the_inputs_and_else_of_the_definition(data: st.DataObject) -> None:
    names = data.draw(st.permutations(list("abcdef")))
    steps: dict[str, Any] = {}
    for index, name in enumerate(names):
        sources = data.draw(st.lists(st.sampled_from(names[:index]), max_size=3)) if index else []
        steps[name] = {"use": "x", "in": {f"p{i}": source for i, source in enumerate(sources)}}
    shuffled = {name: steps[name] for name in data.draw(st.permutations(names))}
    made = Pipeline.model_validate({**RIGHT, "steps": shuffled, "results": [names[0]]})
    ordered = order(made)
    assert sorted(ordered) == sorted(names)
    for name, step in shuffled.items():
        assert all(ordered.index(one) < ordered.index(name) for one in step["in"].values())
    if all(not step["in"] for step in steps.values()):
        assert ordered == list(shuffled)


def test_what_could_not_be_read_is_not_looked_at() -> None:
    made = pipeline(
        volume={"use": "", "in": {"series": "t1"}},
        mask={"use": "infer", "with": {"overlap": "x"}},
    ).model_copy(update={"results": ("", "nothing"), "send": {"clinical": ("", "PACKS")}})
    partial = {"volume", "mask"}
    told = check(made, OPERATORS, {"net@1.0.0"}, destinations={"PACS"}, partial=partial)
    assert [one.path for one in told] == [
        ("steps", "mask", "with", "overlap"),
        ("results", 1),
        ("send", "clinical", 1),
    ]
