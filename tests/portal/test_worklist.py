"""My work, all cases, projects: as pages, and in a real Chromium that sees them change."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select, update
from starlette.testclient import TestClient

from overread.engine.enrolment import Enroller, results_kept
from overread.identity import Account
from overread.identity.local import hash_password
from overread.portal.app import build
from overread.portal.worklist import reading_nav
from overread.site import SiteFolder
from overread.store import enrolments, users
from overread.store.tables import Enrolment, Exam, Job, Reading
from overread.validation.permissions import Grant
from overread.validation.project import Project
from tests.conftest import ROOT
from tests.portal.conftest import post_sign_in
from tests.portal.filled import AT, Filled, Filler, Patient, make_site
from tests.portal.test_browser import listening, port
from tests.portal.test_browser import pytestmark as _browser
from tests.portal.test_cases import text_of

PASSWORD = "a password of the tests"
PEOPLE = {
    "rosa": Grant("reader", "glioma"),
    "ines": Grant("reader", "glioma"),
    "cora": Grant("coordinator", "glioma"),
    "egon": Grant("engineer"),
    "olaf": Grant("reader", "other"),
}
GLIOMA = Project.model_validate(
    {
        "name": "glioma", "title": "Glioma progression", "pipelines": ["brain-tumour"],
        "due": "1d", "urgent": [{"above": 15}],
    }
)  # fmt: skip
OTHER = Project.model_validate(
    {"name": "other", "pipelines": ["brain-tumour"], "enrol": {"AccessionNumber": "none"}}
)
_EVIL = "<script>alert(1)</script>^'\";--"


def site_of(root: Path, **portal: Any) -> SiteFolder:
    return replace(make_site(root, **portal), projects={"glioma": GLIOMA, "other": OTHER})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """Six cases of which one is urgent, one without results, and one of nobody's project."""
    site = site_of(tmp_path_factory.mktemp("lists"))
    filler = Filler(site)
    for number in range(1, 6):
        patient = Patient(f"PHANTOM^N{number}", f"PH-{number}")
        filler.exam(
            f"six-{number}", accession=f"PH-A-{number}", radius=14 + number % 5, patient=patient,
            at=AT + timedelta(minutes=number),
        )  # fmt: skip
    filler.exam("evil", patient=Patient(_EVIL, "PH-666"), accession="PH-EVIL", radius=9)
    filler.exam(
        "running", state="running", accession="PH-R", patient=Patient("PHANTOM^RUN", "PH-7")
    )
    filled = filler.filled
    secret = hash_password(PASSWORD)
    with filled.database.write() as session:
        for name, grant in PEOPLE.items():
            users.add_user(
                session,
                AT,
                "test",
                name=name,
                secret=secret,
                role=grant.role,
                project=grant.project,
            )
        last = session.get_one(Exam, filled.cases["running"])
        enrolments.enrol(session, AT, "glioma", last.root_id, last.pipeline)
    enroller = Enroller(site, filled.database, filled.archive, "test")
    for _ in range(3):
        enroller.tick(datetime.now(UTC))
    with filled.database.write() as session:
        session.execute(
            update(Reading)
            .where(Reading.enrolment_id == case_of(filled, "six-1"))
            .values(due_at=AT + timedelta(days=1))
        )
    return filled


@pytest.fixture(scope="module")
def app(house: Filled) -> FastAPI:
    return build(house.site)


@pytest.fixture
def as_(app: FastAPI) -> Any:
    """Sign somebody in."""

    def signed_in(name: str) -> TestClient:
        client = TestClient(app, follow_redirects=False)
        assert post_sign_in(client, name, PASSWORD).status_code == 303
        return client

    return signed_in


def case_of(filled: Filled, name: str) -> str:
    with filled.database.read() as session:
        return session.scalars(
            select(Enrolment.id).where(Enrolment.root_id == filled.cases[name])
        ).one()


def rows_of(page: str) -> list[str]:
    return re.findall(r'<tr id="r-([0-9a-f]+)"', page)


def test_a_reader_sees_what_is_to_read(as_: Any, house: Filled) -> None:
    page = as_("rosa").get("/").text
    text = text_of(page)
    rows = rows_of(page)
    assert "6 cases to read" in text
    assert "Glioma progression 6 to read · 0 of 6 done" in text
    assert "overdue" in text
    assert set(rows) == {case_of(house, f"six-{number}") for number in range(1, 6)} | {
        case_of(house, "evil")
    }
    urgent = page.split("<tbody>")[1].split("</tr>")
    marked = ["urgent" in text_of(row) for row in urgent if "<tr id" in row]
    assert any(marked)
    assert marked == sorted(marked, reverse=True), "urgent ones come first"
    assert "On their way, or stopped PHANTOM, RUN" in text
    assert "running · mask" in text


def test_what_a_patient_is_called_is_text(as_: Any) -> None:
    page = as_("rosa").get("/?q=PH-EVIL").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


