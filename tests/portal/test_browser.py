"""A real Chromium opens a case from the PACS's link and paints the overlay, by nobody's help."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.dicom.derived import Algorithm, Making
from overread.dicom.geometry import lay_out
from overread.dicom.rtstruct import write_rtstruct
from overread.dicom.seg import write_seg
from overread.dicom.study import Instance as Image
from overread.dicom.study import Series
from overread.dicom.volume import Mask
from overread.identity.local import hash_password
from overread.portal import server, viewer
from overread.site import SiteFolder
from overread.store import users
from overread.store.tables import Audit
from tests.conftest import ROOT
from tests.engine.world import THRESHOLD_STEPS, World, pipeline
from tests.portal.dicomweb.web import stow_body
from tests.portal.filled import (
    AT,
    COLOUR,
    PASSWORDS,
    TUMOUR,
    Filled,
    Filler,
    Patient,
    lesion,
    make_site,
    mr_slices,
)
from tests.portal.radiograph import RED, hips, radiograph

CHROMIUM = Path("/usr/bin/chromium")

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.is_file(), reason="Chromium is not installed (make setup)"),
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed (make setup)"),
    pytest.mark.skipif(not viewer.OHIF.is_dir(), reason="OHIF is not installed (make web)"),
]

Drive = Callable[..., dict[str, Any]]


@contextmanager
def listening(site: SiteFolder) -> Iterator[str]:
    """A portal that really listens; its origin."""
    stop = threading.Event()
    thread = threading.Thread(target=server.serve, args=(site, stop))
    thread.start()
    try:
        yield f"http://127.0.0.1:{site.settings.portal.port}"
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def origin(filled: Filled) -> Iterator[str]:
    """The portal of the filled site."""
    with listening(make_site(filled.site.root, port=port())) as address:
        yield address


@pytest.fixture
def drive(tmp_path: Path) -> Drive:
    """Drive a browser by a plan; return what it saw."""

    def driven(origin: str, **plan: Any) -> dict[str, Any]:
        name = plan.setdefault("name", "rosa")
        plan |= {"origin": origin, "password": PASSWORDS[name]}
        file = tmp_path / "plan.json"
        file.write_text(json.dumps(plan))
        done = subprocess.run(
            ["node", str(ROOT / "tests" / "portal" / "browser.mjs"), str(file)],
            capture_output=True, text=True, timeout=240, cwd=ROOT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert seen["elsewhere"] == [], "a request left the portal"
        assert seen["refused"] == [], "the content security policy is in the way"
        assert seen["failed"] == []
        return seen

    return driven


def coloured(picture: Path) -> int:
    """Count the pixels of a screenshot that have the segment's colour."""
    from PIL import Image

    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    red, green, blue = (pixels[..., channel] for channel in range(3))
    return int(((red - green > 20) & (blue - green > 15)).sum())


def test_colour_is_the_segments_own() -> None:
    red, green, blue = COLOUR
    assert red - green > 150
    assert blue - green > 120


def test_the_link_opens_the_case_with_the_overlay_painted(
    filled: Filled, origin: str, drive: Drive, tmp_path: Path
) -> None:
    picture, emptied = tmp_path / "case.png", tmp_path / "emptied.png"
    seen = drive(
        origin, start="/open?accession=PH-A-0106", overlay=str(picture), emptied=str(emptied)
    )
    assert seen["landed"] == f"/cases/{filled.cases['six']}"
    assert seen["overlay"]["segmentations"] == [
        {"label": "AI tumour", "segments": ["Enhancing tumour"]}
    ]
    assert [one["type"] for one in seen["overlay"]["drawn"]] == ["Labelmap"]
    assert all(one["visible"] for one in seen["overlay"]["drawn"])
    assert seen["errors"] == []
    # The ball's middle slice has about 250 voxels, each some 3.4 × 3.4 pixels on this screen, which
    # it shares with the exam before.
    assert 2000 < coloured(picture) < 3500
    assert coloured(emptied) == pytest.approx(coloured(picture), rel=0.02)
    with filled.database.read() as session:
        opened = session.scalars(
            select(Audit.actor).where(Audit.subject == f"case {filled.cases['six']}")
        ).all()
    assert "rosa" in opened


