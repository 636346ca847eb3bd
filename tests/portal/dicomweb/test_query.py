from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.portal.filled import Filled

STUDY_UID, SERIES_UID, PATIENT_ID = "0020000D", "0020000E", "00100020"


def ask(client: TestClient, path: str) -> list[dict[str, Any]]:
    answer = client.get(f"/dicom-web{path}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/dicom+json"
    found: list[dict[str, Any]] = answer.json()
    return found


def value(found: dict[str, Any], tag: str) -> Any:
    return found[tag]["Value"][0]


def test_a_study(filled: Filled, reader: TestClient) -> None:
    (study,) = ask(reader, f"/studies?StudyInstanceUID={filled.studies['six']}")
    assert value(study, "00100010") == {"Alphabetic": "PHANTOM^SIX"}
    assert value(study, PATIENT_ID) == "PH-0006"
    assert value(study, "00080050") == "PH-A-0106"
    assert study["00080061"]["Value"] == ["MR", "SEG"]
    assert (value(study, "00201206"), value(study, "00201208")) == (2, 17)
    assert value(study, "00081190").endswith(f"/dicom-web/studies/{filled.studies['six']}")
    assert study["00080030"]["vr"] == "TM"


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("PatientID=PH-0006", 5),
        ("00100020=PH-0006", 5),
        ("PatientID=PH-0006&StudyDate=20260101-20260331", 2),
        ("PatientID=PH-0006&StudyDate=-20250831", 1),
        ("PatientID=PH-0006&StudyDate=20260308", 1),
        ("AccessionNumber=PH-DOUBLE", 2),
        ("AccessionNumber=PH-A-01*", 5),
        ("AccessionNumber=PH-A-010%3F&ModalitiesInStudy=SEG", 5),
        ("AccessionNumber=PH-C-0001&ModalitiesInStudy=SEG", 0),
        ("AccessionNumber=PH-C-0001&ModalitiesInStudy=SEG,MR", 1),
        ("PatientName=phantom%5Esix", 5),
        ("PatientName=PHANTOM%5EF*", 1),
        ("PatientName=*", 14),
        ("PatientID=PH_0006", 0),
        ("PatientID=%25", 0),
        ("PatientID=PH-0006&limit=2", 2),
        ("PatientID=PH-0006&limit=10&offset=3", 2),
        ("PatientID=PH-0006&includefield=all&fuzzymatching=false", 5),
    ],
)
def test_studies(reader: TestClient, query: str, number: int) -> None:
    found = ask(reader, f"/studies?{query}")
    if query == "PatientName=*":
        assert len(found) >= number
    else:
        assert len(found) == number


def test_several_uids(filled: Filled, reader: TestClient) -> None:
    wanted = {filled.studies["six"], filled.studies["empty"]}
    for separator in (",", "%5C"):
        found = ask(reader, f"/studies?StudyInstanceUID={separator.join(sorted(wanted))}")
        assert {value(study, STUDY_UID) for study in found} == wanted


def test_series(filled: Filled, reader: TestClient) -> None:
    study = filled.studies["six"]
    found = ask(reader, f"/studies/{study}/series")
    assert [value(one, "00080060") for one in found] == ["MR", "SEG"]
    assert [value(one, "00201209") for one in found] == [16, 1]
    (seg,) = ask(reader, f"/studies/{study}/series?Modality=SEG")
    assert value(seg, SERIES_UID) == filled.segs["six"]
    assert value(seg, "0008103E") == "AI tumour"
    assert len(ask(reader, f"/series?SeriesInstanceUID={filled.segs['six']}")) == 1


def test_instances(filled: Filled, reader: TestClient) -> None:
    study = filled.studies["six"]
    found = ask(reader, f"/studies/{study}/instances")
    assert len(found) == 17
    first = ask(reader, f"/studies/{study}/series/{value(found[0], SERIES_UID)}/instances")[0]
    assert (value(first, "00280010"), value(first, "00280011")) == (128, 128)
    uid = value(first, "00080018")
    assert len(ask(reader, f"/instances?SOPInstanceUID={uid}")) == 1


def test_nothing_found_is_an_empty_list(reader: TestClient) -> None:
    assert ask(reader, "/studies?PatientID=nobody") == []
    assert ask(reader, "/studies/1.2.3/series") == []


@pytest.mark.parametrize("query", ["NoSuchThing=1", "limit=many", "offset=-1", "0020000D0=1"])
def test_what_makes_no_sense_is_refused(reader: TestClient, query: str) -> None:
    assert reader.get(f"/dicom-web/studies?{query}").status_code == 400


def test_what_is_not_matched_is_said(reader: TestClient) -> None:
    answer = reader.get("/dicom-web/studies?PatientID=PH-0006&ReferringPhysicianName=X")
    assert len(answer.json()) == 5
    assert "ReferringPhysicianName" in answer.headers["warning"]
    fuzzy = reader.get("/dicom-web/studies?PatientID=PH-0006&fuzzymatching=true")
    assert "fuzzy" in fuzzy.headers["warning"]
