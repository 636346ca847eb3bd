"""Images as pictures, for a browser that knows no DICOM."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from pydicom import Dataset, dcmread
from pydicom.uid import UID, JPEG2000Lossless, RLELossless
from starlette.testclient import TestClient

from overread.portal.dicomweb import picture as portal_picture
from overread.portal.dicomweb import rendered
from overread.store.tables import Audit, Instance
from tests.portal.dicomweb.web import encode, image, store, url_of
from tests.portal.filled import Filled, as_file
from tests.portal.radiograph import radiograph


def picture(client: TestClient, path: str) -> np.ndarray:
    answer = client.get(path, headers={"accept": "image/png"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Pillow.open(BytesIO(answer.content)))


MULTI = UID("1.2.840.10008.5.1.4.1.1.7.2")

RAMP = np.arange(0, 4000, 10, dtype=np.uint16).reshape(20, 20)


def ramp(name: str, **attributes: Any) -> Dataset:
    pixels: dict[str, Any] = {"Rows": 20, "Columns": 20, "PixelData": RAMP.tobytes()}
    return radiograph(name, **pixels, **attributes)


@pytest.mark.parametrize(
    ("name", "attributes", "expected"),
    [
        ("window", {"WindowCenter": 2000.5, "WindowWidth": 2001},
         lambda v: (v - 1000) / 2000 * 255),
        ("inverse", {"WindowCenter": 2000.5, "WindowWidth": 2001,
                     "PhotometricInterpretation": "MONOCHROME1"},
         lambda v: 255 - ((v - 1000) / 2000 * 255).clip(0, 255)),
        ("none", {"WindowCenter": None, "WindowWidth": None}, lambda v: v / 3990 * 255),
        ("rescaled", {"WindowCenter": [100, 5], "WindowWidth": [201, 9], "RescaleSlope": "0.1",
                      "RescaleIntercept": "-100"}, lambda v: (v * 0.1 - 100 + 0.5) / 200 * 255),
    ],
)  # fmt: skip
def test_values_are_shown_as_the_header_says(
    engineer: TestClient, name: str, attributes: dict[str, Any], expected: Any
) -> None:
    one = ramp(f"render-{name}", **attributes)
    store(engineer, as_file(one))
    shown = picture(engineer, f"{url_of(one)}/rendered").astype(float)
    wanted = expected(RAMP.astype(float)).clip(0, 255)
    assert np.abs(shown - wanted).max() <= 1


def test_a_voi_lut_is_taken(engineer: TestClient) -> None:
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 8]
    table["LUTDescriptor"].VR = "US"
    table.LUTData = (np.arange(4096) // 16)[::-1].astype("<u2").tobytes()
    table["LUTData"].VR = "OW"
    one = ramp("render-lut", VOILUTSequence=[table])
    store(engineer, as_file(one))
    shown = picture(engineer, f"{url_of(one)}/rendered").astype(float)
    assert np.abs(shown - (4095 - RAMP) // 16).max() <= 1


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_compressed_frames_are_decoded(engineer: TestClient, syntax: Any) -> None:
    pixels = np.stack([np.full((32, 32), 40 * n, np.uint8) for n in range(3)])
    pixels[:, 4, 5] = 200
    one = image(f"r{syntax[-3:]}", pixels, 8, WindowCenter="128", WindowWidth="256")
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = MULTI
    one.compress(syntax, generate_instance_uid=False)
    store(engineer, encode(one))
    for number in (1, 3):
        shown = picture(engineer, f"{url_of(one)}/frames/{number}/rendered")
        assert (shown == pixels[number - 1]).all()
    assert engineer.get(f"{url_of(one)}/frames/4/rendered").status_code == 404


def test_colour_stays_colour_and_fits_the_viewport(engineer: TestClient, shared_data: Path) -> None:
    file = sorted((shared_data / "hip_xray" / "dicoms").rglob("*.dcm"))[0]
    store(engineer, file.read_bytes())
    url = url_of(dcmread(file, stop_before_pixels=True))
    assert picture(engineer, f"{url}/rendered").shape == (331, 331, 3)
    assert picture(engineer, f"{url}/rendered?viewport=100,200").shape == (100, 100, 3)


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/rendered", "image/jpeg", 406),
        ("/rendered", "image/*", 200),
        ("/frames/0/rendered", "*/*", 400),
        ("/frames/x/rendered", "*/*", 400),
        ("/frames/2/rendered", "*/*", 404),
        ("/rendered?viewport=9999,9999", "*/*", 400),
        ("/rendered?viewport=big", "*/*", 400),
    ],
)
def test_what_cannot_be_rendered_is_said(
    engineer: TestClient, path: str, accept: str, status: int
) -> None:
    one = ramp("render-refused")
    store(engineer, as_file(one))
    assert engineer.get(url_of(one) + path, headers={"accept": accept}).status_code == status


def test_what_has_no_pixels_or_too_many_is_refused(
    engineer: TestClient, filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = ramp("render-large")
    store(engineer, as_file(one))
    monkeypatch.setattr(rendered, "MOST_PIXELS", 399)
    assert engineer.get(f"{url_of(one)}/rendered").status_code == 406
    broken = ramp("render-broken")
    broken.file_meta.TransferSyntaxUID = JPEG2000Lossless
    from pydicom.encaps import encapsulate

    broken.PixelData = encapsulate([b"no picture at all "])
    broken["PixelData"].VR = "OB"
    monkeypatch.undo()
    store(engineer, as_file(broken))
    assert engineer.get(f"{url_of(broken)}/rendered").status_code == 406


def test_what_takes_too_long_is_given_up(
    engineer: TestClient, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = sorted((shared_data / "hip_xray" / "dicoms").rglob("*.dcm"))[1]
    store(engineer, file.read_bytes())
    monkeypatch.setattr(portal_picture, "SECONDS", 0.01)
    url = url_of(dcmread(file, stop_before_pixels=True))
    assert engineer.get(f"{url}/rendered").status_code == 406


def test_who_is_shown_an_image_is_audited_and_nobody_else_is(
    engineer: TestClient, anonymous: TestClient, filled: Filled
) -> None:
    one = ramp("render-audit")
    store(engineer, as_file(one))
    with filled.database.read() as session:
        before = session.query(Audit).filter_by(action="retrieve images").count()
    assert anonymous.get(f"{url_of(one)}/rendered").status_code == 401
    with filled.database.read() as session:
        assert session.query(Audit).filter_by(action="retrieve images").count() == before
    assert engineer.get(f"{url_of(one)}/rendered").status_code == 200
    with filled.database.read() as session:
        kept = session.query(Instance).filter_by(sop_instance_uid=str(one.SOPInstanceUID)).one()
        told = session.query(Audit).filter_by(subject=f"series {kept.id}").all()
    assert [(row.actor, row.action) for row in told] == [("egon", "retrieve images")]


def test_a_document_that_is_none_is_not_given_as_one(engineer: TestClient) -> None:
    one = ramp("render-pdf", SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1")
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
    one.Modality, one.MIMETypeOfEncapsulatedDocument = "DOC", "application/pdf"
    one.EncapsulatedDocument = b"<script>alert(1)</script> "
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        delattr(one, keyword)
    store(engineer, as_file(one))
    assert engineer.get(f"{url_of(one)}/rendered").status_code == 406


def test_a_table_that_cannot_be_calculated_with_is_refused(engineer: TestClient) -> None:
    table = Dataset()
    table.LUTDescriptor = [10, 0, 60000]  # bits
    table["LUTDescriptor"].VR = "US"
    table.LUTData = bytes(20)
    table["LUTData"].VR = "OW"
    one = ramp("render-overflow", VOILUTSequence=[table])
    store(engineer, as_file(one))
    assert engineer.get(f"{url_of(one)}/rendered").status_code == 406


def test_a_large_image_is_drawn_apart(
    engineer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take thirty times its pixels of the portal's memory, and as its own process less."""
    one = ramp("render-apart")
    store(engineer, as_file(one))
    monkeypatch.setattr(portal_picture, "_SMALL", 399)
    monkeypatch.setattr(portal_picture, "draw", None)  # here, that is
    assert picture(engineer, f"{url_of(one)}/rendered").shape == (20, 20)


def test_more_than_can_be_drawn_is_put_off(
    engineer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = ramp("render-busy")
    store(engineer, as_file(one))
    monkeypatch.setattr(portal_picture, "_WAITING", BoundedSemaphore(1))
    with portal_picture.turn():
        answer = engineer.get(f"{url_of(one)}/rendered")
    assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
    assert engineer.get(f"{url_of(one)}/rendered").status_code == 200


def test_pictures_and_documents_say_what_they_are_and_load_nothing(engineer: TestClient) -> None:
    one = ramp("render-headers")
    store(engineer, as_file(one))
    answer = engineer.get(f"{url_of(one)}/rendered")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_document_that_is_too_large_is_not_read(
    engineer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = ramp("render-large-pdf", SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1")
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
    one.EncapsulatedDocument = b"%PDF-1.7 "
    store(engineer, as_file(one))
    assert engineer.get(f"{url_of(one)}/rendered").status_code == 200
    monkeypatch.setattr(rendered, "MOST_BYTES", 100)
    assert engineer.get(f"{url_of(one)}/rendered").status_code == 406
