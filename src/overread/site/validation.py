"""From a document to a model of pydantic: every error becomes a fault with file and line."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from overread.dicom.match import ConditionError
from overread.errors import Fault
from overread.pipelines.check import near, told
from overread.site.yamlfile import Document, Keys

T = TypeVar("T", bound=BaseModel)


def validate(document: Document, model: type[T], path: Keys = ()) -> tuple[T | None, list[Fault]]:
    """Make a model of what a document holds at a path.

    Returns
    -------
    model or None
        None if there are faults.
    list of Fault
        All of them. A value that came from a secret is not shown.
    """
    data = document.data
    for key in path:
        data = data[key]
    if not isinstance(data, dict):
        return None, [document.fault(path, f"{shown(data)}", f"a mapping: {_keys(model)}")]
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        details = _causes(error.errors(include_url=False))
        return None, [fault for one in details for fault in _faults(document, model, path, one)]


def _causes(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out that a list is too short where that is only because its items have faults."""
    places = [one["loc"] for one in details]
    return [
        one
        for one in details
        if one["type"] != "too_short"
        or not any(
            place[: len(one["loc"])] == one["loc"] and place != one["loc"] for place in places
        )
    ]


def shown(value: Any) -> str:
    """Show a value in a fault, on one line and not too long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def dotted(path: Keys) -> str:
    """Write a path as people read it: ``steps.mask.with``, ``routes[2].when``."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _faults(
    document: Document, model: type[BaseModel], root: Keys, detail: ErrorDetails
) -> Iterator[Fault]:
    path = (*root, *detail["loc"])
    name = dotted(document.settle(path)) or "the file"
    kind, cause = detail["type"], detail.get("ctx", {}).get("error")
    if kind == "missing" and isinstance(path[-1], int):  # of a tuple of a fixed length
        what = f"{dotted(path[:-1])} has {path[-1]} values"
        yield document.fault(path[:-1], what, f"at least {path[-1] + 1}")
    elif kind == "missing":
        yield document.fault(path, f"{path[-1]!r} is missing in {name}", f"`{path[-1]}:` there")
    elif kind == "extra_forbidden":
        keys = _fields_at(model, detail["loc"][:-1])
        expected = near(str(path[-1]), keys, "key") if keys else "no such key"
        yield document.fault(path, f"unknown key {name}", expected)
    elif isinstance(cause, ConditionError):
        for fault in cause.faults:
            here = (*path, *fault.path)
            what = f"{dotted(document.settle(here))}: {fault.what}"
            yield document.fault(here, what, fault.expected)
    elif any(path[: len(one)] == one or one[: len(path)] == path for one in document.secrets):
        # the value may be a secret, and messages quote values: only the kind of fault is told
        yield document.fault(
            path, f"{name}: what its reference stands for does not fit ({kind})", "a fitting value"
        )
    elif cause is not None:
        what, expected = told(cause)
        yield document.fault(path, f"{name}: {what}", expected)
    else:
        yield document.fault(path, f"{name}: {shown(detail['input'])}", _expected(detail))


def _expected(detail: ErrorDetails) -> str:
    expected = detail["msg"].removeprefix("Input should be ").removeprefix("Input should ")
    if detail["type"] == "string_type" and isinstance(detail["input"], int | float):
        return f"{expected}: write it in quotes"
    if detail["type"] == "string_pattern_mismatch":
        return f"a text that fits {detail['ctx']['pattern']}"
    return expected


def _keys(model: type[BaseModel]) -> str:
    return ", ".join(field.alias or name for name, field in model.model_fields.items())


def _fields_at(model: type[BaseModel], path: Keys) -> list[str]:
    """Name the keys that may stand at a path into a model's data."""
    here: Any = model
    for part in path:
        if _is_model(here):
            fields = {field.alias or name: field for name, field in here.model_fields.items()}
            here = fields[str(part)].annotation if part in fields else None
        else:  # an item of a tuple or a mapping
            here = _model_in(here)
        if get_origin(here) in (Union, UnionType):
            here = _model_in(here)
    return _keys(here).split(", ") if _is_model(here) else []


def _model_in(kind: Any) -> Any:
    return next((one for one in get_args(kind) if _is_model(one)), None)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
