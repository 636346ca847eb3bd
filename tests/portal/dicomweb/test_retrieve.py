from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian
from starlette.testclient import TestClient

from overread.store.tables import Audit, Instance
from tests.portal.dicomweb.web import decode, encode, image, parts, store, url_of
from tests.portal.filled import Filled

EXPLICIT = "1.2.840.10008.1.2.1"
OCTETS = "application/octet-stream"


def frames(client: TestClient, url: str, numbers: str = "1", accept: str = "*/*") -> Any:
    answer = client.get(f"{url}/frames/{numbers}", headers={"accept": accept})
    assert answer.status_code == 200, answer.text
    return parts(answer)


def test_metadata_of_a_series(filled: Filled, reader: TestClient) -> None:
    study = filled.studies["six"]
    answer = reader.get(f"/dicom-web/studies/{study}/series/{filled.segs['six']}/metadata")
    assert answer.headers["content-type"] == "application/dicom+json"
    (seg,) = answer.json()
    assert seg["00620002"]["Value"][0]["00620005"]["Value"] == ["Enhancing tumour"]
    assert seg["7FE00010"]["BulkDataURI"].endswith("/bulkdata/7FE00010")
    assert seg["00080005"]["Value"] == ["ISO_IR 192"]
    assert seg["00083002"]["Value"] == [EXPLICIT]
    whole = reader.get(f"/dicom-web/studies/{study}/metadata").json()
    assert len(whole) == 17
    uid = whole[0]["00080018"]["Value"][0]
    series = whole[0]["0020000E"]["Value"][0]
    one = reader.get(f"/dicom-web/studies/{study}/series/{series}/instances/{uid}/metadata")
    assert one.json() == whole[:1]


def test_who_is_given_images_is_audited_once_for_each_sign_in(
    filled: Filled, sign_in: Callable[[str], TestClient]
) -> None:
    study, series = filled.studies["six-2"], filled.segs["six-2"]
    with filled.database.read() as session:
        seg = session.query(Instance).filter_by(series_uid=series).one()

    def told() -> list[Audit]:
        with filled.database.read() as session:
            return session.query(Audit).filter_by(subject=f"series {seg.id}").all()

    before = len(told())
    for client in (sign_in("rosa"), sign_in("rosa")):
        for path in ("/metadata", "", "/metadata"):
            answer = client.get(f"/dicom-web/studies/{study}/series/{series}{path}")
            assert answer.status_code == 200
    fresh = told()[before:]
    assert [(row.actor, row.action) for row in fresh] == [("rosa", "retrieve images")] * 2
    assert len({row.session for row in fresh}) == 2


def test_a_series_is_given_as_it_is_stored(filled: Filled, reader: TestClient) -> None:
    study, series = filled.studies["six"], filled.segs["six"]
    with filled.database.read() as session:
        row = session.query(Instance).filter_by(series_uid=series).one()
    stored = filled.archive.path(row.key).read_bytes()
    url = f"/dicom-web/studies/{study}/series/{series}"
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    ((kind, body),) = parts(reader.get(url, headers={"accept": accept}))
    assert kind == f"application/dicom; transfer-syntax={EXPLICIT}"
    assert body == stored
    alone = reader.get(
        f"{url}/instances/{row.sop_instance_uid}", headers={"accept": "application/dicom"}
    )
    assert alone.content == stored
    assert len(parts(reader.get(f"/dicom-web/studies/{study}"))) == 17


def test_native_frames(engineer: TestClient) -> None:
    pixels = np.arange(5 * 6 * 7).reshape(5, 6, 7) * 300 % 65536
    one = image("native", pixels, 16)
    store(engineer, encode(one))
    found = frames(engineer, url_of(one), "2,5")
    assert [kind for kind, _ in found] == [f"{OCTETS}; transfer-syntax={EXPLICIT}"] * 2
    assert found[0][1] == pixels[1].astype("<u2").tobytes()
    assert found[1][1] == pixels[4].astype("<u2").tobytes()
    for number in ("6", "1,6"):
        assert engineer.get(f"{url_of(one)}/frames/{number}").status_code == 404
    for number in ("0", "-1", "x", "1,"):
        assert engineer.get(f"{url_of(one)}/frames/{number}").status_code == 400
    whole = engineer.get(f"{url_of(one)}/bulkdata/7FE00010", headers={"accept": OCTETS})
    assert whole.content == pixels.astype("<u2").tobytes()


