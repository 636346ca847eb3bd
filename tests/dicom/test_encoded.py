from __future__ import annotations

import zlib
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from overread.dicom.encoded import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    Unparseable,
    difference,
    file_meta,
    make_preface,
    number,
    parse,
    parse_file,
    text,
)
from tests.dicom.headers import element, header
from tests.store.objects import as_file, ct

SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    "1.2.826.0.1.99.1",
]

LONGEST_INFLATED = "overread.dicom.encoded._LONGEST_INFLATED"


def dataset_of(file: bytes) -> bytes:
    return file[file_meta(file)[1] :]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_header_is_read_in_every_transfer_syntax(syntax: str) -> None:
    file = as_file(ct(), syntax)
    encoded = parse_file(file)
    assert text(encoded.header, "PatientName") == "Müller^Jane"
    assert text(encoded.header, "StudyDescription") == "Kopf für Test"
    assert number(encoded.header, "Rows") == 32
    assert "PixelData" not in encoded.header
    assert len(encoded.pixels()) >= 2048
    assert bytes(encoded.data) == dataset_of(file)


def test_an_unknown_syntax_may_be_implicit() -> None:
    data = dataset_of(as_file(ct(), ImplicitVRLittleEndian))
    assert text(parse(data, "1.2.826.0.1.99.1").header, "PatientID") == "P1"


def test_an_object_without_pixels_has_none() -> None:
    encoded = parse_file(as_file(ct(PixelData=None)))
    assert encoded.pixels() == b""


def cut(keep: int) -> bytes:
    return dataset_of(as_file(ct()))[:keep]


def deflated() -> bytes:
    return dataset_of(as_file(ct(), DeflatedExplicitVRLittleEndian))


def encapsulated() -> bytes:
    one = ct(PixelData=encapsulate([b"\1\2" * 50]))
    one["PixelData"].VR = "OB"
    return dataset_of(as_file(one, JPEG2000Lossless))


@pytest.mark.parametrize(
    ("data", "syntax", "reason"),
    [
        pytest.param(b"", ExplicitVRLittleEndian, "no data element", id="nothing"),
        pytest.param(cut(99), ExplicitVRLittleEndian, "it ends|bytes", id="cut in the header"),
        pytest.param(cut(-1), ExplicitVRLittleEndian, "truncated", id="cut in the pixels"),
        pytest.param(encapsulated()[:-8], JPEG2000Lossless, "truncated", id="no delimiter"),
        pytest.param(encapsulated()[:-20], JPEG2000Lossless, "truncated", id="cut fragment"),
        pytest.param(b"not a dataset", ExplicitVRLittleEndian, "bytes", id="text"),
        pytest.param(deflated()[:-9], DeflatedExplicitVRLittleEndian, "trunc", id="cut deflated"),
        pytest.param(b"\xff" * 99, DeflatedExplicitVRLittleEndian, "inflated", id="not deflated"),
        pytest.param(
            dataset_of(as_file(ct())),
            ImplicitVRLittleEndian,
            "cannot be read",
            id="in another syntax",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes, syntax: str, reason: str) -> None:
    with pytest.raises(Unparseable, match=reason):
        parse(data, syntax)


def test_a_dataset_may_not_inflate_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    data = deflated()
    inflated = len(zlib.decompress(data, -zlib.MAX_WBITS))
    monkeypatch.setattr(LONGEST_INFLATED, inflated)
    assert text(parse(data, DeflatedExplicitVRLittleEndian).header, "PatientID") == "P1"
    monkeypatch.setattr(LONGEST_INFLATED, inflated - 1)
    with pytest.raises(Unparseable, match="inflates past"):
        parse(data, DeflatedExplicitVRLittleEndian)


def test_padding_after_a_deflated_dataset_is_not_read() -> None:
    read = parse(deflated() + b"\0\0", DeflatedExplicitVRLittleEndian)
    assert text(read.header, "PatientID") == "P1"


def test_whole_encapsulated_pixels_are_taken() -> None:
    assert text(parse(encapsulated(), JPEG2000Lossless).header, "PatientID") == "P1"


@given(st.binary(max_size=400), st.sampled_from(SYNTAXES))
def test_no_bytes_raise_anything_else(data: bytes, syntax: str) -> None:
    try:
        encoded = parse(data, syntax)
    except Unparseable:
        return
    text(encoded.header, "PatientName")


@given(st.integers(0, 700), st.binary(min_size=1, max_size=4))
def test_no_damage_raises_anything_else(at: int, damage: bytes) -> None:
    data = bytearray(dataset_of(as_file(ct())))
    data[at : at + len(damage)] = damage
    try:
        encoded = parse(data, ExplicitVRLittleEndian)
    except Unparseable:
        return
    for keyword in ("PatientName", "StudyDescription", "SOPInstanceUID", "InstanceNumber"):
        text(encoded.header, keyword).encode()
    number(encoded.header, "Rows")
    difference(encoded.header, encoded.header)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"", "not a DICOM file"),
        (b"\0" * 128 + b"DICM", "no TransferSyntaxUID"),
        (b"\0" * 128 + b"DICM" + b"\2\0\x10\0UI\xff", "no TransferSyntaxUID"),
    ],
)
def test_what_is_no_file_is_refused(file: bytes, reason: str) -> None:
    with pytest.raises(Unparseable, match=reason):
        parse_file(file)


