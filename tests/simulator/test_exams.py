"""The phantom patients as files, from the command line."""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmread

from overread.simulator.exams import main
from overread.simulator.phantoms import SHAPE


def test_a_brain_is_written_as_one_series_with_contrast(tmp_path: Path) -> None:
    main(["brain", str(tmp_path), "--seed", "3"])
    files = sorted(tmp_path.rglob("*.dcm"))
    assert len(files) == SHAPE[0]
    first = dcmread(files[0], stop_before_pixels=True)
    assert (first.Modality, first.BodyPartExamined) == ("MR", "HEAD")
    assert first.ContrastBolusAgent
    assert len({dcmread(one, stop_before_pixels=True).SeriesInstanceUID for one in files}) == 1
