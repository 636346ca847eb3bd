from __future__ import annotations

from typing import Any

import pytest
from pynetdicom.pdu_primitives import A_ASSOCIATE

from overread.dicom.study import Origin
from overread.receiver.negotiation import (
    CALLED_NOT_RECOGNIZED,
    CALLING_NOT_RECOGNIZED,
    NO_APPLICATION_CONTEXT,
    Rejection,
    Request,
    find_sender,
    judge,
)
from overread.settings import Sender, Settings

SENDERS = [
    {"ae_title": "ANYWHERE", "issuer": "A"},
    {"ae_title": "ONE", "addresses": ["10.0.0.7"], "issuer": "B"},
    {"ae_title": "NET", "addresses": ["10.1.0.0/16", "fd00::/8"], "issuer": "C"},
    {"ae_title": "NET", "addresses": ["10.2.0.1"], "issuer": "D"},
]


def settings(unknown: str = "reject") -> Settings:
    return Settings.model_validate(
        {"site": {"name": "T"}, "dicom": {"unknown_senders": unknown}, "senders": SENDERS}
    )


@pytest.mark.parametrize(
    ("calling", "address", "issuer"),
    [
        ("ANYWHERE", "192.168.1.1", "A"),
        ("ONE", "10.0.0.7", "B"),
        ("ONE", "::ffff:10.0.0.7", "B"),
        ("ONE", "10.0.0.8", None),
        ("NET", "10.1.200.3", "C"),
        ("NET", "fd00::1%eth0", "C"),
        ("NET", "10.2.0.1", "D"),
        ("NET", "10.3.0.1", None),
        ("net", "10.1.0.1", None),
        ("STRANGER", "10.0.0.7", None),
        ("", "10.0.0.7", None),
    ],
)
def test_a_sender_is_its_title_and_its_address(
    calling: str, address: str, issuer: str | None
) -> None:
    sender = find_sender(settings(), Origin(calling, "OVERREAD", address))
    assert (sender.issuer if sender else None) == issuer


@pytest.mark.parametrize(("calling", "known"), [("STRANGER", True), ("ONE", True), ("", False)])
def test_a_site_may_take_from_anyone_with_a_title(calling: str, known: bool) -> None:
    sender = find_sender(settings("accept"), Origin(calling, "OVERREAD", "10.9.9.9"))
    assert (sender is not None) == known
    assert sender is None or sender.issuer == ""


@pytest.mark.parametrize(
    ("called", "sender", "context", "expected"),
    [
        ("OVERREAD", True, "1.2.840.10008.3.1.1.1", None),
        ("BRIGHT", True, "1.2.840.10008.3.1.1.1", None),
        ("NOBODY", True, "1.2.840.10008.3.1.1.1", CALLED_NOT_RECOGNIZED),
        ("NOBODY", False, "1.2.840.10008.3.1.1.1", CALLED_NOT_RECOGNIZED),
        ("BRIGHT", False, "1.2.840.10008.3.1.1.1", CALLING_NOT_RECOGNIZED),
        ("BRIGHT", True, "1.2.3", NO_APPLICATION_CONTEXT),
    ],
)
def test_who_is_rejected(called: str, sender: bool, context: str, expected: Any) -> None:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = context
    request = Request(primitive, Origin("SCANNER", called, ""), 0)
    known = Sender(ae_title="SCANNER") if sender else None
    assert judge(request, known, frozenset({"OVERREAD", "BRIGHT"})) == expected


@pytest.mark.parametrize(
    ("rejection", "pdu"),
    [
        (CALLING_NOT_RECOGNIZED, "03 00 00000004 00 01 01 03"),
        (CALLED_NOT_RECOGNIZED, "03 00 00000004 00 01 01 07"),
    ],
)
def test_a_rejection_says_what_the_standard_says(rejection: Rejection, pdu: str) -> None:
    assert rejection.pdu() == bytes.fromhex(pdu)
