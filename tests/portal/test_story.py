"""A reader's whole way, in real processes: an exam over DICOM, a link, the brush, the reading."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import dcmwrite
from sqlalchemy import select

from overread.identity.local import hash_password
from overread.portal import viewer
from overread.simulator.scanner import Peer, send
from overread.store import users
from overread.store.tables import Exam, Job, Reading, Result
from tests.conftest import ROOT
from tests.engine.conftest import world
from tests.engine.world import OVERREAD, World, pipeline, wait
from tests.portal.filled import Patient, lesion, mr_slices
from tests.portal.test_browser import CHROMIUM, port
from tests.portal.test_editing_browser import steps

__all__ = ["world"]

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.is_file(), reason="Chromium is not installed (make setup)"),
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed (make setup)"),
    pytest.mark.skipif(not viewer.OHIF.is_dir(), reason="OHIF is not installed (make setup)"),
]

PASSWORD = "a reader's password"
SHOTS = ROOT / "build" / "screenshots" / "story"
"""Screenshots are kept here, as artifacts of the run."""

PROJECT = """
name: bright
pipelines: [bright-spots]
form: progression
members:
  reader: {users: [rosa, roy]}
"""

FORM = {
    "type": "object",
    "required": ["progression"],
    "properties": {
        "progression": {"title": "Does this exam show progression?", "enum": ["yes", "no"]},
        "comment": {"title": "Anything else?", "type": "string"},
    },
    "ui": {"fields": {"comment": {"lines": 3}}},
}


@pytest.fixture
def clinic(
    world: World,
    tmp_path: Path,
) -> Iterator[tuple[World, str]]:
    """A site that ``overread serve`` serves, after two exams of a patient came over DICOM."""
    listens, dicom = port(), port()
    world.pipelines = [pipeline(steps())]
    world.settings |= {"portal": {"port": listens}, "dicom": {"port": dicom}}
    for name, text in {
        "projects/bright.yaml": PROJECT, "forms/progression.json": json.dumps(FORM)
    }.items():  # fmt: skip
        (world.root / name).parent.mkdir(parents=True, exist_ok=True)
        (world.root / name).write_text(text)
    world.build()
    with world.database.write() as session:
        for name in ("rosa", "roy"):
            users.add_user(
                session, datetime.now(UTC), "test",
                name=name, secret=hash_password(PASSWORD), role="reader", project="bright",
            )  # fmt: skip
    environment = {**os.environ, "OVERREAD_ALLOW_ROOT": "1"}
    served = subprocess.Popen([*OVERREAD, "serve", "--site", str(world.root)], env=environment)
    origin = f"http://127.0.0.1:{listens}"
    try:
        wait(lambda: _answers(origin))
        for name, date, radius in (("earlier", "20260112", 10.0), ("now", "20260602", 13.0)):
            files = []
            for number, one in enumerate(
                mr_slices(name, Patient(), f"ACC-{name}", date, "MR BRAIN NAV", lesion(radius))
            ):
                files.append(tmp_path / f"{name}-{number}.dcm")
                dcmwrite(files[-1], one, enforce_file_format=True)
            answers = send(files, Peer("127.0.0.1", dicom, "BRIGHT"))
            assert all(answer.accepted for answer in answers)
        wait(lambda: [one.state for one in world.all_jobs()] == ["done", "done"])
        yield world, origin
    finally:
        served.terminate()
        served.wait(20)


def _answers(origin: str) -> bool:
    try:
        return httpx.get(f"{origin}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.timeout(240)
def test_from_the_link_to_a_reading_that_nobody_else_sees(
    clinic: tuple[World, str], tmp_path: Path
) -> None:
    house, origin = clinic
    shutil.rmtree(SHOTS, ignore_errors=True)
    SHOTS.mkdir(parents=True)
    with house.database.read() as session:
        study = session.scalars(select(Exam.study_uid).where(Exam.accession == "ACC-now")).one()
    plan = {
        "origin": origin, "password": PASSWORD, "link": "/open?accession=ACC-now",
        "answers": ["label.option:has([name='/progression'][value=yes])"],
        "comment": "larger than I drew it", "study": study, "shots": str(SHOTS),
    }  # fmt: skip
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan))
    done = subprocess.run(
        ["node", str(ROOT / "tests" / "portal" / "story.mjs"), str(file)],
        capture_output=True, text=True, timeout=180, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert (seen["errors"], seen["elsewhere"]) == ([], [])

    # Three clicks at most, besides the answers; the next case opens by itself.
    assert seen["clicks"] <= 3
    assert seen["next"] != f"/cases/{seen['id']}"

    # The brush made one row and one point, the model's stand as they were, on the same page.
    assert seen["isSamePage"]
    before, after = seen["before"], seen["after"]
    assert len(after["rows"]) == len(before["rows"]) + 1
    assert sum("you" in row for row in after["rows"]) == 1
    assert all(line in after["points"] for line in before["points"])
    assert [n for label, n in after["points"] if "you" in label] == [1]

    # The second reader has the case as it was before anybody read it.
    assert seen["numbersOfOther"] == before
    own, other = seen["own"], seen["other"]
    assert [one["state"] for one in own["readings"]] == ["submitted"]
    assert all(one["state"] != "submitted" for one in other["readings"])
    assert (own["drawn"], other["drawn"]) == (2, 1)
    for told in (other["page"], other["case"], json.dumps(other["readings"])):
        assert plan["comment"] not in told and "rosa" not in told

    with house.database.read() as session:
        reading = session.scalars(select(Reading).where(Reading.state == "submitted")).one()
        assert reading.answers == {"progression": "yes", "comment": plan["comment"]}
        models = session.scalars(select(Result).where(Result.author == "")).all()
        assert len(models) == 4 and all(one.superseded_by is None for one in models)
        edited = session.scalars(select(Job).where(Job.origin == "edit")).one()
        assert edited.state == "done"
