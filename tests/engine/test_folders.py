"""What model code leaves in a job's folder is not trusted, and where that folder lies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from overread.engine.folders import JobFolder, JobFolders, digests
from overread.engine.keeping import _made
from overread.engine.sandbox import Box, Children
from overread.errors import StepFailed
from overread.operators import files
from overread.validation.results import Measurements
from tests.dicom.series import keep
from tests.engine.world import exam_images


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("patient")
    return file


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    made = JobFolder(tmp_path / "work" / "job")
    made.step("seg").mkdir(parents=True)
    return made


def plant(kind: str, place: Path, secret: Path) -> None:
    """Put something there that is no plain file."""
    if kind == "link":
        place.symlink_to(secret)
    elif kind == "folder link":
        place.symlink_to(secret.parent)
    else:
        os.mkfifo(place)


@pytest.mark.parametrize("kind", ["link", "folder link", "pipe"])
def test_what_is_no_plain_file_is_no_output(folder: JobFolder, secret: Path, kind: str) -> None:
    step = folder.step("seg")
    (step / "below").mkdir()
    (step / "below" / "x").write_text("x")
    good = digests(step)
    assert good["below/x"]["size"] == 1 and folder.whole("seg", good)
    plant(kind, step / "below" / "object.dcm", secret)
    with pytest.raises(StepFailed, match=r"object\.dcm is no plain file"):
        digests(step)
    assert not folder.whole("seg", good)


def test_a_link_in_the_place_of_a_folder_is_not_followed(folder: JobFolder, secret: Path) -> None:
    folder.step("other").symlink_to(secret.parent)
    with pytest.raises(StepFailed, match="other is no folder"):
        digests(folder.step("other"))
    folder.root.with_name("linked").symlink_to(folder.root)
    with pytest.raises(StepFailed, match="is no folder"):
        digests(JobFolder(folder.root.with_name("linked")).step("seg"))
    with pytest.raises(StepFailed, match="is no folder"):
        digests(folder.step("absent"))


@pytest.mark.parametrize("kind", ["link", "folder link", "pipe"])
def test_no_log_is_read_but_a_plain_file(folder: JobFolder, secret: Path, kind: str) -> None:
    assert folder.log("seg") == ""
    plant(kind, folder.log_file("seg"), secret)
    assert folder.log("seg") == "seg.log is no plain file"


def test_of_a_long_log_the_end_is_read(folder: JobFolder) -> None:
    with folder.log_file("seg").open("wb") as stream:
        stream.truncate(1 << 40)  # takes no room on the disk
        stream.seek(0, os.SEEK_END)
        stream.write(b"the end")
    log = folder.log("seg")
    assert log.startswith("…") and log.endswith("the end") and len(log) <= 256_000


@pytest.mark.parametrize(
    ("change", "said"),
    [("nothing", "made a Series"), ("edit", "not those that it made"), ("link", "not those")],
)
def test_a_result_is_what_its_step_made(
    folder: JobFolder, secret: Path, change: str, said: str
) -> None:
    step = folder.step("seg")
    made: Any = keep(exam_images(), folder.exam) if change == "nothing" else Measurements(())
    files.save(made, step)
    recorded = digests(step)
    if change == "edit":
        (step / "measurements.json").write_text("{}")
    elif change == "link":
        (step / "measurements.json").unlink()
        (step / "measurements.json").symlink_to(secret)
    with pytest.raises(StepFailed, match=said):
        _made(folder, "seg", recorded)


class Place:
    """Folders of jobs, and two boxes."""

    def __init__(self, root: Path) -> None:
        self.kept, boxes = root / "work", root / "boxes"
        self.kept.mkdir()
        self.one, self.two = Children(Box("none", 1, 1, boxes), "w", 2).boxes
        self.folders = JobFolders(self.kept, boxes)

    def make(self, job: str, below: Path | None = None) -> None:
        """Make the folder of a job."""
        (place := (below or self.kept) / job).mkdir()
        (place / "of").write_text(job)

    def seen(self) -> dict[str, list[str]]:
        """What lies where."""
        places = {"kept": self.kept, "one": self.one, "two": self.two}
        return {
            name: found
            for name, place in places.items()
            if (found := sorted(one.name for one in place.iterdir()))
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_box_holds_the_job_that_runs_and_no_other(place: Place) -> None:
    for job in ("a", "b", "c"):
        place.make(job)
    with place.folders.lent("a", place.one), place.folders.lent("b", place.two):
        assert place.seen() == {"kept": ["c"], "one": ["a"], "two": ["b"]}
        assert place.folders.of("a").root == place.one / "a"
        assert place.folders.of("c").root == place.kept / "c"
    assert place.seen() == {"kept": ["a", "b", "c"]}
    assert place.folders.of("a").root == place.kept / "a"


def test_it_comes_back_however_the_job_ends(place: Place) -> None:
    place.make("a")
    with pytest.raises(KeyboardInterrupt), place.folders.lent("a", place.one):
        raise KeyboardInterrupt
    assert place.seen() == {"kept": ["a"]}


def test_what_a_killed_worker_left_in_a_box_is_found(place: Place) -> None:
    """By another worker, and by itself after a restart."""
    place.make("a", place.one)
    assert place.folders.fetch("a").root == place.kept / "a"
    place.make("b", place.one)
    with place.folders.lent("b", place.two):
        assert place.seen() == {"kept": ["a"], "two": ["b"]}
    place.make("c", place.one)
    with place.folders.lent("a", place.one):
        assert place.seen() == {"kept": ["b", "c"], "one": ["a"]}


def test_one_whose_job_was_taken_over_takes_nothing_back(place: Place) -> None:
    place.make("a")
    other = JobFolders(place.kept, place.folders.boxes)
    with place.folders.lent("a", place.one):
        with other.lent("a", place.two):
            assert place.seen() == {"two": ["a"]}
            place.make("a", place.one)  # as it begins another step, not knowing yet
        (place.kept / "a" / "new").write_text("")
    assert place.seen() == {"kept": ["a"]}
    assert (place.kept / "a" / "new").exists()


def test_what_a_child_leaves_beside_the_job_stays_in_no_box(place: Place, secret: Path) -> None:
    with place.folders.lent("new", place.one):
        place.make("new", place.one)
        for kind in ("link", "folder link", "pipe"):
            plant(kind, place.one / kind, secret)
    assert place.seen() == {"kept": ["new"]}
    assert secret.read_text() == "patient"
