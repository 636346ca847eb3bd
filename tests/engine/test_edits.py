"""A reader's edit is kept as a version and measured by a worker, which is killed while it does."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from pydicom import Dataset
from sqlalchemy import select

from overread.dicom.encoded import parse_file
from overread.engine.edits import Edit, keep_edit
from overread.errors import Refused
from overread.store import edits, jobs
from overread.store.tables import Exam, Instance, Job, Result
from tests.dicom.series import ball
from tests.drawn import drawn
from tests.engine.world import SLOW, World, exam_images, pipeline, wait

MEASURING = {
    "t1": {"use": "select_series", "with": {"where": {"Modality": "MR"}}},
    "volume": {"use": "read_volume", "in": {"series": "t1"}},
    "mask": {"use": "threshold", "in": {"volume": "volume"}, "with": {"above": 500}},
    "same": {"use": "slow_mask", "in": {"volume": "mask"}, "with": {"seconds": 1.0}},
    "volumes": {"use": "measure_volumes", "in": {"mask": "same"}},
    "seg": {"use": "write_seg", "in": {"mask": "mask", "source": "t1"}},
}
SLOW_MASK = (
    SLOW.replace("import Volume", "import Mask")
    .replace("Volume", "Mask")
    .replace("slow(", "slow_mask(")
)


def now() -> datetime:
    return datetime.now(UTC)


def model_results(world: World) -> dict[str, Result]:
    with world.database.read() as session:
        rows = session.scalars(select(Result).where(Result.author == "")).all()
        return {row.name: row for row in rows}


def save(world: World, images: list[Dataset], mask: np.ndarray, name: str, author: str) -> Edit:
    """Save an edit, as the portal does."""
    file = drawn(images, mask, name=name)
    with world.database.write() as session:
        roots = session.scalars(select(Exam.root_id)).all()
        header = parse_file(file).header
        base = edits.find_base(session, roots, header)
        edits.check(session, world.archive, header, base)
        return keep_edit(
            session, world.archive, world.site, file, base=base, author=author, at=now()
        )


def test_an_edit_is_measured_by_the_pipelines_own_steps_through_a_kill(world: World) -> None:
    world.pipelines = [pipeline(MEASURING)]
    world.operators = {"slow_mask": SLOW_MASK}
    world.build()
    world.start()
    images = exam_images()
    world.arrive(images)
    job = world.wait_for_job("done", "failed", "refused")
    assert job.state == "done", job.reason
    before = model_results(world)
    per_voxel = before["volumes"].data["measurements"][0]["value"]

    smaller = np.zeros((6, 24, 20), bool)
    smaller[2:4, 10:14, 8:12] = True
    edit = save(world, images, smaller, "first", "rosa")
    assert edit.is_new and edit.result.version == 1 and edit.result.edits == before["seg"].id
    again = save(world, images, smaller, "first", "rosa")
    assert not again.is_new and again.result.id == edit.result.id

    measuring = world.wait_for_step("same")
    assert measuring.origin == "edit" and measuring.edits == edit.result.id
    world.kill()
    world.start()
    done = world.wait_for_job("done", "failed", "refused")
    assert done.id == measuring.id and done.state == "done", done.reason
    assert set(world.steps(done)) == {"t1", "mask", "same", "volumes"}
    with world.database.read() as session:
        (volumes,) = [one for one in jobs.results(session, done.id) if one.name == "volumes"]
        assert (volumes.author, volumes.version) == ("rosa", 1)
        assert volumes.edits == before["volumes"].id
        (value,) = volumes.data["measurements"]
        assert value["region"] == before["volumes"].data["measurements"][0]["region"]
        assert value["value"] == pytest.approx(smaller.sum() * per_voxel / _voxels(), rel=1e-3)
    # The model's own stand as they were, and nothing has been sent anywhere.
    after = model_results(world)
    assert {name: (one.id, one.superseded_by, one.data) for name, one in after.items()} == {
        name: (one.id, one.superseded_by, one.data) for name, one in before.items()
    }

    second = save(world, images, np.roll(smaller, 1, axis=2) | smaller, "second", "rosa")
    other = save(world, images, smaller, "third", "otto")
    assert (second.result.version, second.result.supersedes) == (2, edit.result.id)
    assert (other.result.version, other.result.supersedes) == (1, None)

    def all_done() -> bool:
        return all(one.state == "done" for one in world.all_jobs())

    wait(all_done)
    with world.database.read() as session:
        current = session.scalars(
            select(Result).where(Result.name == "volumes", Result.superseded_by.is_(None))
        ).all()
        assert {(one.author, one.version) for one in current} == {("", 1), ("rosa", 2), ("otto", 1)}


def _voxels() -> int:
    """How many voxels the model has marked."""
    return int(ball((6, 24, 20)).sum())


def test_the_object_of_another_is_nobodys_edit(world: World) -> None:
    world.build()
    world.start()
    images = exam_images()
    world.arrive(images)
    assert world.wait_for_job("done", "failed", "refused").state == "done"
    mask = np.zeros((6, 24, 20), bool)
    mask[2, 3, 4] = True
    save(world, images, mask, "mine", "rosa")
    with pytest.raises(Refused, match="not an edit of yours"):
        save(world, images, mask, "mine", "otto")
    with pytest.raises(Refused, match="another object is kept"):
        save(world, images, ~mask, "mine", "rosa")
    with world.database.read() as session:
        assert session.query(Job).filter_by(origin="edit").count() == 1
        assert session.query(Instance).filter_by(standing="ours").count() == 2
