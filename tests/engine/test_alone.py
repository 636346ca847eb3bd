"""Files that are run without a server are one patient's, as an exam is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmwrite

from overread.engine.alone import check_one_exam
from overread.errors import UsageError
from overread.pipelines.definition import Pipeline
from tests.engine.world import exam_images, pipeline

ONE: dict[str, Any] = {"PatientID": "P1", "PatientName": "A^B"}
NOBODY = {**ONE, "PatientID": ""}


@pytest.mark.parametrize(
    ("first", "second", "by", "refused"),
    [
        (ONE, ONE, "patient", ""),
        (ONE, ONE, "study", "of 2 studies"),
        (ONE, {**ONE, "PatientID": "P2"}, "patient", "of 2 patients"),
        (ONE, {**ONE, "IssuerOfPatientID": "ELSEWHERE"}, "patient", "of 2 patients"),
        (NOBODY, NOBODY, "patient", "of 2 patients"),
        (NOBODY, {**NOBODY, "PatientName": "C^D"}, "patient", "of 2 patients"),
    ],
)
def test_no_two_patients_are_mixed(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], by: str, refused: str
) -> None:
    files: list[Path] = []
    for number, changes in enumerate((first, second)):
        for image in exam_images(f"study {number}", 2, **changes):
            files.append(tmp_path / f"{len(files)}.dcm")
            dcmwrite(files[-1], image, enforce_file_format=True)
    complete = {"by": by, "quiet": "1s", "deadline": "60s"}
    wanted = Pipeline.model_validate(pipeline(complete=complete))
    check_one_exam(files[:2], wanted)
    if refused:
        with pytest.raises(UsageError, match=refused):
            check_one_exam(files, wanted)
    else:
        check_one_exam(files, wanted)
