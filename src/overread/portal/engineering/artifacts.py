"""What the steps of a job made, as long as the job's work folder is kept on this machine.

A file is opened only if the job's record names it, and sent only if its bytes are those that were
recorded: model code could write to the folder, and is not trusted.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi.responses import JSONResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.engine.folders import JobFolder, JobFolders
from overread.errors import StepFailed, UsageError
from overread.portal.state import Portal
from overread.store import visible
from overread.store.tables import Job, StepRun
from overread.store.visible import Sight

LARGEST = 2_000_000_000
"""Bytes of a file that is sent."""
SHOWN = 200_000
"""Bytes of a JSON file that a page shows."""

Files = Mapping[str, Mapping[str, Any]]


def folder_of(portal: Portal, job: Job) -> JobFolder:
    """Return the work folder of a job, whether a child runs it just now or not."""
    data = portal.site.settings.data
    folder = JobFolders(data / "work", data / "boxes").of(job.id)
    if not folder.root.is_dir():
        for lent in (data / "boxes").glob(f"*/{job.id}"):
            return JobFolder(lent)
    return folder


def recorded(session: Session, job: Job, step: str, seen: Sight) -> Files:
    """Return the files that the latest run of a step that has made any is recorded to have made.

    Parameters
    ----------
    seen : Sight
        Of the one who asks: what an edit's job has made is the edit once more.

    Raises
    ------
    UsageError
        The job has no such step, or it has made nothing, or nothing that is seen.
    """
    if session.scalar(select(Job.id).where(Job.id == job.id, visible.jobs(seen))) is None:
        raise UsageError(
            f"job {job.id[:8]} measures a reader's edit; what it has made is for that reader, and "
            "for who may see the readings of others"
        )
    rows = session.scalars(
        select(StepRun)
        .where(StepRun.job_id == job.id, StepRun.name == step)
        .order_by(StepRun.attempt.desc())
    )
    for row in rows:
        files = files_of(row)
        if files:
            return files
    raise UsageError(f"job {job.id[:8]} has no step {step!r} that has made files")


def files_of(run: StepRun) -> Files:
    """Return what is recorded of the files that a step has made: name to digest and size."""
    files = run.outputs.get("files", {})
    return {name: of for name, of in files.items() if isinstance(of, dict) and "sha256" in of}


def read(portal: Portal, job: Job, step: str, name: str, files: Files) -> bytes:
    """Read one file of a step.

    Raises
    ------
    FileNotFoundError
        The job's record names no such file, or it is not kept here any more.
    StepFailed
        What lies there is not what was recorded, or is larger than is sent.
    """
    said = files.get(name)
    if said is None:
        raise FileNotFoundError(f"step {step} has made no file {name!r}")
    if int(said.get("size", 0)) > LARGEST:
        raise StepFailed(f"{name} is larger than 2 GB; open it on the worker")
    return folder_of(portal, job).read(step, name, str(said["sha256"]))


def send(portal: Portal, job: Job, step: str, name: str, files: Files) -> Response:
    """Send one file of a step as a download. Raises what `read` raises."""
    content = read(portal, job, step, name, files)
    file = f"{job.id[:8]}-{step}-{Path(name).name}"
    kind = "application/dicom" if name.endswith(".dcm") else mimetypes.guess_type(name)[0]
    return Response(
        content,
        media_type=kind if kind in _KINDS else "application/octet-stream",
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(file)}"},
    )


_KINDS = ("application/dicom", "application/json", "application/gzip")


def gone(error: Exception) -> Response:
    """Say why a file cannot be sent."""
    return JSONResponse({"detail": str(error)}, 404)


def pretty(content: bytes) -> str:
    """Write JSON so that it can be read; what is none, or long, as it stands, cut."""
    try:
        text = json.dumps(json.loads(content), indent=2, ensure_ascii=False)
    except ValueError:
        text = content.decode(errors="replace")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}\n… {len(text) - SHOWN} more"
