"""The liver and the hip example as a site serves them: sent by DCMTK, routed, run, looked at.

Everything is real but the patients: ``overread init``, ``overread serve``, associations, portal.
`tests.test_example_lts` and `tests.test_example_hfd` hold the pipelines themselves against the
truth; here it is held that the same reaches those who look.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import httpx
import pytest
from pydicom import Dataset, dcmread
from typer.testing import CliRunner

from overread.cli.main import app
from overread.simulator.abdomen import NAMES, Abdomen
from overread.simulator.exams import hip_patient, liver_donor
from overread.simulator.hospital import Hospital, running
from overread.simulator.instances import Order, make_instances, write
from overread.simulator.pacs import counts
from overread.simulator.pelvis import Radiograph
from overread.simulator.phantoms import phantom
from tests.engine.world import wait
from tests.portal.conftest import csrf_of
from tests.portal.test_cases import text_of
from tests.test_example_hfd import OVERLAP, overlap
from tests.test_example_lts import LOBE, POINTS, VESSELS

pytestmark = [
    pytest.mark.skipif(shutil.which("dcmsend") is None, reason="DCMTK is not installed"),
    pytest.mark.timeout(300),
]

WITHIN = 200.0
"""Seconds in which a job is to end, on a machine with other work."""


@dataclass
class Served:
    """A hospital that runs an example, and the browsers of two of its people."""

    hospital: Hospital
    reader: httpx.Client
    engineer: httpx.Client

    def send(self, folder: Path, called: str) -> None:
        """Send an exam as a scanner does."""
        router = self.hospital.router
        program = ["dcmsend", "-aet", "SCANNER", "-aec", called, "+sd"]
        subprocess.run(
            [*program, router.host, str(router.port), str(folder)],
            check=True, env={**os.environ, "TCP_NODELAY": "1"},
        )  # fmt: skip

    def ended(self, accession: str) -> dict[str, Any]:
        """Wait until the job of an exam has ended, and return it."""

        def look() -> dict[str, Any] | None:
            self.hospital.check()
            for exam in self.ask("exams", accession=accession):
                for job in self.ask("jobs", exam=exam["id"]):
                    if job["state"] not in ("queued", "running"):
                        found: dict[str, Any] = job
                        return found
            return None

        return wait(look, WITHIN)

    def ask(self, noun: str, **query: str) -> Any:
        """Ask the API."""
        answer = self.engineer.get(f"/api/v1/{noun}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def results(self, accession: str) -> dict[str, dict[str, Any]]:
        """Return the current results of an exam, by name."""
        return {one["name"]: one for one in self.ask("results", accession=accession, current="1")}

    def made(self, study: str) -> dict[str, Dataset]:
        """Search a study for what was made of it, and retrieve that: modality to object."""
        found: dict[str, Dataset] = {}
        for one in self.reader.get(f"/dicom-web/studies/{study}/instances").json():
            modality, series, uid = (
                one[tag]["Value"][0] for tag in ("00080060", "0020000E", "00080018")
            )
            if modality in ("SEG", "RTSTRUCT", "SR", "OT"):
                answer = self.reader.get(
                    f"/dicom-web/studies/{study}/series/{series}/instances/{uid}",
                    headers={"Accept": "application/dicom"},
                )
                assert answer.status_code == 200, answer.text
                found[modality] = dcmread(BytesIO(answer.content))
                assert found[modality].SOPInstanceUID == uid
        return found

    def opened(self, accession: str) -> str:
        """Follow the link from the PACS; return what a person reads on the case's page."""
        answer = self.reader.get("/open", params={"accession": accession}, follow_redirects=True)
        assert answer.status_code == 200
        assert answer.url.path.startswith("/cases/")
        return unescape(text_of(answer.text))


