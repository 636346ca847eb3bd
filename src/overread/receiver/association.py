"""One association, from its request to its end: C-ECHO and C-STORE."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

from pydicom import Dataset
from pynetdicom.dsutils import encode

from overread.dicom.study import Origin
from overread.receiver import status
from overread.receiver.negotiation import (
    LIMIT_EXCEEDED,
    Context,
    Rejection,
    accepted,
    choose_contexts,
    find_sender,
    judge,
    make_acceptance,
    read_request,
)
from overread.receiver.status import Answer
from overread.receiver.storage import Peer, Received, Storage
from overread.receiver.wire import (
    A_ABORT,
    A_ASSOCIATE_RQ,
    A_RELEASE_RP_PDU,
    A_RELEASE_RQ,
    INVALID_PARAMETER,
    P_DATA_TF,
    UNEXPECTED_PDU,
    Gone,
    Message,
    Violation,
    Wire,
)
from overread.settings import Settings

REQUEST_SECONDS = 30.0
"""How long a connection may wait before it asks for an association (ARTIM, PS3.8 9.1.4)."""

SILENT_SECONDS = 600.0
"""How long an association may be silent between two messages."""

# PS3.7 table E.1-1
_C_STORE_RQ, _C_ECHO_RQ, _C_CANCEL_RQ = 0x0001, 0x0030, 0x0FFF
_RESPONSE = 0x8000
_NO_DATASET = 0x0101

_LAST_COMMAND = 3


@dataclass
class Acceptor:
    """Serves one connection.

    Attributes
    ----------
    ae_titles : frozenset of str
        The AE titles that are answered for.
    crowded : callable
        Says whether there are more associations than allowed.
    stop : Event
        Once it is set, the association is aborted when it next waits for a message.
    """

    wire: Wire
    peer_address: str
    settings: Settings
    ae_titles: frozenset[str]
    storage: Storage
    crowded: Callable[[], bool]
    stop: Event

    def serve(self) -> None:
        """Serve it to its end."""
        try:
            self._associate()
        except Violation as violation:
            self.wire.abort(violation.reason)
        except Gone:
            pass
        finally:
            self.wire.close()

    def _associate(self) -> None:
        if not self._wait(REQUEST_SECONDS):
            return
        kind, length = self.wire.pdu()
        if kind != A_ASSOCIATE_RQ:
            raise Violation(UNEXPECTED_PDU, f"PDU type {kind:#04x} before any association")
        head = struct.pack(">BxL", kind, length)
        try:
            request = read_request(head + self.wire.body(length), self.peer_address)
            answers = choose_contexts(request.primitive.presentation_context_definition_list)
        except (ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
            raise Violation(INVALID_PARAMETER, f"its A-ASSOCIATE-RQ is none: {error}") from error
        sender = find_sender(self.settings, request.origin)
        rejection = judge(request, sender, self.ae_titles)
        if rejection is None and self.crowded():
            rejection = LIMIT_EXCEEDED
        if rejection is not None or sender is None:
            self._reject(request.origin, rejection or LIMIT_EXCEEDED)
            return
        association_id = self.storage.opened(request.origin)
        ended = "lost"
        try:
            self.wire.send(make_acceptance(request, answers))
            peer = Peer(request.origin, association_id, sender.issuer)
            ended = _Conversation(self, peer, accepted(answers)).run()
        except Violation:
            ended = "aborted"
            raise
        finally:
            self.storage.closed(association_id, ended)
        if ended == "released":
            self.wire.send(A_RELEASE_RP_PDU)

    def _reject(self, origin: Origin, rejection: Rejection) -> None:
        try:
            self.storage.turned_away(origin, rejection.words)
        finally:
            self.wire.send(rejection.pdu())

    def _wait(self, seconds: float) -> bool:
        """Wait for the peer, but not once the receiver stops."""
        ends = time.monotonic() + seconds
        while not self.stop.is_set():
            left = ends - time.monotonic()
            if left <= 0:
                return False
            if self.wire.wait(min(left, 0.25)):
                return True
        return False


@dataclass(frozen=True)
class _Conversation:
    """The messages of an accepted association."""

    acceptor: Acceptor
    peer: Peer
    contexts: dict[int, Context]

    def run(self) -> str:
        """Answer messages until the end; say how it ended."""
        wire = self.acceptor.wire
        while True:
            if not self.acceptor._wait(SILENT_SECONDS):
                wire.abort(0)
                return "aborted"
            kind, length = wire.pdu()
            if kind == P_DATA_TF:
                self._answer(wire.message(length))
            elif kind == A_RELEASE_RQ:
                wire.body(length)
                return "released"
            elif kind == A_ABORT:
                return "aborted"
            else:
                raise Violation(UNEXPECTED_PDU, f"PDU type {kind:#04x} in an association")

    def _answer(self, message: Message) -> None:
        context = self.contexts.get(message.context_id)
        if context is None:
            raise Violation(INVALID_PARAMETER, "a message in a context that was not accepted")
        command = message.command
        field = int(command.get("CommandField", 0))
        if field == _C_CANCEL_RQ or field & _RESPONSE:
            return
        if field == _C_ECHO_RQ:
            answer = Answer(status.SUCCESS)
        elif field == _C_STORE_RQ:
            received = Received(
                sop_class=str(command.get("AffectedSOPClassUID", "")),
                sop_instance=str(command.get("AffectedSOPInstanceUID", "")),
                transfer_syntax=context.transfer_syntax,
                data=message.dataset,
            )
            answer = self.acceptor.storage.store(received, self.peer)
        else:
            answer = Answer(status.NO_SUCH_OPERATION)
        self.acceptor.wire.send(_response(message.context_id, command, field, answer))


def _response(context_id: int, request: Dataset, field: int, answer: Answer) -> bytes:
    """Make the P-DATA-TF of a response: it is always shorter than any peer's longest."""
    response = Dataset()
    response.CommandGroupLength = 0
    for keyword in ("AffectedSOPClassUID", "AffectedSOPInstanceUID"):
        if request.get(keyword):
            setattr(response, keyword, request.get(keyword))
    response.CommandField = field | _RESPONSE
    response.MessageIDBeingRespondedTo = request.get("MessageID", 0)
    response.CommandDataSetType = _NO_DATASET
    response.Status = answer.status
    if answer.comment:
        response.ErrorComment = answer.comment[:64]
    encoded = bytearray(encode(response, True, True) or b"")
    struct.pack_into("<L", encoded, 8, len(encoded) - 12)  # the group's length, without itself
    pdv = struct.pack(">LBB", len(encoded) + 2, context_id, _LAST_COMMAND) + encoded
    return struct.pack(">BxL", P_DATA_TF, len(pdv)) + pdv
