"""What of a file with faults can be read all the same, so that the rest of it is checked too.

The faults themselves are told by `overread.site.validation`; here nothing is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from overread.pipelines.definition import Complete, Pipeline, Step
from overread.settings import DestinationSettings, Dicom, check_ae_title
from overread.site.validation import validate
from overread.site.yamlfile import Document


@dataclass(frozen=True)
class Peers:
    """What later checks need of ``overread.yaml``.

    Attributes
    ----------
    router : str
        The router's AE title; empty where it cannot be read.
    destinations : mapping of str to DestinationSettings or None
        Every destination by its AE title, None where its own part has faults. None as a whole
        where it cannot be read which there are.
    """

    router: str = ""
    destinations: Mapping[str, DestinationSettings | None] | None = None


@dataclass(frozen=True)
class ReadPipeline:
    """A pipeline as far as it can be read.

    Attributes
    ----------
    document : Document
        Where it stands.
    pipeline : Pipeline
        What has a fault is left out: a text is empty, ``complete`` is the default.
    partial : frozenset of str
        Steps that were read in part only.
    """

    document: Document
    pipeline: Pipeline
    partial: frozenset[str] = field(default_factory=frozenset)


def read_peers(document: Document) -> Peers:
    """Read what ``overread.yaml`` says of AE titles, whatever else is wrong with it."""
    data = _mapping(document.data)
    dicom = data.get("dicom", {})
    router = dicom.get("ae_title", Dicom().ae_title) if isinstance(dicom, dict) else ""
    named = data.get("destinations", {}) if isinstance(document.data, dict) else None
    if not isinstance(named, dict):
        return Peers(_title(router))
    found = {
        name: validate(document, DestinationSettings, ("destinations", name))[0]
        for name in named
        if _title(name)
    }
    return Peers(_title(router), found)


def read_pipeline(document: Document) -> ReadPipeline:
    """Read a pipeline that has faults."""
    data = _mapping(document.data)
    steps: dict[str, Step] = {}
    partial: set[str] = set()
    for name, raw in _mapping(data.get("steps")).items():
        if not isinstance(name, str):
            continue
        step, _ = validate(document, Step, ("steps", name))
        if step is None:
            partial.add(name)
            step = _read_step(_mapping(raw))
        steps[name] = step
    pipeline = Pipeline.model_construct(
        name=_text(data.get("name")),
        version=_text(data.get("version")),
        ae_title=_title(data.get("ae_title")),
        complete=_read_complete(document, data),
        steps=steps,
        # where no step can be read, that a result is none of them says nothing
        results=_texts(data.get("results")) if steps else (),
        send={
            stage: tuple(_title(title) for title in _texts(titles))
            for stage, titles in _mapping(data.get("send")).items()
        },
    )
    return ReadPipeline(document, pipeline, frozenset(partial))


def _read_complete(document: Document, data: Mapping[str, Any]) -> Complete:
    whole = validate(document, Complete, ("complete",))[0] if "complete" in data else None
    return whole or Complete()


def _read_step(raw: Mapping[str, Any]) -> Step:
    inputs = {port: source for port, source in _mapping(raw.get("in")).items() if _text(source)}
    return Step.model_construct(
        use=_text(raw.get("use")), in_=inputs, with_=_mapping(raw.get("with"))
    )


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    """Return a list of texts, each in its place; empty where one is something else."""
    return tuple(_text(one) for one in value) if isinstance(value, list) else ()


def _title(value: Any) -> str:
    """Return an AE title; empty where it is none."""
    try:
        return check_ae_title(_text(value))
    except ValueError:
        return ""
