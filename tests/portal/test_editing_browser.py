"""A reader edits a segmentation in a real Chromium, and a real worker measures what was drawn."""

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
from sqlalchemy import select

from overread.identity.local import hash_password
from overread.portal import viewer
from overread.store import users
from overread.store.tables import Enrolment, Exam, Result
from tests.conftest import ROOT
from tests.engine.world import OVERREAD, THRESHOLD_STEPS, World, pipeline, wait
from tests.portal.filled import TUMOUR, Patient, lesion, mr_slices
from tests.portal.test_browser import CHROMIUM, port

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.is_file(), reason="Chromium is not installed (make setup)"),
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed (make setup)"),
    pytest.mark.skipif(not viewer.OHIF.is_dir(), reason="OHIF is not installed (make setup)"),
]

PASSWORD = "a reader's password"
SHOTS = ROOT / "build" / "screenshots" / "editing"
"""Screenshots are kept here, as artifacts of the run."""

PROJECT = """
name: bright
pipelines: [bright-spots]
members:
  reader: {users: [rosa]}
"""


def steps() -> dict[str, Any]:
    """The threshold pipeline, whose one segment has a name and a colour."""
    made: dict[str, Any] = json.loads(json.dumps(THRESHOLD_STEPS))
    segment = {
        "number": 1, "label": TUMOUR.label, "colour": list(TUMOUR.colour),
        "category": vars(TUMOUR.category), "type": vars(TUMOUR.type),
    }  # fmt: skip
    made["mask"]["with"] = {"above": 400, "segment": segment}
    return made


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A site that is not built yet."""
    made = World(tmp_path / "site")
    yield made
    made.close()


@pytest.fixture
def site(world: World) -> Iterator[tuple[World, str, dict[str, str]]]:
    """Two exams of one patient, whole; the portal's origin; the cases by accession number."""
    listens = port()
    world.pipelines = [pipeline(steps())]
    world.settings["portal"] = {"port": listens}
    (world.root / "projects").mkdir(parents=True)
    (world.root / "projects" / "bright.yaml").write_text(PROJECT)
    world.build()
    world.start()
    with world.database.write() as session:
        secret = hash_password(PASSWORD)
        users.add_user(
            session, datetime.now(UTC), "test",
            name="rosa", secret=secret, role="reader", project="bright",
        )  # fmt: skip
    for name, date, radius in (("earlier", "20260112", 10.0), ("now", "20260602", 13.0)):
        world.arrive(
            mr_slices(name, Patient(), f"ACC-{name}", date, "MR BRAIN NAV", lesion(radius))
        )
    environment = {**os.environ, "OVERREAD_ALLOW_ROOT": "1"}
    portal = subprocess.Popen([*OVERREAD, "portal", "--site", str(world.root)], env=environment)
    origin = f"http://127.0.0.1:{listens}"
    wait(lambda: [one.state for one in world.all_jobs()] == ["done", "done"])
    wait(lambda: _answers(origin))
    with world.database.read() as session:
        rows = session.execute(
            select(Exam.accession, Enrolment.id).join(Enrolment, Enrolment.root_id == Exam.root_id)
        ).all()
    yield world, origin, {row.accession: row.id for row in rows}
    portal.terminate()
    portal.wait(20)


def _answers(origin: str) -> bool:
    try:
        return httpx.get(f"{origin}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_what_is_drawn_is_a_version_with_its_own_row_and_point(
    site: tuple[World, str, dict[str, str]], tmp_path: Path
) -> None:
    world, origin, cases = site
    shutil.rmtree(SHOTS, ignore_errors=True)
    SHOTS.mkdir(parents=True)
    plan = {
        "origin": origin, "password": PASSWORD, "case": cases["ACC-now"],
        "other": cases["ACC-earlier"], "shots": str(SHOTS),
    }  # fmt: skip
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan))
    done = subprocess.run(
        ["node", str(ROOT / "tests" / "portal" / "editing.mjs"), str(file)],
        capture_output=True, text=True, timeout=300, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["elsewhere"] == seen["refused"] == []

    # The row and the point are there, the model's beside them as they were.
    new = [row for row in seen["after"]["rows"] if "you" in row]
    assert len(new) == 1 and len(seen["after"]["rows"]) == len(seen["before"]["rows"]) + 1
    assert any("you" in label for label, _ in seen["after"]["points"])
    assert not any("you" in label for label, _ in seen["before"]["points"])

    # Nothing drawn was lost: not with the sign-in, not with the tab.
    opened, *strokes = seen["voxels"]
    assert opened < strokes[0] < strokes[1] < strokes[2]
    assert seen["kept"] == strokes[1]
    assert seen["fresh"] == strokes[1] and seen["restored"] == strokes[2]
    assert set(seen["posted"]) == {f"/cases/{cases['ACC-now']}/dicom-web/studies"}

    # Another patient's page covers the viewer, which says whose images it has.
    assert "This is not the case that is open now" in seen["cover"]
    assert "PHANTOM SIX" in seen["cover"] and seen["uncovered"]

    # It opens with the exam before beside, the overlay over its own images alone.
    assert len(seen["beside"]) == 2
    assert len({study for one in seen["beside"] for study in one["shows"]}) == 2

    wait(lambda: all(one.state == "done" for one in world.all_jobs()))
    with world.database.read() as session:
        volumes = session.scalars(
            select(Result)
            .where(Result.name == "volumes", Result.author != "")
            .order_by(Result.version)
        ).all()
        assert [one.version for one in volumes] == [1, 2, 3]
        assert [one.superseded_by is None for one in volumes] == [False, False, True]
        voxel = 3.0 * 1.5 * 1.5 / 1000
        values = [one.data["measurements"][0]["value"] for one in volumes]
        assert values == pytest.approx([count * voxel for count in strokes], rel=1e-6)
        models = session.scalars(select(Result).where(Result.author == "")).all()
        assert all(one.superseded_by is None for one in models)
