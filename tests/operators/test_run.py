from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import Field

from overread.dicom.match import Condition
from overread.dicom.volume import Volume
from overread.errors import StepFailed
from overread.operators.run import run
from overread.pipelines.ports import Account, Context, Model, signature
from overread.registry import load, names
from tests.operators.test_write import CONTEXT
from tests.runtimes.tiny import tiny_model

VOLUME = Volume(np.zeros((2, 3, 4), np.float32), np.eye(4))


def operator(
    volume: Volume,
    context: Context,
    account: Account,
    other: Volume | None = None,
    *,
    kind: Literal["a", "b"],
    model: Model | None = None,
    part: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    where: Condition | None = None,
) -> Volume:
    account.notes.append(f"{context.step} {kind} {part} {type(other).__name__} {where is None}")
    return volume


def attempt(inputs: Any, settings: Any, function: Any = operator, models: Any = None) -> Any:
    return run(function, signature("op", function), inputs, settings, CONTEXT, models or {})


def test_ports_settings_context_and_account_are_filled() -> None:
    output, account = attempt({"volume": VOLUME}, {"kind": "b", "where": {"Modality": "MR"}})
    assert output is VOLUME
    assert account.notes == ["seg b 0.5 NoneType False"]


@pytest.mark.parametrize(
    ("inputs", "settings", "message"),
    [
        ({}, {"kind": "a"}, "was given nothing for its input volume"),
        ({"volume": 3}, {"kind": "a"}, "was given a int for its input volume; a Volume was"),
        ({"volume": VOLUME, "x": 1}, {"kind": "a"}, "has no input x"),
        ({"volume": VOLUME}, {}, "was not given its setting kind"),
        ({"volume": VOLUME}, {"kind": "c"}, "setting kind is 'c'"),
        ({"volume": VOLUME}, {"kind": "a", "part": 1}, "setting part is 1: .*less than 1"),
        ({"volume": VOLUME}, {"kind": "a", "colour": 1}, "has no setting colour"),
        ({"volume": VOLUME}, {"kind": "a", "where": {"Nonsense": 1}}, "setting where is"),
    ],
)
def test_what_is_wrong_is_named(inputs: Any, settings: Any, message: str) -> None:
    with pytest.raises(StepFailed, match=message):
        attempt(inputs, settings)


def test_a_model_is_filled_by_its_reference(tmp_path: Path) -> None:
    def with_model(volume: Volume, *, model: Model) -> Volume:
        assert model.card.name == "tiny"
        return volume

    models = {"tiny@1.2.3": tiny_model(tmp_path)}
    attempt({"volume": VOLUME}, {"model": "tiny@1.2.3"}, with_model, models)
    with pytest.raises(StepFailed, match=r"model tiny@9.9.9 is not here"):
        attempt({"volume": VOLUME}, {"model": "tiny@9.9.9"}, with_model, models)


def test_an_operator_must_make_what_it_says() -> None:
    def liar(volume: Volume) -> Volume:
        return 7  # type: ignore[return-value]  # that is the fault

    with pytest.raises(StepFailed, match="made a int, but says that it makes a Volume"):
        attempt({"volume": VOLUME}, {}, liar)


def test_every_operator_here_has_a_signature() -> None:
    for name in names("operators"):
        assert signature(name, load("operators", name)).output is not None
