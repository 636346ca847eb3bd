"""``overread serve`` and the services it is made of: receiver, worker, portal."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.markup import escape

from overread.cli.terminal import SiteOption, notes, open_site
from overread.errors import UsageError
from overread.site import SiteFolder
from overread.store.database import Database
from overread.store.tables import Worker

_log = structlog.get_logger("overread.serve")

_SUPERVISOR = "OVERREAD_SUPERVISOR"
_PATIENCE = 8.0
"""Seconds that services get to end after SIGTERM; the whole tree is to be down within ten."""
_LONGEST_PAUSE = 30.0
_STEADY = 60.0
"""A service that ran this long before it died is started again at once."""
_REFUSED = 2
"""Exit code of a service that refuses to start (`overread.cli.main`)."""


def settle_process(*, root_allowed: bool = False) -> None:
    """Make this process a service's: not root, files for its owner only, logs on stderr.

    Parameters
    ----------
    root_allowed : bool
        True for the demo only; else the environment must say ``OVERREAD_ALLOW_ROOT=1``.

    Raises
    ------
    UsageError
        It runs as root.
    """
    if os.geteuid() == 0 and not root_allowed and os.environ.get("OVERREAD_ALLOW_ROOT") != "1":
        raise UsageError(
            "services do not run as root; start them as a user of their own that owns the site's "
            "storage folder (OVERREAD_ALLOW_ROOT=1 overrides this in tests)"
        )
    os.umask(0o077)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    # a destination that is away is told once, by us; pynetdicom would say it twice for each try
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    supervisor = os.environ.get(_SUPERVISOR)
    if supervisor:
        _die_with(int(supervisor))


def _die_with(supervisor: int) -> None:
    """Ask the kernel for a SIGTERM when the supervisor is gone, so that no service outlives it."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGTERM))
    if os.getppid() != supervisor:
        sys.exit(1)


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


@dataclass
class _Service:
    """One child of the process tree."""

    name: str
    command: list[str]
    lock: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    exit_code: int = 0
    start_at: float = field(default_factory=time.monotonic)

    def look(self, now: float) -> None:
        """Start it where it does not run and its pause is over."""
        if self.process is None:
            if now >= self.start_at:
                self.process = subprocess.Popen(
                    self.command,
                    env={**os.environ, _SUPERVISOR: str(os.getpid())},
                    pass_fds=(self.lock,),
                )
                self.started = now
            return
        code = self.process.poll()
        if code is None:
            return
        self.process, self.exit_code = None, code
        self.deaths = 1 if now - self.started > _STEADY else self.deaths + 1
        pause = min(0.5 * 2 ** (self.deaths - 1), _LONGEST_PAUSE)
        self.start_at = now + pause
        _log.error("service died", service=self.name, exit_code=code, starts_again_in_s=pause)


def _services(site: SiteFolder, lock: int) -> list[_Service]:
    # -P: the folder it is started from, which may be the site, is no place to import from.
    base = [sys.executable, "-P", "-m", "overread.cli.main"]
    where = ["--site", str(site.root)]
    names = [f"receiver-{number + 1}" for number in range(site.settings.dicom.processes)]
    services = [_Service(name, [*base, "receiver", *where], lock) for name in names]
    services.append(_Service("worker", [*base, "worker", *where], lock))
    services.append(_Service("portal", [*base, "portal", *where], lock))
    return services


def run_tree(site: SiteFolder, stop: threading.Event) -> None:
    """Run every service of a site until ``stop`` is set; one that dies is started again.

    Parameters
    ----------
    site : SiteFolder
        The site.
    stop : Event
        Set it to stop them all; they are down when this returns, within ten seconds.

    Raises
    ------
    UsageError
        The site is served already, somebody else has its ports, or a service refused to start in
        the first minute. One that refuses later, after it died, is tried again and again, since
        the others are of use without it.
    """
    from overread.receiver.port import hold

    portal = site.settings.portal
    with _only_tree(site) as lock, hold(site.settings):
        if _listens(portal.host, portal.port):
            raise UsageError(
                f"somebody listens on the portal's {portal.host}:{portal.port} already; stop that, "
                "or set another portal.port in overread.yaml"
            )
        database = Database(site.settings.database_url)
        database.upgrade()
        services = _services(site, lock)
        try:
            _supervise(site, services, database, stop)
        finally:
            _end(services)
            database.close()


