"""A job's results are kept: rows, objects in the archive, what they supersede, where they go.

What a step made was written by model code, and is read here in the worker's own process: its size
is looked at before, and what it says of whose it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.dicom.encoded import UNREADABLE, text
from overread.dicom.provenance import DerivedObject
from overread.engine.folders import JobFolder
from overread.errors import StepFailed
from overread.operators import files
from overread.pipelines.definition import Step
from overread.store import deliveries, instances
from overread.store.archive import Archive
from overread.store.exams import members
from overread.store.tables import Exam, Instance, Job, Result, StepRun, new_id
from overread.validation.results import Classification, Detections, Measurements

_RESULTS = {kind.__name__ for kind in files.RESULTS}

_TEXT_BYTES = 64 << 20
_OBJECT_BYTES = 2 << 30
"""Of one object; it is held in memory as it is kept."""

Made = Measurements | Detections | Classification | DerivedObject


def upstream(steps: dict[str, Step], name: str) -> list[str]:
    """List the steps that a step's inputs come from, directly or not, the nearest first."""
    found: list[str] = []
    front = [name]
    while front:
        front = [
            source
            for step in front
            for source in steps[step].in_.values()
            if source in steps and source not in found
        ]
        front = list(dict.fromkeys(front))
        found += front
    return found


def models_of(steps: dict[str, Step], names: Sequence[str], pinned: Sequence[Any]) -> list[Any]:
    """List the pinned models that some steps run, in the order of the steps."""
    by_reference = {f"{model['name']}@{model['version']}": model for model in pinned}
    found = [
        by_reference[value]
        for name in names
        for value in steps[name].with_.values()
        if isinstance(value, str) and value in by_reference
    ]
    return [model for at, model in enumerate(found) if model not in found[:at]]


def keep_results(
    session: Session,
    archive: Archive,
    folder: JobFolder,
    *,
    job: Job,
    runs: dict[str, StepRun],
    now: datetime,
) -> None:
    """Keep every result of a job, in the transaction that makes it done.

    Parameters
    ----------
    session : Session
        A writing session.
    archive : Archive
        Takes the objects.
    folder : JobFolder
        Holds what the steps made.
    job : Job
        The job.
    runs : dict
        Each step's run in this attempt.
    now : datetime
        Aware; when the results came to be known.
    """
    steps = {name: Step.model_validate(step) for name, step in job.definition["steps"].items()}
    exam = session.get_one(Exam, job.exam_id)
    images = [instance for instance, _ in members(session, exam.id)]
    every = [instance.sop_instance_uid for instance in images]
    for name in job.definition["results"]:
        made = _made(folder, name, runs[name].outputs["files"])
        _check_whose(name, made, images)
        before = upstream(steps, name)
        kind, data, digest, instance = _content(session, archive, made, job.created_at)
        model = next(iter(models_of(steps, [name, *before], job.models)), None)
        sources = [
            uid for step in [name, *before] for uid in runs[step].outputs.get("instances", [])
        ]
        result = Result(
            id=new_id(),
            job_id=job.id,
            exam_id=exam.id,
            name=name,
            kind=kind,
            data=data,
            instance_id=instance.id if instance else None,
            digest=digest,
            model=model["name"] if model else "",
            model_version=model["version"] if model else "",
            model_digest=model["digest"] if model else "",
            pipeline=job.pipeline,
            pipeline_version=job.pipeline_version,
            sources=list(dict.fromkeys(sources)) or every,
            version=1,
            supersedes=None,
            superseded_by=None,
            author="",
            project="",
            created_at=now,
        )
        _sign(session, job, result)
        supersede(session, exam, result)
        session.add(result)
        if instance is not None:
            _send(session, job, instance, now)


def _made(folder: JobFolder, name: str, recorded: dict[str, Any]) -> Made:
    """Load what a step made as a result: it and nothing else, whatever has run since."""
    if not folder.whole(name, recorded):
        raise StepFailed(f"the files of step {name} are not those that it made; retry the job")
    for file, facts in recorded.items():
        if facts["size"] > (_OBJECT_BYTES if file == files.OBJECT else _TEXT_BYTES):
            raise StepFailed(f"step {name} made {facts['size']} bytes of {file}, which is too much")
    # Looked at before it is loaded: a series names files anywhere.
    kind = json.loads((folder.step(name) / files.PORT).read_text(encoding="utf-8"))["type"]
    made = _load(folder.step(name), name) if kind in _RESULTS else None
    if not isinstance(made, Made):
        raise StepFailed(
            f"step {name} made a {kind}, which cannot be a result; expected one of "
            f"{', '.join(sorted(_RESULTS))}"
        )
    return made


