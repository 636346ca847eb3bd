"""``overread route explain``: where files would go and why, with nothing running."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from typer.testing import CliRunner

from overread.cli import route
from overread.errors import SiteError, UsageError
from tests.site.sites import write

app = typer.Typer()
app.add_typer(route.app, name="route")

ROUTES = """\
routes:
  - name: brain
    when: {SOPClassUID: MRImageStorage, SeriesDescription: {like: "*T1*"}}
    send_to: [BRAIN]
  - name: all
    when: {not: {CallingAETitle: TEST}}
    send_to: [PACS]
"""
MR, CT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2"


def image(file: Path, sop_class: str, series: str, number: int, description: str) -> None:
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = f"{series}.{number}"
    dataset.StudyDescription = "Head"
    dataset.SeriesInstanceUID = series
    dataset.SeriesDescription = description
    dataset.Modality = "MR" if sop_class == MR else "CT"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(file, enforce_file_format=True)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site of which only the routes are right; they are all that is needed."""
    return write(tmp_path / "site", {"routes.yaml": ROUTES})


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for number in (1, 2):
        image(folder / "mr" / f"{number}.dcm", MR, "1.2.3", number, "AX T1")
    image(folder / "mr" / "3.dcm", MR, "1.2.3", 3, "localiser")
    image(folder / "ct.dcm", CT, "1.2.4", 1, "Bone")
    (folder / "notes.txt").write_text("no image")
    return folder


def explain(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["route", "explain", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_it_says_where_and_why(site: Path, images: Path) -> None:
    assert explain(images / "mr", "--site", site).splitlines() == [
        "MR · Head · AX T1 (2 instances)",
        "  series 1.2.3",
        "  → BRAIN  by route 'brain': its condition is met",
        "      ✓ all of",
        "        ✓ SOPClassUID equals 'MRImageStorage': found '1.2.840.10008.5.1.4.1.1.4'",
        "        ✓ SeriesDescription like '*T1*': found 'AX T1'",
        "  → PACS  by route 'all': its condition is met",
        "      ✓ not",
        "        ✗ CallingAETitle equals 'TEST': absent",
        "",
        "MR · Head · localiser (1 instance)",
        "  series 1.2.3",
        "  ✗ BRAIN  by route 'brain': its condition is not met",
        "      ✗ all of",
        "        ✓ SOPClassUID equals 'MRImageStorage': found '1.2.840.10008.5.1.4.1.1.4'",
        "        ✗ SeriesDescription like '*T1*': found 'localiser'",
        "  → PACS  by route 'all': its condition is met",
        "      ✓ not",
        "        ✗ CallingAETitle equals 'TEST': absent",
        "",
    ]


def test_it_speaks_json_and_tells_what_it_did_not_read(site: Path, images: Path) -> None:
    told = json.loads(explain(images, "--site", site, "--json", "--calling", "PACS"))
    groups = {(one["series_uid"], len(one["instances"])): one for one in told["series"]}
    assert set(groups) == {("1.2.3", 2), ("1.2.3", 1), ("1.2.4", 1)}
    decisions = groups["1.2.3", 2]["decisions"]
    assert [(one["route"], one["ae_title"], one["send"]) for one in decisions] == [
        ("brain", "BRAIN", True),
        ("all", "PACS", False),
    ]
    assert "nothing is sent back" in decisions[1]["why"]["reason"]
    assert [Path(one["file"]).name for one in told["skipped"]] == ["notes.txt"]


def test_the_association_may_be_told(site: Path, images: Path) -> None:
    output = explain(images / "ct.dcm", "--site", site, "--calling", "TEST")
    assert "✗ PACS  by route 'all': its condition is not met" in output


def test_no_image_and_no_path_are_failures(site: Path, images: Path) -> None:
    result = CliRunner().invoke(
        app, ["route", "explain", str(images / "notes.txt"), "--site", str(site)]
    )
    assert result.exit_code == 1
    assert "No DICOM file was found there" in result.output
    with pytest.raises(UsageError, match="there is no file or folder"):
        explain(images / "nothing", "--site", site)


def test_a_malformed_rule_is_refused_with_file_and_line(site: Path, images: Path) -> None:
    write(site, {"routes.yaml": ROUTES.replace("like", "lke")})
    with pytest.raises(SiteError, match=r"routes\.yaml:3: .*'lke' is no operator.*perhaps like"):
        explain(images, "--site", site)


def test_real_files_of_many_kinds(site: Path, shared_data: Path) -> None:
    told = json.loads(explain(shared_data / "dicom_variants", "--site", site, "--json"))
    assert len(told["series"]) > 3
    assert all(len(one["decisions"]) == 2 for one in told["series"])
