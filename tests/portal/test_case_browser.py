"""A case's page in a real Chromium: its plot is drawn, and the baseline is chosen by keyboard."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
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


@pytest.fixture(scope="module")
def origin(clinic: Clinic) -> Iterator[str]:
    """The clinic's portal, listening."""
    settings = f"site: {{name: Phantom clinic}}\nportal: {{port: {port()}}}\n"
    (clinic.site.root / "overread.yaml").write_text(settings)
    with listening(load(clinic.site.root, {})) as address:
        yield address


def drive(folder: Path, meanwhile: Callable[[], None] = lambda: None, **plan: Any) -> Any:
    """Drive Chromium by a plan, and do something once it says that it is ready; what it saw."""
    file, ready = folder / "plan.json", folder / "ready"
    file.write_text(json.dumps(plan | {"password": PASSWORD, "ready": str(ready)}))
    with subprocess.Popen(
        ["node", str(ROOT / "tests" / "portal" / "case.mjs"), str(file)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    ) as node:  # fmt: skip
        while node.poll() is None and not ready.exists():
            time.sleep(0.1)  # another process writes it
            if plan["act"] != "wait":
                break
        meanwhile()
        out, error = node.communicate(timeout=120)
    assert node.returncode == 0, error
    seen = json.loads(out.splitlines()[-1])
    assert (seen["refused"], seen["errors"]) == ([], [])
    return seen


def test_an_edit_appears_in_table_and_plot_without_loading_the_page(
    clinic: Clinic, origin: str, tmp_path: Path
) -> None:
    seen = drive(
        tmp_path,
        lambda: clinic.filler.edit("thick", clinic.people["ruth"], 5.5, version=2),
        origin=origin, name="ruth", case=clinic.cases["thick"], act="wait", expect="5.5",
    )  # fmt: skip
    assert seen["isSamePage"]
    assert seen["pointsBefore"] == [3, 1, 1]
    assert seen["points"] == [3, 1, 2]
    assert seen["canvases"] == 1


def test_the_plot_is_drawn_and_follows_the_baseline(
    clinic: Clinic, origin: str, tmp_path: Path
) -> None:
    seen = drive(tmp_path, origin=origin, name="remy", case=clinic.cases["now"], act="use")
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
