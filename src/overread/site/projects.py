"""The projects and forms of a site folder, read and checked against its pipelines."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from overread.errors import Fault
from overread.pipelines.check import near
from overread.site.validation import dotted, validate
from overread.site.yamlfile import read, refuse_references
from overread.validation import forms
from overread.validation.forms import Form
from overread.validation.project import Project


def read_form(root: Path, file: Path) -> tuple[Form | None, list[Fault]]:
    """Read one form; JSON is YAML, so that a fault has its line.

    Parameters
    ----------
    root : Path
        What the file is relative to.
    file : Path
        ``forms/NAME.json``.

    Returns
    -------
    Form or None
        None if there are faults.
    list of Fault
        All of them.
    """
    document, faults = read(root, file)
    if document.data is None and faults:
        return None, faults
    for one in forms.check(document.data):
        where = f"{dotted(one.path)}: " if one.path else ""
        faults.append(document.fault(one.path, f"{where}{one.what}", one.expected))
    return (None, faults) if faults else (Form(file.stem, document.data), [])


def read_forms(root: Path) -> tuple[dict[str, Form], list[Fault]]:
    """Read ``forms/*.json``; of those with faults nothing but the faults."""
    found: dict[str, Form] = {}
    faults: list[Fault] = []
    for file in sorted(root.glob("forms/*.json")):
        form, wrong = read_form(root, file.relative_to(root))
        faults += wrong
        if form is not None:
            found[form.name] = form
    return found, faults


def read_projects(
    root: Path, pipelines: Collection[str] | None
) -> tuple[dict[str, Project], list[Fault]]:
    """Read ``projects/*.yaml``.

    Parameters
    ----------
    pipelines : collection of str, optional
        Names of the pipelines that there are; none where some could not be read.
    """
    known_forms = {file.stem for file in root.glob("forms/*.json")}
    found: dict[str, Project] = {}
    faults: list[Fault] = []
    for file in sorted(root.glob("projects/*.yaml")):
        shown = file.relative_to(root)
        document, wrong = read(root, shown)
        faults += wrong
        if document.data is None:
            continue
        faults += refuse_references(document)
        project, wrong = validate(document, Project)
        faults += wrong
        if project is None:
            continue
        if project.name in found:
            what = f"there is a project {project.name!r} already"
            faults.append(document.fault(("name",), what, "a name of its own"))
        for at, name in enumerate(project.pipelines):
            if pipelines is not None and name not in pipelines:
                what = f"there is no pipeline {name!r}"
                expected = near(name, pipelines, "pipeline")
                faults.append(document.fault(("pipelines", at), what, expected))
        if project.form and project.form not in known_forms:
            what = f"there is no form {project.form!r}"
            expected = near(project.form, known_forms, "form in forms/")
            faults.append(document.fault(("form",), what, expected))
        found[project.name] = project
    return found, faults
