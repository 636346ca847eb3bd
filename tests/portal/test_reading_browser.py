"""A real Chromium reads cases: by mouse, by keys, through a reload and a sign-in that ended."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from overread.store import enrolments
from tests.conftest import ROOT
from tests.portal.filled import AT, PASSWORDS
from tests.portal.radiograph import hips, radiograph
from tests.portal.reading_site import ReadingSite, open_reading, reading_site
from tests.portal.test_browser import listening, port, pytestmark  # noqa: F401 - the same needs

Read = Callable[..., list[Any]]
SAVED = ["until", ".saved", "saved "]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> ReadingSite:
    return reading_site(tmp_path_factory.mktemp("reading") / "site", port=port())


@pytest.fixture(scope="module")
def origin(site: ReadingSite) -> Iterator[str]:
    with listening(site.filled.site) as address:
        yield address


@pytest.fixture
def read(origin: str, tmp_path: Path) -> Read:
    """Let a reader act in a browser; return what was looked at."""
    return partial(act, tmp_path, origin)


def act(folder: Path, origin: str, name: str, start: str, *acts: list[Any]) -> list[Any]:
    plan = {
        "origin": origin, "name": name, "password": PASSWORDS[name], "start": start,
        "out": str(folder), "acts": acts,
    }  # fmt: skip
    file = folder / "plan.json"
    file.write_text(json.dumps(plan))
    done = subprocess.run(
        ["node", str(ROOT / "tests" / "portal" / "reading.mjs"), str(file)],
        capture_output=True, text=True, timeout=120, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["refused"] == seen["errors"] == seen["elsewhere"] == []
    return list(seen["saw"])


def option(name: str, value: str) -> str:
    return f'.option:has(input[name="{name}"][value="{value}"])'


def test_a_case_is_read_by_mouse_and_the_next_one_opens(
    site: ReadingSite, read: Read, tmp_path: Path
) -> None:
    next_case = f"/cases/{site.cases['two']}"
    (why, summary) = read(
        "rosa", "/open?accession=PH-READ-1",
        ["click", option("/progression", "unclear")],
        ["until", "#q2:not([hidden])", "Why can you not tell?"],
        ["click", option("/progression", "yes")],
        ["look", "document.querySelector('[data-name=\"/why\"]').hidden"],
        ["shot", str(tmp_path / "form.png")],
        ["click", ".actions [type=submit]"],
        ["until", "#problems", "need a look"],
        ["text", "#problems"],
        ["click", "#problems a >> nth=0"],
        ["click", option("/hips/left hip/finding", "normal")],
        ["click", option("/hips/right hip/finding", "fracture")],
        ["click", ".actions [type=submit]"],
        ["at", next_case],
    )  # fmt: skip
    assert why is True
    assert "Each hip, left hip, Finding: it is not answered yet." in summary
    kept = site.reading("one", "rosa")
    assert kept.state == "submitted"
    assert kept.answers["hips"]["right hip"] == {"finding": "fracture"}


def test_a_case_is_read_by_keys_alone(site: ReadingSite, read: Read) -> None:
    (focused,) = read(
        "robin", f"/cases/{site.cases['one']}",
        ["until", ".ask.current", "progression"],
        ["press", "2"],  # the first question that is not answered
        ["look", "document.querySelector('[name=\"/progression\"]:checked').value"],
        ["focus", '[name="/hips/left hip/finding"]'],
        ["press", "1", "Tab", "Tab", "2"],
        ["focus", "textarea[name='/comment']"],
        ["type", "7 of 9 by keys"],
        SAVED,
        ["press", "Control+Enter"],
        ["at", f"/cases/{site.cases['two']}"],
    )  # fmt: skip
    assert focused == "no"
    kept = site.reading("one", "robin")
    assert kept.state == "submitted"
    assert kept.answers["progression"] == "no"
    assert kept.answers["comment"] == "7 of 9 by keys"
    assert kept.answers["hips"]["left hip"] == {"finding": "normal"}


def test_what_was_typed_survives_a_reload_and_a_sign_in_that_ended(
    site: ReadingSite, origin: str, read: Read, tmp_path: Path
) -> None:
    case = f"/cases/{site.cases['three']}"
    comment = "textarea[name='/comment']"
    at_once, later, others, own = read(
        "rosa", case,
        ["fill", comment, "typed and reloaded"],
        ["reload"],  # before it could be saved
        ["value", comment],
        SAVED,
        ["signOut"],
        ["fill", comment, "typed without a sign-in"],
        ["until", ".offline", "sign-in has ended"],
        ["shot", str(tmp_path / "ended.png")],
        ["click", ".offline a"],
        ["signIn", "rosa", PASSWORDS["rosa"]],
        ["at", case],
        ["value", comment],
        SAVED,
        ["signOut"],
        ["fill", comment, "rosa's secret"],
        ["until", ".offline", "sign-in has ended"],
        ["click", ".offline a"],
        ["signIn", "robin", PASSWORDS["robin"]],
        ["at", case],
        ["until", "#reading", "Your reading"],
        ["value", comment],
        ["look", "JSON.stringify({...sessionStorage}).includes('secret')"],
    )  # fmt: skip
    assert at_once == "typed and reloaded"
    assert later == "typed without a sign-in"
    assert (others, own) == ("", False)
    assert site.reading("three", "rosa").answers == {"comment": "typed without a sign-in"}
    assert site.reading("three", "robin").answers == {}


def test_two_windows_lose_nothing(site: ReadingSite, read: Read) -> None:
    case = f"/cases/{site.cases['two']}"
    comment = "textarea[name='/comment']"
    write = (
        f"fetch('{case}/reading/draft', {{method: 'PUT', headers: {{'X-CSRF-Token': "
        "document.getElementById('reading').dataset.csrf}, body: new URLSearchParams({revision: "
        "document.querySelector('[name=revision]').value, form: "
        "document.querySelector('[name=form]').value, '/comment': 'elsewhere'})})"
        ".then((one) => one.status)"
    )
    status, conflict, kept = read(
        "robin", case,
        ["look", write],  # as another window would
        ["fill", comment, "here"],
        ["until", "#conflict", "changed in another window"],
        ["text", "#conflict"],
        ["value", comment],
        ["click", "[data-act=keep-here]"],
        ["gone", "#conflict"],
        SAVED,
    )  # fmt: skip
    assert status == 200
    assert "elsewhere" in conflict and "here" in conflict
    assert kept == "here"
    assert site.reading("two", "robin").answers["comment"] == "here"


HIPS = {
    "type": "object",
    "required": ["where", "extent"],
    "properties": {
        "where": {"title": "Mark the fracture", "type": "object"},
        "extent": {"title": "Mark its extent", "type": "object"},
        "hips": {
            "title": "Each hip",
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"finding": {"title": "Finding", "enum": ["normal", "fracture"]}},
            },
        },
    },
    "ui": {
        "fields": {
            "where": {"as": "mark"},
            "extent": {"as": "mark", "shape": "box"},
            "hips": {"rows": "segments"},
        }
    },
}


def test_a_picture_is_marked_by_pointer_and_by_keys(tmp_path: Path) -> None:
    site = reading_site(tmp_path / "site", port=port(), form=HIPS)
    image = radiograph("HIP-M")
    root_id = hips(site.filled, "HIP-M", [image])
    with site.filled.database.write() as session:
        case = enrolments.enrol(session, AT, "glioma", root_id, "hip-fracture")
        session.add(open_reading(session, case, "rosa"))
        site.cases["hip"] = case.id
    with listening(site.filled.site) as origin:
        point, box, drawn = act(
            tmp_path, origin, "rosa", f"/cases/{site.cases['hip']}",
            ["click", "#q1 [data-act=mark]"],
            ["drag", ".picture svg", [0.5, 0.5], [0.5, 0.5]],
            ["until", "#q1 [role=status]", "marked at"],
            ["value", "#q1 input[type=hidden]"],
            ["click", "#q2 [data-act=mark]"],
            ["press", "ArrowLeft", "Enter", "Shift+ArrowRight", "Shift+ArrowDown", "Enter"],
            ["until", "#q2 [role=status]", "marked at"],
            ["value", "#q2 input[type=hidden]"],
            ["look", "document.querySelectorAll('.picture .own-mark:not(.rim)').length"],
            ["shot", str(tmp_path / "marked.png")],
            ["click", ".actions [type=submit]"],
            ["gone", f'[data-case="{site.cases["hip"]}"]'],
        )  # fmt: skip
    width, height = image.Columns, image.Rows
    where, extent = json.loads(point), json.loads(box)
    assert where["sop_instance_uid"] == extent["sop_instance_uid"] == image.SOPInstanceUID
    # The picture is centred in its frame: its middle is the image's.
    assert abs(where["x"] - width / 2) < 3 and abs(where["y"] - height / 2) < 3
    assert extent["x1"] - extent["x"] == pytest.approx(0.1 * max(width, height), rel=0.02)
    assert drawn == 2
    kept = site.reading("hip", "rosa")
    assert kept.state == "submitted" and kept.answers == {"where": where, "extent": extent}


def test_the_viewer_s_image_is_marked(site: ReadingSite, read: Read, tmp_path: Path) -> None:
    (value,) = read(
        "robin", f"/cases/{site.cases['three']}",
        ["look", "document.querySelector('.viewer iframe') !== null || 'no viewer'"],
        ["inViewer"],
        ["click", "[data-name='/where'] [data-act=mark]"],
        ["drag", ".viewer iframe", [0.45, 0.5], [0.45, 0.5]],
        ["until", "[data-name='/where'] [role=status]", "marked at"],
        ["value", "[data-name='/where'] input[type=hidden]"],
        SAVED,
        ["shot", str(tmp_path / "viewer.png")],
    )[1:]  # fmt: skip
    mark = json.loads(value)
    assert mark["sop_instance_uid"].startswith("2.25.") and mark["frame"] == 0
    assert 0 < mark["x"] < 128 and 0 < mark["y"] < 128
    assert site.reading("three", "robin").answers["where"] == mark
