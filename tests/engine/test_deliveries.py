"""Deliveries, to DCMTK's storescp."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from sqlalchemy import select

from overread.engine.deliveries import pause
from overread.settings import DestinationSettings
from overread.store import jobs
from overread.store.tables import Delivery
from tests.engine.world import World, exam_images, pipeline, wait

ROUTE = {"name": "all", "when": {"CalledAETitle": "OVERREAD"}, "send_to": ["PACS"]}

needs_storescp = pytest.mark.skipif(
    shutil.which("storescp") is None, reason="DCMTK's storescp is not installed"
)


@contextmanager
def storescp(folder: Path, port: int, *options: str) -> Iterator[None]:
    """A PACS that keeps what it gets, byte for byte."""
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen(
        ["storescp", "+xa", "+B", "-aet", "PACS", "-od", str(folder), *options, str(port)],
        env={**os.environ, "TCP_NODELAY": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def destination(port: int, **more: object) -> dict[str, object]:
    return {"with": {"host": "127.0.0.1", "port": port, "timeout": 5}, **more}


def states(world: World) -> list[str]:
    with world.database.read() as session:
        return list(session.scalars(select(Delivery.state).order_by(Delivery.created_at)))


def dataset_bytes(file: Path) -> bytes:
    """The encoded dataset of a PS3.10 file, without its meta group."""
    data = BytesIO(file.read_bytes())
    meta = dcmread(data, stop_before_pixels=True).file_meta
    return file.read_bytes()[128 + 4 + 12 + meta.FileMetaInformationGroupLength :]


@needs_storescp
def test_down_then_up_and_a_dead_one_stops_no_other(
    world: World, free_port: int, tmp_path: Path
) -> None:
    other = free_port + 1 if free_port < 65000 else free_port - 1
    world.settings["destinations"] = {
        "PACS": destination(free_port, backoff="300ms", backoff_limit="500ms"),
        "DEAD": destination(1, attempts=2, backoff="100ms"),
        "OTHER": destination(other),
    }
    world.routes = [{**ROUTE, "send_to": ["PACS", "DEAD", "OTHER"]}]
    world.build()
    images = exam_images("one", 3)
    with storescp(tmp_path / "other", other, "-aet", "OTHER"):
        world.start()
        world.arrive(images, called="OVERREAD")
        wait(lambda: states(world).count("delivered") == 3)
        wait(lambda: states(world).count("failed") == 3)
    wait(lambda: states(world).count("waiting") == 3)
    with storescp(tmp_path / "pacs", free_port):
        wait(lambda: states(world).count("delivered") == 6)
    with world.database.read() as session:
        rows = session.scalars(select(Delivery).where(Delivery.destination == "PACS")).all()
        assert all(row.attempts > 1 and not row.error for row in rows)
        dead = session.scalars(select(Delivery).where(Delivery.destination == "DEAD")).all()
        assert all(row.attempts == 2 and "cannot be reached" in row.error for row in dead)
    got = {dataset_bytes(file) for file in (tmp_path / "pacs").iterdir()}
    kept = {dataset_bytes(file) for file in world.archive.root.rglob("*.dcm")}
    assert got == kept


@needs_storescp
@pytest.mark.parametrize(("stage", "sent"), [("clinical", 1), ("validation", 0)])
def test_results_go_where_the_stage_permits(
    world: World, free_port: int, tmp_path: Path, stage: str, sent: int
) -> None:
    world.settings["destinations"] = {"PACS": destination(free_port)}
    world.pipelines = [pipeline(stage=stage, send={"clinical": ["PACS"], "validation": []})]
    world.build()
    with storescp(tmp_path / "pacs", free_port):
        world.start()
        world.arrive(exam_images())
        job = world.wait_for_job("done", "failed")
        assert job.state == "done", job.reason
        wait(lambda: len(states(world)) == sent and set(states(world)) <= {"delivered"})
    files = list((tmp_path / "pacs").iterdir())
    assert len(files) == sent
    if sent:
        with world.database.read() as session:
            seg = next(one for one in jobs.results(session, job.id) if one.name == "seg")
        assert dcmread(files[0]).SOPInstanceUID == seg.data["sop_instance_uid"]


@needs_storescp
def test_what_the_other_side_does_not_take_is_left_to_a_person(
    world: World, free_port: int, tmp_path: Path
) -> None:
    world.settings["destinations"] = {"PACS": destination(free_port)}
    world.routes = [ROUTE]
    world.build()
    image: Dataset = exam_images("one", 1)[0]
    image.SOPClassUID = "1.2.3.4"
    with storescp(tmp_path / "pacs", free_port):
        world.start()
        world.arrive([image, *exam_images("two", 2)], called="OVERREAD")
        wait(lambda: sorted(states(world)) == ["delivered", "delivered", "failed"])
    with world.database.read() as session:
        failed = session.scalars(select(Delivery).where(Delivery.state == "failed")).one()
    assert "does not take SOP class 1.2.3.4" in failed.error


def test_pauses_double_up_to_the_limit() -> None:
    settings = DestinationSettings.model_validate({"backoff": "2s", "backoff_limit": "10s"})
    assert [pause(settings, attempts) for attempts in (1, 2, 3, 4, 500)] == [
        timedelta(seconds=number) for number in (2, 4, 8, 10, 10)
    ]
