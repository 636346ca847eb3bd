"""PDUs of the DICOM Upper Layer (PS3.8 section 9.3) on a socket.

Association PDUs are read and made by pynetdicom. P-DATA-TF, which carries the images, is read here
straight into the buffer that is then written to disk: pynetdicom copies every byte six times and
polls twice with a millisecond's sleep, which would cost as much as everything else together.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from pydicom import Dataset
from pynetdicom.dsutils import decode

A_ASSOCIATE_RQ: Final = 0x01
P_DATA_TF: Final = 0x04
A_RELEASE_RQ: Final = 0x05
A_ABORT: Final = 0x07

A_RELEASE_RP_PDU: Final = bytes.fromhex("0600 00000004 00000000")

# PS3.8 table 9-26: source 2 is the service provider
UNRECOGNISED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER = 1, 2, 6

MAXIMUM_LENGTH: Final = 262_144
"""The P-DATA-TF length that we announce (PS3.8 D.1); DCMTK sends at most half of it."""

_LONGEST_PDU: Final = 64 * 2**20
_LONGEST_COMMAND: Final = 2**16
_LONGEST_DATASET: Final = 4 * 10**9
"""Below 2**32, the longest that an element can say it is; a message is held in memory whole."""

_FIRST_ROOM: Final = 2**20
_MOST_ROOM: Final = 64 * 2**20
"""Each message of an association is given the room of the one before, but no more than this."""

_CLOSING_SECONDS: Final = 2.0
_COMMAND, _LAST = 1, 2  # message control header, PS3.8 E.2
_NO_DATASET = 0x0101  # CommandDataSetType, PS3.7 E.1
_PDU = struct.Struct(">BxL")
_PDV = struct.Struct(">LBB")


class Gone(Exception):
    """The peer closed the connection, or was silent for too long."""


class Violation(Exception):
    """The peer sent what PS3.8 does not allow; it is answered with an A-ABORT.

    Attributes
    ----------
    reason : int
        Of PS3.8 table 9-26.
    """

    def __init__(self, reason: int, what: str) -> None:
        self.reason = reason
        super().__init__(what)


@dataclass(frozen=True)
class Message:
    """A DIMSE message (PS3.7): its command set, and its dataset as it came.

    Attributes
    ----------
    context_id : int
        The presentation context that it came in.
    dataset : memoryview
        Empty where the command says that there is none.
    """

    context_id: int
    command: Dataset
    dataset: memoryview


class _Gathering:
    """A message whose fragments come in (PS3.8 annex E)."""

    def __init__(self, room: int) -> None:
        self._context_id: int | None = None
        self._command = bytearray()
        self._data = bytearray(room)
        self._filled = 0
        self._read: Dataset | None = None

    def room(self, context_id: int, control: int, size: int) -> memoryview:
        """Return where the next fragment goes."""
        if self._context_id not in (None, context_id):
            raise Violation(INVALID_PARAMETER, "one message in two presentation contexts")
        self._context_id = context_id
        if bool(control & _COMMAND) != (self._read is None):
            raise Violation(UNEXPECTED_PDU, "command and dataset fragments out of order")
        if self._read is None:
            if len(self._command) + size > _LONGEST_COMMAND:
                raise Violation(INVALID_PARAMETER, "a command set without end")
            start = len(self._command)
            self._command = self._command + bytes(size)
            return memoryview(self._command)[start:]
        start, self._filled = self._filled, self._filled + size
        if self._filled > _LONGEST_DATASET:
            raise Violation(INVALID_PARAMETER, "a dataset without end")
        if self._filled > len(self._data):
            longer = bytearray(max(2 * len(self._data), self._filled))
            longer[:start] = memoryview(self._data)[:start]
            self._data = longer
        return memoryview(self._data)[start : self._filled]

    def whole(self, control: int) -> bool:
        """Say whether the fragment that came was the last of the message."""
        if not control & _LAST:
            return False
        if self._read is not None:
            return True
        try:
            self._read = decode(BytesIO(self._command), True, True)
            return int(self._read.get("CommandDataSetType", _NO_DATASET)) == _NO_DATASET
        except (ValueError, LookupError, TypeError, EOFError, OSError, struct.error) as error:
            raise Violation(INVALID_PARAMETER, f"its command set is none: {error}") from error

    def message(self) -> Message:
        """Return the message, once it is whole."""
        if self._context_id is None or self._read is None:
            raise AssertionError("asked for before it was whole")
        return Message(self._context_id, self._read, memoryview(self._data)[: self._filled])


class Wire:
    """The connection to one peer.

    Parameters
    ----------
    connection : socket
        Accepted. It is set to send small answers at once: a delayed acknowledgement would
        otherwise hold up each of them by 40 ms.
    silence : float
        Seconds that a peer may be silent in the middle of a PDU.

    Attributes
    ----------
    deadline : float, optional
        When, on the monotonic clock, the peer is gone if what is read has not come whole; without
        one, a peer that sends a byte now and then is waited for as long as it does.
    """

    def __init__(self, connection: socket.socket, silence: float) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The kernel's own timeout leaves the socket blocking, so that one call fills a buffer.
        connection.settimeout(None)
        timeout = struct.pack("ll", int(silence), int(silence % 1 * 1e6))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, option, timeout)
        self._socket = connection
        self._readable = select.poll()
        self._readable.register(connection, select.POLLIN)
        self._room = _FIRST_ROOM
        self.deadline: float | None = None

    def wait(self, seconds: float) -> bool:
        """Wait until the peer has sent something, or closed; say whether it has."""
        return bool(self._readable.poll(seconds * 1000))

    def send(self, data: bytes) -> None:
        """Send bytes.

        Raises
        ------
        Gone
            They cannot be.
        """
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Gone(str(error)) from error

    def pdu(self) -> tuple[int, int]:
        """Read the head of the next PDU: its type and the length of what follows."""
        kind, length = _PDU.unpack(self._exactly(_PDU.size))
        if not 1 <= kind <= A_ABORT:
            raise Violation(UNRECOGNISED_PDU, f"PDU type {kind:#04x} is not one of PS3.8")
        if length > _LONGEST_PDU:
            raise Violation(
                INVALID_PARAMETER, f"a PDU of {length} bytes is longer than any allowed"
            )
        return kind, length

    def body(self, length: int) -> bytes:
        """Read what follows the head of a PDU."""
        return bytes(self._exactly(length))

    def message(self, length: int) -> Message:
        """Read a DIMSE message whose first P-DATA-TF follows with ``length`` bytes.

        Parameters
        ----------
        length : int
            From the head of that PDU, which `pdu` has read.
        """
        gathering = _Gathering(self._room)
        while True:
            while length:
                if length < _PDV.size:
                    raise Violation(INVALID_PARAMETER, "a presentation data value without a head")
                size, context_id, control = _PDV.unpack(self._exactly(_PDV.size))
                size -= 2
                length -= _PDV.size + size
                if size < 0 or length < 0:
                    raise Violation(INVALID_PARAMETER, "a presentation data value of wrong length")
                self._into(gathering.room(context_id, control, size))
                if gathering.whole(control):
                    if length:
                        raise Violation(INVALID_PARAMETER, "two messages in one P-DATA-TF")
                    message = gathering.message()
                    self._room = min(max(_FIRST_ROOM, len(message.dataset)), _MOST_ROOM)
                    return message
            kind, length = self.pdu()
            if kind == A_ABORT:
                raise Gone("aborted by the peer in the middle of a message")
            if kind != P_DATA_TF:
                raise Violation(UNEXPECTED_PDU, f"PDU type {kind:#04x} in the middle of a message")

    def abort(self, reason: int) -> None:
        """Send an A-ABORT of the service provider, if it can still be sent."""
        try:
            self.send(bytes([A_ABORT, 0, 0, 0, 0, 4, 0, 0, 2, reason]))
        except Gone:
            return

    def close(self) -> None:
        """Close the connection once the peer has, or two seconds later."""
        ends = time.monotonic() + _CLOSING_SECONDS
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while (left := ends - time.monotonic()) > 0 and self.wait(left):
                if not self._socket.recv(65536):
                    break
        except OSError:
            pass
        self._socket.close()

    def cut(self) -> None:
        """Cut the connection, from another thread; whoever waits on it sees it gone."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def _exactly(self, size: int) -> bytearray:
        data = bytearray(size)
        self._into(memoryview(data))
        return data

    def _into(self, view: memoryview) -> None:
        # With a deadline only what is there is taken, so that the clock is looked at again.
        flags = socket.MSG_WAITALL if self.deadline is None else 0
        while view:
            if self.deadline is not None:
                left = self.deadline - time.monotonic()
                if left <= 0 or not self.wait(left):
                    raise Gone("too slow")
            try:
                count = self._socket.recv_into(view, 0, flags)
            except OSError as error:
                raise Gone(str(error)) from error
            if not count:
                raise Gone("closed by the peer")
            view = view[count:]