def _load(place: Path, name: str) -> object:
    try:
        if (place / files.OBJECT).exists():
            syntax = read_file_meta_info(place / files.OBJECT).get("TransferSyntaxUID")
            if syntax == DeflatedExplicitVRLittleEndian:  # a thousand times as large in memory
                raise StepFailed(
                    f"step {name} made a deflated object; another transfer syntax was expected"
                )
        return files.load(place)
    except UNREADABLE as error:
        raise StepFailed(
            f"what step {name} made cannot be read: {type(error).__name__}: {error}"
        ) from error


def _check_whose(name: str, made: Made, images: Sequence[Instance]) -> None:
    """Refuse what is said of another patient, study or image than the exam's."""
    if isinstance(made, DerivedObject):
        of = text(made.dataset, "PatientID"), text(made.dataset, "StudyInstanceUID")
        if of not in {(image.patient_id, image.study_uid) for image in images}:
            raise StepFailed(
                f"step {name} made an object of another patient or study than the exam (study "
                f"{of[1] or 'unnamed'}); it is not kept"
            )
    elif isinstance(made, Detections | Classification):
        said = {one.image for one in made} | set(made.images)
        foreign = sorted(said - {image.sop_instance_uid for image in images} - {""})
        if foreign:
            raise StepFailed(
                f"step {name} says something of image {foreign[0]}, which is none of the exam's"
            )


def _content(
    session: Session, archive: Archive, made: Made, at: datetime
) -> tuple[str, dict[str, Any], str, Instance | None]:
    """Return kind, data, digest and object of a result."""
    if not isinstance(made, DerivedObject):
        data = made.to_json()
        try:
            written = json.dumps(
                data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
            )
        except ValueError as error:  # databases and browsers know none of them
            raise StepFailed(
                f"a {type(made).__name__} holds infinity or no number: {error}"
            ) from error
        digest = hashlib.sha256(written.encode()).hexdigest()
        return type(made).__name__.lower(), data, digest, None
    instance = instances.keep_ours(session, archive, made.encode(), at)
    data = {
        "sop_instance_uid": made.uid,
        "series_uid": instance.series_uid,
        "segments": [plain(asdict(segment)) for segment in made.segments],
    }
    return made.kind, data, instance.digest, instance


def plain(value: Any) -> Any:
    """Return a value as JSON would give it back."""
    return json.loads(json.dumps(value, default=str))


def _sign(session: Session, job: Job, result: Result) -> None:
    """Say whose edit a result measures, and what its own values stand beside."""
    if job.edits is None:
        return
    edited = session.get_one(Result, job.edits)
    model = session.get_one(Result, edited.edits)
    result.author, result.version = edited.author, edited.version
    result.project = edited.project
    result.model, result.model_version = edited.model, edited.model_version
    result.model_digest = edited.model_digest
    result.edits = session.scalar(
        select(Result.id).where(Result.job_id == model.job_id, Result.name == result.name)
    )


def supersede(session: Session, exam: Exam, result: Result) -> None:
    """Let a result take the place of its author's current one of that name, whatever the revision.

    What a model made is superseded by what a model makes, an edit by an edit of the same reader in
    the same project.
    """
    current = session.scalars(
        select(Result)
        .join(Exam, Exam.id == Result.exam_id)
        .where(
            Exam.root_id == exam.root_id,
            Result.name == result.name,
            Result.author == result.author,
            Result.project == result.project,
            Result.superseded_by.is_(None),
            Result.job_id != result.job_id,
        )
        .order_by(Result.version.desc())
    ).all()
    if not current:
        return
    result.supersedes = current[0].id
    if not result.author:
        result.version = current[0].version + 1
    for old in current:
        if old.version > result.version:  # an edit that was drawn later, and measured sooner
            result.superseded_by, result.supersedes = old.id, None
        else:
            old.superseded_by = result.id


def _send(session: Session, job: Job, instance: Instance, now: datetime) -> None:
    """Ask for the deliveries that the job's stage permits, and no others."""
    for destination in job.definition["send"].get(job.stage, []):
        deliveries.order(
            session,
            instance.id,
            destination,
            cause=f"job {job.id}",
            why={"stage": job.stage},
            at=now,
        )