def test_the_preface_makes_a_file_of_a_dataset() -> None:
    data = dataset_of(as_file(ct()))
    file = make_preface("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4.1", ExplicitVRLittleEndian) + data
    read = dcmread(BytesIO(file))
    assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID
    assert read.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert bytes(parse_file(file).data) == data


@pytest.mark.parametrize("uid", ["1.2", "1.2.3", "2.25." + "7" * 59])
def test_the_preface_is_the_one_that_pydicom_makes(uid: str) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(uid)
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta)
    made = make_preface(CTImageStorage, uid, ImplicitVRLittleEndian)
    assert made == b"\0" * 128 + b"DICM" + buffer.getvalue()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", ""),
        (b" padded ", "padded"),
        (b"a\\b", "a\\b"),
        (b"nul\0", "nul"),
        (b"\xfcber", "über"),
    ],
)
def test_text_is_clean(value: bytes, expected: str) -> None:
    one = header(element("SpecificCharacterSet", "CS", b"ISO_IR 100"),
                 element("StudyDescription", "LO", value))  # fmt: skip
    assert text(one, "StudyDescription") == expected


def test_text_that_cannot_be_decoded_is_still_text() -> None:
    one = header(element("SpecificCharacterSet", "CS", b"ISO_IR 192"),
                 element("StudyDescription", "LO", b"a\xff\xfeb"))  # fmt: skip
    assert text(one, "StudyDescription").encode("utf-8").startswith(b"a")


@pytest.mark.parametrize("value", [b"", b"x", b"-1", b"99999999999", b"1\\2"])
def test_a_number_that_is_none(value: bytes) -> None:
    assert number(header(element("NumberOfFrames", "IS", value)), "NumberOfFrames") is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ""),
        ({"StudyDescription": "x", "SeriesInstanceUID": "1.9"}, ""),
        ({"PixelSpacing": ["0.50", "5e-1"]}, ""),
        ({"PixelSpacing": [0.5, 0.51]}, "PixelSpacing"),
        ({"PixelSpacing": None}, "PixelSpacing"),
        ({"StudyInstanceUID": "1.9"}, "StudyInstanceUID"),
        ({"SharedFunctionalGroupsSequence": [Dataset()]}, "SharedFunctionalGroupsSequence"),
    ],
)
def test_where_two_headers_differ(changes: dict[str, Any], expected: str) -> None:
    assert difference(ct(), ct(**changes)) == expected
    assert difference(ct(**changes), ct()) == expected
