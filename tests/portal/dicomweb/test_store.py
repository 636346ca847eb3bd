from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.store.tables import Arrival, Audit, Delivery, Instance, Quarantine
from tests.portal.dicomweb.web import encode, image, stow_body, url_of
from tests.portal.filled import Filled

KEPT, FAILED, REASON, WARNING = "00081199", "00081198", "00081197", "00081196"


def test_an_object_is_kept_as_it_came(filled: Filled, engineer: TestClient) -> None:
    one = image("stored", np.arange(16).reshape(1, 4, 4), 16)
    file = encode(one)
    body, headers = stow_body(file)
    answer = engineer.post("/dicom-web/studies", content=body, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    (kept,) = answer.json()[KEPT]["Value"]
    assert kept["00081155"]["Value"] == [one.SOPInstanceUID]
    assert kept["00081150"]["Value"] == [one.SOPClassUID]
    assert kept["00081190"]["Value"][0].endswith(url_of(one))
    with filled.database.read() as session:
        row = session.scalars(
            select(Instance).where(Instance.sop_instance_uid == one.SOPInstanceUID)
        ).one()
        arrival = session.scalars(select(Arrival).where(Arrival.instance_id == row.id)).one()
        audit = session.scalars(select(Audit).where(Audit.subject == f"instance {row.id}")).one()
    assert row.standing == "kept"
    stored = filled.archive.path(row.key).read_bytes()
    assert stored[-row.size :] == file[-row.size :]
    assert (arrival.ae_title, arrival.disposition) == ("OVERREAD", "kept")
    assert (audit.actor, audit.action) == ("egon", "store instance")


def test_only_staff_store_objects_and_put_them_on_the_routes(
    filled: Filled, reader: TestClient, engineer: TestClient
) -> None:
    for client, name, status, routed in (
        (reader, "read", 409, False),
        (engineer, "pushed", 200, True),
    ):
        one = image(name, np.zeros((1, 2, 2)), 16, StudyDescription="MR BRAIN NAV")
        body, headers = stow_body(encode(one))
        answer = client.post("/dicom-web/studies", content=body, headers=headers)
        assert answer.status_code == status
        with filled.database.read() as session:
            came_to = session.scalars(
                select(Arrival.ae_title)
                .join(Instance, Instance.id == Arrival.instance_id)
                .where(Instance.sop_instance_uid == one.SOPInstanceUID)
            ).all()
        assert ("CI2_CD_BTS" in came_to) is routed
    with filled.database.read() as session:
        assert session.scalars(select(Delivery)).all() == []


def test_a_repeat_is_the_same_instance(filled: Filled, engineer: TestClient) -> None:
    file = encode(image("again", np.zeros((1, 2, 2)), 16))
    body, headers = stow_body(file, file)
    assert engineer.post("/dicom-web/studies", content=body, headers=headers).status_code == 200
    with filled.database.read() as session:
        rows = session.scalars(select(Instance).where(Instance.accession == "ACC-again")).all()
    assert len(rows) == 1
    assert filled.archive.path(rows[0].key).is_file()


def test_a_conflict_is_kept_and_said(filled: Filled, engineer: TestClient) -> None:
    first = image("clash", np.zeros((1, 2, 2)), 16)
    second = image("clash", np.zeros((1, 2, 2)), 16, PatientID="PH-somebody-else")
    body, headers = stow_body(encode(first), encode(second))
    answer = engineer.post("/dicom-web/studies", content=body, headers=headers)
    assert answer.status_code == 200
    clean, clash = answer.json()[KEPT]["Value"]
    assert WARNING not in clean
    assert clash[WARNING]["Value"] == [0xB000]
    with filled.database.read() as session:
        rows = session.scalars(select(Instance).where(Instance.accession == "ACC-clash")).all()
    assert sorted(row.standing for row in rows) == ["conflict", "kept"]


def test_what_cannot_be_read_is_set_aside_and_the_rest_is_kept(
    filled: Filled, engineer: TestClient
) -> None:
    good = encode(image("good", np.zeros((1, 2, 2)), 16))
    body, headers = stow_body(b"this is no DICOM file", good)
    answer = engineer.post("/dicom-web/studies", content=body, headers=headers)
    assert answer.status_code == 202
    assert answer.json()[FAILED]["Value"][0][REASON]["Value"] == [0xC000]
    assert len(answer.json()[KEPT]["Value"]) == 1
    with filled.database.read() as session:
        row = session.scalars(select(Quarantine)).all()[-1]
    assert row.reason.startswith("STOW-RS: ")
    assert filled.archive.path(row.key).read_bytes() == b"this is no DICOM file"


def test_an_object_of_another_study_than_the_address_is_not_kept(
    filled: Filled, engineer: TestClient
) -> None:
    body, headers = stow_body(encode(image("elsewhere", np.zeros((1, 2, 2)), 16)))
    answer = engineer.post("/dicom-web/studies/1.2.3", content=body, headers=headers)
    assert answer.status_code == 409
    assert answer.json()[FAILED]["Value"][0][REASON]["Value"] == [0xA900]
    with filled.database.read() as session:
        assert not session.scalars(
            select(Instance).where(Instance.accession == "ACC-elsewhere")
        ).all()


@pytest.mark.parametrize(
    ("content_type", "content", "status"),
    [
        ("application/json", b"{}", 415),
        ("", b"x", 415),
        ("multipart/related; type=application/dicom", b"x", 415),
        ('multipart/related; type="application/dicom+json"; boundary=b', b"x", 415),
        ("multipart/related; type=application/dicom; boundary=b", b"--c\r\n\r\nx", 400),
        ("multipart/related; type=application/dicom; boundary=b", b"--b--\r\n", 400),
    ],
)
def test_what_is_no_store_request(
    engineer: TestClient, content_type: str, content: bytes, status: int
) -> None:
    answer = engineer.post(
        "/dicom-web/studies", content=content, headers={"content-type": content_type}
    )
    assert answer.status_code == status


def test_another_origin_cannot_store(engineer: TestClient) -> None:
    body, headers = stow_body(encode(image("foreign", np.zeros((1, 2, 2)), 16)))
    headers["origin"] = "https://elsewhere.example"
    assert engineer.post("/dicom-web/studies", content=body, headers=headers).status_code == 403
