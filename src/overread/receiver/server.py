"""The receiver: listens, and serves each association in a thread of its own.

Several receiver processes share the port (SO_REUSEPORT); the kernel spreads connections over them.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import traceback
from pathlib import Path
from uuid import uuid4

import structlog

from overread.dicom.encoded import keep_values_out_of_logs
from overread.errors import Unavailable
from overread.receiver.association import Acceptor
from overread.receiver.recovery import Presence, recover
from overread.receiver.storage import Storage, utc_now
from overread.receiver.wire import Wire
from overread.settings import Settings
from overread.site import SiteFolder
from overread.site.digests import note_site
from overread.store.archive import Archive
from overread.store.database import Database

PEER_SECONDS = 60.0
"""How long a peer may be silent in the middle of a message."""

GRACE_SECONDS = 5.0
"""How long open associations may go on after the receiver was told to stop."""

CONNECTIONS_PER_ASSOCIATION = 4
"""How many connections there may be for each association allowed, those that ask for none yet
included; what is above that is closed at once."""

log = structlog.get_logger("overread.receiver")


def serve(site: SiteFolder, stop: threading.Event) -> None:
    """Receive until ``stop`` is set, then let associations end, and return.

    Parameters
    ----------
    site : SiteFolder
        The site.
    stop : Event
        Set it to stop; this returns within a few seconds.

    Raises
    ------
    Unavailable
        The port cannot be bound.
    """
    os.umask(0o077)
    keep_values_out_of_logs()
    receiver = Receiver(site)
    receiver.start()
    stop.wait()
    receiver.close()


class Receiver:
    """One receiver process.

    Parameters
    ----------
    site : SiteFolder
        The site.
    """

    def __init__(self, site: SiteFolder) -> None:
        self._site = site
        self._name = uuid4().hex[:12]
        data = site.settings.data
        self._database = Database(site.settings.database_url)
        self._archive = Archive(data / "archive")
        self._presences = data / "receivers"
        self._stop = threading.Event()
        most = site.settings.dicom.max_associations
        self._places = threading.Semaphore(most)
        self._connections = threading.Semaphore(CONNECTIONS_PER_ASSOCIATION * most)
        self._wires: dict[threading.Thread, Wire] = {}
        self._wires_lock = threading.Lock()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Bind the port, recover what dead receivers left, and begin to accept.

        Raises
        ------
        Unavailable
            The port cannot be bound.
        """
        self._listener = _bind(self._site.settings)
        self._database.upgrade()
        note_site(self._database, self._site.root, utc_now())
        recover(self._database, self._archive, self._presences, utc_now())
        self._presence = Presence(self._presences, self._name)
        self._storage = Storage(self._site, self._database, self._archive, self._name)
        self._listener.listen(128)
        self._accepting = threading.Thread(target=self._accept, name="listener", daemon=True)
        self._accepting.start()
        log.info("receiver listens", port=self.port, receiver=self._name)

    def close(self) -> None:
        """Stop accepting, let associations end for a moment, cut what is left, close."""
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        ends = time.monotonic() + GRACE_SECONDS
        for thread in self._serving():
            thread.join(max(0.0, ends - time.monotonic()))
        with self._wires_lock:
            left = list(self._wires.items())
        for _, wire in left:
            wire.cut()
        for thread, _ in left:
            thread.join()
        self._presence.end()
        self._database.close()
        log.info("receiver stopped", receiver=self._name)

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                connection, address = self._listener.accept()
            except OSError as error:
                if not self._stop.is_set():
                    log.error("accept failed", error=str(error))
                    time.sleep(0.1)  # out of descriptors, say: they come back
                continue
            if not self._connections.acquire(blocking=False):
                log.warning("too many connections: one is closed at once", peer=str(address[0]))
                connection.close()
                continue
            thread = threading.Thread(
                target=self._serve_one, args=(connection, str(address[0])), daemon=True
            )
            thread.start()

    def _serve_one(self, connection: socket.socket, peer_address: str) -> None:
        thread = threading.current_thread()
        try:
            wire = Wire(connection, PEER_SECONDS)
            with self._wires_lock:
                self._wires[thread] = wire
            Acceptor(
                wire=wire,
                peer_address=peer_address,
                settings=self._site.settings,
                ae_titles=self._site.ae_titles,
                storage=self._storage,
                places=self._places,
                stop=self._stop,
            ).serve()
        except Exception as error:  # noqa: BLE001 - the edge of a thread: recorded in the log
            # Where, and not what it says: that may quote what a patient's image holds.
            frames = traceback.extract_tb(error.__traceback__)
            where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-4:]]
            log.error("association failed", error=type(error).__name__, where=where)
        finally:
            with self._wires_lock:
                self._wires.pop(thread, None)
            self._connections.release()

    def _serving(self) -> list[threading.Thread]:
        with self._wires_lock:
            return list(self._wires)


def _bind(settings: Settings) -> socket.socket:
    """Bind the port, so that other receivers of this site may too (`overread.receiver.port`)."""
    host, port = settings.dicom.host, settings.dicom.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"the DICOM listener cannot have {host} port {port}: {error.strerror}; "
            "see dicom.host and dicom.port in overread.yaml, and who listens there"
        ) from error
    return listener