def test_one_bit_frames_are_packed_from_their_own_first_bit(engineer: TestClient) -> None:
    pixels = np.random.default_rng(3).integers(0, 2, (4, 5, 7)).astype(np.uint8)
    one = image("bits", pixels, 1)
    store(engineer, encode(one))
    for number in range(4):
        ((_, body),) = frames(engineer, url_of(one), str(number + 1))
        assert body == np.packbits(pixels[number].ravel(), bitorder="little").tobytes()


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_big_endian_is_given_as_explicit_little_endian(engineer: TestClient, bits: int) -> None:
    pixels = (np.arange(2 * 4 * 6).reshape(2, 4, 6) * 1237) % 2**bits
    one = image(f"big{bits}", pixels, bits)
    one["PixelData"].VR = "OW" if bits > 8 else "OB"
    if bits > 8:
        one.PixelData = pixels.astype(f">u{bits // 8}").tobytes()
    one.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    store(engineer, encode(one))
    ((kind, body),) = frames(engineer, url_of(one), "2")
    assert kind == f"{OCTETS}; transfer-syntax={EXPLICIT}"
    assert body == pixels[1].astype(f"<u{bits // 8}").tobytes()
    ((kind, body),) = parts(engineer.get(url_of(one)))
    assert kind == f"application/dicom; transfer-syntax={EXPLICIT}"
    whole = decode(body)
    assert whole.file_meta.TransferSyntaxUID == EXPLICIT
    assert np.array_equal(whole.pixel_array, pixels)
    assert whole.PatientID == one.PatientID
    assert engineer.get(f"{url_of(one)}/metadata").json()[0]["00083002"]["Value"] == [EXPLICIT]


def test_deflated_is_given_as_explicit_little_endian(engineer: TestClient) -> None:
    pixels = np.arange(3 * 8 * 8).reshape(3, 8, 8)
    one = image("deflated", pixels, 16)
    one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    store(engineer, encode(one))
    ((_, body),) = frames(engineer, url_of(one), "3")
    assert body == pixels[2].astype("<u2").tobytes()
    ((kind, body),) = parts(engineer.get(url_of(one)))
    assert kind.endswith(EXPLICIT)
    assert np.array_equal(decode(body).pixel_array, pixels)


def test_big_values_stand_outside_the_metadata(engineer: TestClient) -> None:
    one = image("bulk", np.zeros((1, 4, 4)), 16)
    block = one.private_block(0x0009, "OVERREAD TEST", create=True)
    block.add_new(0x01, "OB", b"small!")
    block.add_new(0x02, "OB", bytes(range(256)) * 5)
    nested = image("inner", np.zeros((1, 2, 2)), 16)
    inner = nested.private_block(0x0009, "OVERREAD TEST", create=True)
    inner.add_new(0x03, "OB", b"nested" * 400)
    del nested.PixelData, nested.file_meta
    one.ReferencedImageSequence = [nested]
    store(engineer, encode(one))
    (meta,) = engineer.get(f"{url_of(one)}/metadata").json()
    assert meta["00091001"]["InlineBinary"] == "c21hbGwh"
    address = meta["00091002"]["BulkDataURI"]
    assert engineer.get(address, headers={"accept": OCTETS}).content == bytes(range(256)) * 5
    deep = meta["00081140"]["Value"][0]["00091003"]["BulkDataURI"]
    assert deep.endswith("/bulkdata/00081140/0/00091003")
    many = "multipart/related; type=application/octet-stream"
    ((kind, body),) = parts(engineer.get(deep, headers={"accept": many}))
    assert (kind, body) == (OCTETS, b"nested" * 400)
    for path in ("00091009", "00081140/1/00091003", "00081140/0", "zz", "00100010", "00081140/x/1"):
        assert engineer.get(f"{url_of(one)}/bulkdata/{path}").status_code == 404


def test_a_value_that_json_cannot_hold_is_left_out(engineer: TestClient) -> None:
    one = image("oddity", np.zeros((1, 2, 2)), 16)
    file = encode(one).replace(b"\x20\x00\x11\x00IS\x02\x001 ", b"\x20\x00\x11\x00IS\x02\x00x ")
    assert b"IS\x02\x00x " in file
    store(engineer, file)
    (meta,) = engineer.get(f"{url_of(one)}/metadata").json()
    assert "Value" not in meta.get("00200011", {})
    assert meta["00100020"]["Value"] == ["PH-oddity"]


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        (
            "",
            "multipart/related; type=application/dicom; transfer-syntax=1.2.840.10008.1.2.4.50",
            406,
        ),
        ("", "image/jpeg", 406),
        ("/frames/1", "multipart/related; type=image/jpeg", 406),
        (
            "/frames/1",
            "multipart/related; type=application/octet-stream; transfer-syntax=1.2.3",
            406,
        ),
        ("/frames/1", "multipart/related; type=application/octet-stream; transfer-syntax=*", 200),
        ("/frames/1", "multipart/related; type=application/octet-stream", 200),
        ("/metadata", "application/json", 200),
        ("/metadata", "application/dicom+xml", 406),
    ],
)
def test_what_is_agreed_on(
    filled: Filled, reader: TestClient, path: str, accept: str, status: int
) -> None:
    study = filled.studies["six"]
    first = reader.get(f"/dicom-web/studies/{study}/instances?limit=1").json()[0]
    url = (
        f"/dicom-web/studies/{study}/series/{first['0020000E']['Value'][0]}"
        f"/instances/{first['00080018']['Value'][0]}"
    )
    answer = reader.get(url + path, headers={"accept": accept})
    assert answer.status_code == status
    if status == 406:
        assert "given as" in answer.text or "nothing is transcoded" in answer.text


