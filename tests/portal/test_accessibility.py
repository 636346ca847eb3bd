"""Every page in a real Chromium: what axe-core finds, in both themes, at 1280 and 3840 px."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from overread.identity.local import hash_password
from overread.site import load
from overread.store import enrolments, users
from overread.store.tables import Reading, Result
from tests.conftest import ROOT
from tests.portal.filled import AT, PASSWORDS, Filled, fill
from tests.portal.radiograph import hips, radiograph
from tests.portal.reading_site import write_site
from tests.portal.test_browser import CHROMIUM, listening, port

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.is_file(), reason="Chromium is not installed (make setup)"),
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed (make setup)"),
    pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed (make web)"),
]

LARGEST_SHIFT = 0.05
"""Of the layout, as a browser sums it; below 0.1 is what web.dev calls good."""

PEOPLE = {
    "rosa": "reader", "robin": "reader", "cora": "coordinator", "egon": "engineer",
    "ada": "administrator",
}  # fmt: skip
CHARACTER = {name: f"{name} and a long password" for name in PEOPLE} | PASSWORDS

PAGE = """\
  series:
    - title: Tumour volume
      threshold: {increase: 25%, words: progression}
      repeatability: 12%
"""


@dataclass
class Opened:
    """What the browser saw.

    Attributes
    ----------
    pages : dict
        By name: what `axe.mjs` says of each.
    """

    pages: dict[str, dict[str, Any]]
    elsewhere: list[str]
    refused: list[str]
    errors: list[str]


def whole_site(root: Path, number: int) -> tuple[Filled, dict[str, str]]:
    """A site with every state of a case, a project, readings, and one person for each role."""
    write_site(root, port=number)
    project = root / "projects" / "glioma.yaml"
    blocks = "blocks: [text, summary, plot, measurements, findings, form, objects, provenance]"
    said = project.read_text().replace("blocks: [text, form, measurements]", blocks)
    project.write_text(said + PAGE)
    filled = fill(load(root, {}))
    filled.cases["hip"] = hips(filled, "hip", [radiograph("PH-HIP-1"), radiograph("PH-HIP-1", 2)])
    with filled.database.write() as session:
        for name, role in PEOPLE.items():
            if name not in ("rosa", "egon"):  # they are there
                users.add_user(
                    session, AT, "test", name=name, secret=hash_password(CHARACTER[name]), role=role
                )
        rosa = users.find_user(session, "rosa").id
        cases: dict[str, str] = {}
        for place, name in enumerate(("six", "six-4", "empty", "refused", "running", "hip")):
            case = enrolments.enrol(session, AT, "glioma", filled.cases[name], "brain-tumour")
            cases[name] = case.id
            if name in ("refused", "running"):
                continue
            case.ready_at = AT + timedelta(minutes=place)
            done = AT + timedelta(hours=1) if name == "six-4" else None
            session.add(
                Reading(
                    enrolment_id=case.id, project="glioma", pipeline="brain-tumour",
                    reader_id=rosa, state="submitted" if done else "open",
                    ready_at=case.ready_at, opened_at=done, saved_at=done, submitted_at=done,
                    due_at=AT if name == "empty" else None, answers={},
                    rank=0 if name == "empty" else 10,
                )
            )  # fmt: skip
    return filled, cases


def pages_of(filled: Filled, cases: dict[str, str]) -> list[dict[str, Any]]:
    """Every page, and who opens it."""
    with filled.database.read() as session:
        reader = users.find_user(session, "rosa").id
        drawn = session.scalars(
            select(Result.id).where(Result.exam_id == filled.cases["six"], Result.name == "seg")
        ).one()
    six, job, failed = f"/cases/{cases['six']}", filled.jobs["six"], filled.jobs["failed"]
    mine = {
        "work": "/", "cases": "/cases", "cases-none": "/cases?q=NOTHING", "account": "/account",
        "styleguide": "/styleguide", "refused-page": "/jobs", "no-page": "/nothing",
        "open-none": "/open", "open-nowhere": "/open?accession=PH-NOTHING",
        **{f"case-{name}": f"/cases/{case}" for name, case in cases.items()},
        "case-findings": f"/cases/{cases['hip']}?view=findings",
        "no-case": "/cases/none", "reading": f"{six}/reading", "turn": f"{six}/turn/{drawn}",
        "compare": f"{six}/compare?a={drawn}&b={drawn}",
    }  # fmt: skip
    theirs = {
        "exams": "/exams", "exams-none": "/exams?q=NOTHING",
        "exam": f"/exams/{filled.cases['six']}",
        "jobs": "/jobs", "job": f"/jobs/{job}", "job-failed": f"/jobs/{failed}",
        "step": f"/jobs/{job}/steps/mask", "pipeline": "/pipelines/brain-tumour",
        "deliveries": "/deliveries", "models": "/models", "plugins": "/plugins",
        "routes": "/routes", "aside": "/aside", "health": "/health",
        "why": "/why?accession=PH-A-0106", "why-none": "/why",
        "users": "/users", "user": f"/users/{reader}", "audit": "/audit",
        "choose": "/open?accession=PH-DOUBLE", "open-not-run": "/open?accession=PH-NOWHERE",
        "case-failed": f"/cases/{filled.cases['failed']}",
        "case-arriving": f"/cases/{filled.cases['arriving']}",
        "case-held": f"/cases/{filled.cases['held']}",
    }  # fmt: skip
    study = {
        "projects": "/projects", "project": "/projects/glioma",
        "form-preview": "/forms/progression/preview",
    }  # fmt: skip
    return [
        {"name": "sign-in", "path": "/sign-in", "as": ""},
        *({"name": name, "path": path, "as": "rosa"} for name, path in mine.items()),
        *({"name": name, "path": path, "as": "cora"} for name, path in study.items()),
        *({"name": name, "path": path, "as": "ada"} for name, path in theirs.items()),
    ]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """All pages, opened once."""
    root = tmp_path_factory.mktemp("whole")
    filled, cases = whole_site(root, port())
    plan: dict[str, Any] = {"users": CHARACTER, "pages": pages_of(filled, cases)}
    shots = os.environ.get("OVERREAD_SHOTS")  # a folder, to look at the pages by eye
    if shots:
        plan["shots"] = shots
    with listening(filled.site) as origin:
        file = tmp_path_factory.mktemp("plan") / "plan.json"
        file.write_text(json.dumps(plan | {"origin": origin}))
        done = subprocess.run(
            ["node", str(ROOT / "tests" / "portal" / "axe.mjs"), str(file)],
            capture_output=True, text=True, timeout=400, cwd=ROOT, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    return Opened(said["seen"], said["elsewhere"], said["refused"], said["errors"])


def test_every_page_is_there(opened: Opened) -> None:
    """Those that refuse or find nothing say so by their status; all others answer."""
    refused = {"refused-page": 403}
    missing = dict.fromkeys(("no-page", "no-case", "open-none", "open-nowhere", "step"), 404)
    expected = refused | missing  # the store is filled by rows: no step has left files
    wrong = {
        name: one["status"]
        for name, one in opened.pages.items()
        if one["status"] != expected.get(name, 200)
    }
    assert wrong == {}


def test_no_page_has_a_serious_fault(opened: Opened) -> None:
    """By axe-core; nor is one wider than its window, or a target below 24 px."""
    faults = {name: one["faults"] for name, one in opened.pages.items() if one["faults"]}
    assert faults == {}


def test_nothing_moves_while_a_page_loads(opened: Opened) -> None:
    """The layout of the pages that readers live in shifts by less than 0.05."""
    lived_in = {
        name: one for name, one in opened.pages.items() if name.startswith(("case", "work"))
    }
    assert {
        name: one["shift"] for name, one in lived_in.items() if one["shift"] >= LARGEST_SHIFT
    } == {}


def test_nothing_leaves_the_portal_and_nothing_is_refused(opened: Opened) -> None:
    """No request to another origin, no violation of the content policy, no error of a script."""
    assert opened.elsewhere == []
    assert opened.refused == []
    assert opened.errors == []
