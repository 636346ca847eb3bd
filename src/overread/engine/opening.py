"""A job is opened: on one exam revision, pinned to what the site has at this moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from overread import __version__
from overread.engine.sources import digest_with, pin_models, pin_operators
from overread.pipelines.definition import Pipeline
from overread.pipelines.job import ON_DEMAND, JobState
from overread.site import SiteFolder
from overread.store.tables import Exam, Job, new_id


@dataclass(frozen=True)
class Ticket:
    """What a worker needs to know of a job to put it into the queue."""

    job: str
    attempt: int
    priority: int


def open_job(
    session: Session, site: SiteFolder, exam: Exam, pipeline: Pipeline, now: datetime
) -> Ticket | None:
    """Open a job, unless the exam has one of the same definition, models and operators.

    Parameters
    ----------
    session : Session
        A writing session.
    site : SiteFolder
        Says which models and operators the pipeline's names mean.
    exam : Exam
        A closed revision.
    now : datetime
        Aware.

    Returns
    -------
    Ticket or None
        None where such a job is there already, whatever became of it.
    """
    definition = pipeline.model_dump(mode="json", by_alias=True)
    models = pin_models(pipeline, site)
    operators = pin_operators(pipeline, site, operator_folder(site))
    digest = digest_with(definition, operators)
    for known in session.scalars(select(Job).where(Job.exam_id == exam.id)):
        if (known.pipeline_digest, known.models, known.operators) == (digest, models, operators):
            return None
    job = Job(
        id=new_id(),
        exam_id=exam.id,
        pipeline=pipeline.name,
        pipeline_version=pipeline.version,
        pipeline_digest=digest,
        definition=definition,
        models=models,
        operators=operators,
        overread_version=__version__,
        stage=pipeline.stage,
        priority=exam.priority,
        origin="on demand" if exam.priority == ON_DEMAND else "routed",
        state=JobState.QUEUED,
        reason="",
        attempt=1,
        from_step="",
        worker="",
        created_at=now,
        started_at=None,
        ended_at=None,
    )
    session.add(job)
    return Ticket(job.id, job.attempt, job.priority)


def operator_folder(site: SiteFolder) -> Path:
    """Return the folder that copies of the site's own operators are kept in."""
    return site.settings.data / "operators"
