"""A case's page in a real Chromium: its plot is drawn, and the baseline is chosen by keyboard."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from overread.site import load
from tests.conftest import ROOT
from tests.portal.test_browser import CHROMIUM, listening, port
from tests.portal.test_case_page import PASSWORD, Clinic, clinic

__all__ = ["clinic"]

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.is_file(), reason="Chromium is not installed (make setup)"),
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed (make setup)"),
]


def drive(folder: Path, **plan: Any) -> dict[str, Any]:
    """Drive Chromium by a plan; return what it saw."""
    file = folder / "plan.json"
    file.write_text(json.dumps(plan | {"password": PASSWORD}))
    done = subprocess.run(
        ["node", str(ROOT / "tests" / "portal" / "case.mjs"), str(file)],
        capture_output=True, text=True, timeout=120, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert (seen["refused"], seen["errors"]) == ([], [])
    return seen


def test_the_plot_is_drawn_and_follows_the_baseline(clinic: Clinic, tmp_path: Path) -> None:
    root, number = clinic.site.root, port()
    settings = f"site: {{name: Phantom clinic}}\nportal: {{port: {number}}}\n"
    (root / "overread.yaml").write_text(settings)
    with listening(load(root, {})) as origin:
        seen = drive(tmp_path, origin=origin, name="ruth", case=clinic.cases["now"], act="use")
    assert seen["canvases"] == seen["canvasesAfter"] == 1
    assert seen["inked"]
    assert "+120 %" in seen["before"]
    assert "−54 %" in seen["after"]
    assert seen["address"] == f"?baseline={clinic.cases['now']}"
    assert seen["isSamePage"], "the numbers alone are swapped"
    assert seen["focus"] == "from"
    assert seen["tops"] == seen["topsAfter"], "nothing moves"
    assert seen["told"].startswith("model 1.0.0 · 1 Mar 2026 · 9.2 mL")
    assert seen["opened"] in {f"/cases/{case_id}" for case_id in clinic.cases.values()}
