"""What a job is pinned to: its models by digest, a site's operators by a copy of their source."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from overread.pipelines.definition import Pipeline
from overread.pipelines.ports import signature
from overread.registry import plugins
from overread.site import SiteFolder


def digest_of(definition: dict[str, Any]) -> str:
    """SHA-256 of a pipeline's definition in canonical JSON."""
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def references(pipeline: Pipeline, site: SiteFolder) -> dict[str, list[str]]:
    """Say which models each step runs: step to ``name@version``."""
    return {
        name: [
            str(step.with_[setting])
            for setting in sorted(signature(step.use, site.operators[step.use]).models)
            if setting in step.with_
        ]
        for name, step in pipeline.steps.items()
    }


def pin_models(pipeline: Pipeline, site: SiteFolder) -> list[dict[str, Any]]:
    """Describe the models of a pipeline as a job records them: name, version, digest, card."""
    wanted = sorted({one for step in references(pipeline, site).values() for one in step})
    return [
        {
            "name": site.models[one].card.name,
            "version": site.models[one].card.version,
            "digest": site.models[one].card.sha256,
            "card": site.models[one].card.model_dump(mode="json"),
        }
        for one in wanted
    ]


def pin_operators(pipeline: Pipeline, site: SiteFolder, folder: Path) -> dict[str, Any]:
    """Describe the operators of a pipeline as a job records them; copy a site's own.

    A site's own are those that were read when the site was, whatever their files hold now.

    Parameters
    ----------
    folder : Path
        Where the copies are kept, each under its digest.

    Returns
    -------
    dict
        Operator to ``{"sha256": …}`` for a site's own, else ``{"distribution": …, "version": …}``.
    """
    pinned: dict[str, Any] = {}
    for name in sorted({step.use for step in pipeline.steps.values()}):
        source = site.operator_sources.get(name)
        text = site.operator_texts[source] if source else b""
        pinned[name] = {"sha256": _keep(text, folder)} if source else _distribution(name)
    return pinned


def digest_with(definition: dict[str, Any], operators: dict[str, Any]) -> str:
    """SHA-256 of a pipeline's version: its definition, and the source of the site's own operators.

    Parameters
    ----------
    operators : dict
        As `pin_operators` returns them.
    """
    own = {name: pinned["sha256"] for name, pinned in operators.items() if "sha256" in pinned}
    return digest_of({**definition, "operators": own} if own else definition)


def foreign_code(operators: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> str:
    """Say which Python that is not of this installation a job runs; empty where it is none.

    Parameters
    ----------
    operators, models
        As a job records them. A MONAI bundle brings Python of its own.
    """
    own = {pinned["sha256"] for pinned in operators.values() if "sha256" in pinned}
    own |= {model["digest"] for model in models if model["card"].get("runtime") == "monai"}
    return " ".join(sorted(own))


def snapshot(folder: Path, digest: str) -> Path:
    """Return the file that a copy of a site's operator is kept in."""
    return folder / f"{digest}.py"


def _keep(text: bytes, folder: Path) -> str:
    digest = hashlib.sha256(text).hexdigest()
    kept = snapshot(folder, digest)
    if not kept.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = folder / f".{digest}.{os.getpid()}"
        with unfinished.open("wb") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.rename(kept)
    return digest


def _distribution(name: str) -> dict[str, str]:
    for plugin in plugins():
        if plugin.family == "operators" and plugin.name == name and plugin.distribution:
            return {"distribution": plugin.distribution, "version": version(plugin.distribution)}
    return {"distribution": "", "version": ""}