@pytest.mark.parametrize(
    ("query", "there", "not_there"),
    [
        ("q=PH-A-1", "PHANTOM, N1", "PHANTOM, N2"),
        ("q=ph-2", "PHANTOM, N2", "PHANTOM, N1"),
        ("q=phantom+n3", "PHANTOM, N3", "PHANTOM, N1"),
        ("q=%25", "Nothing here has “%”", "PHANTOM"),
        ("q=%3Cscript%3Ealert(2)", "Nothing here has", "PHANTOM, N1"),
        ("state=draft", "Nothing here", "PHANTOM, N1"),
        ("state=submitted", "Nothing here", "PHANTOM, N1"),
        ("state=wrong", "PHANTOM, N1", "Nothing here"),
        ("project=other", "Nothing here", "PHANTOM, N1"),
        ("project=glioma", "PHANTOM, N1", "Nothing here"),
        ("pipeline=brain-tumour", "PHANTOM, N1", "Nothing here"),
        ("pipeline=liver", "Nothing here", "PHANTOM, N1"),
        ("since=2026-06-02&until=2026-06-02", "PHANTOM, N1", "Nothing here"),
        ("since=2026-06-03", "Nothing here", "PHANTOM, N1"),
        ("until=2026-06-01", "Nothing here", "PHANTOM, N1"),
        ("since=soon&until=0001-01-01&after=x", "PHANTOM, N1", "Nothing here"),
        ("since=9999-12-31&until=9999-12-31", "PHANTOM, N1", "Nothing here"),
    ],
)
def test_it_is_narrowed(as_: Any, query: str, there: str, not_there: str) -> None:
    answer = as_("rosa").get(f"/?{query}")
    assert answer.status_code == 200
    text = text_of(answer.text).partition("On their way")[0]
    assert there in text
    assert not_there not in text


@pytest.mark.parametrize("path", ["/", "/cases"])
def test_too_long_a_search_is_refused_and_not_tried(as_: Any, path: str) -> None:
    assert as_("rosa").get(path, params={"q": "x" * 5000}).status_code == 422


def test_pages_follow(as_: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from overread.store import worklist

    monkeypatch.setattr(worklist.queue, "__kwdefaults__", {"after": "", "limit": 2})
    client, listed, path = as_("rosa"), [], "/"
    for _ in range(3):
        page = client.get(path).text
        listed += rows_of(page)
        link = re.search(r'rel="next" href="([^"]+)"', page)
        path = link[1] if link else ""
    assert path == ""
    assert len(listed) == len(set(listed)) == 6


def test_who_reads_nothing_is_shown_the_cases(as_: Any, house: Filled) -> None:
    for name in ("egon", "cora"):
        text = text_of(as_(name).get("/").text)
        assert "Cases The newest first." in text
        assert "PHANTOM, N1" in text


def test_the_cases_of_a_project_are_for_its_people(as_: Any, house: Filled) -> None:
    every = rows_of(as_("egon").get("/cases").text)
    assert len(every) == len(house.cases)
    assert set(rows_of(as_("cora").get("/cases").text)) == set(every)
    assert rows_of(as_("olaf").get("/cases").text) == []
    assert rows_of(as_("olaf").get("/cases?q=PH-A-1").text) == []
    assert rows_of(as_("olaf").get("/cases?project=glioma").text) == []
    assert "Glioma" not in as_("olaf").get("/cases").text
    assert rows_of(as_("olaf").get("/").text) == []


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("state=running", 1), ("state=done", 6), ("state=failed", 0), ("project=glioma", 7),
        ("project=other", 0), ("pipeline=brain-tumour", 7), ("q=PH-R", 1), ("q=PH-R&state=done", 0),
        ("since=2026-06-03", 0),
    ],
)  # fmt: skip
def test_all_cases_are_narrowed(as_: Any, query: str, number: int) -> None:
    for name in ("egon", "cora"):
        days = query.startswith("since") and name == "cora"  # hers are by when they were enrolled
        if not days:
            assert len(rows_of(as_(name).get(f"/cases?{query}").text)) == number, name


def test_a_page_that_asks_again_gets_its_part(as_: Any) -> None:
    part = as_("rosa").get("/", headers={"HX-Request": "true"}).text
    assert "<html" not in part
    assert 'id="queue"' in part


def test_progress_is_counts_for_who_may_see_it(as_: Any) -> None:
    for name in ("cora", "egon"):
        text = text_of(as_(name).get("/projects").text)
        assert "Glioma progression" in text
        page = text_of(as_(name).get("/projects/glioma").text)
        assert "7 cases, 6 with results" in page
        assert "rosa 6" in page
        assert "PHANTOM" not in page
    assert "other" not in text_of(as_("cora").get("/projects").text).partition("Projects")[2][:60]
    assert as_("cora").get("/projects/other").status_code == 404
    assert as_("cora").get("/projects/nowhere").status_code == 404
    assert as_("rosa").get("/projects/glioma").status_code == 403
    assert as_("olaf").get("/projects").status_code == 403


