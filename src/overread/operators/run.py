"""Run one operator: its settings read, its ports filled, what it makes checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from overread.errors import StepFailed
from overread.pipelines.check import type_name
from overread.pipelines.ports import Account, Context, Model, Outside, Progress, Signature


def run(  # noqa: PLR0917 - what a step is made of, in the order it is read
    function: Callable[..., Any],
    signature: Signature,
    inputs: Mapping[str, object],
    settings: Mapping[str, Any],
    context: Context,
    models: Mapping[str, Model],
    progress: Progress | None = None,
    outside: Outside | None = None,
) -> tuple[object, Account]:
    """Run an operator.

    Parameters
    ----------
    function : callable
        The operator.
    signature : Signature
        Its ports.
    inputs : mapping
        Input port to object.
    settings : mapping
        The settings, as the pipeline's ``with:`` has them: plain data.
    context : Context
        The facts of the job.
    models : mapping
        ``name@version`` to model, verified.
    progress : Progress, optional
        Told how far it has come.
    outside : Outside, optional
        Runs a program outside of the sandbox, for the operators that ask for it.

    Returns
    -------
    object, Account
        What the operator made, and what it says of its inputs.

    Raises
    ------
    StepFailed
        A port or a setting is missing or wrong, or what was made is not what the operator's
        annotation says. Whatever the operator itself raises passes through.
    """
    account = Account()
    arguments: dict[str, Any] = {
        **_ports(signature, inputs),
        **read_settings(signature, settings, models),
    }
    if signature.context:
        arguments[signature.context] = context
    if signature.account:
        arguments[signature.account] = account
    if signature.progress:
        arguments[signature.progress] = progress or _untold
    if signature.outside:
        if outside is None:
            raise StepFailed(f"{signature.name} cannot run here: nothing runs programs for it")
        arguments[signature.outside] = outside
    output = function(**arguments)
    made = signature.makes(settings)
    if isinstance(made, type | UnionType) and not isinstance(output, made):
        raise StepFailed(
            f"{signature.name} made a {type(output).__name__}, but says that it makes a "
            f"{type_name(made)}"
        )
    return output, account


def _untold(_done: int, _of: int, _what: str) -> None:
    """Nobody listens."""


def _ports(signature: Signature, inputs: Mapping[str, object]) -> dict[str, object]:
    for port in sorted(port for port in inputs if signature.takes(port) is None):
        raise StepFailed(f"{signature.name} has no input {port}; it has {sorted(signature.inputs)}")
    for port, kind in signature.inputs.items():
        if port not in inputs:
            if port not in signature.optional:
                raise StepFailed(f"{signature.name} was given nothing for its input {port}")
        elif isinstance(kind, type | UnionType) and not isinstance(inputs[port], kind):
            raise StepFailed(
                f"{signature.name} was given a {type(inputs[port]).__name__} for its input {port}; "
                f"a {type_name(kind)} was expected"
            )
    return dict(inputs)


def read_settings(
    signature: Signature, settings: Mapping[str, Any], models: Mapping[str, Model]
) -> dict[str, Any]:
    """Read the settings that a step is given, as the operator's annotations say.

    Raises
    ------
    StepFailed
        One is missing, unknown or wrong.
    """
    for setting in sorted(set(settings) - set(signature.settings)):
        raise StepFailed(
            f"{signature.name} has no setting {setting}; it has {sorted(signature.settings)}"
        )
    for setting in sorted(signature.required - set(settings)):
        raise StepFailed(f"{signature.name} was not given its setting {setting}")
    read: dict[str, Any] = {}
    for setting, value in settings.items():
        if setting in signature.models:
            if value not in models:
                raise StepFailed(f"{signature.name}: model {value} is not here")
            read[setting] = models[value]
            continue
        try:
            read[setting] = TypeAdapter(signature.settings[setting]).validate_python(value)
        except ValidationError as error:
            what = "; ".join(one["msg"] for one in error.errors())
            raise StepFailed(f"{signature.name}: setting {setting} is {value!r}: {what}") from error
    return read
