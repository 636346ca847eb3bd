"""What the site defines, as nouns: projects, pipelines, models, forms, plugins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from overread import nouns, registry
from overread.pipelines.definition import Pipeline
from overread.pipelines.model import ModelCard
from overread.site import SiteFolder
from overread.validation.forms import Form
from overread.validation.project import Project

_AT = "@"


def project(one: Project) -> nouns.Project:
    """Write a project; who its members are is not told."""
    return nouns.Project(
        name=one.name,
        title=one.shown,
        pipelines=list(one.pipelines),
        form=one.form,
        page=one.page.model_dump(mode="json"),
    )


def pipeline(site: SiteFolder, one: Pipeline) -> nouns.Pipeline:
    """Write a pipeline, with what it uses and where it is used."""
    return nouns.Pipeline(
        name=one.name,
        version=one.version,
        title=one.title,
        ae_title=one.ae_title,
        stage=one.stage,
        definition=one.model_dump(mode="json", by_alias=True),
        models=models_of(site, one),
        projects=[project.name for project in site.projects_of(one.name)],
    )


def models_of(site: SiteFolder, one: Pipeline) -> list[str]:
    """List the models that a pipeline's steps name, each ``name@version``."""
    named = [
        value
        for step in one.steps.values()
        for value in step.with_.values()
        if isinstance(value, str) and value in site.models
    ]
    return list(dict.fromkeys(named))


def model(site: SiteFolder, card: ModelCard) -> nouns.Model:
    """Write a model's card, and which pipelines use it."""
    return nouns.Model(
        name=card.name,
        version=card.version,
        title=card.title,
        task=card.task,
        runtime=card.runtime,
        sha256=card.sha256,
        intended_use=card.intended_use,
        investigational=card.investigational,
        manufacturer=card.manufacturer,
        licence=card.licence,
        input=card.input.model_dump(mode="json", exclude_defaults=True),
        labels=[label.name for label in card.output.labels],
        pipelines=[
            one.name for one in site.pipelines.values() if card.reference in models_of(site, one)
        ],
    )


def card_text(site: SiteFolder, reference: str) -> str:
    """Return what a model's maker has written of it in ``MODEL_CARD.md``; empty for nothing."""
    name, _, version = reference.partition(_AT)
    file = site.root / "models" / name / version / "MODEL_CARD.md"
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def form(one: Form) -> nouns.Form:
    """Write a form with its document."""
    return nouns.Form(name=one.name, title=one.title, digest=one.digest, document=dict(one.schema))


@dataclass(frozen=True)
class Installed:
    """A plugin, and what it lacks here.

    Attributes
    ----------
    family, name, value, distribution : str
        As of `overread.registry.Plugin`.
    missing : str
        What is missing, in words; empty where it can run.
    """

    family: str
    name: str
    value: str
    distribution: str
    missing: str


def plugins(site: SiteFolder) -> list[Installed]:
    """List what is installed, and the site's own operators, by family."""
    found = [
        Installed(one.family, one.name, one.value, one.distribution, registry.missing(one))
        for one in registry.plugins()
    ]
    own = [
        Installed("operators", name, _within(source, site.root), "this site", "")
        for name, source in sorted(site.operator_sources.items())
        if source is not None
    ]
    return [one for family in registry.FAMILIES for one in (*found, *own) if one.family == family]


def _within(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else file.name