def test_where_a_reader_goes_from_a_case(app: FastAPI, house: Filled, as_: Any) -> None:
    order = rows_of(as_("ines").get("/").text)
    with house.database.read() as session:
        ines, cora = (users.find_user(session, name) for name in ("ines", "cora"))
        at = session.get_one(Enrolment, order[2])

        def signed(user: Any, grant: Grant) -> users.Signed:
            account = Account(user.id, user.name)
            return users.Signed(account, "", AT, grants=frozenset({grant}))

        nav = reading_nav(session, signed(ines, PEOPLE["ines"]), at)
        assert nav is not None
        assert (nav.previous, nav.next) == (order[1], order[3])
        assert (nav.done, nav.total) == (0, 6)
        first = reading_nav(
            session, signed(ines, PEOPLE["ines"]), session.get_one(Enrolment, order[0])
        )
        assert first is not None
        assert first.previous == ""
        assert reading_nav(session, signed(cora, PEOPLE["cora"]), at) is None
        assert reading_nav(session, signed(ines, PEOPLE["olaf"]), at) is None
        assert reading_nav(session, signed(ines, PEOPLE["ines"]), None) is None


class Chromium:
    """A browser that looks at a list, and does what it is told."""

    def __init__(self, origin: str, name: str, path: str, folder: Path, shots: list[Any]) -> None:
        plan = {"origin": origin, "name": name, "password": PASSWORD, "live": path, "shots": shots}
        file = folder / "plan.json"
        file.write_text(json.dumps(plan))
        self._process = subprocess.Popen(
            ["node", str(ROOT / "tests" / "portal" / "worklist.mjs"), str(file)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        self.first = self._line()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout
        line: dict[str, Any] = json.loads(self._process.stdout.readline())
        return line

    def ask(self, **told: str) -> dict[str, Any]:
        """Press, click, hover, wait for words; then say what is seen."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return self._line()

    def close(self) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.close()
        wrong = self._line()
        assert self._process.wait(30) == 0
        return wrong


def kept(filler: Filler, site: SiteFolder, name: str, **exam: Any) -> None:
    """An exam comes and has its results, as the engine keeps them."""
    filler.exam(name, **exam)
    with filler.filled.database.write() as session:
        job = session.get_one(Job, filler.filled.jobs[name])
        results_kept(session, site, filler.filled.archive, job, datetime.now(UTC))


@pytest.mark.skipif(any(mark.args[0] for mark in _browser), reason="no Chromium, node or OHIF")
def test_a_list_changes_under_nobodys_pointer(house: Filled, tmp_path: Path) -> None:
    site = site_of(house.site.root, port=port())
    shots = [
        {"path": path, "width": width, "height": width * 9 // 16, "file": str(tmp_path / file)}
        for path, width, file in (
            ("/", 1280, "w1280.png"), ("/", 1440, "w1440.png"), ("/", 3840, "w3840.png"),
            ("/cases", 1440, "cases.png"),
        )
    ]  # fmt: skip
    filler = Filler(site)
    filler.filled.cases.update(house.cases)
    with listening(site) as origin:
        chromium = Chromium(origin, "ines", "/", tmp_path, shots)
        before = chromium.first["rows"]
        assert len(before) == 6
        assert chromium.ask(press="j")["focus"] == before[0]
        assert chromium.ask(press="j")["focus"] == before[1]
        assert chromium.ask(press="k")["focus"] == before[0]
        # Somebody reads one in another window: its row says so, and nothing moves.
        with house.database.write() as session:
            ines = users.find_user(session, "ines").id
            session.execute(
                update(Reading)
                .where(Reading.reader_id == ines, Reading.enrolment_id == before[3][2:])
                .values(state="draft", saved_at=AT)
            )
        begun = chromium.ask(until="begun")
        assert begun["rows"] == before
        assert begun["states"][3].endswith("begun")
        # Urgent ones come: they belong on top, and are announced instead.
        for number in (1, 2):
            kept(
                filler, site, f"new-{number}", accession=f"PH-N-{number}", radius=18,
                patient=Patient(f"PHANTOM^NEW{number}", f"PH-8{number}"),
            )  # fmt: skip
        announced = chromium.ask(until="2 new cases")
        assert announced["rows"] == before
        assert announced["heading"] == "8 cases to read"
        assert announced["focus"] == before[0]
        assert announced["shift"] < 0.01
        shown = chromium.ask(click="#show-new", until="PHANTOM, NEW2")
        assert len(shown["rows"]) == 8
        assert set(before) < set(shown["rows"])
        chromium.ask(press="Escape")
        wrong = chromium.close()
    assert wrong == {"elsewhere": [], "errors": [], "refused": []}
    for shot in shots:
        assert Path(str(shot["file"])).stat().st_size > 10_000
