"""What was set aside, on the engineers' page: on a site of its own, first empty and then not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydicom import Dataset
from sqlalchemy import event
from starlette.testclient import TestClient

from overread.dicom.study import Origin
from overread.identity.local import hash_password
from overread.portal.app import build
from overread.store import aside, users
from overread.store.refusals import quarantine, turn_away
from overread.store.tables import Association
from tests.portal.conftest import post_sign_in
from tests.portal.filled import PASSWORDS, Filler, Patient, arrive, lesion, make_site, mr_slices
from tests.portal.test_cases import text_of

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


@dataclass
class Aside:
    """A site, and its engineer's browser."""

    filler: Filler
    engineer: TestClient

    def page(self) -> str:
        answer = self.engineer.get("/aside")
        assert answer.status_code == 200
        return str(answer.text)

    def table(self, name: str) -> str:
        found = re.search(rf'<section id="{name}">.*?</section>', self.page(), re.DOTALL)
        assert found is not None
        return text_of(found[0])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Aside:
    folder = make_site(tmp_path_factory.mktemp("aside"))
    filler = Filler(folder)
    with filler.filled.database.write() as session:
        users.add_user(
            session, NOW, "test",
            name="egon", secret=hash_password(PASSWORDS["egon"]), role="engineer",
        )  # fmt: skip
    engineer = TestClient(build(folder), follow_redirects=False)
    post_sign_in(engineer, "egon", PASSWORDS["egon"])
    return Aside(filler, engineer)


def slices(study: str, patient: str, accession: str) -> list[Dataset]:
    who = Patient(f"PHANTOM^{patient}", patient)
    return mr_slices(study, who, accession, "20260602", "MR BRAIN", lesion(9))[:2]


def set_aside(filler: Filler) -> None:
    """One or two of each kind: through the doors that the receiver uses."""
    filled = filler.filled
    with filled.database.write() as session:
        came_by = Association(
            calling_ae="MRPILOT1", called_ae="CI2_CD_BTS", peer_address="10.1.0.7",
            opened_at=NOW, closed_at=NOW, ended="released",
        )  # fmt: skip
        session.add(came_by)
        session.flush()
        quarantine(
            session, at=NOW - HOUR, association_id=came_by.id, key="quarantine/1", size=9,
            status=0xC000, reason="its header cannot be read", affected_sop_instance_uid="1.2.3",
        )  # fmt: skip
        quarantine(
            session, at=NOW, association_id=None, key="quarantine/2", size=9, status=0xA900,
            reason="STOW-RS: <b>no</b> SOPClassUID",
        )  # fmt: skip
        for calling, times in (("STRANGER", 3), ("LATER", 1)):
            for number in range(times):
                turn_away(
                    session, Origin(calling, "CI2_CD_BTS", "10.9.9.9"),
                    "calling AE title not recognized",
                    NOW - (HOUR if calling == "STRANGER" else HOUR / 2) + number * HOUR / 60,
                )  # fmt: skip
        first = slices("conflict", "PH-0050", "PH-CONFLICT")
        arrive(filled, session, first, NOW - 2 * HOUR, "CI2_CD_BTS")
        first[0].PatientID = "PH-0051"
        arrive(filled, session, first[:1], NOW, "CI2_CD_BTS")
        one, other = (slices("mixed", patient, "PH-MIXED") for patient in ("PH-52", "PH-53"))
        arrive(filled, session, one[:1], NOW, "CI2_CD_BTS")
        arrive(filled, session, other[1:], NOW, "CI2_CD_BTS")
    filler.exam(
        "held", patient=Patient("PHANTOM^ONE", "PH-0016"), accession="PH-G-0001", state="",
        exam_state="held", at=NOW - HOUR, reason="the site has no pipeline liver any more",
    )  # fmt: skip


@pytest.fixture(scope="module")
def full(site: Aside) -> Iterator[Aside]:
    set_aside(site.filler)
    yield site


def test_each_table_says_that_it_is_empty(site: Aside) -> None:
    page = text_of(site.page())
    for words in (
        "Nothing is in quarantine.",
        "No two objects contradict each other.",
        "Nothing is held.",
        "Nobody was turned away.",
    ):
        assert words in page
    assert 'class="badge"' not in site.page()


def test_quarantined(full: Aside) -> None:
    table = full.table("quarantined")
    assert "have it send again" in table
    assert re.search(
        r"UTC STOW-RS A900 STOW-RS: &lt;b&gt;no&lt;/b&gt; SOPClassUID [0-9a-f]{12} .*"
        r"UTC MRPILOT1 10\.1\.0\.7 C000 its header cannot be read SOP Instance UID 1\.2\.3 ",
        table,
    ), table


def test_conflicts(full: Aside) -> None:
    table = full.table("conflicts")
    assert "A person must decide" in table
    assert re.search(
        r"2\.25\.\d+ instance 3 · accession PH-CONFLICT with instance 1: another patient "
        r"instance 1 came .* UTC · accession PH-CONFLICT",
        table,
    ), table
    assert table.count("another patient") == 1


def test_held(full: Aside) -> None:
    table = full.table("held")
    assert "correct it at the source" in table
    arrivals = table.index(
        "1 arrival CI2_CD_BTS PH-MIXED its StudyInstanceUID came under two patients"
    )
    exam = table.index("CI2_CD_BTS PH-G-0001 the site has no pipeline liver any more")
    assert arrivals < exam
    assert "conflict" not in table
    assert f'href="/cases/{full.filler.filled.cases["held"]}"' in full.page()


def test_turned_away(full: Aside) -> None:
    table = full.table("turned")
    assert "list it under senders in overread.yaml" in table
    words = "CI2_CD_BTS 10.9.9.9 calling AE title not recognized"
    assert table.index(f"LATER {words} 1 ") < table.index(f"STRANGER {words} 3 ")


def test_the_navigation_counts_the_last_seven_days(full: Aside) -> None:
    database = full.filler.filled.database
    with database.read() as session:
        # Two in quarantine, a conflict, an exam, a study's arrivals, two that were turned away.
        assert aside.count_since(session, NOW - timedelta(days=7)) == 7
        assert aside.count_since(session, NOW + timedelta(days=7)) == 0
    for path in ("/", "/exams", "/aside"):
        badge = '<span class="badge" title="set aside in the last 7 days">7<span class="sr">'
        assert badge in full.engineer.get(path).text


def test_a_table_that_is_cut_says_so(full: Aside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overread.portal.engineers._LISTED", 1)
    assert "Quarantined 1, the newest" in full.table("quarantined")
    assert "STRANGER" not in full.table("turned")


def test_a_million_images_in_order_are_not_looked_at(full: Aside) -> None:
    database = full.filler.filled.database
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    with database.read() as session:
        aside.count_since(session, NOW)
        aside.conflicts(session)
        aside.held(session)
    event.remove(database.engine, "before_cursor_execute", note)
    plans = []
    with database.engine.connect() as connection:
        for statement, parameters in asked:
            if statement.startswith("SELECT"):
                explain = f"EXPLAIN QUERY PLAN {statement}"
                plans.append([row[3] for row in connection.exec_driver_sql(explain, parameters)])
    assert len(plans) == 8
    scans = [line for plan in plans for line in plan if line.startswith("SCAN")]
    assert [
        line for line in scans if "instance" in line and "ix_instance_conflict" not in line
    ] == []
    assert [line for line in scans if "arrival" in line and "ix_arrival_held" not in line] == []


def test_a_reader_has_no_such_entry(reader: TestClient) -> None:
    assert "/aside" not in reader.get("/").text
