"""The whole of a site folder, read once and frozen."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field

from overread import registry
from overread.errors import Fault, SiteError
from overread.operators.files import RESULTS
from overread.pipelines.check import check, near
from overread.pipelines.definition import Pipeline
from overread.pipelines.ports import Model, Signature, signature
from overread.pipelines.scale import check_scale
from overread.routing.rules import Route
from overread.settings import Frozen, Settings, check_ae_title
from overread.site.identities import check_identity
from overread.site.models import read_models
from overread.site.operators import read_operators
from overread.site.partial import Peers, ReadPipeline, read_peers, read_pipeline
from overread.site.projects import read_forms, read_projects
from overread.site.validation import dotted, validate
from overread.site.yamlfile import (
    Document,
    Keys,
    Place,
    overlay,
    read,
    refuse_references,
    resolve,
)
from overread.validation.forms import Form
from overread.validation.permissions import ROLES, Grant
from overread.validation.project import Project


@dataclass(frozen=True, eq=False)
class SiteFolder:
    """A site folder without a fault, as it was when it was read.

    Attributes
    ----------
    root : Path
        The folder, absolute.
    settings : Settings
        ``overread.yaml`` with its overlay.
    routes : tuple of Route
        ``routes.yaml``, in its order.
    pipelines : mapping of str to Pipeline
        By name.
    models : mapping of str to Model
        By ``name@version``: the card, and the absolute path of the weights.
    operators : mapping of str to callable
        Installed ones and those of ``operators/*.py``, by name.
    operator_sources : mapping of str to Path or None
        The site's file that an operator stands in; none for an installed one.
    operator_texts : mapping of Path to bytes
        What those files held when they were read: what runs, whatever they hold now.
    projects : mapping of str to Project
        ``projects/*.yaml``, by name.
    forms : mapping of str to Form
        ``forms/*.json``, by name.
    """

    root: Path
    settings: Settings
    routes: tuple[Route, ...]
    pipelines: Mapping[str, Pipeline]
    models: Mapping[str, Model]
    operators: Mapping[str, Callable[..., Any]]
    operator_sources: Mapping[str, Path | None]
    operator_texts: Mapping[Path, bytes] = field(default_factory=dict)
    projects: Mapping[str, Project] = field(default_factory=dict)
    forms: Mapping[str, Form] = field(default_factory=dict)

    @property
    def ae_titles(self) -> frozenset[str]:
        """AE titles that the listener answers for: the router's and every pipeline's."""
        pipelines = {pipeline.ae_title for pipeline in self.pipelines.values()}
        return frozenset({self.settings.dicom.ae_title} | pipelines)

    def pipeline_for(self, ae_title: str) -> Pipeline | None:
        """Return the pipeline behind an AE title, if one is."""
        for pipeline in self.pipelines.values():
            if pipeline.ae_title == ae_title:
                return pipeline
        return None

    def projects_of(self, pipeline: str) -> list[Project]:
        """List the projects that take exams of a pipeline."""
        return [project for project in self.projects.values() if pipeline in project.pipelines]

    def grants(self, user: str, groups: frozenset[str]) -> frozenset[Grant]:
        """Return the roles that the site's files give a user, by name or by group."""
        mapped = frozenset(
            Grant(one.role, one.project)
            for one in self.settings.identity.roles
            if one.group in groups
        )
        return mapped.union(*(one.grants(user, groups) for one in self.projects.values()))


class _RoutesFile(Frozen):
    """What ``routes.yaml`` holds."""

    routes: tuple[Route, ...] = Field(default=())


def load(
    root: Path, environ: Mapping[str, str] | None = None, *, verify: bool = False
) -> SiteFolder:
    """Read a site folder.

    Parameters
    ----------
    root : Path
        The folder.
    environ : mapping, optional
        Where ``OVERREAD_ENV`` and ``${env:…}`` are looked up; the process's environment if absent.
    verify : bool
        Also compare each model's file with its digest. Jobs do that again, whatever this says.

    Raises
    ------
    SiteError
        With every fault of every file.
    """
    reading = _Reading(root.resolve(), os.environ if environ is None else environ)
    settings = reading.settings()
    models = reading.models(verify, settings)
    operators, sources = reading.operators()
    pipelines = reading.pipelines()
    reading.check_pipelines(pipelines, models)
    if settings is not None:
        reading.check_fhir(pipelines, settings.fhir)
    reading.check_ae_titles(pipelines)
    routes = reading.routes(pipelines)
    projects, forms = reading.projects(pipelines)
    if reading.faults or settings is None:
        raise SiteError(list(dict.fromkeys(reading.faults)))
    return SiteFolder(
        root=reading.root,
        settings=settings,
        routes=routes,
        pipelines=MappingProxyType({one.pipeline.name: one.pipeline for one in pipelines}),
        models=MappingProxyType(models),
        operators=MappingProxyType(operators),
        operator_sources=MappingProxyType(sources),
        operator_texts=MappingProxyType(reading.operator_texts),
        projects=MappingProxyType(projects),
        forms=MappingProxyType(forms),
    )


def load_settings(root: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Read only the settings of a site folder, whatever is wrong with the rest of it.

    Raises
    ------
    SiteError
        With every fault of ``overread.yaml`` and its overlay.
    """
    reading = _Reading(root.resolve(), os.environ if environ is None else environ)
    settings = reading.settings()
    if settings is None:
        raise SiteError(reading.faults)
    return settings


def load_routes(root: Path, environ: Mapping[str, str] | None = None) -> tuple[Route, ...]:
    """Read only the routes of a site folder, whatever else is wrong with it.

    Raises
    ------
    SiteError
        With every fault of ``routes.yaml``; also if that file is not there.
    """
    reading = _Reading(root.resolve(), os.environ if environ is None else environ)
    if not (reading.root / _Reading.ROUTES).is_file():
        raise SiteError([Fault(reading.ROUTES, 0, f"{root} has no routes", "this file")])
    reading.settings()
    pipelines = reading.pipelines()
    reading.faults.clear()
    routes = reading.routes(pipelines)
    if reading.faults:
        raise SiteError(reading.faults)
    return routes


class _Reading:
    """One reading of a site folder, collecting the faults of all its files.

    What has a fault is left out of what is checked after it, and no more than that.
    """

    MAIN = Path("overread.yaml")
    ROUTES = Path("routes.yaml")

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.root = root
        self.environ = environ
        self.faults: list[Fault] = []
        self.main = Document(Place(self.MAIN, 0))
        self.peers = Peers()
        self.pipelines_unread = False
        self.signatures: dict[str, Signature] = {}
        self.unavailable: dict[str, str] = {}
        self.operator_texts: dict[Path, bytes] = {}

    def document(self, file: Path) -> Document | None:
        """Read one YAML file and note its faults; none if nothing of it can be read."""
        document, faults = read(self.root, file)
        self.faults += faults
        return None if faults and document.data is None else document

    def settings(self) -> Settings | None:
        """Read ``overread.yaml`` with its overlay and what it refers to."""
        if not (self.root / self.MAIN).is_file():
            expected = "a site folder; `overread init DIR` makes one"
            self.faults.append(Fault(self.MAIN, 0, f"{self.root} has no such file", expected))
            return None
        document = self.document(self.MAIN)
        environment = self.environ.get("OVERREAD_ENV", "")
        if environment:
            upper = self._overlay(environment)
            if document is None or upper is None:
                return None
            document = overlay(document, upper)
        if document is None:
            return None
        self.main = document
        missing = resolve(document, self.root, self.environ)
        settings, faults = validate(document, Settings)
        # what could not be resolved is empty now: only that it is missing is worth telling
        told = {(fault.file, fault.line) for fault in missing}
        self.faults += missing + [one for one in faults if (one.file, one.line) not in told]
        if isinstance(document.data, dict) and "root" in document.data:
            self.faults.append(document.fault(("root",), "unknown key root", "no such key"))
        self.peers = read_peers(document)
        self._check_destinations(told)
        if settings is not None and not missing:
            self.faults += check_identity(self.main, settings, self.root)
        if settings is None or missing:
            return None
        site = settings.site.model_copy(update={"environment": environment})
        return settings.model_copy(update={"root": self.root, "site": site})

    def _overlay(self, environment: str) -> Document | None:
        if not re.fullmatch(r"[\w-]+", environment):
            what = f"OVERREAD_ENV is {environment!r}"
            self.faults.append(Fault(self.MAIN, 0, what, "the name of a file in environments/"))
            return None
        file = Path("environments", f"{environment}.yaml")
        if not (self.root / file).is_file():
            known = [path.stem for path in self.root.glob("environments/*.yaml")]
            what = f"OVERREAD_ENV is {environment!r}, but there is no such file"
            self.faults.append(Fault(file, 0, what, near(environment, known, "environment")))
            return None
        return self.document(file)

    def _check_destinations(self, told: set[tuple[Path, int]]) -> None:
        """Let each kind of destination say what is wrong with its own settings.

        Not where some of them could not be resolved, which is ``told`` by file and line.
        """
        known = registry.names("destinations")
        for name, destination in (self.peers.destinations or {}).items():
            path = ("destinations", name)
            below = {self.main.places[one] for one in self.main.secrets if one[:2] == path}
            if destination is None or any((at.file, at.line) in told for at in below):
                continue
            if destination.use not in known:
                what = f"there is no kind of destination {destination.use!r}"
                expected = near(destination.use, known, "kind")
                self.faults.append(self.main.fault((*path, "use"), what, expected))
                continue
            try:
                registry.load("destinations", destination.use)(name, destination.with_)
            except ImportError as error:
                what = f"destination {name} cannot be loaded: {error}"
                expected = "what it needs to be installed"
                self.faults.append(self.main.fault((*path, "use"), what, expected))
            except ValueError as error:
                secret = any(one[: len(path)] == path for one in self.main.secrets)
                what = f"destination {name}: its settings do not fit" if secret else str(error)
                expected = f"the settings of {destination.use}"
                self.faults.append(self.main.fault((*path, "with"), what, expected))

    def models(self, verify: bool, settings: Settings | None) -> dict[str, Model]:
        """Read ``models/``."""
        servers = None if settings is None else settings.model_servers
        models, faults = read_models(self.root, verify=verify, servers=servers)
        self.faults += faults
        return models

    def operators(self) -> tuple[dict[str, Callable[..., Any]], dict[str, Path | None]]:
        """Load the installed operators and the site's own."""
        operators: dict[str, Callable[..., Any]] = {}
        sources: dict[str, Path | None] = {}
        for name in registry.names("operators"):
            try:
                function = registry.load("operators", name)
                ports = signature(name, function)
                if ports.outside and not function.__module__.startswith("overread."):
                    raise TypeError("only Overread's own may run programs outside of its box")
            except (ImportError, AttributeError, TypeError) as error:
                self.unavailable[name] = str(error)
            else:
                operators[name], sources[name] = function, None
                self.signatures[name] = ports
        for file in sorted(self.root.glob("operators/*.py")):
            shown = file.relative_to(self.root)
            try:
                self.operator_texts[file] = file.read_bytes()
            except OSError as error:
                what = f"cannot be read: {error.strerror}"
                self.faults.append(Fault(shown, 0, what, "a file that this user may read"))
                continue
            found, faults = read_operators(file, shown, self.operator_texts[file])
            self.faults += faults
            for name, function in found.items():
                if name in operators or name in self.unavailable:
                    line = function.__code__.co_firstlineno
                    what = f"there is an operator {name!r} already"
                    self.faults.append(Fault(shown, line, what, "another name"))
                else:
                    operators[name], sources[name] = function, file
                    self.signatures[name] = signature(name, function)
        return operators, sources

    def pipelines(self) -> list[ReadPipeline]:
        """Read ``pipelines/*.yaml``, each on its own, and of a wrong one what can be read."""
        pipelines: list[ReadPipeline] = []
        for file in sorted(self.root.glob("pipelines/*.yaml")):
            document = self.document(file.relative_to(self.root))
            if document is None:
                self.pipelines_unread = True
                continue
            self.faults += refuse_references(document)
            pipeline, faults = validate(document, Pipeline)
            self.faults += faults
            one = ReadPipeline(document, pipeline) if pipeline else read_pipeline(document)
            self.pipelines_unread |= not one.pipeline.ae_title
            pipelines.append(one)
        return pipelines

    def check_pipelines(
        self,
        pipelines: list[ReadPipeline],
        models: Mapping[str, Model],
    ) -> None:
        """Check each pipeline against operators, models and destinations, and their names."""
        # a model with a fault of its own is there all the same
        known = {f"{at.parent.name}@{at.name}" for at in self.root.glob("models/*/*")} | set(models)
        cards = {reference: model.card for reference, model in models.items()}
        names: dict[str, Path] = {}
        for one in pipelines:
            document, pipeline = one.document, one.pipeline
            if pipeline.name and pipeline.name in names:
                what = f"{names[pipeline.name]} has the name {pipeline.name!r} too"
                self.faults.append(document.fault(("name",), what, "a name of its own"))
            names.setdefault(pipeline.name, document.place.file)
            problems = check(
                pipeline,
                self.signatures,
                known,
                result_types=RESULTS,
                destinations=self.peers.destinations,
                partial=one.partial,
            )
            for problem in (*problems, *check_scale(pipeline, cards)):
                what, expected, where = problem.what, problem.expected, problem.path
                if where[-1] == "use":
                    used = pipeline.steps[str(where[1])].use
                    if used in self.unavailable:
                        what = f"operator {used} cannot be loaded: {self.unavailable[used]}"
                        expected = "what it needs to be installed"
                what = f"{dotted(document.settle(where))}: {what}"
                self.faults.append(document.fault(where, what, expected))

    def check_fhir(self, pipelines: list[ReadPipeline], servers: Collection[str]) -> None:
        """Refuse a FHIR server that the site does not name."""
        for one in pipelines:
            for name, step in one.pipeline.steps.items():
                values = step.with_.get("values") if step.use == "clinical_values" else None
                for key, value in values.items() if isinstance(values, dict) else ():
                    asked = value.get("fhir") if isinstance(value, dict) else None
                    server = asked.get("server") if isinstance(asked, dict) else None
                    if isinstance(server, str) and server not in servers:
                        path = ("steps", name, "with", "values", str(key), "fhir", "server")
                        what = f"{dotted(path)}: there is no FHIR server {server!r}"
                        expected = near(server, servers, "FHIR server")
                        self.faults.append(one.document.fault(path, what, expected))

    def check_ae_titles(self, pipelines: list[ReadPipeline]) -> None:
        """Refuse an AE title that stands for two things."""
        taken: dict[str, str] = {}
        if self.peers.router:
            taken[self.peers.router] = "the router"
        for title in self.peers.destinations or {}:
            if title in taken:
                what = f"AE title {title} is {taken[title]}'s too"
                path = ("destinations", title)
                self.faults.append(self.main.fault(path, what, "one of its own"))
            taken.setdefault(title, f"destination {title}")
        for one in pipelines:
            title = one.pipeline.ae_title
            if title and title in taken:
                what = f"AE title {title} is {taken[title]}'s too"
                self.faults.append(one.document.fault(("ae_title",), what, "one of its own"))
            taken.setdefault(title, f"pipeline {one.pipeline.name}")

    def routes(self, pipelines: list[ReadPipeline]) -> tuple[Route, ...]:
        """Read ``routes.yaml``; a site without it routes nothing."""
        if not (self.root / self.ROUTES).is_file():
            return ()
        document = self.document(self.ROUTES)
        if document is None:
            return ()
        self.faults += refuse_references(document)
        parsed, faults = validate(document, _RoutesFile)
        self.faults += faults
        known = {one.pipeline.ae_title for one in pipelines} | set(self.peers.destinations or ())
        complete = self.peers.destinations is not None and not self.pipelines_unread
        self._check_routes(document, known if complete else None)
        return parsed.routes if parsed else ()

    def projects(self, pipelines: list[ReadPipeline]) -> tuple[dict[str, Project], dict[str, Form]]:
        """Read ``projects/`` and ``forms/``."""
        known = {one.pipeline.name for one in pipelines}
        projects, faults = read_projects(self.root, None if self.pipelines_unread else known)
        forms, wrong = read_forms(self.root)
        self.faults += faults + wrong
        self._check_roles(projects)
        return projects, forms

    def _check_roles(self, projects: Collection[str]) -> None:
        """Refuse a role or project that groups are given and that there is not."""
        for path, role in _texts_at(self.main, "identity", "roles", None, "role"):
            if role not in ROLES:
                what = f"there is no role {role!r}"
                self.faults.append(self.main.fault(path, what, near(role, ROLES, "role")))
        for path, name in _texts_at(self.main, "identity", "roles", None, "project"):
            if name and name not in projects:
                what = f"there is no project {name!r}"
                self.faults.append(self.main.fault(path, what, near(name, projects, "project")))

    def _check_routes(self, document: Document, known: set[str] | None) -> None:
        """Check names and targets of routes, as far as they can be read.

        ``known`` are the AE titles that there are; none where some could not be read.
        """
        names: set[str] = set()
        for path, name in _texts_at(document, "routes", None, "name"):
            if name in names:
                what = f"there is a route {name!r} already"
                self.faults.append(document.fault(path, what, "a name of its own"))
            names.add(name)
        if known is None:
            return
        for path, title in _texts_at(document, "routes", None, "send_to", None):
            if title not in known and _is_ae_title(title):
                what = f"there is no AE title {title!r} to send to"
                expected = near(title, known, "destination or pipeline")
                self.faults.append(document.fault(path, what, expected))


def _texts_at(document: Document, *pattern: str | None) -> Iterator[tuple[Keys, str]]:
    """Find the texts at a path in which None stands for every index of a list."""
    found: list[tuple[Keys, Any]] = [((), document.data)]
    for part in pattern:
        found = [
            ((*path, key), value)
            for path, data in found
            for key, value in _items(data, listed=part is None)
            if part in (None, key)
        ]
    return ((path, value) for path, value in found if isinstance(value, str))


def _items(data: Any, *, listed: bool) -> Iterable[tuple[str | int, Any]]:
    if listed:
        return enumerate(data) if isinstance(data, list) else ()
    return data.items() if isinstance(data, dict) else ()


def _is_ae_title(text: str) -> bool:
    try:
        check_ae_title(text)
    except ValueError:
        return False
    return True
