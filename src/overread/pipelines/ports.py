"""An operator is a function; its signature is its ports.

- a positional parameter is an **input port**; its annotation is the port's type;
- a keyword-only parameter is a **setting**, given by ``with:`` in the pipeline;
- a parameter annotated `Context` is filled by the engine with the facts of the job;
- a parameter annotated `Account` takes what the operator says of each of its inputs;
- a parameter annotated `Progress` is told how far long work has come;
- a parameter annotated `Model` takes ``name@version`` and is filled with the model, verified;
- a parameter annotated `Outside` runs the step's program where the step itself cannot: only for
  operators that come with Overread;
- ``**name: T`` takes any further input ports, each of type ``T`` (of every type where it is Any);
- the return annotation is the type of what the step makes; ``Annotated[A | B, Chosen(…)]`` where
  a setting says which of them.

An input port of a type that the job itself provides (the exam) is bound without being named.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints

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
    tables : mapping
        Of a step that asks for values of the site's tables, by the table's name: its ``rows`` that
        are the exam's, as CSV, and the ``sha256`` of all of it; or why it is ``refused``.
    fhir : mapping
        Of a step that asks for values of a FHIR server: what the engine has found there, by the
        value's name: ``written``, ``unit`` and ``where``; or ``missing`` or ``refused``, and why.
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
    tables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    fhir: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Progress(Protocol):
    """Told by an operator how far it has come; shown on the job's page and in the terminal."""

    def __call__(self, done: int, of: int, what: str, /) -> None:
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


class Outside(Protocol):
    """Runs a step's program outside of the step's own sandbox: a container, or a local program.

    What is run is what the pipeline says, and not up to the caller: it lays out ``folder/in`` and
    ``folder/params.json``, calls this, and finds what the program made in ``folder/out``.

    Attributes
    ----------
    folder : Path
        Of this step alone; empty at first.
    """

    folder: Path

    def __call__(self) -> list[str]:
        """Run the program to its end.

        Returns
        -------
        list of str
            What a person should know of the run.

        Raises
        ------
        StepFailed
            It cannot run here, ended with another exit code than 0, ran too long, took too much,
            or left something that is no plain file.
        """
        ...


@dataclass(frozen=True)
class Chosen:
    """Stands beside a return annotation: a setting chooses which of its types a step makes.

    Attributes
    ----------
    setting : str
        The setting.
    types : mapping of str to type
        Its values, and what is made then.
    """

    setting: str
    types: Mapping[str, Any]


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
        What the operator makes; `makes` says it in the light of the settings.
    context, account, progress, outside : str or None
        The parameters that take the `Context`, the `Account`, the `Progress` and the `Outside`.
    models : frozenset of str
        Settings that take a `Model`.
    further : type, optional
        Type of any further input ports, however called; none where there are none.
    chosen : Chosen, optional
        Which setting decides what is made.
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
    outside: str | None = None
    further: Any = None
    chosen: Chosen | None = None

    def makes(self, settings: Mapping[str, Any]) -> Any:
        """Return the type of what a step makes that has these settings."""
        if self.chosen is None:
            return self.output
        value = settings.get(self.chosen.setting)
        return self.chosen.types.get(value, self.output) if isinstance(value, str) else self.output

    def takes(self, port: str) -> Any:
        """Return the type of an input port; none where there can be no such port."""
        if port in self.reserved or not port.isidentifier():
            return None
        return self.inputs.get(port, self.further)

    @property
    def reserved(self) -> frozenset[str]:
        """Names of parameters that are no input ports."""
        filled = {self.context, self.account, self.progress, self.outside} - {None}
        return frozenset(self.settings) | frozenset(map(str, filled))


_FILLED = (
    (Context, "context"),
    (Account, "account"),
    (Progress, "progress"),
    (Outside, "outside"),
)
"""Annotations of what is neither port nor setting, and a `Signature`'s word for each."""


def signature(name: str, function: Callable[..., Any]) -> Signature:
    """Read an operator's ports off its signature.

    Raises
    ------
    TypeError
        A parameter or the return value has no annotation, or the function takes ``*args``.
    """
    hints = get_type_hints(function, include_extras=True)
    inputs: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    optional: set[str] = set()
    required: set[str] = set()
    models: set[str] = set()
    filled: dict[str, str] = {}
    further: Any = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise TypeError(f"operator {name}: *{parameter.name} is not a port; name each one")
        if parameter.name not in hints:
            raise TypeError(f"operator {name}: parameter {parameter.name} has no annotation")
        kind = hints[parameter.name]
        has_default = parameter.default is not parameter.empty
        filler = next((name for one, name in _FILLED if kind is one), None)
        if filler:
            filled[filler] = parameter.name
        elif parameter.kind is parameter.VAR_KEYWORD:
            further = kind
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
    output, chosen = _output(hints["return"])
    return Signature(
        name=name,
        inputs=inputs,
        optional=frozenset(optional),
        settings=settings,
        required=frozenset(required),
        output=output,
        models=frozenset(models),
        further=further,
        chosen=chosen,
        **filled,
    )


def _output(annotation: Any) -> tuple[Any, Chosen | None]:
    """Part a return annotation into what is made, and the setting that decides which of it."""
    if get_origin(annotation) is not Annotated:
        return annotation, None
    made, *beside = get_args(annotation)
    return made, next((one for one in beside if isinstance(one, Chosen)), None)
