"""What is wrong with a pipeline, before it runs: everything, each with its place."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from overread.dicom.match import ConditionError
from overread.dicom.study import Exam
from overread.pipelines.definition import Pipeline, Step
from overread.pipelines.ports import Signature

PROVIDED: tuple[type, ...] = (Exam,)
"""Types that the job itself provides: an input port of one of them need not be bound."""

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a pipeline.

    Attributes
    ----------
    path : tuple
        Where in the definition: ``("steps", "mask", "with", "model")``.
    what : str
        What was found.
    expected : str
        What was expected, or what to do.
    """

    path: Path
    what: str
    expected: str


def order(pipeline: Pipeline) -> list[str]:
    """Return the steps in an order in which each comes after those that it takes from.

    Where several may come next, the one that the definition names first does.

    Raises
    ------
    ValueError
        Steps take from each other in a circle.
    """
    done: list[str] = []
    waiting = dict(pipeline.steps)
    while waiting:
        ready = next((name for name, step in waiting.items() if not _awaited(step, waiting)), None)
        if ready is None:
            raise ValueError(f"steps take from each other in a circle: {_circle(waiting)}")
        done.append(ready)
        del waiting[ready]
    return done


def _awaited(step: Step, waiting: Mapping[str, Step]) -> list[str]:
    return [source for source in step.in_.values() if source in waiting]


def _circle(waiting: Mapping[str, Step]) -> str:
    """Walk from a step that waits to one that it waits for, until one comes again."""
    walk = [next(iter(waiting))]
    while (source := _awaited(waiting[walk[-1]], waiting)[0]) not in walk:
        walk.append(source)
    return " <- ".join([*walk[walk.index(source) :], source])


def check(
    pipeline: Pipeline,
    operators: Mapping[str, Signature],
    models: Collection[str],
    *,
    result_types: Collection[type] | None = None,
    destinations: Collection[str] | None = None,
    partial: Collection[str] = (),
) -> list[Problem]:
    """Find everything that is wrong with a pipeline.

    Parameters
    ----------
    pipeline : Pipeline
        The definition. Where it could be read in part only, an empty text stands for what could
        not be read, and is not looked at.
    operators : mapping of str to Signature
        The operators there are.
    models : collection of str
        The models there are, as ``name@version``.
    result_types : collection of type, optional
        What a result may be; not looked at if absent.
    destinations : collection of str, optional
        AE titles of the destinations there are; not looked at if absent.
    partial : collection of str
        Steps that could be read in part only: what they lack is not told.

    Returns
    -------
    list of Problem
        In the order of the definition; empty if nothing is wrong.
    """
    problems: list[Problem] = []
    if pipeline.complete.quiet > pipeline.complete.deadline:
        problems.append(
            Problem(("complete", "quiet"), "quiet is longer than deadline", "the shorter of both")
        )
    for name, step in pipeline.steps.items():
        path = ("steps", name)
        signature = operators.get(step.use)
        if signature is None:
            if name in partial and not step.use:
                continue  # what it uses could not be read
            what = f"there is no operator {step.use!r}"
            problems.append(Problem((*path, "use"), what, near(step.use, operators, "operator")))
            continue
        problems += _check_inputs(pipeline, operators, path, step, signature)
        problems += _check_settings(path, step, signature, models)
        if name not in partial:
            problems += _check_lacks(path, step, signature)
    try:
        order(pipeline)
    except ValueError as error:
        problems.append(Problem(("steps",), str(error), "steps of which one can be the first"))
    problems += _check_results(pipeline, operators, result_types)
    for stage, titles in pipeline.send.items():
        for index, title in enumerate(titles):
            if title and destinations is not None and title not in destinations:
                what = f"there is no destination {title!r}"
                expected = near(title, destinations, "destination")
                problems.append(Problem(("send", stage, index), what, expected))
    return problems


def near(name: str, known: Collection[str], noun: str) -> str:
    """Say what a name should have been: the nearest known ones, or all of them if they are few."""
    if not known:
        return f"one of the site's {noun}s, but it has none"
    close = get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return f"an existing {noun}, perhaps {' or '.join(close)}"
    more = ", …" if len(known) > 20 else ""
    return f"one of {', '.join(sorted(known)[:20])}{more}"


def _check_inputs(
    pipeline: Pipeline,
    operators: Mapping[str, Signature],
    path: Path,
    step: Step,
    signature: Signature,
) -> Iterator[Problem]:
    for port, source in step.in_.items():
        here = (*path, "in", port)
        wanted = signature.takes(port)
        if wanted is None:
            what = f"operator {step.use} has no input {port!r}"
            if signature.further is None:
                yield Problem(here, what, near(port, signature.inputs, "input"))
            else:
                yield Problem(here, what, "a plain word that is none of its settings")
        elif source not in pipeline.steps:
            what = f"there is no step {source!r}"
            yield Problem(here, what, near(source, pipeline.steps, "step"))
        else:
            giver = pipeline.steps[source]
            made = operators.get(giver.use)
            kind = made.makes(giver.with_) if made is not None else wanted
            if not fits(kind, wanted):
                what = f"step {source} makes {type_name(kind)}"
                yield Problem(here, what, f"a step that makes {type_name(wanted)}")


