"""A case's page as a project declares it: from files of a site folder alone."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.identity.local import hash_password
from overread.portal.app import build
from overread.site import SiteFolder, load
from overread.store import enrolments, users
from overread.store.tables import Audit, Reading
from tests.portal.conftest import post_sign_in
from tests.portal.filled import AT, DEFINITION, Filler
from tests.portal.test_cases import text_of

PROJECT = """
name: glioma
title: Glioma progression
pipelines: [brain-tumour]
members:
  reader: {users: [ruth, remy]}
  coordinator: {users: [cora]}
page:
  blocks: [text, summary, plot, measurements, provenance]
  columns: [date, accession, region, source, value, change, absolute change, scanner]
  views: [viewer]
  series:
    - quantity: volume
      regions: [Enhancing tumour]
      title: Tumour volume
      threshold: {increase: 25%, decrease: 50%, words: progression}
      repeatability: 12%
  text: |
    Compare with the baseline scan.
    <b>Nothing</b> is markup here.
"""
OTHER = """
name: second
pipelines: [brain-tumour]
members:
  reader: {users: [olga]}
page: {blocks: [measurements], columns: [date, value]}
"""
PASSWORD = "a password that is long"


@dataclass
class Clinic:
    """A site made of files, its cases, and browsers of its people."""

    site: SiteFolder
    filler: Filler
    cases: dict[str, str] = field(default_factory=dict)
    people: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.app = build(self.site)

    def browser(self, name: str) -> TestClient:
        """A browser in which somebody has signed in."""
        client = TestClient(self.app, follow_redirects=False)
        assert post_sign_in(client, name, PASSWORD).status_code == 303
        return client


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Clinic:
    root = tmp_path_factory.mktemp("clinic")
    for folder, name, text in (
        (".", "overread.yaml", "site: {name: Phantom clinic}\n"),
        ("pipelines", "brain-tumour.yaml", json.dumps(DEFINITION)),
        ("projects", "glioma.yaml", PROJECT),
        ("projects", "second.yaml", OTHER),
    ):
        (root / folder).mkdir(exist_ok=True)
        (root / folder / name).write_text(text)
    site = load(root, {})
    filler = Filler(site)
    thick = {"SpacingBetweenSlices": 6, "ManufacturerModelName": "Other"}
    filler.exam("oldest", accession="G-1", date="20250301", radius=10)
    filler.exam("thick", accession="G-2", date="20250901", radius=10.9, header=thick)
    filler.exam("new model", accession="G-3", date="20260101", radius=14, model_version="2.0.0")
    filler.exam("now", accession="G-4", date="20260301", radius=13)
    filler.exam("failed", accession="G-5", date="20260201", state="failed", reason="broken")
    clinic = Clinic(site, filler)
    with filler.filled.database.write() as session:
        for name in ("ruth", "remy", "cora", "olga", "wanda"):
            role, project = ("reader", "glioma")
            if name == "wanda":
                project = ""
            clinic.people[name] = users.add_user(
                session, AT, "test", name=name, secret=hash_password(PASSWORD), role=role,
                project="nothing here" if project else "",
            ).id  # fmt: skip
        for name, root_id in filler.filled.cases.items():
            clinic.cases[name] = enrolments.enrol(session, AT, "glioma", root_id, "brain-tumour").id
    filler.edit("now", clinic.people["ruth"], 6.0, version=2, project="glioma")
    return clinic


def section(page: str, id: str) -> str:
    found = re.search(rf'<section id="{id}".*?</section>', page, re.DOTALL)
    assert found is not None
    return found[0]


def rows(page: str) -> list[str]:
    table = re.search(r'<table class="course">.*?</table>', section(page, "measurements"), re.S)
    assert table is not None
    return [text_of(row) for row in re.findall(r"<tr class=.*?</tr>", table[0], re.DOTALL)]


def test_a_project_of_files_alone_has_its_own_page(clinic: Clinic) -> None:
    page = clinic.browser("remy").get(f"/cases/{clinic.cases['now']}").text
    text = text_of(page)
    assert "Glioma progression AI result, investigational" in text
    assert "brain-tumour 1.0.0 · validation" in text
    assert "Compare with the baseline scan. &lt;b&gt;Nothing&lt;/b&gt; is markup here." in text
    assert "Tumour volume 9.2 mL +120 % from baseline ▲ progression" in text
    assert "What ran brain-tumour 1.0.0" in text
    assert "Written" not in text, "the block `objects` is not declared"
    heads = re.findall(r"<th(?: [^>]*)?>([^<]*)", section(page, "measurements"))
    assert heads == ["Acquired", "Region", "Source", "mL", "Change", "Difference", "Scanner"]
    order = [page.index(f'id="{name}"') for name in ("summary", "plot", "measurements")]
    assert order == sorted(order)


def test_rows_stand_by_acquisition_with_their_marks(clinic: Clinic) -> None:
    page = clinic.browser("remy").get(f"/cases/{clinic.cases['now']}").text
    now, newer, thick, first = rows(page)
    assert now.startswith("1 Mar 2026 G-4 Enhancing tumour model 1.0.0 9.2 +120 % ▲ progression")
    assert newer.startswith("1 Jan 2026 G-3 Enhancing tumour model 2.0.0 11.5 no other")
    assert "1 Sep 2025 G-2 Enhancing tumour model 1.0.0 5.3 +26 %" in thick
    assert "▲ progression, within measurement error" in thick
    assert "◇ other scanner and spacing" in thick
    assert first.startswith("1 Mar 2025 G-1 Enhancing tumour model 1.0.0 4.2 baseline")
    assert "1 Feb 2026 G-5 failed" in text_of(page)
    assert f'<a href="/cases/{clinic.cases["oldest"]}">1 Mar 2025</a>' in page


@pytest.mark.parametrize(
    ("baseline", "changes"),
    [
        ("first", ["+120 %", "no other", "+26 %", "baseline"]),
        ("nadir", ["+120 %", "no other", "+26 %", "baseline"]),
        ("thick", ["+75 %", "no baseline", "baseline", "−20 %"]),
        ("now", ["baseline", "no baseline", "−43 %", "−54 %"]),
        ("no such thing", ["+120 %", "no other", "+26 %", "baseline"]),
    ],
)
def test_the_baseline_is_chosen_in_place_and_the_address_can_be_shared(
    clinic: Clinic, baseline: str, changes: list[str]
) -> None:
    remy = clinic.browser("remy")
    chosen = clinic.cases.get(baseline, baseline)
    address = f"/cases/{clinic.cases['now']}"
    part = remy.get(f"{address}/measurements", params={"baseline": chosen, "view": "viewer"})
    page = remy.get(address, params={"baseline": chosen})
    for answer in (part, page):
        said = r"[+−]\d+ %|no baseline|no other|baseline"
        found = [re.search(said, row) for row in rows(answer.text)]
        assert [one[0] for one in found if one] == changes
    assert part.text.count('hx-swap-oob="true"') == 3
    assert "hx-swap-oob" not in page.text
    replaced = part.headers["hx-replace-url"]
    assert remy.get(replaced).status_code == 200
    assert replaced.startswith(f"{address}?baseline=")
    assert replaced.endswith("&view=viewer")


def test_the_plot_has_a_line_for_each_source(clinic: Clinic) -> None:
    page = clinic.browser("ruth").get(f"/cases/{clinic.cases['now']}").text
    block = re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert block is not None
    told = json.loads(block[1])
    assert [(line["label"], line["look"], line["edit"]) for line in told["lines"]] == [
        ("model 1.0.0", "l0", False),
        ("model 2.0.0", "l1", False),
        ("you", "e0", True),
    ]
    model, _, own = told["lines"]
    assert [point["otherwise"] for point in model["points"]] == [False, True, False]
    assert [point["now"] for point in model["points"]] == [False, False, True]
    up, down = model["levels"]
    base = model["points"][0]["value"]
    assert [up["value"], up["low"], up["high"]] == pytest.approx(
        [base * 1.25, base * 1.13, base * 1.37]
    )
    assert (up["words"], down["value"]) == (
        "+25 %, band = repeatability 12 %", pytest.approx(base / 2),
    )  # fmt: skip
    assert own["points"][0]["words"] == ["1 Mar 2026", "6.0 mL", "baseline"]


def test_an_edit_is_its_readers_own_and_moves_no_number_of_the_model(clinic: Clinic) -> None:
    address = f"/cases/{clinic.cases['now']}"
    ruth, remy, cora = (clinic.browser(name).get(address).text for name in ("ruth", "remy", "cora"))
    assert "Enhancing tumour you · v2 6.0 no other" in text_of(ruth)
    assert "6.0" not in " ".join(rows(remy))
    assert "Enhancing tumour ruth · v2 6.0 no other" in text_of(cora)
    for page in (ruth, remy, cora):
        assert "Tumour volume 9.2 mL +120 % from baseline" in text_of(page)


def test_a_late_prior_becomes_the_baseline(clinic: Clinic) -> None:
    remy, address = clinic.browser("remy"), f"/cases/{clinic.cases['now']}"
    clinic.filler.exam("prior", accession="G-0", date="20240101", radius=8)
    root_id = clinic.filler.filled.cases["prior"]
    with clinic.filler.filled.database.write() as session:
        enrolments.enrol(session, AT, "glioma", root_id, "brain-tumour")
    try:
        found = rows(remy.get(f"{address}/measurements").text)
        assert found[-1].startswith("1 Jan 2024 G-0 Enhancing tumour model 1.0.0 2.0 baseline")
        assert "+355 %" in found[0]
    finally:
        with clinic.filler.filled.database.write() as session:
            session.delete(enrolments.of_exam(session, root_id)[0])


def test_what_one_may_not_see_is_not_there(clinic: Clinic) -> None:
    olga = clinic.browser("olga")
    unknown = olga.get("/cases/0123")
    assert unknown.status_code == 404
    for name in ("now", "oldest"):
        for case_id in (clinic.cases[name], clinic.filler.filled.cases[name]):
            for path in ("", "/measurements", "/state"):
                answer = olga.get(f"/cases/{case_id}{path}")
                assert answer.status_code == 404
                assert answer.text == unknown.text


def test_an_exams_id_leads_to_its_case(clinic: Clinic) -> None:
    root_id = clinic.filler.filled.cases["oldest"]
    for name in ("remy", "wanda"):
        answer = clinic.browser(name).get(f"/cases/{root_id}?baseline=nadir")
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/cases/{clinic.cases['oldest']}?baseline=nadir"


def test_an_exam_in_no_project_is_for_the_whole_site_and_has_no_form(clinic: Clinic) -> None:
    clinic.filler.exam("free", accession="G-9", date="20260501", radius=9)
    root_id = clinic.filler.filled.cases["free"]
    page = clinic.browser("wanda").get(f"/cases/{root_id}")
    assert page.status_code == 200
    assert "accession G-9 · " in text_of(page.text)
    assert clinic.browser("remy").get(f"/cases/{root_id}").status_code == 404


def test_of_several_projects_the_person_chooses(clinic: Clinic) -> None:
    root_id = clinic.filler.filled.cases["oldest"]
    with clinic.filler.filled.database.write() as session:
        second = enrolments.enrol(session, AT, "second", root_id, "brain-tumour").id
    try:
        wanda = clinic.browser("wanda")
        choice = wanda.get(f"/cases/{root_id}")
        assert "This exam is a case of several projects" in choice.text
        for case_id in (second, clinic.cases["oldest"]):
            assert f'href="/cases/{case_id}"' in choice.text
        other = wanda.get(f"/cases/{second}").text
        assert re.findall(r"<th(?: [^>]*)?>([^<]*)", section(other, "measurements")) == [
            "Acquired",
            "mL",
        ]
        assert clinic.browser("olga").get(f"/cases/{root_id}").headers["location"].endswith(second)
        assert clinic.browser("remy").get(f"/cases/{root_id}").status_code == 303
    finally:
        with clinic.filler.filled.database.write() as session:
            session.delete(enrolments.of_exam(session, root_id, ["second"])[0])


def test_opening_is_told_in_the_request(clinic: Clinic) -> None:
    case_id = clinic.cases["thick"]
    clinic.browser("remy").get(f"/cases/{case_id}")
    with clinic.filler.filled.database.read() as session:
        row = session.scalars(
            select(Audit).where(Audit.action == "open case", Audit.subject == f"case {case_id}")
        ).one()
        assert (row.actor, row.detail) == ("remy", {})
        assert row.session
        assert session.scalars(select(Reading)).all() == [], "looking is no reading"
