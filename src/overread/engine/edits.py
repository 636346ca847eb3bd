"""A reader's edit of a segmentation: kept as a version, and measured as the pipeline measures.

It becomes a job of origin ``edit``: the steps of the job that made the edited result, pinned as
that one was, but for those that found the mask; the edited object stands in their place.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from overread import __version__, registry
from overread.dicom.codes import Segment
from overread.engine.folders import JobFolder
from overread.engine.keeping import plain, supersede
from overread.engine.opening import operator_folder
from overread.engine.sources import digest_with, pin_operators
from overread.errors import Refused
from overread.operators import files
from overread.pipelines.definition import Pipeline
from overread.pipelines.editing import EDITED, Remeasuring, remeasuring
from overread.pipelines.job import ON_DEMAND, JobState
from overread.pipelines.ports import Signature, signature
from overread.site import SiteFolder
from overread.store import edits
from overread.store.archive import Archive
from overread.store.edits import Base
from overread.store.instances import keep_ours
from overread.store.studies import OF_STUDY
from overread.store.tables import Exam, Instance, Job, Result, new_id
from overread.validation.results import Measurements


@dataclass(frozen=True)
class Edit:
    """An edit that was kept.

    Attributes
    ----------
    result : Result
        The new version; where the same object was stored before, that one.
    is_new : bool
        Whether it is kept only now.
    left_out : mapping of str to str
        Measurements of the model's result that are not made of the edit, and why.
    """

    result: Result
    is_new: bool
    left_out: Mapping[str, str]


def keep_edit(
    session: Session,
    archive: Archive,
    site: SiteFolder,
    file: bytes,
    *,
    base: Base,
    author: str,
    at: datetime,
    project: str = "",
) -> Edit:
    """Keep an edit that was checked (`overread.store.edits.check`), and order its measuring.

    All of it happens in the caller's transaction: the object, its version, its job. The same object
    a second time is the same version.

    Parameters
    ----------
    file : bytes
        A PS3.10 file.
    base : Base
        What it is an edit of.
    author : str
        The user's id.
    project : str
        As whose case the exam was edited; empty where it is in none.

    Raises
    ------
    Refused
        Another object is kept under its SOP Instance UID.
    """
    try:
        instance = keep_ours(session, archive, file, at)
    except ValueError as error:
        raise Refused(
            "another object is kept under the segmentation's SOP Instance UID; save it again from "
            "the viewer, which gives it a new one"
        ) from error
    before = edits.kept_before(session, instance.id)
    if before is not None:
        if before.author != author:
            raise Refused("this object is kept already, and is not an edit of yours")
        if before.project != project:
            raise Refused(
                "this object is kept already, for another project; save it again from the viewer"
            )
        return Edit(before, False, {})
    _as_its_images(session, instance, base)
    made_by = session.get_one(Job, base.result.job_id)
    exam = session.get_one(Exam, base.result.exam_id)
    plan = _plan(made_by, base, site)
    result = _version(base, instance, author, at)
    result.project = project
    drawn_before = edits.latest(session, base.result, author, project)
    if drawn_before is not None:
        result.version = drawn_before.version + 1
    job = _job(made_by, plan, site, result, at)
    session.add(job)
    session.flush()
    supersede(session, exam, result)
    session.add(result)
    session.flush()
    return Edit(result, True, plan.left_out)


def _as_its_images(session: Session, instance: Instance, base: Base) -> None:
    """Let the index say of whom an edit is what it says of its images, whatever a viewer wrote.

    Else whoever stores one could have a study found under another name, date or number.
    """
    for image in edits.sources_of(session, base.result)[:1]:
        for name in OF_STUDY:
            setattr(instance, name, getattr(image, name))


def _plan(made_by: Job, base: Base, site: SiteFolder) -> Remeasuring:
    definition = Pipeline.model_validate(made_by.definition)
    uses = {step.use for step in definition.steps.values()}
    return remeasuring(
        definition,
        base.result.name,
        {name: known for name in uses if (known := _signature(name, site))},
        Measurements,
        [plain(asdict(one)) for one in _numbered(base.segments, made_by)],
    )


def _signature(name: str, site: SiteFolder) -> Signature | None:
    if name in site.operators:
        return signature(name, site.operators[name])
    installed = any(one.family == "operators" and one.name == name for one in registry.plugins())
    return signature(name, registry.load("operators", name)) if installed else None


def _numbered(segments: tuple[Segment, ...], made_by: Job) -> list[Segment]:
    """Give segments the numbers that the pipeline's masks have, which an object counts from 1."""
    values = {
        label["name"]: int(label["value"])
        for model in made_by.models
        for label in model.get("card", {}).get("output", {}).get("labels", ())
    }
    if not all(one.label in values for one in segments):
        return list(segments)
    return [replace(one, number=values[one.label]) for one in segments]


def _version(base: Base, instance: Instance, author: str, at: datetime) -> Result:
    model = base.result
    return Result(
        id=new_id(),
        job_id=new_id(),
        exam_id=model.exam_id,
        name=model.name,
        kind=model.kind,
        data={
            "sop_instance_uid": instance.sop_instance_uid,
            "series_uid": instance.series_uid,
            "segments": model.data.get("segments", []),
        },
        instance_id=instance.id,
        digest=instance.digest,
        model=model.model,
        model_version=model.model_version,
        model_digest=model.model_digest,
        pipeline=model.pipeline,
        pipeline_version=model.pipeline_version,
        sources=model.sources,
        version=1,
        supersedes=None,
        superseded_by=None,
        author=author,
        edits=model.id,
        created_at=at,
    )


def _job(made_by: Job, plan: Remeasuring, site: SiteFolder, result: Result, at: datetime) -> Job:
    """Return the job that measures a version; one that is done where nothing can be measured."""
    if plan.definition is None:
        definition, operators = made_by.definition, made_by.operators
    else:
        definition = plan.definition.model_dump(mode="json", by_alias=True)
        pinned = pin_operators(plan.definition, site, operator_folder(site))
        operators = {name: made_by.operators.get(name, pinned[name]) for name in pinned}
    is_done = plan.definition is None
    why = "; ".join(f"{name} is not measured again: {one}" for name, one in plan.left_out.items())
    return Job(
        id=result.job_id,
        exam_id=made_by.exam_id,
        pipeline=made_by.pipeline,
        pipeline_version=made_by.pipeline_version,
        pipeline_digest=digest_with(definition, operators),
        definition=definition,
        models=[],
        operators=operators,
        overread_version=__version__,
        stage=made_by.stage,
        priority=ON_DEMAND,
        origin="edit",
        edits=result.id,
        state=JobState.DONE if is_done else JobState.QUEUED,
        reason=why if is_done else "",
        attempt=1,
        from_step="",
        worker="",
        created_at=at,
        started_at=at if is_done else None,
        ended_at=at if is_done else None,
    )


def lay_out_edited(session: Session, archive: Archive, folder: JobFolder, job: Job) -> None:
    """Copy the edited object beside the exam's files, where its measuring job reads it."""
    if job.edits is None or folder.step(EDITED).exists():
        return
    instance = session.get_one(Instance, session.get_one(Result, job.edits).instance_id)
    unfinished = folder.fresh(EDITED)
    shutil.copyfile(archive.path(instance.key), unfinished / files.OBJECT)
    said: dict[str, Any] = {"kind": edits.SEGMENTATION, "segments": [], "sources": []}
    port = json.dumps({"type": "DerivedObject", **said})
    Path(unfinished / files.PORT).write_text(port, encoding="utf-8")
    folder.finish(EDITED)
