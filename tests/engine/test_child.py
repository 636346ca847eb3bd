"""A child's steps, run in this process."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from overread.dicom.image import Images
from overread.dicom.study import Exam, Origin
from overread.engine.child import Memory, step
from overread.engine.folders import EXAM
from overread.operators import files
from tests.dicom.radiograph import radiograph
from tests.operators.test_write import CONTEXT


def request(folder: Path, name: str, operator: str, **more: Any) -> dict[str, Any]:
    context = asdict(CONTEXT) | {"at": CONTEXT.at.isoformat(), "models": []}
    return {
        "job": "1",
        "step": name,
        "operator": operator,
        "source": None,
        "inputs": {},
        "folders": {EXAM: str(folder / "exam"), "views": str(folder / "views")},
        "settings": {},
        "models": {},
        "context": context,
        "exchange": str(folder / "exchange"),
        "out": str(folder / name),
        **more,
    }


def test_images_that_a_step_chose_are_passed_on_by_name(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    views = [
        radiograph(tmp_path / "exam", pixels + index, f"1.2.3.{index}", ViewPosition=view)
        for index, view in enumerate(("AP", "LAT", "AP"))
    ]
    listed = [
        {"file": one.file.name, "origin": asdict(Origin())} for one in views if one.file is not None
    ]
    (tmp_path / "exam" / "exam.json").write_text(json.dumps(listed))
    where = {"where": {"ViewPosition": "AP"}}
    answer = step(request(tmp_path, "views", "select_instances", settings=where), Memory())
    assert answer["type"] == "Exam"
    assert answer["instances"] == ["1.2.3.0", "1.2.3.2"]
    kept = files.load(tmp_path / "views")
    assert isinstance(kept, Exam)
    assert [one.uid for one in kept] == answer["instances"]
    # in another process, the images are found again by what the step before left
    answer = step(
        request(tmp_path, "images", "read_image", inputs={"instances": "views"}), Memory()
    )
    assert (answer["type"], answer["instances"]) == ("Images", [])
    read = files.load(tmp_path / "images")
    assert isinstance(read, Images)
    assert [float(image.array[0, 0]) for image in read] == [0, 2]
