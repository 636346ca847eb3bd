"""One association, from its request to its end: C-ECHO and C-STORE."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from threading import Event, Semaphore

from pydicom import Dataset
from pynetdicom.dsutils import encode
from pynetdicom.presentation import PresentationContext

from overread.dicom.encoded import number, text
from overread.dicom.study import Origin
from overread.receiver import status
from overread.receiver.negotiation import (
    LIMIT_EXCEEDED,
    Context,
    Rejection,
    Request,
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
from overread.settings import Sender, Settings

REQUEST_SECONDS = 30.0
"""How long a connection has to ask for an association (ARTIM, PS3.8 9.1.5)."""

SILENT_SECONDS = 600.0
"""How long an association may be silent between two messages."""

_LONGEST_REQUEST = 2**20
"""Bytes of an A-ASSOCIATE-RQ, which anyone may send: 128 contexts of many syntaxes are a tenth."""

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
    places : Semaphore
        One for each association that may be open at once; a connection takes one when it is
        accepted.
    stop : Event
        Once it is set, the association is aborted when it next waits for a message.
    """

    wire: Wire
    peer_address: str
    settings: Settings
    ae_titles: frozenset[str]
    storage: Storage
    places: Semaphore
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
        self.wire.deadline = time.monotonic() + REQUEST_SECONDS
        if not self._wait(REQUEST_SECONDS):
            return
        kind, length = self.wire.pdu()
        if kind != A_ASSOCIATE_RQ:
            raise Violation(UNEXPECTED_PDU, f"PDU type {kind:#04x} before any association")
        if length > _LONGEST_REQUEST:
            raise Violation(INVALID_PARAMETER, "an A-ASSOCIATE-RQ without end")
        head = struct.pack(">BxL", kind, length)
        try:
            request = read_request(head + self.wire.body(length), self.peer_address)
            answers = choose_contexts(request.primitive.presentation_context_definition_list)
        except (ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
            raise Violation(INVALID_PARAMETER, f"its A-ASSOCIATE-RQ is none: {error}") from error
        sender = find_sender(self.settings, request.origin)
        rejection = judge(request, sender, self.ae_titles)
        if rejection is None and not self.places.acquire(blocking=False):
            rejection = LIMIT_EXCEEDED
        if rejection is not None or sender is None:
            self._reject(request.origin, rejection or LIMIT_EXCEEDED)
            return
        try:
            ended = self._converse(request, answers, sender)
        finally:
            self.places.release()
        if ended == "released":
            self.wire.send(A_RELEASE_RP_PDU)

    def _converse(
        self, request: Request, answers: list[PresentationContext], sender: Sender
    ) -> str:
        """Accept an association and answer its messages; say how it ended."""
        self.wire.deadline = None
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
        return ended

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
        field = number(command, "CommandField")
        if field is None:
            raise Violation(INVALID_PARAMETER, "a message whose CommandField is no number")
        if field == _C_CANCEL_RQ or field & _RESPONSE:
            return
        if field == _C_ECHO_RQ:
            answer = Answer(status.SUCCESS)
        elif field == _C_STORE_RQ:
            received = Received(
                sop_class=text(command, "AffectedSOPClassUID"),
                sop_instance=text(command, "AffectedSOPInstanceUID"),
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
        if uid := text(request, keyword):
            setattr(response, keyword, uid)
    response.CommandField = field | _RESPONSE
    response.MessageIDBeingRespondedTo = number(request, "MessageID") or 0
    response.CommandDataSetType = _NO_DATASET
    response.Status = answer.status
    if answer.comment:
        # ASCII, as a command has no character set; a backslash would make two values of it.
        comment = answer.comment.encode("ascii", "replace").decode()
        response.ErrorComment = comment.replace("\\", "/")[:64]
    encoded = bytearray(encode(response, True, True) or b"")
    struct.pack_into("<L", encoded, 8, len(encoded) - 12)  # the group's length, without itself
    pdv = struct.pack(">LBB", len(encoded) + 2, context_id, _LAST_COMMAND) + encoded
    return struct.pack(">BxL", P_DATA_TF, len(pdv)) + pdv
