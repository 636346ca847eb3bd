"""An operator's page, made from its signature and docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from textwrap import dedent
from typing import Any

from docstring_parser import Docstring, DocstringStyle, parse

from overread.dicom.codes import Code
from overread.dicom.study import Exam
from overread.pipelines.check import type_name
from overread.pipelines.ports import Signature, signature

BY_ITSELF = "The job's exam; it is bound by itself."


def page(name: str, function: Callable[..., Any]) -> str:
    """Write an operator's page.

    Parameters
    ----------
    name : str
        As pipelines use it.
    function : callable
        The operator.

    Returns
    -------
    str
        Markdown: what it does, its inputs and settings, what it makes, when it refuses, and how a
        pipeline uses it.
    """
    ports = signature(name, function)
    text = parse(inspect.getdoc(function) or "", style=DocstringStyle.NUMPYDOC)
    return "\n".join(_lines(ports, function, text)).rstrip() + "\n"


def summary(function: Callable[..., Any]) -> str:
    """Return the first line of an operator's docstring."""
    return parse(inspect.getdoc(function) or "").short_description or ""


def _lines(ports: Signature, function: Callable[..., Any], text: Docstring) -> Iterator[str]:
    yield f"# {ports.name}"
    yield ""
    yield text.short_description or ""
    yield ""
    if text.long_description:
        yield _fenced(text.long_description)
        yield ""
    described: dict[str, str] = {}
    types: dict[str, str] = {}
    for group in text.params:  # numpydoc lets several names share one description
        for each in group.arg_name.split(","):
            described[each.strip()] = _flat(group.description)
            types[each.strip()] = _flat(group.type_name)
    yield from _inputs(ports, described)
    yield from _settings(ports, function, described, types)
    yield "## Makes"
    yield ""
    told = _flat(text.returns.description) if text.returns else ""
    yield f"`{type_name(ports.output)}`{': ' if told else ''}{told}"
    yield ""
    if text.raises:
        yield "## Says no"
        yield ""
        yield from (f"- `{one.type_name}`: {_flat(one.description)}" for one in text.raises)
        yield ""
    yield "## In a pipeline"
    yield ""
    yield from _example(ports)


def _inputs(ports: Signature, described: dict[str, str]) -> Iterator[str]:
    if not ports.inputs and ports.further is None:
        return
    yield "## Takes"
    yield ""
    yield "| input | type | |"
    yield "| --- | --- | --- |"
    for port, kind in ports.inputs.items():
        optional = " (optional)" if port in ports.optional else ""
        told = described.get(port) or (BY_ITSELF if kind is Exam else "")
        yield f"| `{port}` | {type_name(kind)}{optional} | {_cell(told)} |"
    if ports.further is not None:
        kind = "anything" if ports.further is Any else type_name(ports.further)
        yield f"| any name | {kind} | as many as the pipeline binds |"
    yield ""


def _settings(
    ports: Signature,
    function: Callable[..., Any],
    described: dict[str, str],
    types: dict[str, str],
) -> Iterator[str]:
    if not ports.settings:
        return
    yield "## Settings"
    yield ""
    yield "| setting | type | default | |"
    yield "| --- | --- | --- | --- |"
    parameters = inspect.signature(function).parameters
    for name in ports.settings:
        default = parameters[name].default
        shown = "required" if name in ports.required else f"`{_default(default)}`"
        kind = _cell(types.get(name, "").removesuffix(", optional"))
        yield f"| `{name}` | {kind} | {shown} | {_cell(described.get(name, ''))} |"
    yield ""


def _default(value: Any) -> str:
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Code):
        return f"{{value: {value.value}, scheme: {value.scheme}, meaning: {value.meaning}}}"
    label = getattr(value, "label", None)
    return str(label if label is not None else value).replace("|", "\\|")


def _example(ports: Signature) -> Iterator[str]:
    ports_of = [
        port
        for port, kind in ports.inputs.items()
        if port not in ports.optional and kind is not Exam  # which is bound by itself
    ]
    ports_of += ["NAME"] if ports.further is not None else []
    takes = ", ".join(f"{port}: STEP" for port in ports_of)
    given = ", ".join(f"{name}: …" for name in sorted(ports.required))
    parts = [f"use: {ports.name}"]
    parts += [f"in: {{{takes}}}"] if takes else []
    parts += [f"with: {{{given}}}"] if given else []
    yield "```yaml"
    yield "steps:"
    yield f"  name: {{{', '.join(parts)}}}"
    yield "```"


def _fenced(text: str) -> str:
    """Write what a docstring shows after ``::`` as Markdown's block of code."""
    return re.sub(
        r"^::\n\n((?: {4}.*\n?|\n)+)",
        lambda found: f"```yaml\n{dedent(found[1]).strip()}\n```\n\n",
        text,
        flags=re.MULTILINE,
    ).rstrip()


def _flat(text: str | None) -> str:
    return " ".join((text or "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