@contextmanager
def _only_tree(site: SiteFolder) -> Iterator[int]:
    """Hold the lock of those who serve the site; yield its file, for the services to hold it too.

    It is free when the last of a tree is gone, so that what a killed one left is waited for.
    """
    site.settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (site.settings.data / "serve.lock").open("wb") as file:
        ends = time.monotonic() + _PATIENCE + 2
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    raise UsageError(
                        f"{site.root} is served already; stop the other `overread serve` first"
                    ) from None
            time.sleep(0.2)  # one that is just ending lets go of its lock
        yield file.fileno()


def _supervise(
    site: SiteFolder, services: list[_Service], database: Database, stop: threading.Event
) -> None:
    """Start services, and those that died again, until ``stop`` is set; tell when all are up."""
    began, ready = datetime.now(UTC), False
    beginning_ends = time.monotonic() + _STEADY
    while not stop.is_set():
        for service in services:
            service.look(time.monotonic())
            if service.exit_code == _REFUSED and time.monotonic() < beginning_ends:
                raise UsageError(
                    f"the {service.name} refuses to start, and says why above; all is stopped"
                )
        if not ready and _all_up(site, services, database, began):
            ready = True
            _introduce(site)
        stop.wait(0.1)


def _all_up(
    site: SiteFolder, services: list[_Service], database: Database, began: datetime
) -> bool:
    """Say whether all services run: the ports listen, and the worker has signed in."""
    dicom, portal = site.settings.dicom, site.settings.portal
    if any(one.process is None for one in services) or not (
        _listens(portal.host, portal.port) and _listens(dicom.host, dicom.port)
    ):
        return False
    with database.read() as session:
        return session.query(Worker).where(Worker.seen_at >= began).first() is not None


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def _introduce(site: SiteFolder) -> None:
    """Tell a person, or the log, where the site can be reached."""
    dicom, portal = site.settings.dicom, site.settings.portal
    scheme = "https" if portal.certificate else "http"
    address = f"{scheme}://{portal.host}:{portal.port}"
    titles = ", ".join(sorted(site.ae_titles))
    if notes.is_terminal:
        text = (
            f"{site.settings.site.name} is up: the portal at {address}, DICOM at "
            f"{dicom.host}:{dicom.port} as {titles}. Ctrl-C stops it."
        )
        notes.print(escape(text), highlight=False, soft_wrap=True)
    else:
        _log.info("ready", portal=address, dicom=f"{dicom.host}:{dicom.port}", ae_titles=titles)


def _end(services: list[_Service]) -> None:
    running = [(one.name, one.process) for one in services if one.process is not None]
    for _, process in running:
        process.terminate()
    ends = time.monotonic() + _PATIENCE
    for name, process in running:
        try:
            process.wait(max(0.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            _log.error("service did not stop and is killed", service=name)
            process.kill()
            process.wait()


def serve(site: SiteOption = Path()) -> None:
    """Run everything: receiver, worker and portal, each in a process of its own."""
    settle_process()
    folder = open_site(site, verify=True)
    run_tree(folder, stop_on_signals())


def receiver(site: SiteOption = Path()) -> None:
    """Run one receiver: the DICOM listener."""
    settle_process()
    from overread.receiver import port
    from overread.receiver.server import serve as run

    folder = open_site(site)
    supervised = _SUPERVISOR in os.environ  # then the supervisor holds the port
    own = port.join(folder.settings) if supervised else port.hold(folder.settings, share=True)
    with own:
        run(folder, stop_on_signals())


def worker(
    site: SiteOption = Path(),
    name: Annotated[
        str,
        typer.Option(
            help="Its name: the same after a restart, and no other worker's.",
            show_default="the host's name",
        ),
    ] = "",
) -> None:
    """Run one worker: it gathers exams, runs jobs and delivers."""
    settle_process()
    from overread.engine.worker import serve as run

    run(open_site(site, verify=True), stop_on_signals(), name=name)
    sys.stderr.flush()
    # What is left are threads that wait for a peer. Nothing is lost with them, and the
    # interpreter would wait until they are done.
    os._exit(0)


def portal(site: SiteOption = Path()) -> None:
    """Run the portal: the web."""
    settle_process()
    from overread.portal.server import serve as run

    run(open_site(site))
