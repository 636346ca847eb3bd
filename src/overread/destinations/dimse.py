"""A DICOM AE that takes images by C-STORE.

The file's encoded dataset is sent as it lies in the archive, in its own transfer syntax, read in
pieces and never decoded. All parcels of a batch go over one association.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time
from pynetdicom.status import code_to_category

from overread.destinations import Parcel, Receipt
from overread.errors import Unavailable
from overread.settings import AETitle, Frozen, Port

# Send files as they are; by default pynetdicom decodes and encodes them again.
_config.STORE_SEND_CHUNKED_DATASET = True

_CONTEXTS = 128
"""Presentation contexts that one association can propose (PS3.8 9.3.2.2: odd ids up to 255)."""

_OUT_OF_RESOURCES = range(0xA700, 0xA800)
"""PS3.4 table B.2-1: refused, out of resources. The one failure that passes by itself."""


class DimseSettings(Frozen):
    """What ``with:`` says of a destination that uses ``dimse``.

    Attributes
    ----------
    called : str
        Its AE title, where it is not the name that routes use.
    calling : str
        The AE title that we send as.
    timeout : float
        Seconds to wait for an answer, to a connection as to an image.
    """

    use: Literal["dimse"] = "dimse"
    host: str
    port: Port
    called: AETitle | None = None
    calling: AETitle = "OVERREAD"
    timeout: float = Field(default=30.0, gt=0)


class Dimse:
    """A C-STORE peer; see `overread.destinations.Destination`.

    Raises
    ------
    ValueError
        A setting is missing or makes no sense.
    """

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        try:
            self.settings = DimseSettings.model_validate(dict(settings))
        except ValidationError as error:
            what = "; ".join(
                f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}"
                for one in error.errors()
            )
            raise ValueError(f"destination {name}: {what}") from error
        self.name = name

    def echo(self) -> None:
        """Send a C-ECHO.

        Raises
        ------
        Unavailable
            It does not answer, or turns us away.
        """
        entity = self._entity()
        entity.add_requested_context(Verification)
        association = self._associate(entity)
        try:
            status = association.send_c_echo()
            if not status or status.Status != 0:
                raise Unavailable(f"{self._where()} did not answer a C-ECHO")
        finally:
            association.release()

    def send(self, parcels: Sequence[Parcel]) -> Iterator[Receipt]:
        """Send the parcels over one association.

        Raises
        ------
        Unavailable
            It cannot be reached, turned us away, or went away.
        """
        wanted = list(
            dict.fromkeys((one.sop_class_uid, one.transfer_syntax_uid) for one in parcels)
        )
        entity = self._entity()
        for sop_class, transfer_syntax in wanted[:_CONTEXTS]:
            # One context each: a peer picks one syntax of several, and that may not be the file's.
            entity.add_requested_context(sop_class, transfer_syntax)
        association = self._associate(entity)
        try:
            accepted = {
                (str(context.abstract_syntax), str(context.transfer_syntax[0]))
                for context in association.accepted_contexts
            }
            for number, parcel in enumerate(parcels, start=1):
                kind = (parcel.sop_class_uid, parcel.transfer_syntax_uid)
                if kind in accepted:
                    yield self._store(association, parcel, number)
                elif wanted.index(kind) >= _CONTEXTS:
                    yield Receipt(False, True, "no room for it in this association")
                else:
                    yield Receipt(False, False, self._not_accepted(parcel))
        finally:
            if association.is_established:
                association.release()

    def _store(self, association: Association, parcel: Parcel, number: int) -> Receipt:
        if not association.is_established:
            raise Unavailable(f"{self._where()} ended the association")
        status = association.send_c_store(parcel.file, msg_id=number % 65535 + 1)
        if not status or "Status" not in status:
            raise Unavailable(f"{self._where()} did not answer a C-STORE")
        code = int(status.Status)
        comment = str(status.get("ErrorComment", "") or "")
        said = f"status {code:04X}" + (f": {comment}" if comment else "")
        category = code_to_category(code)
        if category in ("Success", "Warning"):
            return Receipt(True, False, "" if category == "Success" else said)
        return Receipt(False, code in _OUT_OF_RESOURCES, said)

    def _entity(self) -> AE:
        entity = AE(ae_title=self.settings.calling)
        entity.maximum_pdu_size = 0
        entity.connection_timeout = entity.acse_timeout = self.settings.timeout
        entity.dimse_timeout = entity.network_timeout = self.settings.timeout
        return entity

    def _associate(self, entity: AE) -> Association:
        association = entity.associate(
            self.settings.host,
            self.settings.port,
            ae_title=self.settings.called or self.name,
            max_pdu=0,
            evt_handlers=[(evt.EVT_CONN_OPEN, prepare_requestor)],
        )
        if association.is_established:
            return association
        if association.is_rejected:
            answer = association.acceptor.primitive
            reason = answer.reason_str if answer is not None else "without a reason"
            raise Unavailable(f"{self._where()} rejected the association: {reason}")
        raise Unavailable(f"{self._where()} cannot be reached")

    def _not_accepted(self, parcel: Parcel) -> str:
        return (
            f"{self._where()} does not take SOP class {parcel.sop_class_uid} in transfer syntax "
            f"{parcel.transfer_syntax_uid}; it must be set up to, as files are sent as they came"
        )

    def _where(self) -> str:
        return f"{self.name} ({self.settings.host}:{self.settings.port})"


def prepare_requestor(event: evt.Event) -> None:
    """Make an association that we ask for quick and sure; a handler of ``EVT_CONN_OPEN``.

    - Nagle's algorithm is turned off: with it each image waits some 45 ms for a delayed ACK.
    - pynetdicom's own loop no longer takes messages from the peer. It looks for requests, which a
      requestor of C-ECHO and C-STORE never gets, and on a busy machine it took the answer that
      `send_c_store` was waiting for, which then was missed until the timeout.
    """
    wrapped = event.assoc.dul.socket
    if wrapped is not None and wrapped.socket is not None:
        wrapped.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    dimse = event.assoc.dimse
    take = dimse.get_msg

    def take_answer(block: bool = False) -> Any:
        return take(block=True) if block else (None, None)

    dimse.get_msg = take_answer  # type: ignore[method-assign]  # the library has no switch for it
