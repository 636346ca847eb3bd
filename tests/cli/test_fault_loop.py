"""Everything that can be killed is killed, again and again, while exams arrive."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from overread.store.tables import Exam, ExamInstance, Instance, Job, Result
from tests.cli.test_serve import Tree
from tests.engine.world import World, exam_images, pipeline, slow_steps, wait

EXAMS, SLICES, SEED = 12, 6, 20261124

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("storescu") is None, reason="DCMTK's storescu is not here"),
]


@pytest.fixture
def tree(tmp_path: Path, free_port: int) -> Iterator[Tree]:
    world = World(tmp_path / "site")
    made = Tree(world, free_port)
    whole = {"series": {"Modality": "MR"}, "instances": SLICES}
    world.pipelines = [
        pipeline(
            slow_steps(0.3),
            complete={"by": "study", "quiet": "400ms", "deadline": "10m", "require": [whole]},
        )
    ]
    made.process.kill()
    made.process.wait()
    world.build()
    made.start()
    yield made
    if made.process.poll() is None:
        made.process.kill()
    world.close()


def kill(tree: Tree, what: str) -> None:
    """Kill one service, which the supervisor starts again; or all, and start them again here."""
    if what != "everything":
        pid = tree.services().get(what)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        return
    for pid in (tree.process.pid, *tree.services().values()):
        os.kill(pid, signal.SIGKILL)
    tree.process.wait()
    tree.start()


def until_listening(port: int, ends: float) -> None:
    """Wait until a receiver takes connections, or the time is over."""
    while time.monotonic() < ends:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.1)  # nothing tells when it will


def test_nothing_is_lost_or_doubled(tree: Tree, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    told: Counter[str] = Counter()
    for number in range(EXAMS):
        folder = tmp_path / str(number)
        folder.mkdir()
        exam = exam_images(
            f"exam {number}", SLICES, PatientID=f"P{number}", AccessionNumber=f"A{number}"
        )
        for index, image in enumerate(exam):
            image.save_as(folder / f"{index}.dcm", enforce_file_format=True)
        files = [str(file) for file in sorted(folder.iterdir())]
        send = ["storescu", "-aet", "SCANNER", "-aec", "BRIGHT", "127.0.0.1", str(tree.port)]
        ends = time.monotonic() + 120
        while True:  # as a scanner does: again, until all of it was acknowledged
            until_listening(tree.port, ends)  # else kills come faster than a start takes
            with subprocess.Popen([*send, *files], stderr=subprocess.DEVNULL) as sending:
                time.sleep(chance.uniform(0, 0.6))  # anywhere in the sending
                what = chance.choice(["receiver", "worker", "everything", "nothing"])
                kill(tree, what)
                told[what] += 1
            if sending.returncode == 0:
                break
            assert time.monotonic() < ends, f"exam {number} could not be sent; killed so far {told}"
            time.sleep(0.5)  # as a scanner waits before it sends again
    assert {"receiver", "worker", "everything"} <= set(told)

    def done() -> bool:
        jobs = tree.world.all_jobs()
        return len(jobs) >= EXAMS and all(job.state in ("done", "failed") for job in jobs)

    wait(done, 300)
    with tree.world.database.read() as session:
        jobs = session.scalars(select(Job)).all()
        assert [job.state for job in jobs] == ["done"] * EXAMS, [job.reason for job in jobs]
        assert len({job.exam_id for job in jobs}) == EXAMS
        results = Counter(session.scalars(select(Result.exam_id)))
        assert set(results.values()) == {2}
        assert len(results) == EXAMS
        came = session.scalars(select(Instance).where(Instance.standing != "ours")).all()
        assert Counter(one.study_uid for one in came) == dict.fromkeys(
            {one.study_uid for one in came}, SLICES
        )
        assert len(came) == EXAMS * SLICES
        made = session.scalars(select(Instance).where(Instance.standing == "ours")).all()
        assert len(made) == EXAMS
        for exam_row in session.scalars(select(Exam)):
            members = session.execute(
                select(Instance.patient_id)
                .join(ExamInstance, ExamInstance.instance_id == Instance.id)
                .where(ExamInstance.exam_id == exam_row.id)
            ).all()
            assert len(members) == SLICES
            assert {row.patient_id for row in members} == {exam_row.patient_id}
        for one in (*came, *made):
            assert tree.world.archive.path(one.key).is_file()
