"""What is done with the dataset of a C-STORE, until it may be answered.

Success is answered once the file, its folder entry and the row are on disk. The three go there at
the same time, so that the file system's journal is written once for all. A row whose file did not
get there was never acknowledged, and is withdrawn: at once where the disk fails, by
`overread.receiver.recovery` where the power did.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from sqlalchemy import insert, update
from sqlalchemy.exc import SQLAlchemyError

from overread.dicom.encoded import Encoded, Unparseable, make_preface, parse, text
from overread.dicom.study import Origin
from overread.receiver import status
from overread.receiver.committer import Committer
from overread.receiver.status import TAKEN, Answer
from overread.routing.rules import Decision, decide
from overread.site import SiteFolder
from overread.store.archive import Archive, new_key
from overread.store.database import Database
from overread.store.instances import Incoming, keep
from overread.store.refusals import has_key, quarantine, turn_away, withdraw
from overread.store.tables import Association, new_id

_NO_CLASS = "2.25.0"
"""The nil UUID: stands in the file where the command names no class, as PS3.10 wants one."""

FULL_DISK = "disk below its watermark"

log = structlog.get_logger("overread.receiver")


def utc_now() -> datetime:
    """Return the time: the one clock of the receiver."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Peer:
    """Who sends.

    Attributes
    ----------
    association_id : str
        The row of `Association`.
    issuer : str
        The sender's default for IssuerOfPatientID.
    """

    origin: Origin
    association_id: str
    issuer: str


@dataclass(frozen=True, eq=False)
class Received:
    """A C-STORE request.

    Attributes
    ----------
    sop_class, sop_instance : str
        AffectedSOPClassUID and AffectedSOPInstanceUID of the command; empty where it has none.
    transfer_syntax : str
        Of the presentation context.
    data : memoryview
        The dataset as it came.
    """

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    data: memoryview

    def file(self) -> list[bytes | memoryview]:
        """Return the parts of the PS3.10 file in which it is kept."""
        sop_class = self.sop_class or _NO_CLASS
        return [make_preface(sop_class, self.sop_instance, self.transfer_syntax), self.data]


class Storage:
    """Keeps what arrives at one receiver process.

    Parameters
    ----------
    site : SiteFolder
        Its routes and its pipelines' AE titles decide where things go.
    writer : str
        The process, as `Association.receiver` names it; its files begin with it.
    """

    def __init__(self, site: SiteFolder, database: Database, archive: Archive, writer: str) -> None:
        self._site = site
        self._database = database
        self._archive = archive
        self._writer = writer
        self._committer = Committer(database)
        self._pipelines = frozenset(p.ae_title for p in site.pipelines.values())
        self._known_as = {
            called: name
            for name, destination in site.settings.destinations.items()
            if (called := destination.with_.get("called"))
        }

    def opened(self, origin: Origin) -> str:
        """Record that an association was accepted; return its id."""
        association = {
            "id": new_id(),
            "calling_ae": origin.calling_ae_title,
            "called_ae": origin.called_ae_title,
            "peer_address": origin.peer_address,
            "opened_at": utc_now(),
            "receiver": self._writer,
        }
        self._committer.run(
            lambda session: session.execute(insert(Association).values(association))
        )
        return str(association["id"])

    def closed(self, association_id: str, ended: str) -> None:
        """Record how it ended."""
        end = {"closed_at": utc_now(), "ended": ended}
        self._committer.run(
            lambda session: session.execute(
                update(Association).where(Association.id == association_id).values(end)
            )
        )

    def turned_away(self, origin: Origin, words: str) -> None:
        """Count an association that was not accepted, or an object that was not taken."""
        at = utc_now()
        self._committer.run(lambda session: turn_away(session, origin, words, at))

    def store(self, received: Received, peer: Peer) -> Answer:
        """Keep one object; the answer is Success only once it is durably kept."""
        at = utc_now()
        try:
            free = self._archive.free() - len(received.data)
            if free < self._site.settings.storage.watermark:
                self.turned_away(peer.origin, FULL_DISK)
                return Answer(status.OUT_OF_RESOURCES, FULL_DISK)
            read = _read(received)
            if isinstance(read, Answer):
                self._quarantine(read, received, peer, at)
                return read
            self._keep(read, received, peer, at)
        except (OSError, SQLAlchemyError) as error:
            # Nothing was acknowledged: the sender keeps the object and tries again.
            log.error("not kept", error=type(error).__name__, association=peer.association_id)
            return Answer(status.OUT_OF_RESOURCES, "archive or database failed; send it again")
        return TAKEN

    def _keep(self, encoded: Encoded, received: Received, peer: Peer, at: datetime) -> None:
        key = new_key("instances", at, writer=self._writer)
        pending = self._archive.begin(key, received.file())
        digest = hashlib.sha256(encoded.data).hexdigest()
        incoming = Incoming(encoded, digest, key, peer.issuer)
        decisions = self._decide(encoded, peer.origin)
        try:
            kept = self._committer.run(
                lambda session: keep(
                    session,
                    self._archive,
                    incoming,
                    at=at,
                    origin=peer.origin,
                    association_id=peer.association_id,
                    decisions=decisions,
                    pipelines=self._pipelines,
                )
            )
        except (OSError, SQLAlchemyError):
            self._forget(key)
            raise
        try:
            pending.wait()
        except OSError:
            if not kept.repeat:
                self._committer.run(lambda session: withdraw(session, kept.instance_id))
            raise
        if kept.repeat:
            # The first copy may have come by another association a moment ago.
            self._archive.sync(kept.key)
            self._archive.remove(key)

    def _decide(self, encoded: Encoded, origin: Origin) -> list[Decision]:
        """Ask the routes, which are the router's: what is sent to a pipeline goes there only."""
        if origin.called_ae_title != self._site.settings.dicom.ae_title:
            return []
        sender = self._known_as.get(origin.calling_ae_title, "")
        return decide(self._site.routes, encoded.header, origin, sender)

    def _forget(self, key: str) -> None:
        """Remove a file whose commit failed, unless the failure hid that it succeeded."""
        with self._database.read() as session:
            if not has_key(session, key):
                self._archive.remove(key)

    def _quarantine(self, refusal: Answer, received: Received, peer: Peer, at: datetime) -> None:
        key = new_key("quarantine", at, writer=self._writer)
        pending = self._archive.begin(key, received.file())
        row = self._committer.run(
            lambda session: quarantine(
                session,
                at=at,
                association_id=peer.association_id,
                key=key,
                size=len(received.data),
                status=refusal.status,
                reason=refusal.comment,
                affected_sop_instance_uid=received.sop_instance,
            )
        )
        pending.wait()
        log.warning("quarantined", quarantine=row, status=f"{refusal.status:#06x}")


def _read(received: Received) -> Encoded | Answer:
    """Read the header and compare its UIDs with the command's; or say why it is not taken."""
    try:
        encoded = parse(received.data, received.transfer_syntax)
    except Unparseable as error:
        return Answer(status.CANNOT_UNDERSTAND, str(error))
    for keyword, commanded in (
        ("SOPInstanceUID", received.sop_instance),
        ("SOPClassUID", received.sop_class),
    ):
        found = text(encoded.header, keyword)
        if not found:
            return Answer(status.NOT_OF_ITS_CLASS, f"the dataset has no {keyword}")
        if found != commanded:
            return Answer(status.NOT_OF_ITS_CLASS, f"{keyword} is not the one of the command")
    return encoded
