"""What a peer can make a connection cost."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from pydicom import Dataset
from pynetdicom.dsutils import encode

from overread.receiver import wire
from overread.receiver.wire import INVALID_PARAMETER, Gone, Violation, Wire
from tests.receiver.raw import pdu

_COMMAND, _DATASET, _LAST = 1, 0, 2


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Wire]]:
    """A peer's end of a connection, and ours."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with peer, ours:
        yield peer, Wire(ours, 5.0)


def values(*fragments: tuple[int, bytes]) -> bytes:
    """A P-DATA-TF of fragments of a message in context 1, each after its control header."""
    parts = [struct.pack(">LBB", len(part) + 2, 1, head) + part for head, part in fragments]
    return pdu(wire.P_DATA_TF, b"".join(parts))


def command(data_set_type: int = 1) -> tuple[int, bytes]:
    one = Dataset()
    one.CommandField, one.CommandDataSetType = 1, data_set_type
    return _COMMAND | _LAST, encode(one, True, True) or b""


def message(ours: Wire) -> wire.Message:
    return ours.message(ours.pdu()[1])


def test_a_dataset_in_fragments_is_gathered(ends: tuple[socket.socket, Wire]) -> None:
    peer, ours = ends
    peer.sendall(values(command(), (_DATASET, b"ab")) + values((_DATASET | _LAST, b"cd")))
    assert bytes(message(ours).dataset) == b"abcd"


def test_a_dataset_without_end_is_refused(
    ends: tuple[socket.socket, Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_LONGEST_DATASET", 1000)
    monkeypatch.setattr(wire, "_FIRST_ROOM", 10)
    peer, ours = ends
    peer.sendall(values(command(), *[(_DATASET, bytes(100))] * 11))
    with pytest.raises(Violation, match="a dataset without end") as caught:
        message(ours)
    assert caught.value.reason == INVALID_PARAMETER


def test_the_room_of_a_huge_object_is_not_kept(
    ends: tuple[socket.socket, Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_FIRST_ROOM", 10)
    monkeypatch.setattr(wire, "_MOST_ROOM", 1000)
    peer, ours = ends
    for size, room in ((5, 10), (500, 500), (5000, 1000)):
        peer.sendall(values(command(), (_DATASET | _LAST, bytes(size))))
        assert len(message(ours).dataset) == size
        assert ours._room == room


def test_who_drips_bytes_is_gone_at_the_deadline(ends: tuple[socket.socket, Wire]) -> None:
    peer, ours = ends
    stop = threading.Event()

    def drip() -> None:
        peer.sendall(b"\1\0\0\0\1\0")
        while not stop.wait(0.05):
            with contextlib.suppress(OSError):  # once it is closed
                peer.sendall(b"\0")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        began = time.monotonic()
        ours.deadline = began + 0.4
        _, length = ours.pdu()
        with pytest.raises(Gone, match="too slow"):
            ours.body(length)
        assert 0.3 < time.monotonic() - began < 2
        began = time.monotonic()
        ours.close()
        assert time.monotonic() - began < 4
    finally:
        stop.set()
        dripping.join()
