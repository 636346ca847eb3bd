"""An operator is a function; its signature is its ports.

- a positional parameter is an **input port**; its annotation is the port's type;
- a keyword-only parameter is a **setting**, given by ``with:`` in the pipeline;
- a parameter annotated `Context` is filled by the engine with the facts of the job;
- a parameter annotated `Account` takes what the operator says of each of its inputs;
- a parameter annotated `Progress` is told how far long work has come;
- a parameter annotated `Model` takes ``name@version`` and is filled with the model, verified;
- the return annotation is the type of what the step makes.

An input port of a type that the job itself provides (the exam) is bound without being named.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, get_type_hints

from overread.pipelines.model import ModelCard


@dataclass(frozen=True)
class Context:
    """The facts of the job that an operator may put into what it makes.

    No operator asks a clock or a random number: a step that runs again makes the same bytes.

    Attributes
    ----------
    job : str
        The job's id.
    step : str
        The step's name in the pipeline.
    at : datetime
        When the job was opened, in UTC: the date and time of everything it makes.
    pipeline, pipeline_version : str
        Name and version of the pipeline.
    timezone : str
        The site's zone.
    stage : str
        The stage that the job runs in; anything but ``clinical`` is marked investigational.
    models : tuple of ModelCard
        Models of the steps that this step's inputs come from, nearest first.
    device : str
        Where models run, as the site says for its workers: ``cpu``, ``cuda:N``, or ``auto``, which
        is the first GPU that the model's runtime sees, else the CPU.
    """

    job: str
    step: str
    at: datetime
    pipeline: str
    pipeline_version: str
    timezone: str = "UTC"
    stage: str = "validation"
    models: tuple[ModelCard, ...] = ()
    device: str = "cpu"


class Progress(Protocol):
    """Told by an operator how far it has come; shown on the job's page and in the terminal."""

    def __call__(self, done: int, of: int, what: str) -> None:
        """Say that ``done`` of ``of`` are done, and what is counted: ``windows``."""
        ...


@dataclass(frozen=True)
class Model:
    """A model that a step runs: its card, and the file whose digest was verified.

    Attributes
    ----------
    card : ModelCard
        What ``model.yaml`` says.
    file : Path
        The weights.
    folds : tuple of Path
        Those of an ensemble's further members, verified too; in the order of the card.
    server : str
        Of a model that a server runs: the address at which this process reaches it.
    """

    card: ModelCard
    file: Path
    folds: tuple[Path, ...] = ()
    server: str = ""

    @property
    def members(self) -> tuple[Model, ...]:
        """The models of an ensemble, each on its own; of any other, itself."""
        if not self.folds:
            return (self,)
        files = (self.file, *self.folds)
        digests = (self.card.sha256, *(fold.sha256 for fold in self.card.folds))
        return tuple(
            replace(self, card=self.card.model_copy(update={"sha256": digest}), file=file, folds=())
            for file, digest in zip(files, digests, strict=True)
        )


@dataclass
class Account:
    """What an operator says of each of its inputs: nothing is dropped silently.

    Attributes
    ----------
    used, unused : list of (str, str)
        What (a UID, or a name) and why.
    notes : list of str
        Anything else that a person should know of this step.
    """

    used: list[tuple[str, str]] = field(default_factory=list)
    unused: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Signature:
    """The ports of one operator.

    Attributes
    ----------
    name : str
        The operator's name, as pipelines use it.
    inputs : dict
        Input ports and their types.
    optional : frozenset of str
        Input ports that may stay unbound.
    settings : dict
        Settings and their annotations.
    required : frozenset of str
        Settings without a default.
    output : type
        What the operator makes.
    context, account, progress : str or None
        The parameters that take the `Context`, the `Account` and the `Progress`.
    models : frozenset of str
        Settings that take a `Model`.
    """

    name: str
    inputs: Mapping[str, Any]
    optional: frozenset[str]
    settings: Mapping[str, Any]
    required: frozenset[str]
    output: Any
    context: str | None = None
    account: str | None = None
    progress: str | None = None
    models: frozenset[str] = field(default_factory=frozenset)


def signature(name: str, function: Callable[..., Any]) -> Signature:
    """Read an operator's ports off its signature.

    Raises
    ------
    TypeError
        A parameter or the return value has no annotation, or the function takes ``*args`` or
        ``**kwargs``.
    """
    hints = get_type_hints(function, include_extras=True)
    inputs: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    optional: set[str] = set()
    required: set[str] = set()
    models: set[str] = set()
    context: str | None = None
    account: str | None = None
    progress: str | None = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"operator {name}: *{parameter.name} is not a port; name each one")
        if parameter.name not in hints:
            raise TypeError(f"operator {name}: parameter {parameter.name} has no annotation")
        kind = hints[parameter.name]
        has_default = parameter.default is not parameter.empty
        if kind is Context:
            context = parameter.name
        elif kind is Account:
            account = parameter.name
        elif kind is Progress:
            progress = parameter.name
        elif parameter.kind is parameter.KEYWORD_ONLY:
            settings[parameter.name] = kind
            if kind is Model:
                models.add(parameter.name)
            if not has_default:
                required.add(parameter.name)
        else:
            inputs[parameter.name] = kind
            if has_default:
                optional.add(parameter.name)
    if "return" not in hints:
        raise TypeError(f"operator {name}: no return annotation, so nothing says what it makes")
    return Signature(
        name=name,
        inputs=inputs,
        optional=frozenset(optional),
        settings=settings,
        required=frozenset(required),
        output=hints["return"],
        context=context,
        account=account,
        progress=progress,
        models=frozenset(models),
    )