@contextmanager
def served(example: str, folder: Path) -> Iterator[Served]:
    """Serve a new site of an example, on free ports, whose exams are whole after 2 seconds."""
    made = CliRunner().invoke(app, ["init", str(folder), "--example", example])
    assert made.exit_code == 0, made.output
    (pipeline,) = (folder / "pipelines").iterdir()
    text = re.sub(r"(?m)^  quiet: \w+$", "  quiet: 2s", pipeline.read_text())
    pipeline.write_text(re.sub(r"(?m)^  deadline: \w+$", "  deadline: 10s", text))
    settings = folder / "overread.yaml"
    settings.write_text(re.sub(r"port: \d+", lambda _: f"port: {_port()}", settings.read_text()))
    with running(folder) as hospital, _browser(hospital) as reader, _browser(hospital) as engineer:
        _sign_in(reader, hospital, "reader")
        _sign_in(engineer, hospital, "engineer")
        yield Served(hospital, reader, engineer)


def _port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _browser(hospital: Hospital) -> httpx.Client:
    return httpx.Client(base_url=hospital.portal, timeout=30)


def _sign_in(browser: httpx.Client, hospital: Hospital, name: str) -> None:
    page = browser.get("/sign-in")
    form = {"name": name, "password": hospital.passwords[name], "csrf": csrf_of(page.text)}
    assert browser.post("/sign-in", data=form | {"next": "/"}).status_code == 303


def brain(folder: Path, accession: str) -> None:
    """Write a few slices of a phantom's brain MR, ordered as what it is not."""
    order = Order(
        seed=f"brain {accession}", patient_id="WRONG", patient_name="Wrong^Door",
        accession=accession, study_description="ABDOMEN LIVER DONOR WITH CONTRAST",
        series_description="PORTAL VENOUS", station_name="MRPILOT1",
        performed=datetime(2031, 3, 3, 8, 0),  # noqa: DTZ001 - DICOM's times carry no zone
    )  # fmt: skip
    image = phantom(0).image
    write(make_instances(replace(image, array=image.array[:6]), order), folder)


@pytest.fixture(scope="module")
def liver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Abdomen]]:
    """A donor and a brain MR have been sent to the liver's site."""
    folder = tmp_path_factory.mktemp("liver")
    truth, donor = liver_donor(7, shape=(45, 160, 160), spacing=(4.5, 2.1, 2.1))
    write(donor, folder / "donor")
    brain(folder / "brain", "LTSWRONG")
    with served("lts", folder / "site") as site:
        site.send(folder / "donor", "OVERREAD")
        site.send(folder / "brain", "CI2_CD_LTS")
        yield site, truth


@pytest.fixture(scope="module")
def hips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Radiograph]]:
    """A patient with both views, and one of whom only the lateral one was taken, have been sent."""
    folder = tmp_path_factory.mktemp("hips")
    truth, both = hip_patient(12, states=("hardware", "fracture"), spacing=0.3)
    write(both, folder / "both")
    write(hip_patient(13, spacing=0.6)[1][:1], folder / "lateral")
    with served("hfd", folder / "site") as site:
        site.send(folder / "both", "OVERREAD")
        site.send(folder / "lateral", "OVERREAD")
        yield site, truth


def test_a_donors_volumes_are_the_phantoms(liver: tuple[Served, Abdomen]) -> None:
    site, donor = liver
    truth = donor.millilitres
    job = site.ended("LTS00007")
    assert (job["state"], job["origin"]) == ("done", "routed"), job["reason"]
    results = site.results("LTS00007")
    assert {name: one["kind"] for name, one in results.items()} == {
        "measured": "measurements",
        "seg": "segmentation",
        "contours": "structure set",
        "report": "report",
    }
    found = {
        (one["region"], one["quantity"]): one["value"]
        for one in results["measured"]["data"]["measurements"]
    }
    for name in NAMES.values():
        rel = VESSELS if name == "liver vessels" else LOBE
        assert found[name, "volume"] == pytest.approx(truth[name], rel=rel)
    share = 100 * truth["left lobe"] / (truth["left lobe"] + truth["right lobe"])
    assert found["left lobe", "remnant share"] == pytest.approx(share, abs=POINTS)


