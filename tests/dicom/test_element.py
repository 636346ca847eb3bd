"""Addresses and values as text; what conditions make of them is in test_match."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from overread.dicom.element import UNKNOWN, Malformed, parse_address, text
from overread.dicom.study import Origin
from tests.dicom.headers import element, header


@pytest.mark.parametrize(
    ("written", "vr"),
    [
        ("StudyDescription", "LO"),
        ("(0008,1030)", "LO"),
        ("(0008,FFFE)", UNKNOWN),
        ("PatientName.family", "PN"),
        ("RequestAttributesSequence", "SQ"),
        ("RequestAttributesSequence.ScheduledProcedureStepID", "SH"),
        ("(0029,xx10)@A.B c", UNKNOWN),
        ("CallingAETitle", "AE"),
    ],
)
def test_an_address_knows_its_vr(written: str, vr: str) -> None:
    assert parse_address(written).vr == vr


@pytest.mark.parametrize("written", ["", ".", "A B", "Modality.", "()", "(0029,xx10)", "É"])
def test_what_names_nothing_is_refused(written: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_address(written)
    assert caught.value.what
    assert caught.value.expected


@pytest.mark.parametrize(
    ("tag", "vr", "value", "expected"),
    [
        (0x00080008, "CS", b"ORIGINAL\\\\ M ", ("ORIGINAL", "M")),
        (0x00100010, "PN", b"Doe^John^^^ ", ("Doe^John",)),
        (0x00100010, "PN", b"A^B\\C^D", ("A^B", "C^D")),
        (0x00100010, "PN", b"^^^", ()),
        (0x00100020, "LO", b"  12 \0", ("12",)),
        (0x00100020, "LO", b"", ()),
        (0x00104000, "LT", b"one\\two ", ("one\\two",)),
        (0x00180050, "DS", b" 1.50 ", ("1.50",)),
        (0x00280010, "US", b"\x00\x01", ("256",)),
        (0x00280009, "AT", b"\x18\x00\x63\x10", ("(0018,1063)",)),
        (0x00281201, "OW", b"\0\0\0\0", ("4 bytes",)),
        (0x00400275, "SQ", b"", ()),
    ],
)
def test_values_are_text_without_padding(
    tag: int, vr: str, value: bytes, expected: tuple[str, ...]
) -> None:
    assert text(header(element(tag, vr, value)), tag) == expected


def test_what_is_found_says_so_briefly() -> None:
    dataset = Dataset()
    dataset.ImageType = [str(number) for number in range(10)]
    dataset.StudyDescription = "x" * 64
    dataset.PatientComments = "y" * 100
    dataset.PatientID = ""

    def found(address: str) -> str:
        return str(parse_address(address).read(dataset, Origin()))

    assert found("ImageType").endswith("'7', and 2 more")
    assert found("StudyDescription") == f"found '{'x' * 64}'"
    assert found("PatientComments") == f"found '{'y' * 63}…'"
    assert found("PatientID") == "empty"
    assert found("Modality") == "absent"
    assert found("CalledAETitle") == "absent"


def test_the_block_of_a_creator_is_found_where_it_is() -> None:
    for block in (0x10, 0x42, 0xFF):
        dataset = header(
            element(0x00290000 | block, "LO", b"ACME"),
            element(0x00290000 | block << 8 | 0x01, "LO", b"yes "),
        )
        assert text(dataset, "(0029,xx01)@ACME") == ("yes",)
        assert text(dataset, "(0029,xx02)@ACME") == ()
        assert text(dataset, "(0029,xx01)@OTHER") == ()