@pytest.mark.parametrize(
    "path",
    ["/studies/1.2.3", "/studies/1.2.3/metadata", "/studies/1.2.3/series/4/instances/5/frames/1"],
)
def test_what_is_not_there(reader: TestClient, path: str) -> None:
    assert reader.get(f"/dicom-web{path}").status_code == 404


def test_two_patients_under_one_study_are_never_given_together(engineer: TestClient) -> None:
    one = image("mixed", np.zeros((1, 2, 2)), 16)
    other = image("mixed", np.ones((1, 2, 2)), 16, PatientID="PH-other")
    other.SOPInstanceUID = f"{one.SOPInstanceUID}1"
    store(engineer, encode(one), encode(other))
    study = f"/dicom-web/studies/{one.StudyInstanceUID}"
    assert engineer.get(study).status_code == 409
    assert engineer.get(f"{study}/metadata").status_code == 409
    found = engineer.get(f"/dicom-web/studies?StudyInstanceUID={one.StudyInstanceUID}").json()
    assert {row["00100020"]["Value"][0] for row in found} == {"PH-mixed", "PH-other"}


def test_a_conflicting_copy_is_not_given(engineer: TestClient) -> None:
    first = image("twice", np.zeros((1, 2, 2)), 16)
    second = image("twice", np.ones((1, 2, 2)), 16)
    store(engineer, encode(first), encode(second))
    ((_, body),) = frames(engineer, url_of(first))
    assert body == bytes(8)
    assert len(parts(engineer.get(f"/dicom-web/studies/{first.StudyInstanceUID}"))) == 1


SYNTAXES = {
    "1.dcm": OCTETS,
    "2.dcm": OCTETS,
    "3.dcm": OCTETS,
    "4.dcm": "image/dicom-rle",
    "5.dcm": "image/jpeg",
    "7.dcm": "image/jls",
    "9.dcm": "image/jp2",
}


@pytest.mark.parametrize("name", sorted(SYNTAXES))
def test_real_images_in_every_syntax(engineer: TestClient, shared_data: Path, name: str) -> None:
    file = (shared_data / "dicom_variants" / "transfer_syntaxes" / name).read_bytes()
    one = decode(file)
    # Each is the same image; here each gets a name of its own, its pixels as they were encoded.
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.4.{name[0]}")
    store(engineer, encode(one))
    ((kind, body),) = frames(engineer, url_of(one))
    assert kind.startswith(f"{SYNTAXES[name]}; transfer-syntax=")
    if one.file_meta.TransferSyntaxUID.is_encapsulated:
        assert body == next(generate_frames(one.PixelData, number_of_frames=1))
        assert kind.endswith(one.file_meta.TransferSyntaxUID)
    else:
        assert body == one.pixel_array.astype("<i2").tobytes()
    ((_, whole),) = parts(engineer.get(url_of(one)))
    assert np.array_equal(decode(whole).pixel_array, one.pixel_array)
    (meta,) = engineer.get(f"{url_of(one)}/metadata").json()
    assert meta["00280010"]["Value"] == [384]
    pixels = engineer.get(
        f"{url_of(one)}/bulkdata/7FE00010", headers={"accept": "multipart/related"}
    )
    assert body in (data for _, data in parts(pixels))


@pytest.mark.parametrize(
    "folder", ["philips_enhanced_anatomical_001", "siemens_multiframe_anatomical_001"]
)
def test_real_enhanced_objects(engineer: TestClient, shared_data: Path, folder: str) -> None:
    path = next((shared_data / "dicom_variants" / "dicom2nifti" / folder).rglob("*.dcm"), None)
    if path is None:
        path = next(
            p
            for p in (shared_data / "dicom_variants" / "dicom2nifti" / folder).rglob("*")
            if p.is_file()
        )
    one = dcmread(path)
    store(engineer, path.read_bytes())
    last = int(one.NumberOfFrames) if "NumberOfFrames" in one else 1
    ((_, body),) = frames(engineer, url_of(one), str(last))
    if not one.file_meta.TransferSyntaxUID.is_encapsulated:
        pixels = one.pixel_array[last - 1] if last > 1 else one.pixel_array
        assert body == pixels.tobytes()
    (meta,) = engineer.get(f"{url_of(one)}/metadata").json()
    assert meta["00080018"]["Value"] == [one.SOPInstanceUID]
