"""The commands that look: jobs, exams, an exam's way, the site's health."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmwrite
from pydicom.uid import generate_uid
from typer.testing import CliRunner, Result

from overread.cli import terminal
from overread.cli.main import app
from overread.cli.why import words
from overread.dicom.study import Origin
from overread.errors import OverreadError, UsageError
from overread.pipelines.job import JobState
from overread.store.refusals import quarantine, turn_away
from overread.store.tables import Exam, Instance, Job, StepRun
from tests.engine.world import World, exam_images

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BROKEN = "def f(:\n"
DIGEST = "ab" * 32


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A site with a route that asks for CT, and nothing running."""
    made = World(tmp_path / "site")
    # the receiver is looked for where nothing listens
    made.settings["dicom"] = {"port": 1}
    made.settings["portal"] = {"port": 1}
    made.settings["engine"]["isolation"] = "none"
    made.routes = [{"name": "heads", "when": {"Modality": "CT"}, "send_to": ["BRIGHT"]}]
    yield made.build()
    made.close()


def run(world: World, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--site", str(world.root)])


def told(world: World, *arguments: str) -> str:
    result = run(world, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def break_it(world: World) -> None:
    (world.root / "operators" / "broken.py").write_text(BROKEN)


def with_job(world: World) -> str:
    """An exam that was closed, and its job that failed in its first step."""
    with world.database.write() as session:
        exam = Exam(
            root_id="e" * 32,
            id="e" * 32,
            revision=1,
            pipeline="bright-spots",
            ae_title="BRIGHT",
            group="1.2",
            patient_id="P",
            issuer="",
            patient_name="",
            study_uid="1.2",
            accession="A1",
            study_date="",
            study_description="",
            modality="MR",
            state="closed",
            held_reason="",
            opened_at=NOW,
            last_arrival_at=NOW,
            due_at=NOW,
            closed_at=NOW,
            evidence={"decided_by": "deadline"},
            priority=0,
        )
        job = Job(
            exam_id=exam.id,
            pipeline="bright-spots",
            pipeline_version="1.0.0",
            pipeline_digest=DIGEST,
            definition={},
            models=[],
            operators={},
            overread_version="0",
            stage="validation",
            priority=0,
            origin="routed",
            state=JobState.FAILED,
            reason="it [raised] an error that takes more than a line to be told to the engineer",
            attempt=1,
            from_step="",
            worker="",
            created_at=NOW,
            started_at=NOW,
            ended_at=NOW,
        )
        session.add(exam)
        session.flush()
        session.add(job)
        session.flush()
        step = StepRun(
            job_id=job.id,
            name="mask",
            attempt=1,
            runs=1,
            position=0,
            operator="threshold",
            state="failed",
            inputs={"volume": {"step": "t1", "files": {"v.nii": {"sha256": DIGEST, "size": 1}}}},
            outputs={},
            settings={},
            report={},
            error="it raised",
            log="",
            worker="",
            started_at=NOW,
            ended_at=NOW,
        )
        session.add(step)
        return job.id


def set_aside(world: World, accession: str, reason: str = "truncated") -> None:
    one = Dataset()
    one.SOPClassUID, one.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", generate_uid()
    one.AccessionNumber = accession
    buffer = BytesIO()
    dcmwrite(buffer, one, implicit_vr=False, little_endian=True, force_encoding=False)
    world.archive.put("quarantine/x.dcm", buffer.getvalue())
    with world.database.write() as session:
        quarantine(
            session,
            at=NOW,
            association_id=None,
            key="quarantine/x.dcm",
            size=1,
            status=0xA900,
            reason=reason,
        )


def test_a_job_is_told_whole(world: World) -> None:
    job = with_job(world)
    said = told(world, "job", "show", job[:8])
    assert "Step mask (threshold) attempt 1: failed, began 2026-01-02 03:04:05 UTC, 0.0 s" in said
    assert "in volume: t1, 1 file\n" in said
    assert f"v.nii sha256 {DIGEST}" in said


def test_listings_fit_a_narrow_window_and_cut_nothing_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = with_job(world)
    monkeypatch.setattr(terminal.console, "_width", 80)
    said = told(world, "job", "list")
    assert max(map(len, said.splitlines())) <= 80
    assert job[:8] in said and "2026-01-02 03:04:05 UTC" in said
    assert "it [raised]" in said and said.rstrip().endswith("engineer") and "…" not in said
    said = told(world, "exam", "list")
    assert max(map(len, said.splitlines())) <= 80
    assert "deadline" in said
    monkeypatch.setattr(terminal.console, "_width", 200)
    assert "closed at" in told(world, "exam", "list")


@pytest.mark.parametrize(
    ("noun", "names"), [("job", ("refused", "cancelled")), ("exam", ("closed", "held"))]
)
def test_a_state_that_is_none_is_wrong_usage(world: World, noun: str, names: tuple[str]) -> None:
    result = run(world, noun, "list", "--state", "bogus")
    assert result.exit_code == 2
    assert all(name in result.output for name in names)
    assert told(world, noun, "list", "--state", names[0], "--json") == "[]\n"


def test_looking_needs_the_settings_only(world: World) -> None:
    job = with_job(world)
    world.arrive(exam_images(AccessionNumber="A2"), called="OVERREAD")
    break_it(world)
    for command in (("job", "list"), ("job", "show", job), ("job", "logs", job), ("exam", "list")):
        assert told(world, *command)
    assert "kept; nobody sent it to a pipeline" in told(world, "why", "A2")


def test_a_site_that_never_ran_is_told_what_is_missing(world: World) -> None:
    (world.root / "data" / "overread.sqlite").unlink()
    result = run(world, "job", "list")
    assert isinstance(result.exception, OverreadError)
    assert not isinstance(result.exception, UsageError)
    assert "starting a service makes its tables" in str(result.exception)


def test_why_names_the_route_that_did_not_take_it(world: World) -> None:
    world.arrive(exam_images(AccessionNumber="A2", SeriesDescription="T1"), called="OVERREAD")
    said = told(world, "why", "A2")
    assert "Route heads did not take T1: its condition is not met" in said
    assert "✗ Modality equals 'CT': found 'MR'" in said
    (refusal,) = json.loads(told(world, "why", "A2", "--json"))["refusals"]
    assert refusal["route"] == "heads"


def test_why_tells_what_is_in_quarantine_by_its_own_accession_number(world: World) -> None:
    set_aside(world, "A3", "SOP Class UID differs")
    said = told(world, "why", "A3")
    assert "what came is in quarantine: SOP Class UID differs" in said
    assert "kept as quarantine/x.dcm" in said
    assert isinstance(run(world, "why", "A4").exception, UsageError)


def doctor(world: World) -> dict[str, dict[str, str]]:
    rows = json.loads(run(world, "doctor", "--json").stdout)
    return {row["check"]: row for row in rows}


def test_doctor_shows_what_was_set_aside_and_is_not_alarmed(world: World) -> None:
    asides = ("quarantined objects", "conflicts", "associations turned away today")
    before = doctor(world)
    assert [before[name]["said"] for name in asides] == ["none"] * 3
    set_aside(world, "A3")
    world.arrive(exam_images(AccessionNumber="A2")[:1], called="OVERREAD")
    with world.database.write() as session:
        turn_away(session, Origin("STRANGER", "OVERREAD", "10.0.0.9"), "x", datetime.now(UTC))
        turn_away(session, Origin("STRANGER", "OVERREAD", "10.0.0.9"), "x", datetime.now(UTC))
        one = session.query(Instance).one()
        one.standing, one.standing_reason = "conflict", "with instance 7: its pixels differ"
    after = doctor(world)
    assert [after[name]["state"] for name in asides] == ["notice"] * 3
    assert all(after[name]["well"] for name in asides)
    said = [after[name]["said"] for name in asides]
    assert "truncated" in said[0]
    assert "its pixels differ; overread why A2" in said[1]
    assert said[2].startswith("2, the last one at") and "STRANGER at 10.0.0.9" in said[2]


def test_doctor_lists_the_faults_of_a_site(world: World) -> None:
    break_it(world)
    (world.root / "environments").mkdir()
    (world.root / "environments" / "demo.yaml").write_text("{}")
    result = run(world, "doctor", "--json")
    assert result.exit_code == 1
    rows = json.loads(result.stdout)
    faults = [row["said"] for row in rows if row["check"] == "site"]
    assert len(faults) == 1 and faults[0].startswith("operators/broken.py:1: ")
    by_name = {row["check"]: row for row in rows}
    assert by_name["database"]["state"] == "well"
    assert "OVERREAD_ENV=demo" in by_name["receiver"]["said"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("always", "always"),
        ({"Modality": "MR"}, "Modality: MR"),
        (
            {"any": [{"Rows": {"exists": True}}, "always"]},
            "any: [{Rows: {exists: true}}, always]",
        ),
    ],
)
def test_a_condition_is_written_as_in_the_site(value: object, text: str) -> None:
    assert words(value) == text
