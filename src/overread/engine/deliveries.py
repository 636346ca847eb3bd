"""Deliveries: each destination has a queue of its own, so that one that is dead stops no other.

What is to be sent, and when again, are rows. A workflow empties what is due for one destination,
batch by batch, and ends; the next tick begins another when something is due.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import and_, exists, or_, select, update

from overread import registry
from overread.destinations import Destination, Parcel, Receipt
from overread.engine.workflows import Interrupted, Queue, Workflows
from overread.errors import Unavailable
from overread.settings import DestinationSettings
from overread.site import SiteFolder
from overread.store import deliveries
from overread.store.archive import Archive
from overread.store.database import Database
from overread.store.tables import Delivery, new_id

_log = structlog.get_logger(__name__)

_WORKFLOW = "deliver"
_BATCH = 200
_BATCHES = 50
"""Batches of one workflow; a longer backlog is the next one's."""
_RECEIPTS = 20
"""Receipts that are recorded in one commit. After a crash at most so many are sent twice."""


@dataclass(frozen=True)
class _Outcome:
    delivery: str
    receipt: Receipt


def queue_name(destination: str) -> str:
    """Return the name of a destination's queue."""
    return f"deliver {destination}"


class Deliveries:
    """Sends what is due, in one worker.

    Parameters
    ----------
    site : SiteFolder
        Its destinations.
    database : Database
        Deliveries.
    archive : Archive
        Holds the files.
    workflows : Workflows
        Before its launch.
    """

    def __init__(
        self, site: SiteFolder, database: Database, archive: Archive, workflows: Workflows
    ) -> None:
        self.site = site
        self.database = database
        self.archive = archive
        self.workflows = workflows
        self.stopping = threading.Event()
        workflows.register(_WORKFLOW, self.run)

    def queues(self) -> dict[str, Queue]:
        """Return each destination's queue."""
        return {
            queue_name(name): Queue(settings.concurrency, poll=0.2)
            for name, settings in self.site.settings.destinations.items()
        }

    def tick(self, now: datetime) -> None:
        """Begin where something is due."""
        for name, settings in self.site.settings.destinations.items():
            with self.database.read() as session:
                due = session.scalar(
                    select(
                        exists().where(
                            Delivery.destination == name,
                            or_(
                                Delivery.state == "queued",
                                and_(Delivery.state == "waiting", Delivery.next_at <= now),
                            ),
                        )
                    )
                )
            for lane in range(settings.concurrency) if due else ():
                self.workflows.enqueue(
                    _WORKFLOW,
                    queue_name(name),
                    f"deliver-{new_id()}",
                    name,
                    lane,
                    only_one=f"{name} {lane}",
                )

    def give_up_unknown(self, now: datetime) -> None:
        """Say of deliveries to destinations that the site has no more that a person must act."""
        known = list(self.site.settings.destinations)
        with self.database.write() as session:
            session.execute(
                update(Delivery)
                .where(Delivery.state.in_(deliveries.OPEN), Delivery.destination.not_in(known))
                .values(
                    state="failed",
                    error="the site has no destination of that name any more",
                    ended_at=now,
                )
            )

    def run(self, destination: str, lane: int) -> int:
        """Send what is due to one destination: the workflow's body. Return how many batches."""
        for number in range(_BATCHES):
            if not self.workflows.step(f"batch {number}", self._batch, destination, lane):
                return number
        return _BATCHES

    def _batch(self, destination: str, lane: int) -> bool:
        """Send one batch; return whether there may be more to send now."""
        settings = self.site.settings.destinations[destination]
        now = datetime.now(UTC)
        with self.database.read() as session:
            due = [
                (delivery.id, instance)
                for delivery, instance in deliveries.due(
                    session, destination, now, _BATCH * settings.concurrency
                )
                if zlib.crc32(delivery.id.encode()) % settings.concurrency == lane
            ]
        if not due:
            return False
        parcels = [
            Parcel(
                self.archive.path(instance.key),
                instance.sop_class_uid,
                instance.sop_instance_uid,
                instance.transfer_syntax_uid,
            )
            for _, instance in due
        ]
        peer: Destination = registry.load("destinations", settings.use)(destination, settings.with_)
        outcomes: list[_Outcome] = []
        sent = 0
        try:
            for (delivery, _), receipt in zip(due, peer.send(parcels), strict=True):
                outcomes.append(_Outcome(delivery, receipt))
                sent += 1
                if len(outcomes) >= _RECEIPTS:
                    self._record(settings, outcomes)
                    outcomes = []
                if self.stopping.is_set():
                    raise Interrupted
        except Unavailable as error:
            _log.warning("destination is away", destination=destination, error=str(error))
            away = Receipt(delivered=False, again=True, said=str(error))
            outcomes += [_Outcome(delivery, away) for delivery, _ in due[sent:]]
            return False
        finally:
            self._record(settings, outcomes)
        return True

    def _record(self, settings: DestinationSettings, outcomes: Sequence[_Outcome]) -> None:
        now = datetime.now(UTC)
        with self.database.write() as session:
            for outcome in outcomes:
                delivery = session.get_one(Delivery, outcome.delivery)
                receipt = outcome.receipt
                delivery.attempts += 1
                if delivery.state == "held" and not receipt.delivered:
                    continue  # somebody has held it meanwhile
                delivery.error = receipt.said
                if receipt.delivered:
                    delivery.state, delivery.next_at, delivery.ended_at = "delivered", None, now
                elif receipt.again and delivery.attempts < settings.attempts:
                    delivery.state = "waiting"
                    delivery.next_at = now + pause(settings, delivery.attempts)
                else:
                    delivery.state, delivery.next_at, delivery.ended_at = "failed", None, now


def pause(settings: DestinationSettings, attempts: int) -> timedelta:
    """Say how long to wait after so many failures: doubled each time, up to the limit."""
    doubled = settings.backoff.total_seconds() * 2 ** min(attempts - 1, 30)
    return timedelta(seconds=min(doubled, settings.backoff_limit.total_seconds()))