def test_nothing_is_painted_where_nothing_was_found(
    filled: Filled, origin: str, drive: Drive, tmp_path: Path
) -> None:
    picture = tmp_path / "empty.png"
    drive(origin, start=f"/cases/{filled.cases['empty']}", overlay=str(picture), seconds=30)
    assert coloured(picture) == 0


def test_a_refused_exam_opens_on_its_images(
    filled: Filled, origin: str, drive: Drive, tmp_path: Path
) -> None:
    path, picture = f"/cases/{filled.cases['refused']}", tmp_path / "refused.png"
    seen = drive(origin, start="/", shots=[{"path": path, "file": str(picture), "wait": 12000}])
    assert seen["errors"] == []
    from PIL import Image

    middle = np.asarray(Image.open(picture).convert("L"))[300:700, 750:1150]
    assert middle.std() > 25


def test_every_page_is_at_peace_with_its_policy(
    filled: Filled, origin: str, drive: Drive, tmp_path: Path
) -> None:
    paths = ["/", "/?q=PH-A", "/jobs", "/exams", "/aside", f"/jobs/{filled.jobs['six']}",
             f"/jobs/{filled.jobs['refused']}", "/open?accession=PH-DOUBLE"]  # fmt: skip
    shots = [
        {"path": path, "file": str(tmp_path / f"{number}.png"), "wait": 300}
        for number, path in enumerate(paths)
    ]
    seen = drive(origin, name="egon", start="/", shots=shots)
    assert seen["errors"] == []
    assert all((tmp_path / f"{number}.png").stat().st_size > 5000 for number in range(len(paths)))


def test_compressed_images_are_decoded_in_the_browser(
    origin: str, drive: Drive, engineer: TestClient, shared_data: Path, tmp_path: Path
) -> None:
    files = sorted(
        path for path in (shared_data / "ct_liver" / "dicom").iterdir() if path.is_file()
    )
    body, headers = stow_body(*(path.read_bytes() for path in files))
    assert engineer.post("/dicom-web/studies", content=body, headers=headers).status_code == 200
    study = dcmread(files[0], stop_before_pixels=True).StudyInstanceUID
    picture = tmp_path / "ct.png"
    shot = {
        "path": f"/viewer/viewer?StudyInstanceUIDs={study}",
        "file": str(picture),
        "wait": 12000,
    }
    seen = drive(origin, start="/", shots=[shot])
    assert seen["errors"] == []
    from PIL import Image

    middle = np.asarray(Image.open(picture).convert("L"))[300:600, 500:950]
    assert middle.std() > 25


@pytest.mark.parametrize(
    ("use", "drawn"), [("write_seg", "Labelmap"), ("write_rtstruct", "Contour")]
)
def test_what_the_real_worker_makes_opens_the_same_way(
    drive: Drive, tmp_path: Path, use: str, drawn: str
) -> None:
    """Images arrive, the worker makes a job of them, and the link opens its overlay."""
    steps = THRESHOLD_STEPS | {
        "mask": {"use": "threshold", "in": {"volume": "volume"}, "with": {"above": 400}},
        "seg": {"use": use, "in": {"mask": "mask", "source": "t1"}},
    }
    world = World(tmp_path / "site")
    world.settings["portal"] = {"port": port()}
    world.pipelines = [pipeline(steps, title="Bright spots")]
    world.build()
    slices = mr_slices("real", Patient(), "PH-REAL", "20260602", "MR BRAIN", lesion(13))
    with world.database.write() as session:
        secret = hash_password(PASSWORDS["rosa"])
        users.add_user(
            session, datetime.now(UTC), "test", name="rosa", secret=secret, role="reader"
        )
    try:
        world.start()
        world.arrive(slices)
        job = world.wait_for_job("done", "failed", "refused")
        assert job.state == "done", job.reason
        with listening(world.site) as origin:
            picture = tmp_path / "real.png"
            seen = drive(origin, start="/open?accession=PH-REAL", overlay=str(picture))
    finally:
        world.close()
    assert seen["landed"] == f"/cases/{job.exam_id}"
    assert [one["type"] for one in seen["overlay"]["drawn"]] == [drawn]
    assert all(one["visible"] for one in seen["overlay"]["drawn"])
    assert seen["errors"] == []


