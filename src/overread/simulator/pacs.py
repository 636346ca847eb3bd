"""A double of a PACS: it answers C-ECHO, keeps what it gets by C-STORE, and counts.

Run as a process of its own: ``python -m overread.simulator.pacs --port 11113 --folder pacs``.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, _config, evt
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.transport import ThreadedAssociationServer

LEDGER = "received.jsonl"


class Pacs:
    """The PACS; `start` it, and `stop` it.

    Parameters
    ----------
    folder : Path
        Where images are kept, as ``STUDY/SERIES/INSTANCE.dcm``, beside ``received.jsonl``: a line
        for each object that came, repeats included.
    ae_title : str
        It answers to this one only.
    """

    def __init__(self, folder: Path, ae_title: str = "PACS") -> None:
        self.folder = folder
        self.ae_title = ae_title
        self._lock = threading.Lock()
        self._server: ThreadedAssociationServer | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None:
            raise RuntimeError("the PACS is not started")
        return int(self._server.server_address[1])

    def start(self, port: int = 0, host: str = "127.0.0.1") -> None:
        """Listen, in a thread of its own; port 0 takes a free one."""
        _config.UNRESTRICTED_STORAGE_SERVICE = True
        self.folder.mkdir(parents=True, exist_ok=True)
        ae = AE(ae_title=self.ae_title)
        ae.require_called_aet = True
        ae.maximum_pdu_size = 0
        ae.add_supported_context("1.2.840.10008.1.1")
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
        server = ae.start_server(
            (host, port),
            block=False,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, _no_delay),
                (evt.EVT_C_ECHO, lambda _: 0x0000),
                (evt.EVT_C_STORE, self._store),
            ],
        )
        self._server = server

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _store(self, event: evt.Event) -> int:
        study, series = _place(event)
        request: Any = event.request
        uid = UID(request.AffectedSOPInstanceUID)
        if not all(part.is_valid for part in (study, series, uid)):
            return 0xA900
        file = self.folder / study / series / f"{uid}.dcm"
        row: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(),
            "calling": event.assoc.requestor.ae_title,
            "study": study,
            "series": series,
            "instance": uid,
            "sop_class": request.AffectedSOPClassUID,
            "transfer_syntax": event.context.transfer_syntax,
        }
        with self._lock:
            row["repeat"] = file.exists()
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(event.encoded_dataset())
            with (self.folder / LEDGER).open("a") as ledger:
                ledger.write(json.dumps(row) + "\n")
        return 0x0000


def received(folder: Path) -> list[dict[str, Any]]:
    """List what a PACS of that folder has received, in order, repeats included."""
    ledger = folder / LEDGER
    if not ledger.exists():
        return []
    return [json.loads(line) for line in ledger.read_text().splitlines()]


def counts(folder: Path) -> dict[str, int]:
    """Count the instances that a PACS of that folder keeps, by study."""
    kept = {(row["study"], row["instance"]) for row in received(folder)}
    return dict(Counter(study for study, _ in kept))


def _place(event: evt.Event) -> tuple[UID, UID]:
    dataset = event.dataset
    return UID(dataset.get("StudyInstanceUID", "")), UID(dataset.get("SeriesInstanceUID", ""))


def _no_delay(event: evt.Event) -> None:
    """Answer at once: else the sender of the next image waits for a delayed ACK (40 ms)."""
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def main() -> None:
    """Run until SIGTERM or SIGINT; say ``listening on PORT`` when ready."""
    parser = argparse.ArgumentParser(prog="python -m overread.simulator.pacs", description=__doc__)
    parser.add_argument("--port", type=int, default=11113)
    parser.add_argument("--folder", type=Path, default=Path("pacs"))
    parser.add_argument("--ae-title", default="PACS")
    arguments = parser.parse_args()
    # Held back for sigwait, in every thread: a handler could come just before the wait begins, and
    # would then not end it.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    pacs = Pacs(arguments.folder, arguments.ae_title)
    pacs.start(arguments.port)
    print(f"listening on {pacs.port}", flush=True)
    signal.sigwait(ends)
    pacs.stop()


if __name__ == "__main__":
    main()
