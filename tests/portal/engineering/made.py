"""A job whose steps have left their files in its work folder, as a worker does."""

from __future__ import annotations

import shutil

import numpy as np
from sqlalchemy import select

from overread.dicom.volume import Mask, Volume
from overread.engine.folders import JobFolder, digests
from overread.operators.files import save
from overread.store.tables import StepRun
from overread.validation.results import Measurement, Measurements
from tests.portal.filled import SPACING, TUMOUR, Filled, head, lesion

AFFINE = np.array(
    [[0, 0, SPACING[2], -96], [0, SPACING[1], 0, -96], [SPACING[0], 0, 0, 0], [0, 0, 0, 1.0]]
)


def make_files(filled: Filled, name: str = "six") -> JobFolder:
    """Write what the steps of an exam's job made, and record it."""
    job_id = filled.jobs[name]
    folder = JobFolder(filled.site.settings.data / "work" / job_id)
    if folder.root.exists():
        shutil.rmtree(folder.root)
    marked = lesion(13.4)
    image = head()
    image[marked] = 420
    said = Measurement(TUMOUR.label, "volume", 12.5, "mL", "voxels counted")
    made = {
        "volume": Volume(image, AFFINE, "1.2.3"),
        "mask": Mask(marked.astype(np.uint8), AFFINE, (TUMOUR,), "1.2.3"),
        "volumes": Measurements((said,)),
    }
    with filled.database.write() as session:
        for step, value in made.items():
            save(value, folder.step(step))
            run = session.scalars(
                select(StepRun).where(StepRun.job_id == job_id, StepRun.name == step)
            ).one()
            files = digests(folder.step(step))
            run.outputs = {"type": type(value).__name__, "files": files}
    return folder
