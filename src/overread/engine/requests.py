"""What a child process is asked: one step of a job, in plain JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from overread.engine.folders import EXAM, JobFolder
from overread.engine.keeping import models_of, upstream
from overread.engine.opening import operator_folder
from overread.engine.sources import snapshot
from overread.errors import StepFailed
from overread.pipelines.definition import Step
from overread.site import SiteFolder
from overread.store.tables import Job


def step_request(site: SiteFolder, job: Job, name: str, folder: JobFolder) -> dict[str, Any]:
    """Ask for one step: its operator, what it is given, where it writes.

    Everything comes from the job, which is pinned; the site says only where files are.

    Raises
    ------
    StepFailed
        The site does not have a model any more that the job is pinned to.
    """
    steps = {one: Step.model_validate(step) for one, step in job.definition["steps"].items()}
    step = steps[name]
    pinned = job.operators.get(step.use, {}).get("sha256")
    limit = step.timeout or site.settings.engine.step_timeout
    return {
        "job": job.id,
        "step": name,
        "timeout": limit.total_seconds(),
        "operator": step.use,
        "source": str(snapshot(operator_folder(site), pinned)) if pinned else None,
        "inputs": step.in_,
        "folders": {
            EXAM: str(folder.exam),
            **{source: str(folder.step(source)) for source in step.in_.values()},
        },
        "settings": step.with_,
        "models": {
            f"{model['name']}@{model['version']}": {
                "card": model["card"],
                "files": [str(file) for file, _ in weights(site, model)],
                "server": server_of(site, model),
            }
            for model in job.models
        },
        "servers": {
            model["card"]["server"]["name"]: address(server_of(site, model))
            for model in job.models
            if model["card"].get("server")
            and f"{model['name']}@{model['version']}" in step.with_.values()
        },
        "context": {
            "job": job.id,
            "step": name,
            "at": job.created_at.isoformat(),
            "pipeline": job.pipeline,
            "pipeline_version": job.pipeline_version,
            "timezone": site.settings.site.timezone,
            "stage": job.stage,
            "device": site.settings.engine.device,
            "fhir": {},
            "models": [
                model["card"] for model in models_of(steps, upstream(steps, name), job.models)
            ],
        },
        "out": str(folder.unfinished(name)),
        "exchange": str(folder.exchange(name)),
        "log": str(folder.log_file(name)),
    }


def weights(site: SiteFolder, model: dict[str, Any]) -> list[tuple[Path, str]]:
    """Return the files of a model that a job is pinned to, each with its digest; one but for folds.

    Raises
    ------
    StepFailed
        The site has no model of that name and version any more.
    """
    reference = f"{model['name']}@{model['version']}"
    if reference not in site.models:
        raise StepFailed(f"the site has no model {reference} any more, which this job is pinned to")
    there = site.models[reference]
    digests = [model["digest"], *(fold["sha256"] for fold in model["card"].get("folds", ()))]
    files = (there.file, *there.folds)
    if len(files) != len(digests):
        raise StepFailed(
            f"model {reference} has {len(files)} files now, and this job is pinned to "
            f"{len(digests)}; put back what model.yaml described, or give the new one a new version"
        )
    return list(zip(files, digests, strict=True))


def address(url: str) -> tuple[str, int]:
    """Return host and port of a server's address."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


def server_of(site: SiteFolder, model: dict[str, Any]) -> str:
    """Return the address of the server that a model runs on; empty where it runs here.

    Raises
    ------
    StepFailed
        The site does not name that server any more.
    """
    server = model["card"].get("server")
    if not server:
        return ""
    if server["name"] not in site.settings.model_servers:
        raise StepFailed(
            f"model {model['name']}@{model['version']} runs on the server {server['name']}, which "
            "the site does not name any more; expected it below model_servers in overread.yaml"
        )
    return site.settings.model_servers[server["name"]].url
