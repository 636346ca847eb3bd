from __future__ import annotations

from io import BytesIO

import pytest
from pydicom import Dataset
from pynetdicom.dsutils import decode

from overread.receiver.association import _response
from overread.receiver.status import Answer


@pytest.mark.parametrize(
    ("comment", "sent"),
    [
        ("PixelData is truncated", "PixelData is truncated"),
        ("Müller\\Jane", "M?ller/Jane"),
        ("x" * 70, "x" * 64),
    ],
)
def test_a_comment_is_one_value_of_ascii(comment: str, sent: str) -> None:
    pdu = _response(1, Dataset(), 1, Answer(0xC000, comment))
    assert decode(BytesIO(pdu[12:]), True, True).ErrorComment == sent
