"""Objects and requests that are not as the Standard has them, by intent or by accident."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi import Request
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient

from overread.portal.dicomweb import store as stow
from overread.portal.dicomweb.media import Part, accepted, multipart, parse_content_type
from overread.portal.dicomweb.metadata import dataset_json
from tests.portal.dicomweb.web import encode, image, store, stow_body, url_of


def body_of(answer: StreamingResponse) -> bytes:
    async def gather() -> bytes:
        return b"".join([bytes(piece) async for piece in answer.body_iterator])  # type: ignore[arg-type]  # bytes, as made here

    return asyncio.run(gather())


def test_no_uid_ends_a_line_of_a_parts_head() -> None:
    part = Part(
        "application/dicom; transfer-syntax=1.2\r\nX-A: b", [b"data"], "/1.2\r\nX-C: d\r\n\r\n"
    )
    text = body_of(multipart([part], "application/dicom"))
    head = text.partition(b"\r\n\r\n")[0].decode()
    names = [line.partition(":")[0] for line in head.split("\r\n")[1:]]
    assert names == ["Content-Type", "Content-Location", "MIME-Version"]


def test_no_uid_writes_metadata_of_its_own(engineer: TestClient) -> None:
    one = image("quoted", np.zeros((1, 2, 2)), 16)
    one.add_new("SOPInstanceUID", "UI", '1.2","evil":"1')
    store(engineer, encode(one))
    url = f"/dicom-web/studies/{one.StudyInstanceUID}/metadata"
    (written,) = engineer.get(url).json()
    assert "evil" not in written
    assert written["7FE00010"]["BulkDataURI"].endswith("/bulkdata/7FE00010")


def test_an_object_in_a_private_transfer_syntax_does_not_hide_its_study(
    engineer: TestClient,
) -> None:
    plain = image("private", np.zeros((1, 2, 2)), 16)
    private = image("private", np.ones((1, 2, 2)), 16)
    private.SOPInstanceUID = private.SOPInstanceUID + ".1"
    file = encode(private)
    own = b"1.2.840.10008.1.2.1\0"
    assert file.count(own) == 1
    store(engineer, encode(plain), file.replace(own, b"1.2.826.0.1.3680043."[:19] + b"9"))
    found = engineer.get(f"/dicom-web/studies/{plain.StudyInstanceUID}/metadata").json()
    assert len(found) == 2
    answer = engineer.get(f"{url_of(private)}/frames/1", headers={"accept": "*/*"})
    assert answer.status_code == 200
    assert private.PixelData in answer.content


def test_frames_of_a_broken_object_are_not_there(engineer: TestClient) -> None:
    one = image("norows", np.zeros((1, 2, 2)), 16)
    del one.Rows
    store(engineer, encode(one))
    answer = engineer.get(f"{url_of(one)}/frames/1")
    assert answer.status_code == 404
    assert "cannot be read" in answer.json()["detail"]


def test_numbers_that_are_none(engineer: TestClient) -> None:
    one = image("numbers", np.zeros((1, 2, 2)), 16)
    store(engineer, encode(one))
    for number in ("²", "9" * 5000, "1,²", "0,1"):
        assert engineer.get(f"{url_of(one)}/frames/{number}").status_code == 400
        assert engineer.get("/dicom-web/studies", params={"limit": "²"}).status_code == 400
    for address in ("0/0/00081155", "FFFFFFFFFF", "00100010/0/0", "00080018/x/1", "zz"):
        assert engineer.get(f"{url_of(one)}/bulkdata/{address}").status_code == 404


def test_a_frame_asked_for_often_is_read_when_its_turn_comes(
    engineer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = image("often", np.zeros((1, 2, 2)), 16)
    store(engineer, encode(one))
    read: list[int] = []

    def read_one(_portal: object, _one: object, number: int) -> Iterator[bytes]:
        read.append(number)
        yield b"x"

    monkeypatch.setattr("overread.portal.dicomweb.retrieve._one_frame", read_one)
    answer = engineer.get(f"{url_of(one)}/frames/{','.join('1' * 50)}")
    assert answer.status_code == 200
    assert read == [1] * 49


def test_a_study_of_two_patients_is_not_listed_as_one(engineer: TestClient) -> None:
    first = image("shared", np.zeros((1, 2, 2)), 16)
    second = image("shared", np.ones((1, 2, 2)), 16, PatientID="PH-other", PatientName="OTHER^ONE")
    second.SOPInstanceUID, second.SeriesInstanceUID = "1.2.3.4.99", "1.2.3.4.98"
    store(engineer, encode(first), encode(second))
    study = f"/dicom-web/studies/{first.StudyInstanceUID}"
    for path in ("/series", "/instances", "/metadata", ""):
        assert engineer.get(study + path).status_code == 409, path
    assert len(engineer.get(f"{study}/series?SeriesInstanceUID=1.2.3.4.98").json()) == 1
    assert (
        len(engineer.get(f"/dicom-web/studies?StudyInstanceUID={first.StudyInstanceUID}").json())
        == 2
    )


def test_an_object_past_the_limit_is_refused_before_it_is_whole(
    engineer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = encode(image("large", np.zeros((1, 64, 64)), 16))
    monkeypatch.setattr(stow, "_LARGEST", 4096)
    body, headers = stow_body(file)
    assert engineer.post("/dicom-web/studies", content=body, headers=headers).status_code == 413
    alone = {"content-type": "application/dicom"}
    assert engineer.post("/dicom-web/studies", content=file, headers=alone).status_code == 413


def test_parameters_in_the_extended_form_are_text() -> None:
    _, named = parse_content_type("multipart/related; boundary*=utf-8''a%20b")
    assert named == {"boundary": "a b"}
    headers = [(b"accept", b"a/b; type*=utf-8''x; q*=utf-8''1")]
    scope: dict[str, Any] = {"type": "http", "query_string": b"", "headers": headers}
    assert [wish.kind for wish in accepted(Request(scope))] == ["a/b"]


def test_a_value_that_cannot_be_read_is_left_out_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    deep = Dataset()
    for _ in range(600):
        outer = Dataset()
        outer.ReferencedSeriesSequence = [deep]
        deep = outer
    deep.PatientName = "PHANTOM^SECRET"
    written = dataset_json(deep, "bulk")
    assert "00100010" in written
    assert "SECRET" not in caplog.text
    assert ExplicitVRLittleEndian not in json.dumps(written)
