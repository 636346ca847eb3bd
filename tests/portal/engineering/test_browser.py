"""An engineer's way through the pages, in a real Chromium."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.portal.engineering.made import make_files
from tests.portal.filled import PASSWORDS, Filled, Patient, as_file, lesion, make_site, mr_slices
from tests.portal.test_browser import CHROMIUM, listening, port

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.is_file(), reason="Chromium is not installed (make setup)"),
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed (make setup)"),
]


def test_a_file_is_tried_a_mask_leafed_through(filled: Filled, tmp_path: Path) -> None:
    make_files(filled)
    one = mr_slices("chromium", Patient(), "PH-CHR", "20260602", "MR BRAIN", lesion(5))[0]
    one.PixelData = bytes(5_000_000)  # more than is taken: only the beginning is sent
    one.Rows, one.Columns = 1000, 2500
    (tmp_path / "dropped.dcm").write_bytes(as_file(one))
    site = make_site(filled.site.root, port=port())
    with listening(site) as origin:
        plan = {
            "origin": origin, "name": "egon", "password": PASSWORDS["egon"],
            "job": filled.jobs["six"], "file": str(tmp_path / "dropped.dcm"), "out": str(tmp_path),
        }  # fmt: skip
        (tmp_path / "plan.json").write_text(json.dumps(plan))
        done = subprocess.run(
            ["node", str(ROOT / "tests" / "portal" / "engineer.mjs"), str(tmp_path / "plan.json")],
            capture_output=True, text=True, timeout=120, cwd=ROOT, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["errors"] == []
    assert "dropped.dcm" in seen["tried"]
    assert "sent CI2_CD_BTS by route brain to the tumour pipeline" in seen["tried"]
    assert seen["opened"]
    queue, t1c, volume, mask, *_ = seen["widths"]
    assert mask / volume == pytest.approx(11.4 / 1.1, rel=0.05)  # to scale
    assert t1c > queue > 0
    assert seen["first"][1] == seen["second"][1] == 512
    assert int(seen["second"][0].removesuffix(".png")) == int(seen["first"][0][:-4]) + 1
