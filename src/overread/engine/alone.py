"""A pipeline, or one operator, run on files without a server: how a model developer works.

The same operators, the same box and the same files between steps as in a worker; what is left out
is everything around: no exam is gathered, no database is written, nothing is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from overread import __version__
from overread.dicom.study import Exam, Origin
from overread.engine import child, fhir, site_tables
from overread.engine.folders import EXAM, JobFolder
from overread.engine.opening import operator_folder
from overread.engine.outside import launch
from overread.engine.requests import step_request
from overread.engine.sandbox import Box, Child
from overread.engine.sources import digest_with, pin_models, pin_operators
from overread.errors import Refused, StepFailed, UsageError
from overread.operators import files
from overread.pipelines.check import order
from overread.pipelines.definition import Pipeline, Step
from overread.pipelines.job import JobState, StepState
from overread.pipelines.ports import Progress
from overread.settings import Settings
from overread.site import SiteFolder
from overread.store.tables import Job, new_id


@dataclass
class Ran:
    """What became of one step.

    Attributes
    ----------
    step, operator : str
        Its name and what it uses.
    state : str
        ``done``, ``refused``, ``failed`` or ``waiting``.
    made : str
        The port type of what it made.
    seconds : float
        From the request to the answer: reading inputs, running, and writing what it made.
    reason : str
        Why it was refused or failed.
    account : dict
        What the operator says of its inputs: used, unused, notes.
    folder : Path, optional
        Where lies what it made.
    log : Path, optional
        What it printed, where it printed anything.
    """

    step: str
    operator: str
    state: str = "waiting"
    made: str = ""
    seconds: float = 0.0
    reason: str = ""
    account: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    log: Path | None = None


class Told(Protocol):
    """Told of each step as it begins, and again when it has ended."""

    def __call__(self, ran: Ran) -> None:
        """Look at a step: it is ``running``, or has ended."""
        ...


Run = Callable[[dict[str, Any]], dict[str, Any]]
"""Runs a request of `overread.engine.child` and returns its answer."""


def in_a_box(box: Box, progress: Progress, settings: Settings) -> tuple[Run, Callable[[], None]]:
    """Run steps where a worker would: in a child process inside the box.

    Parameters
    ----------
    settings : Settings
        Of the site, for programs that run outside of the box.

    Returns
    -------
    Run
        What runs a request.
    callable
        Ends the process.

    Raises
    ------
    UsageError
        The box does not work on this machine.
    """
    if problem := box.problem():
        raise UsageError(f"model code cannot be kept apart here: {problem}; --here does without")
    process = Child(box)

    def run(request: dict[str, Any]) -> dict[str, Any]:
        outside = launch(request, box, settings)
        return process.run(request, request["timeout"], lambda: None, progress, outside)

    return run, process.stop


def here(box: Box, progress: Progress, settings: Settings) -> tuple[Run, Callable[[], None]]:
    """Run steps in this very process, so that a debugger can stop in them."""
    memory = child.Memory()

    def run(request: dict[str, Any]) -> dict[str, Any]:
        outside = launch(request, box, settings)
        seconds = request["timeout"]
        ask = (lambda: outside(seconds, lambda: None)) if outside else None
        return child.step(request, memory, progress, ask)

    return run, lambda: None


def read_folder(paths: Sequence[Path]) -> tuple[list[Path], list[tuple[str, str]]]:
    """Find the DICOM files of one exam.

    Parameters
    ----------
    paths : sequence of Path
        Files, and folders that are looked through.

    Returns
    -------
    list of Path
        The files, in order of their names.
    list of (str, str)
        Files that are no DICOM, and why.

    Raises
    ------
    UsageError
        A path is not there, or no DICOM file is.
    """
    found: list[Path] = []
    skipped: list[tuple[str, str]] = []
    for path in paths:
        if not path.exists():
            raise UsageError(f"there is no file or folder {path}")
        for file in sorted(one for one in path.rglob("*") if one.is_file()) or [path]:
            try:
                dcmread(file, stop_before_pixels=True, specific_tags=["SOPClassUID"])
                found.append(file)
            except (InvalidDicomError, OSError, EOFError, ValueError, AttributeError) as error:
                skipped.append((str(file), f"not read as DICOM: {error}"))
    if not found:
        raise UsageError(f"no DICOM file was found in {', '.join(map(str, paths))}")
    return found, skipped


def check_one_exam(images: Sequence[Path], pipeline: Pipeline) -> None:
    """Make sure that the files are one exam of the pipeline: of one patient, mostly of one study.

    Raises
    ------
    UsageError
        They are of several patients, or of several studies where the pipeline takes one.
    """
    headers = [dcmread(file, stop_before_pixels=True) for file in images]
    patients = {_patient(one) for one in headers}
    studies = {str(one.get("StudyInstanceUID")) for one in headers}
    if len(patients) > 1:
        raise UsageError(f"the files are of {len(patients)} patients; one was expected")
    if len(studies) > 1 and pipeline.complete.by == "study":
        raise UsageError(
            f"the files are of {len(studies)} studies; pipeline {pipeline.name} takes one exam of "
            "one study (complete.by: study)"
        )


def _patient(header: Dataset) -> tuple[str, ...]:
    """Say whose an image is; without PatientID, those of one study that name the same person."""
    keys = ["PatientID", "IssuerOfPatientID"]
    if not header.get("PatientID"):
        keys = ["StudyInstanceUID", "PatientName", "PatientBirthDate"]
    return tuple(str(header.get(key) or "") for key in keys)


def run_pipeline(  # noqa: PLR0917 - as of `run_operator`
    site: SiteFolder,
    pipeline: Pipeline,
    images: Sequence[Path],
    out: Path,
    run: Run,
    told: Told,
) -> list[Ran]:
    """Run a whole pipeline on the files of one exam.

    Parameters
    ----------
    site : SiteFolder
        Has the models and operators.
    pipeline : Pipeline
        Of that site.
    images : sequence of Path
        The DICOM files of one exam.
    out : Path
        A new folder; gets ``STEP/`` with what each step made, and ``STEP.log``.
    run : Run
        Runs one step.
    told : Told
        Told of each step.

    Returns
    -------
    list of Ran
        One a step, in the order of running; those after one that did not end well are waiting.
    """
    folder = JobFolder(out)
    folder.lay_out((file, Origin()) for file in images)
    headers = [dcmread(file, stop_before_pixels=True) for file in images]
    job = _job(site, pipeline)
    rows = [Ran(name, pipeline.steps[name].use) for name in order(pipeline)]
    for ran in rows:
        folder.fresh(ran.step)
        request = step_request(site, job, ran.step, folder)
        _run(ran, request, folder, _asking(run, site, headers), told)
        if ran.state != StepState.DONE:
            break
    return rows


def run_operator(  # noqa: PLR0917 - what a step is made of, in the order it is read
    site: SiteFolder,
    name: str,
    inputs: Mapping[str, object],
    settings: Mapping[str, Any],
    out: Path,
    run: Run,
    told: Told,
) -> Ran:
    """Run one operator.

    Parameters
    ----------
    site : SiteFolder
        Has the operator, and its model if it takes one.
    name : str
        The operator.
    inputs : mapping
        Input port to object; the exam, where a port takes one, is laid out in ``out`` before.
    settings : mapping
        As a pipeline's ``with:`` has them.
    out : Path
        A new folder; gets ``NAME/``, ``NAME.log``, and a folder ``in-PORT`` for each input.
    """
    folder = JobFolder(out)
    for port, value in inputs.items():
        files.save(value, folder.step(f"in-{port}"))
    step = Step(use=name, in_={port: f"in-{port}" for port in inputs}, with_=dict(settings))
    pipeline = Pipeline(
        name="one-operator", version="0.0.0", ae_title="NONE", stage="development",
        steps={name: step}, results=(name,),
    )  # fmt: skip
    ran = Ran(name, name)
    folder.fresh(name)
    exams = [value for value in inputs.values() if isinstance(value, Exam)]
    headers = [image.header for exam in exams for image in exam]
    request = step_request(site, _job(site, pipeline), name, folder)
    _run(ran, request, folder, _asking(run, site, headers), told)
    return ran


def _asking(run: Run, site: SiteFolder, headers: Sequence[Dataset]) -> Run:
    """Ask tables and FHIR servers for what a step names, before it is run."""

    def asking(request: dict[str, Any]) -> dict[str, Any]:
        if values := site_tables.asked(request):
            rows = site_tables.rows(values, headers, site.settings.tables)
            request["context"]["tables"] = rows
        if values := fhir.asked(request):
            images, seconds = fhir.said_by(headers), request["timeout"]
            request["context"]["fhir"] = fhir.ask(values, images, site.settings, seconds)
        return run(request)

    return asking


def _run(ran: Ran, request: dict[str, Any], folder: JobFolder, run: Run, told: Told) -> None:
    ran.state = StepState.RUNNING
    told(ran)
    begun = time.monotonic()
    try:
        answer = run(request)
        ran.state, ran.made, ran.account = StepState.DONE, answer["type"], answer["account"]
        folder.finish(ran.step)
        ran.folder = folder.step(ran.step)
    except Refused as error:
        ran.state, ran.reason = StepState.REFUSED, str(error)
    except StepFailed as error:
        ran.state, ran.reason = StepState.FAILED, str(error)
    ran.seconds = time.monotonic() - begun
    log = Path(request["log"])
    ran.log = log if log.exists() and log.stat().st_size else None
    told(ran)


def _job(site: SiteFolder, pipeline: Pipeline) -> Job:
    """Make a job that no database knows, pinned as one that does."""
    definition = pipeline.model_dump(mode="json", by_alias=True)
    own = operator_folder(site)
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    operators = pin_operators(pipeline, site, own)
    return Job(
        id=new_id(),
        exam_id=EXAM,
        pipeline=pipeline.name,
        pipeline_version=pipeline.version,
        pipeline_digest=digest_with(definition, operators),
        definition=definition,
        models=pin_models(pipeline, site),
        operators=operators,
        overread_version=__version__,
        stage=pipeline.stage,
        state=JobState.RUNNING,
        attempt=1,
        created_at=datetime.now(UTC),
    )