def test_compressed_and_overlapping_segments_are_drawn(
    filled: Filled, origin: str, drive: Drive, engineer: TestClient, tmp_path: Path
) -> None:
    """A ring and its core, the one within the other, as JPEG 2000 and as contours."""
    study = filled.studies["six"]
    slices = mr_slices("six", Patient(), "PH-A-0106", "20260602", "MR BRAIN NAV", lesion(12))
    assert slices[0].StudyInstanceUID == study
    source = Series(tuple(Image(one) for one in slices))
    grid = lay_out(source).affine
    whole = Mask(lesion(13).astype(np.uint8), grid, (TUMOUR,))
    core = replace(
        whole, array=lesion(6).astype(np.uint8), segments=(replace(TUMOUR, label="Core"),)
    )
    for name, kind in (("overlapping", "Labelmap"), ("contours", "Contour")):
        making = Making((name, "made"), AT, "UTC", Algorithm("rings", "1.0.0"), "rings@1.0.0")
        if kind == "Contour":
            ring = replace(whole, array=whole.array - core.array)
            made = write_rtstruct([ring, core], source, making)
        else:
            made = write_seg([whole, core], source, making, compress="jpeg2000")
        body, headers = stow_body(made.encode())
        assert engineer.post("/dicom-web/studies", content=body, headers=headers).status_code == 200
        series = str(made.dataset.SeriesInstanceUID)
        picture = tmp_path / f"{name}.png"
        start = viewer.Opening("", (study,), (source.uid, series), series).link
        seen = drive(origin, start=start, overlay=str(picture))
        (shown,) = seen["overlay"]["segmentations"]
        assert shown["segments"] == ["Enhancing tumour", "Core"]
        assert [one["type"] for one in seen["overlay"]["drawn"]] == [kind]
        assert seen["errors"] == []
        assert coloured(picture) > (300 if kind == "Contour" else 4000)


def painted(picture: Path, colour: tuple[int, int, int]) -> int:
    """Count the pixels of a screenshot that have exactly a colour."""
    from PIL import Image

    return int((np.asarray(Image.open(picture).convert("RGB")) == colour).all(axis=-1).sum())


def test_boxes_lie_over_a_radiograph_and_can_be_put_away(drive: Drive, tmp_path: Path) -> None:
    filled = Filler(make_site(tmp_path / "site", port=port())).filled
    case = hips(filled, "HIP-B", [radiograph("HIP-B")])
    with filled.database.write() as session:
        secret = hash_password(PASSWORDS["rosa"])
        users.add_user(session, AT, "test", name="rosa", secret=secret, role="reader")
    shown, hidden, report = (tmp_path / f"{name}.png" for name in ("shown", "hidden", "report"))
    with listening(filled.site) as origin:
        shots = [
            {"path": f"/cases/{case}", "file": str(shown), "wait": 800},
            {"path": f"/cases/{case}", "file": str(hidden), "wait": 800, "press": "b"},
            {"path": f"/cases/{case}?view=captures", "file": str(report), "wait": 800,
             "click": ".report summary"},
        ]  # fmt: skip
        seen = drive(origin, start="/", shots=shots, width=1280)
    assert seen["errors"] == []
    from PIL import Image

    pixels = np.asarray(Image.open(shown).convert("L")).astype(int)
    assert pixels[300:700, 600:1200].std() > 20, "the radiograph is not there"
    # Two sides of some 280 pixels, two pixels wide; the list beside it has the colour as well.
    assert painted(shown, RED) - painted(hidden, RED) > 600
    assert painted(report, RED) > 200
