"""``overread serve`` and the services it is made of: receiver, worker, portal."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import structlog
import typer

from overread.cli.terminal import SiteOption, open_site
from overread.errors import UsageError
from overread.site import SiteFolder

_log = structlog.get_logger("overread.serve")

_SUPERVISOR = "OVERREAD_SUPERVISOR"
_PATIENCE = 8.0
"""Seconds that services get to end after SIGTERM; the whole tree is to be down within ten."""
_LONGEST_PAUSE = 30.0
_STEADY = 60.0
"""A service that ran this long before it died is started again at once."""


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
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    start_at: float = field(default_factory=time.monotonic)

    def look(self, now: float) -> None:
        """Start it where it does not run and its pause is over."""
        if self.process is None:
            if now >= self.start_at:
                self.process = subprocess.Popen(
                    self.command, env={**os.environ, _SUPERVISOR: str(os.getpid())}
                )
                self.started = now
            return
        code = self.process.poll()
        if code is None:
            return
        self.process = None
        self.deaths = 1 if now - self.started > _STEADY else self.deaths + 1
        pause = min(0.5 * 2 ** (self.deaths - 1), _LONGEST_PAUSE)
        self.start_at = now + pause
        _log.error("service died", service=self.name, exit_code=code, starts_again_in_s=pause)


def _services(site: SiteFolder) -> list[_Service]:
    # -P: the folder it is started from, which may be the site, is no place to import from.
    base = [sys.executable, "-P", "-m", "overread.cli.main"]
    where = ["--site", str(site.root)]
    names = [f"receiver-{number + 1}" for number in range(site.settings.dicom.processes)]
    services = [_Service(name, [*base, "receiver", *where]) for name in names]
    services.append(_Service("worker", [*base, "worker", *where]))
    services.append(_Service("portal", [*base, "portal", *where]))
    return services


def run_tree(site: SiteFolder, stop: threading.Event) -> None:
    """Run every service of a site until ``stop`` is set; one that dies is started again.

    Parameters
    ----------
    site : SiteFolder
        The site.
    stop : Event
        Set it to stop them all; they are down when this returns, within ten seconds.
    """
    from overread.store.database import Database

    database = Database(site.settings.database_url)
    database.upgrade()
    database.close()
    services = _services(site)
    while not stop.is_set():
        for service in services:
            service.look(time.monotonic())
        stop.wait(0.1)
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
    folder = open_site(site)
    run_tree(folder, stop_on_signals())


def receiver(site: SiteOption = Path()) -> None:
    """Run one receiver: the DICOM listener."""
    settle_process()
    from overread.receiver.server import serve as run

    run(open_site(site), stop_on_signals())


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

    run(open_site(site), stop_on_signals(), name=name)
    sys.stderr.flush()
    # What is left are threads that wait for a peer. Nothing is lost with them, and the
    # interpreter would wait until they are done.
    os._exit(0)


def portal(site: SiteOption = Path()) -> None:
    """Run the portal: the web."""
    settle_process()
    from overread.portal.server import serve as run

    run(open_site(site))