def test_a_donors_objects_are_in_dicomweb(liver: tuple[Served, Abdomen]) -> None:
    site, _ = liver
    site.ended("LTS00007")
    (exam,) = site.ask("exams", accession="LTS00007")
    made = site.made(exam["study_uid"])
    assert set(made) == {"SEG", "RTSTRUCT", "SR"}
    assert [one.SegmentLabel for one in made["SEG"].SegmentSequence] == list(NAMES.values())
    rois = made["RTSTRUCT"].StructureSetROISequence
    assert [one.ROIName for one in rois] == list(NAMES.values())
    text = site.opened("LTS00007")
    measured = site.results("LTS00007")["measured"]["data"]["measurements"]
    groups = _content(made["SR"]).get_volumetric_roi_measurement_groups()
    reported = [one.value for group in groups for one in group.get_measurements()]
    for one in measured:
        assert one["quantity"] != "volume" or one["value"] in reported
        assert one["quantity"] in text.lower(), f"{one['quantity']} is not on the page"
    # In validation nothing of it leaves: the PACS has the images alone.
    images = site.ask("instances", study=exam["study_uid"])
    ours = sum(one["standing"] == "ours" for one in images)
    at_pacs = wait(lambda: counts(site.hospital.pacs_folder).get(exam["study_uid"]), 60)
    assert (ours, at_pacs) == (3, len(images) - 3)


def test_a_brain_is_not_measured_as_a_liver(liver: tuple[Served, Abdomen]) -> None:
    site, _ = liver
    job = site.ended("LTSWRONG")
    assert job["state"] == "refused"
    assert "Modality" in job["reason"]
    assert site.results("LTSWRONG") == {}
    text = site.opened("LTSWRONG")
    assert "Refused" in text
    assert job["reason"] in text


def test_hips_are_found_and_called_what_they_are(hips: tuple[Served, Radiograph]) -> None:
    site, truth = hips
    job = site.ended("HFD00012")
    assert (job["state"], job["origin"]) == ("done", "routed"), job["reason"]
    results = site.results("HFD00012")
    assert {name: one["kind"] for name, one in results.items()} == {
        "hips": "detections",
        "states": "classification",
        "report": "report",
        "capture": "capture",
    }
    boxes = {one["label"]: one["box"] for one in results["hips"]["data"]["detections"]}
    states = {one["region"]: one["label"] for one in results["states"]["data"]["classes"]}
    for hip in truth.hips:
        assert overlap(tuple(boxes[f"{hip.side} hip"]), hip.box) > OVERLAP
        assert states[f"{hip.side} hip"] == hip.state


def test_report_and_picture_of_hips_are_in_dicomweb(hips: tuple[Served, Radiograph]) -> None:
    site, _ = hips
    site.ended("HFD00012")
    (exam,) = site.ask("exams", accession="HFD00012")
    made = site.made(exam["study_uid"])
    assert set(made) == {"SR", "OT"}
    assert made["OT"].SamplesPerPixel == 3
    groups = _content(made["SR"]).get_planar_roi_measurement_groups()
    assert len(groups) == 4  # two boxes, and two classes of them
    text = site.opened("HFD00012")
    for words in ("hardware right hip", "fracture left hip", "Captures", "Structured report"):
        assert words in text


def test_a_lateral_view_is_not_read_as_a_pelvis(hips: tuple[Served, Radiograph]) -> None:
    site, _ = hips
    job = site.ended("HFD00013")
    assert job["state"] == "refused"
    assert "ViewPosition" in job["reason"]
    text = site.opened("HFD00013")
    assert "Refused" in text
    assert job["reason"] in text


def _content(report: Dataset) -> Any:
    """Read a report as those who receive it do."""
    buffer = BytesIO()
    report.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return highdicom.sr.srread(buffer).content