def _check_lacks(path: Path, step: Step, signature: Signature) -> Iterator[Problem]:
    """Find what a step must be given, and is not."""
    for port, wanted in signature.inputs.items():
        provided = wanted in PROVIDED  # not `fits`: what may be a series too is for a person to say
        if port not in step.in_ and port not in signature.optional and not provided:
            what = f"input {port!r} of operator {step.use} is not bound"
            expected = f"in: {{{port}: STEP}}, where STEP makes {type_name(wanted)}"
            yield Problem((*path, "in"), what, expected)
    for name in sorted(signature.required - step.with_.keys()):
        what = f"setting {name!r} of operator {step.use} is missing"
        kind = type_name(signature.settings[name])
        yield Problem((*path, "with"), what, f"with: {{{name}: …}}, of type {kind}")


def fits(made: Any, wanted: Any) -> bool:
    """Say whether what is made may go into a port: each type it may be is one that is wanted."""
    return all(
        any(
            want is Any
            or make == want
            or (isinstance(make, type) and isinstance(want, type) and issubclass(make, want))
            for want in _members(wanted)
        )
        for make in _members(made)
    )


def _members(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, UnionType):
        return get_args(annotation)
    return (annotation,)


def type_name(annotation: Any) -> str:
    """Name a type for people: without its module, ``None`` left out of a union."""
    names = [
        member.__name__ if isinstance(member, type) and not get_args(member) else str(member)
        for member in _members(annotation)
        if member is not type(None)
    ]
    return " or ".join(names) or "nothing"


def _check_settings(
    path: Path, step: Step, signature: Signature, models: Collection[str]
) -> Iterator[Problem]:
    for name, value in step.with_.items():
        here = (*path, "with", name)
        if name not in signature.settings:
            what = f"operator {step.use} has no setting {name!r}"
            yield Problem(here, what, near(name, signature.settings, "setting"))
        elif name in signature.models:
            if not isinstance(value, str) or value not in models:
                what = f"there is no model {value!r}"
                yield Problem(here, what, near(str(value), models, "model"))
        else:
            yield from check_value(here, signature.settings[name], value)


def check_value(path: Path, annotation: Any, value: Any) -> Iterator[Problem]:
    """Find what is wrong with a value that a setting of this annotation is given."""
    alternatives = [member for member in _members(annotation) if member is not type(None)]
    if value is not None and len(alternatives) == 1:
        annotation = alternatives[0]  # so that a fault is told of what is meant, not of None too
    try:
        adapter = _adapter(annotation)
        adapter.validate_python(value)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            yield from _of_value(path, detail)


def told(error: Exception) -> tuple[str, str]:
    """Part a message of ours, "what; write this" or "what: what it should be", into both."""
    what, parted, expected = str(error).partition("; ")
    if not parted:
        what, _, expected = what.partition(": ")
    return what, expected.removeprefix("write ").removeprefix("that needs ") or "another value"


def _of_value(path: Path, detail: ErrorDetails) -> Iterator[Problem]:
    here = (*path, *detail["loc"])
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, ConditionError):
        for fault in cause.faults:
            yield Problem((*here, *fault.path), fault.what, fault.expected)
    elif cause is not None:
        yield Problem(here, *told(cause))
    else:
        expected = detail["msg"].removeprefix("Input should be ")
        yield Problem(here, f"{detail['input']!r} does not fit", expected)


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        return TypeAdapter(annotation)  # a model or a dataclass brings its own configuration


def _check_results(
    pipeline: Pipeline,
    operators: Mapping[str, Signature],
    result_types: Collection[type] | None,
) -> Iterator[Problem]:
    for index, name in enumerate(pipeline.results):
        here = ("results", index)
        if not name:
            continue
        if name not in pipeline.steps:
            what = f"there is no step {name!r}"
            yield Problem(here, what, near(name, pipeline.steps, "step"))
            continue
        signature = operators.get(pipeline.steps[name].use)
        if signature is None or result_types is None:
            continue
        made = signature.makes(pipeline.steps[name].with_)
        if not any(fits(made, kind) for kind in result_types):
            what = f"step {name} makes {type_name(made)}, which is no result"
            kinds = " or ".join(sorted(kind.__name__ for kind in result_types))
            yield Problem(here, what, f"a step that makes {kinds}")
