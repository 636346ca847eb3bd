"""Values of a FHIR server (a double): asked for by the engine, of the exam's patient alone."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from overread.engine import fhir
from overread.engine.fhir import ask, asked
from overread.errors import SiteError, StepFailed
from overread.operators.clinical import Value
from overread.settings import FhirServer, Settings
from overread.site import load
from overread.store import jobs
from tests.dicom.series import keep
from tests.engine.fhir_double import LOINC, SYSTEM, TOKEN, Double, double, patient, weight
from tests.engine.test_fhir_records import IMAGE, asking
from tests.engine.world import OVERREAD, World, exam_images, pipeline

LATE = "2026-07-14"


@pytest.fixture
def server() -> Iterator[Double]:
    with double(patient()) as held:
        yield held


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fhir, "PAUSES", (0.05, 0.05))


def site(server: Double, **more: Any) -> Settings:
    one = {"url": server.url, "patient_systems": {"": SYSTEM}, **more}
    return Settings.model_validate({"site": {"name": "Test"}, "fhir": {"ehr": one}})


def told(server: Double, value: Value | None = None, **more: Any) -> dict[str, str]:
    images = [{**IMAGE, **more}]
    return ask({"it": value or asking()}, images, site(server), 30)["it"]


def test_the_newest_of_several_pages(server: Double) -> None:
    server.resources += [weight(f"w{day}", f"2026-07-0{day}", 60 + day) for day in range(1, 8)]
    assert told(server) == {
        "written": "67",
        "unit": "kg",
        "where": "Observation w7 of 2026-07-07 at FHIR server ehr",
    }
    methods = [(method, path.partition("?")[0]) for method, path, _ in server.asked]
    assert methods == [
        ("POST", "/fhir/Patient/_search"),
        ("POST", "/fhir/Observation/_search"),
        *[("GET", "/fhir")] * 3,
    ]
    search = server.asked[1][2]
    assert search["patient"] == ["p1"]
    assert search["code"] == [f"{LOINC}|29463-7"]
    assert search["date"] == ["ge2026-01-15", "le2026-07-16"]


def test_only_what_is_named_is_asked_for(server: Double) -> None:
    age = Value.model_validate({"fhir": {"server": "ehr", "patient": "birthDate"}, "unit": "a"})
    assert told(server, age)["unit"] == "d"
    assert [path for _, path, _ in server.asked] == ["/fhir/Patient/_search"]


def test_the_token_is_sent_and_only_there(server: Double) -> None:
    server.resources += [weight(f"w{day}", f"2026-07-0{day}", 60) for day in range(1, 5)]
    settings = site(server, token=TOKEN)
    assert TOKEN not in repr(settings)
    ask({"it": asking()}, [IMAGE], settings, 30)
    assert server.tokens == {f"Bearer {TOKEN}"}
    with double() as elsewhere:
        server.next_host = elsewhere.url
        with pytest.raises(StepFailed, match="next page at another address"):
            ask({"it": asking()}, [IMAGE], settings, 30)
        assert elsewhere.asked == []


@pytest.mark.parametrize("others", [[], [patient(), patient("p2")]])
def test_none_or_several_patients_are_a_missing_value(others: list[Any]) -> None:
    with double(*others, weight("w", LATE, 70)) as server:
        number = len(others) or "no"
        assert told(server)["missing"] == (
            f"FHIR server ehr knows {number} patients by the exam's PatientID"
        )
        assert [path for _, path, _ in server.asked] == ["/fhir/Patient/_search"]


@pytest.mark.parametrize(
    "changes",
    [
        {"identifier": [{"system": SYSTEM, "value": "TEST-1", "use": "old"}]},
        {"identifier": [{"system": "urn:oid:9", "value": "TEST-1"}]},
        {"identifier": [{"system": SYSTEM, "value": "TEST-10"}]},
        {"active": False},
        {"link": [{"type": "replaced-by"}]},
    ],
)
def test_what_a_careless_server_gives_is_looked_at(changes: dict[str, Any]) -> None:
    with double(patient(**changes), weight("w", LATE, 70)) as server:
        server.everything = True
        assert "missing" in told(server)


def test_an_identifier_is_one_whatever_it_holds(server: Double) -> None:
    odd = r"A,B|C\D$"
    server.resources = [patient(identifier=[{"system": SYSTEM, "value": odd}])]
    server.resources.append(weight("w", LATE, 70))
    assert told(server, patient_id=odd)["written"] == "70"
    assert server.asked[0][2]["identifier"] == [rf"{SYSTEM}|A\,B\|C\\D\$"]


def test_an_issuer_without_a_system_is_not_asked_for(server: Double) -> None:
    assert "patients of issuer 'OTHER'" in told(server, issuer="OTHER")["missing"]
    assert server.asked == []


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"gender": "male"}, "sex"),
        ({"birthDate": "1971-01-01"}, "birth date"),
        ({"name": [{"family": "Other"}]}, "name"),
    ],
)
def test_another_person_under_the_number_is_refused(changes: Any, differs: str) -> None:
    with double(patient(**changes), weight("w", LATE, 70)) as server:
        refused = told(server)["refused"]
        assert refused.startswith(f"{differs} of the patient at FHIR server ehr are not those")
        assert "Müller" not in refused and "1970" not in refused
        assert len(server.asked) == 1  # nothing more is asked of whoever that is


def test_another_patients_observation_is_never_taken(server: Double) -> None:
    server.resources.append(weight("w", LATE, 70, subject={"reference": "Patient/p2"}))
    server.everything = True
    with pytest.raises(StepFailed, match="gave those of another; it cannot be used"):
        told(server)


def test_an_old_value_is_missing(server: Double) -> None:
    server.resources.append(weight("w", "2025-01-01", 70))
    server.everything = True
    assert "in the 180 days up to 2026-07-15; 1 too old" in told(server)["missing"]


def test_a_server_that_is_busy_is_asked_again(server: Double) -> None:
    server.resources.append(weight("w", LATE, 70))
    server.fails = [503, 429]
    assert told(server)["written"] == "70"


@pytest.mark.parametrize(
    ("fails", "message"),
    [
        ([500] * 3, r"is away \(it answers 500\); retry the job"),
        ([401], r"does not let us in \(401\); look at fhir.ehr.token"),
        ([404], "answers 404; fhir.ehr.url in overread.yaml must be its base address"),
    ],
)
def test_a_server_that_does_not_answer(server: Double, fails: list[int], message: str) -> None:
    server.fails = fails
    with pytest.raises(StepFailed, match=message):
        told(server)


def test_a_server_that_is_away_or_is_none(server: Double) -> None:
    away = site(server)
    server.resources = [{"resourceType": "Patient", "id": "x", "identifier": "Müller"}]
    server.everything = True
    with pytest.raises(StepFailed, match="no FHIR") as raised:
        told(server)
    assert "Müller" not in str(raised.value)
    with double() as gone:
        away = site(gone)
    with pytest.raises(StepFailed, match=r"is away \(.*refused\); retry the job when"):
        ask({"it": asking()}, [IMAGE], away, 30)
    with pytest.raises(StepFailed, match="longer than the step may take"):
        ask({"it": asking()}, [IMAGE], away, 0)
    with pytest.raises(StepFailed, match="does not name the FHIR server ehr"):
        ask({"it": asking()}, [IMAGE], Settings.model_validate({"site": {"name": "T"}}), 30)


def test_a_certificate_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "server.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=double"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", file, "-out",
         tmp_path / "ca.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    file.write_text(file.read_text() + (tmp_path / "ca.pem").read_text())
    with double(patient(), weight("w", LATE, 70), certificate=file) as server:
        with pytest.raises(StepFailed, match=r"not to be trusted .*fhir.ehr.certificate_authority"):
            told(server)
        assert server.asked == []
        trusting = site(server, certificate_authority=str(tmp_path / "ca.pem"))
        assert ask({"it": asking()}, [IMAGE], trusting, 30)["it"]["written"] == "70"
        unread = site(server, certificate_authority=str(tmp_path / "none.pem"))
        with pytest.raises(StepFailed, match="certificate_authority cannot be read"):
            ask({"it": asking()}, [IMAGE], unread, 30)


@pytest.mark.parametrize(
    ("url", "more", "message"),
    [
        ("https://ehr.example/fhir/", {}, ""),
        ("http://localhost:8080/fhir", {}, ""),
        ("http://ehr.example/fhir", {"plain_http": True}, ""),
        ("http://ehr.example/fhir", {}, "in the clear; write https://"),
        ("https://user:word@ehr.example/fhir", {}, "is no base address"),
        ("ehr.example/fhir", {}, "is no base address"),
        ("https://ehr.example/fhir?tenant=1", {}, "more than a base address"),
        ("https://ehr.example/fhir", {"patient_systems": {}}, "at least 1 item"),
        ("https://ehr.example/fhir", {"patient_systems": {"": "a|b"}}, "match pattern"),
    ],
)
def test_settings(url: str, more: dict[str, Any], message: str) -> None:
    given = {"url": url, "patient_systems": {"H": SYSTEM}, **more}
    if message:
        with pytest.raises(ValidationError, match=message):
            FhirServer.model_validate(given)
    else:
        assert FhirServer.model_validate(given).url == url.rstrip("/")


def test_nothing_is_logged(server: Double, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore"):
        assert logging.getLogger(name).getEffectiveLevel() >= logging.WARNING
    server.resources += [weight(f"w{day}", f"2026-07-0{day}", 60) for day in range(1, 5)]
    told(server)
    assert caplog.text == ""


def test_a_job_that_must_not_go_on_stops_waiting(server: Double) -> None:
    class Stop(Exception): ...

    def look() -> None:
        raise Stop

    with pytest.raises(Stop):
        ask({"it": asking()}, [IMAGE], site(server), 30, look)


def test_only_clinical_values_can_ask() -> None:
    with_ = {"values": {"w": {"tag": "PatientWeight", "unit": "kg"}, "it": FROM_FHIR}}
    request = {"source": None, "operator": "clinical_values", "settings": with_}
    assert list(asked(request)) == ["it"]
    assert asked({**request, "operator": "read_volume"}) == {}
    assert asked({**request, "source": "/a/file/of/the/site.py"}) == {}


FROM_FHIR = {
    "fhir": {
        "server": "ehr",
        "observation": {"system": LOINC, "code": "29463-7"},
        "within": "180d",
    },
    "unit": "kg",
    "plausible": [2, 250],
}
SEES = '''
import json
from overread.pipelines.ports import Context
from overread.validation.results import ClinicalValues, Measurement, Measurements

def told(values: ClinicalValues, context: Context) -> Measurements:
    """Make a measurement of the values; it cannot see what the server said besides."""
    assert not context.fhir
    (one,) = values.items
    return Measurements((Measurement(one.name, "Patient", float(one.value), one.unit, "told"),))
'''


def built(world: World, server: Double, told: str = SEES) -> World:
    world.settings["fhir"] = {
        "ehr": {"url": server.url, "token": "${file:../token}", "patient_systems": {"": SYSTEM}}
    }
    world.root.with_name("token").write_text(TOKEN)
    steps = {
        "values": {"use": "clinical_values", "with": {"values": {"weight": FROM_FHIR}}},
        "told": {"use": "told", "in": {"values": "values"}},
    }
    world.pipelines = [pipeline(steps, results=["told"])]
    world.operators["told"] = told
    return world.build()


def test_a_job_from_the_server_to_the_result_and_again(world: World, server: Double) -> None:
    server.resources.append(weight("w", LATE, 154.32, "[lb_av]"))
    server.fails = [401]
    built(world, server).start()
    world.arrive(exam_images())
    job = world.wait_for_job("failed", "done")
    assert job.state == "failed"
    assert "step values: FHIR server ehr does not let us in (401)" in job.reason

    def again() -> Any:
        with world.database.write() as session:
            jobs.retry(session, job.id, at=datetime.now(UTC), actor="test")
        return world.wait_for_job("failed", "done", "refused")

    server.resources[0] = patient(gender="male")
    assert again().state == "refused"
    server.resources[0] = patient()  # corrected there: a job that was refused asks again
    job = again()
    assert job.state == "done", job.reason
    with world.database.read() as session:
        (result,) = jobs.results(session, job.id)
    (made,) = result.data["measurements"]
    assert (made["value"], made["unit"]) == (pytest.approx(69.998, abs=0.001), "kg")
    run = world.steps(job)["values"]
    assert run.inputs["fhir"]["weight"]["written"] == "154.32"
    assert run.report["used"][0][1].endswith(
        "kg: Observation w of 2026-07-14 at FHIR server ehr, 154.32 [lb_av] turned into kg"
    )
    assert server.tokens == {f"Bearer {TOKEN}"}
    files = [file for file in world.root.joinpath("data").rglob("*") if file.is_file()]
    assert not [file for file in files if TOKEN.encode() in file.read_bytes()]


def test_a_step_that_runs_again_is_told_the_same(world: World, server: Double) -> None:
    server.resources.append(weight("w", LATE, 70))
    built(world, server, told=SEES.replace("assert not context.fhir", "raise RuntimeError")).start()
    world.arrive(exam_images())
    job = world.wait_for_job("failed")
    first = world.steps(job)["values"].outputs["files"]
    asked_before = len(server.asked)
    server.resources[1] = weight("w9", LATE, 99)
    with world.database.write() as session:
        jobs.retry(session, job.id, at=datetime.now(UTC), actor="test")
    job = world.wait_for_job("failed")
    assert job.attempt == 2
    run = world.steps(job)["values"]
    assert (run.attempt, run.runs, run.outputs["files"]) == (2, 1, first)
    assert len(server.asked) == asked_before


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*OVERREAD, *words, "--site", str(root)],
        cwd=root.parent, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


def test_a_pipeline_without_a_server_of_ours_asks_too(
    world: World, server: Double, tmp_path: Path
) -> None:
    server.resources.append(weight("w", LATE, 71.5))
    built(world, server)
    keep(exam_images(), tmp_path / "exam")
    ran = run(world.root, "pipeline", "run", "bright-spots", str(tmp_path / "exam"), "--json")
    assert ran.returncode == 0, ran.stderr
    (result,) = json.loads(ran.stdout)["results"]
    assert result["measurements"][0]["value"] == 71.5
    for said in (ran.stderr, *(one.read_text() for one in tmp_path.rglob("*.log"))):
        assert "TEST-1" not in said and TOKEN not in said
    values = json.dumps({"weight": FROM_FHIR})
    ran = run(
        world.root, "operator", "run", "clinical_values",
        "--in", f"exam={tmp_path / 'exam'}", "--set", f"values={values}", "--json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "71.5 kg: Observation w of" in ran.stdout


def test_a_server_that_the_site_does_not_name_is_a_fault(world: World, server: Double) -> None:
    built(world, server)
    file = world.root / "pipelines" / "bright-spots.yaml"
    file.write_text(file.read_text().replace('"ehr"', '"her"'))
    with pytest.raises(SiteError) as raised:
        load(world.root, {})
    assert str(raised.value) == (
        "pipelines/bright-spots.yaml:1: steps.values.with.values.weight.fhir.server: there is no "
        "FHIR server 'her'; expected an existing FHIR server, perhaps ehr"
    )
