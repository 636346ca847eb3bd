"""A reader works by keys alone: list of keys, search, rows, theme, overlay."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from overread.portal import viewer
from tests.conftest import ROOT
from tests.portal.test_accessibility import CHARACTER, whole_site
from tests.portal.test_browser import CHROMIUM, listening, port

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.is_file(), reason="Chromium is not installed (make setup)"),
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed (make setup)"),
]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a browser saw that was worked by keys."""
    filled, cases = whole_site(tmp_path_factory.mktemp("keys"), port())
    plan: dict[str, Any] = {
        "name": "rosa", "password": CHARACTER["rosa"], "case": f"/cases/{cases['six']}",
        "viewer": viewer.OHIF.is_dir(),
    }  # fmt: skip
    if os.environ.get("OVERREAD_SHOTS"):
        plan["shots"] = os.environ["OVERREAD_SHOTS"]
    file: Path = tmp_path_factory.mktemp("plan") / "plan.json"
    with listening(filled.site) as origin:
        file.write_text(json.dumps(plan | {"origin": origin}))
        done = subprocess.run(
            ["node", str(ROOT / "tests" / "portal" / "keys.mjs"), str(file)],
            capture_output=True, text=True, timeout=300, cwd=ROOT, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert said["errors"] == []
    return said


def test_the_list_says_what_the_page_declares(seen: dict[str, Any]) -> None:
    """Each key with its words, once; the way past the bar comes first."""
    assert seen["first"] == "To the content"
    keys = dict(zip(seen["keys"][::2], seen["keys"][1::2], strict=True))
    assert keys["/"] == "Search"
    assert keys["?"] == "All keys"
    assert keys["⏎"] == "Start with the first"
    assert keys["J"] == "Next row"


def test_letters_are_letters_while_somebody_writes(seen: dict[str, Any]) -> None:
    """Neither in a field nor in a dialog do they act."""
    assert seen["inDialog"] == "/"
    assert seen["search"] == "q"
    assert seen["typed"] == "jk"


def test_rows_are_walked_and_opened(seen: dict[str, Any]) -> None:
    """J down, K up, Enter opens."""
    assert seen["row1"] == "PHANTOM, CLEAR"
    assert seen["row2"] == "PHANTOM, SIX"
    assert seen["back"] == seen["row1"]
    assert seen["opened"].startswith("/cases/")


def test_single_letters_can_be_switched_off(seen: dict[str, Any]) -> None:
    """As WCAG 2.1.4 asks."""
    assert seen["withoutLetters"] != "q"


def test_the_theme_is_chosen_by_keys_and_sent_by_the_server(seen: dict[str, Any]) -> None:
    """And the menu closes with Escape, and gives the focus back."""
    assert seen["theme"] == "light"
    assert seen["themeSent"]
    assert seen["menu"] == [False, "SUMMARY"]


def test_a_lost_connection_and_a_failure_are_said(seen: dict[str, Any]) -> None:
    """The one until it is back, the other once, until it is closed."""
    assert seen["lost"] == [True, False]
    assert seen["said"] == ["This was not done.Close", 0]


@pytest.mark.skipif(not viewer.OHIF.is_dir(), reason="OHIF is not installed (make web)")
def test_the_overlay_is_shown_and_hidden(seen: dict[str, Any]) -> None:
    """By O, beside the viewer and from inside of it."""
    assert seen["overlay"] == [True, True, True]
