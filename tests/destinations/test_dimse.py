"""The C-STORE destination, against a peer that answers what the test says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import MRImageStorage, Verification  # type: ignore[attr-defined]  # made at run time

from overread.destinations import Parcel
from overread.destinations.dimse import Dimse, prepare_requestor
from overread.errors import Unavailable
from tests.dicom.series import affine, images


@contextmanager
def peer(port: int, answer: Any, **options: Any) -> Iterator[list[bytes]]:
    """A PACS that answers each C-STORE with ``answer`` and keeps the encoded datasets."""
    got: list[bytes] = []

    def store(event: evt.Event) -> Any:
        got.append(event.encoded_dataset(include_meta=False))
        return answer

    entity = AE(ae_title="PACS")
    entity.require_called_aet = options.get("strict", False)
    entity.add_supported_context(Verification)
    entity.add_supported_context(MRImageStorage, ExplicitVRLittleEndian)
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        yield got
    finally:
        if server is not None:
            server.shutdown()


def to(port: int, **more: Any) -> Dimse:
    return Dimse("PACS", {"host": "127.0.0.1", "port": port, "timeout": 3, **more})


def parcels(folder: Path, count: int = 1) -> list[Parcel]:
    made = []
    for one in images(np.zeros((count, 4, 4), dtype=np.int16), affine()):
        file = folder / f"{one.InstanceNumber}.dcm"
        one.save_as(file, enforce_file_format=True)
        syntax = str(one.file_meta.TransferSyntaxUID)
        made.append(Parcel(file, str(one.SOPClassUID), str(one.SOPInstanceUID), syntax))
    return made


def failed(code: int, comment: str) -> Dataset:
    status = Dataset()
    status.Status, status.ErrorComment = code, comment
    return status


@pytest.mark.parametrize(
    ("answer", "delivered", "again", "said"),
    [
        (0x0000, True, False, ""),
        (0xB000, True, False, "status B000"),
        (failed(0xA700, "disk full"), False, True, "status A700: disk full"),
        (failed(0xC001, "not mine"), False, False, "status C001: not mine"),
        (0x0122, False, False, "status 0122"),
    ],
)
def test_what_an_answer_means(
    tmp_path: Path, free_port: int, answer: Any, delivered: bool, again: bool, said: str
) -> None:
    with peer(free_port, answer):
        [receipt] = to(free_port).send(parcels(tmp_path))
    assert (receipt.delivered, receipt.again, receipt.said) == (delivered, again, said)


def test_a_batch_goes_over_one_association_as_it_is(tmp_path: Path, free_port: int) -> None:
    sent = parcels(tmp_path, 5)
    with peer(free_port, 0x0000) as got:
        assert all(receipt.delivered for receipt in to(free_port).send(sent))
    assert len(got) == 5
    assert all(one.file.read_bytes().endswith(data) for one, data in zip(sent, got, strict=True))


def test_echo(free_port: int) -> None:
    with peer(free_port, 0x0000):
        to(free_port).echo()
    with pytest.raises(Unavailable, match=rf"PACS \(127.0.0.1:{free_port}\) cannot be reached"):
        to(free_port).echo()


def test_being_turned_away_is_said(free_port: int) -> None:
    with peer(free_port, 0x0000, strict=True), pytest.raises(Unavailable, match="rejected"):
        to(free_port, called="OTHER").echo()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"port": 104}, "host: Field required"),
        ({"host": "x", "port": 0}, "port: "),
        ({"host": "x", "port": 104, "calling": "far too long for a title"}, "calling: "),
        ({"host": "x", "port": 104, "tls": True}, "tls: "),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"destination PACS: {said}"):
        Dimse("PACS", settings)


def test_an_answer_is_left_to_the_one_who_waits_for_it(free_port: int) -> None:
    """pynetdicom's loop looks for requests between any two instructions of ours; it gets none."""
    with peer(free_port, 0x0000):
        entity = AE()
        entity.add_requested_context(Verification)
        handler = (evt.EVT_CONN_OPEN, prepare_requestor)
        association = entity.associate("127.0.0.1", free_port, evt_handlers=[handler])
        assert association.is_established
        answer: Any = (1, object())
        association.dimse.msg_queue.put(answer)
        time.sleep(0.1)  # a hundred turns of that loop
        assert association.dimse.get_msg(block=True) == answer
        association.release()
