"""A sender that sends exactly the bytes it is told to."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from pynetdicom.association import Association as Sending
from pynetdicom.dimse_primitives import C_STORE


def store(sending: Sending, data: bytes, sop_class: str, sop_instance: str) -> tuple[int, str]:
    """Send a C-STORE with these bytes as its dataset; return status and comment."""
    request = C_STORE()
    request.MessageID = 7
    request.Priority = 2
    request.AffectedSOPClassUID = sop_class
    request.AffectedSOPInstanceUID = sop_instance
    request.DataSet = BytesIO(data)
    context = next(
        context.context_id or 0
        for context in sending.accepted_contexts
        if context.abstract_syntax == sop_class
    )
    with _paused(sending):
        sending.dimse.send_msg(request, context)
        _, answer = sending.dimse.get_msg(block=True)
    assert isinstance(answer, C_STORE), "no answer"
    assert answer.Status is not None
    return answer.Status, str(answer.ErrorComment or "")


def say(
    sending: Sending, context_id: int, elements: dict[int, bytes], data: bytes = b""
) -> tuple[int, str] | None:
    """Send a message whose command has these elements of group 0000, and these bytes as dataset.

    Returns status and comment of the answer; none where that is an abort.
    """
    command = b"".join(
        struct.pack("<HHL", 0, element, len(value)) + value for element, value in elements.items()
    )
    fragments = [(3, command), (2, data)] if data else [(3, command)]
    body = b"".join(
        struct.pack(">LBB", len(part) + 2, context_id, control) + part
        for control, part in fragments
    )
    with _paused(sending):
        connection = sending.dul.socket
        assert connection is not None
        connection.send(pdu(0x04, body))
        _, answer = sending.dimse.get_msg(block=True)
    if answer is None:
        return None
    assert isinstance(answer, C_STORE)
    return answer.Status or 0, str(answer.ErrorComment or "")


@contextmanager
def _paused(sending: Sending) -> Iterator[None]:
    """Keep the thread of an association from taking what is answered."""
    sending._reactor_checkpoint.clear()
    while not sending._is_paused:
        time.sleep(0.01)
    try:
        yield
    finally:
        sending._reactor_checkpoint.set()


def talk(port: int, data: bytes) -> bytes:
    """Send bytes to a port and return what comes back until it is closed."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(data)
        heard = b""
        while part := connection.recv(65536):
            heard += part
        return heard


def pdu(kind: int, body: bytes) -> bytes:
    """A PDU."""
    return struct.pack(">BxL", kind, len(body)) + body


ABORT_HEAD = bytes.fromhex("07 00 00000004 0000 02")
