"""Who may open an association, and which presentation contexts are accepted (PS3.8, PS3.7 D)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from overread.dicom.encoded import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from overread.dicom.study import Origin
from overread.receiver.wire import MAXIMUM_LENGTH
from overread.settings import Sender, Settings

VERIFICATION = "1.2.840.10008.1.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

# PS3.8 section 9.3.3.2
_ACCEPTED, _NO_ABSTRACT_SYNTAX = 0, 3


@dataclass(frozen=True)
class Rejection:
    """Why an association is not accepted (PS3.8 table 9-21).

    Attributes
    ----------
    words : str
        The Standard's words for it, by which it is counted.
    """

    result: int
    source: int
    diagnostic: int
    words: str

    def pdu(self) -> bytes:
        """Make the A-ASSOCIATE-RJ."""
        pdu = A_ASSOCIATE_RJ()
        pdu.result = self.result
        pdu.source = self.source
        pdu.reason_diagnostic = self.diagnostic
        return bytes(pdu.encode())


CALLING_NOT_RECOGNIZED = Rejection(1, 1, 3, "calling AE title not recognized")
CALLED_NOT_RECOGNIZED = Rejection(1, 1, 7, "called AE title not recognized")
NO_APPLICATION_CONTEXT = Rejection(1, 1, 2, "application context name not supported")
LIMIT_EXCEEDED = Rejection(2, 3, 2, "local limit exceeded")


@dataclass(frozen=True)
class Context:
    """A presentation context that was accepted."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, eq=False)
class Request:
    """What a peer asks for.

    Attributes
    ----------
    primitive : A_ASSOCIATE
        As pynetdicom reads it.
    origin : Origin
        Its AE titles and its address.
    longest : int
        The P-DATA-TF length that the peer takes; 0 is any.
    """

    primitive: A_ASSOCIATE
    origin: Origin
    longest: int


def read_request(body: bytes, peer_address: str) -> Request:
    """Read an A-ASSOCIATE-RQ, given from its first byte on.

    Raises
    ------
    ValueError, struct.error, LookupError, TypeError, AttributeError
        Whatever pynetdicom raises on what is none.
    """
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(body)
    primitive = pdu.to_primitive()
    longest = 0
    for item in primitive.user_information:
        if isinstance(item, MaximumLengthNotification):
            longest = item.maximum_length_received
    return Request(
        primitive,
        Origin(
            calling_ae_title=str(primitive.calling_ae_title or "").strip(),
            called_ae_title=str(primitive.called_ae_title or "").strip(),
            peer_address=peer_address,
        ),
        longest,
    )


def find_sender(settings: Settings, origin: Origin) -> Sender | None:
    """Find the sender that an association comes from; one of no issuer where any may send."""
    for sender in settings.senders:
        if sender.ae_title == origin.calling_ae_title and _comes_from(sender, origin.peer_address):
            return sender
    if settings.dicom.unknown_senders == "accept" and origin.calling_ae_title:
        return Sender.model_construct(ae_title=origin.calling_ae_title)
    return None


def judge(request: Request, sender: Sender | None, ae_titles: frozenset[str]) -> Rejection | None:
    """Say why a request is rejected; none where it is accepted."""
    if request.primitive.application_context_name != APPLICATION_CONTEXT:
        return NO_APPLICATION_CONTEXT
    if request.origin.called_ae_title not in ae_titles:
        return CALLED_NOT_RECOGNIZED
    if sender is None:
        return CALLING_NOT_RECOGNIZED
    return None


def choose_contexts(proposed: Sequence[PresentationContext]) -> list[PresentationContext]:
    """Answer each proposed presentation context.

    Verification is accepted, and every storage class and every class that is not known, in the
    transfer syntax that the sender puts first: whatever it is, the bytes are kept as they come.
    """
    answers = []
    for context in proposed:
        answer = PresentationContext()
        answer.context_id = context.context_id
        answer.abstract_syntax = context.abstract_syntax
        answer.transfer_syntax = [context.transfer_syntax[0]]
        answer.result = (
            _ACCEPTED if _is_served(str(context.abstract_syntax)) else _NO_ABSTRACT_SYNTAX
        )
        answers.append(answer)
    return answers


def accepted(answers: Sequence[PresentationContext]) -> dict[int, Context]:
    """Return what was accepted, by context id."""
    return {
        int(answer.context_id or 0): Context(
            str(answer.abstract_syntax), str(answer.transfer_syntax[0])
        )
        for answer in answers
        if answer.result == _ACCEPTED
    }


def make_acceptance(request: Request, answers: list[PresentationContext]) -> bytes:
    """Make the A-ASSOCIATE-AC."""
    longest = MaximumLengthNotification()
    longest.maximum_length_received = MAXIMUM_LENGTH
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(APPLICATION_CONTEXT)
    primitive.calling_ae_title = request.primitive.calling_ae_title
    primitive.called_ae_title = request.primitive.called_ae_title
    primitive.result = 0
    primitive.result_source = 1
    primitive.presentation_context_definition_results_list = answers
    primitive.user_information = [longest, implementation, version]
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def _is_served(abstract_syntax: str) -> bool:
    """Say whether objects of a class are taken: known services other than storage are not ours."""
    if abstract_syntax == VERIFICATION:
        return True
    return uid_to_service_class(abstract_syntax) in (StorageServiceClass, ServiceClass)


def _comes_from(sender: Sender, peer_address: str) -> bool:
    """Compare addresses; a sender may name a network, such as ``10.1.0.0/16``."""
    if not sender.addresses:
        return True
    peer = ipaddress.ip_address(peer_address.partition("%")[0])
    mapped = getattr(peer, "ipv4_mapped", None)
    for address in sender.addresses:
        try:
            network = ipaddress.ip_network(address, strict=False)
        except ValueError:
            continue
        if peer in network or (mapped is not None and mapped in network):
            return True
    return False
