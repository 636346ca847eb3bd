"""A small hospital on one machine: a site that runs, and a PACS beside it, each a child process."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from ruamel.yaml import YAML

from overread import examples
from overread.errors import Unavailable, UsageError
from overread.identity.local import hash_password
from overread.simulator.scanner import Peer, echo
from overread.site import SiteFolder, load
from overread.store import users
from overread.store.database import Database
from overread.validation.permissions import Role

ENVIRONMENT = "demo"
"""The overlay that holds the ports: ``environments/demo.yaml``."""

USERS: dict[str, Role] = {
    "reader": "reader",
    "reader2": "reader",
    "coordinator": "coordinator",
    "engineer": "engineer",
    "administrator": "administrator",
}
"""The demo's users, and their roles."""

_QUIET = "3s"
"""How long an exam of the demo must be quiet to be whole; nobody wants to watch 30 seconds."""
_READY_WITHIN = 60.0
_GOES_WITHIN = 15.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Hospital:
    """A hospital that runs.

    Attributes
    ----------
    router, pacs : Peer
        Where a scanner sends; where everything ends up.
    portal : str
        The portal's address.
    pacs_folder : Path
        What the PACS keeps (`overread.simulator.pacs.received` reads it).
    passwords : mapping of str to str
        User to password, made for this run. They stand nowhere but here.
    """

    site: SiteFolder
    router: Peer
    pacs: Peer
    portal: str
    pacs_folder: Path
    passwords: Mapping[str, str]
    _check: Callable[[], None]

    def check(self) -> None:
        """Do nothing while all processes run.

        Raises
        ------
        Unavailable
            One has ended; the message holds the end of its log.
        """
        self._check()


def make_site(folder: Path) -> None:
    """Make the demo's site from the ``bts`` example, unless a site is there."""
    if (folder / "overread.yaml").exists():
        return
    try:
        examples.copy("bts", folder)
    except FileExistsError as error:
        raise UsageError(f"{folder} holds files, but no site; choose another --site") from error
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    for file in (folder / "pipelines").glob("*.yaml"):
        pipeline = yaml.load(file)
        pipeline["complete"]["quiet"] = _QUIET
        yaml.dump(pipeline, file)


@contextmanager
def running(folder: Path) -> Iterator[Hospital]:
    """Run a site and a PACS until the block ends; then all of their processes end, too.

    They end as well when this process is killed.

    Raises
    ------
    UsageError
        Another demo runs on that site.
    SiteError
        The site has faults.
    Unavailable
        A service did not come up; the message holds the end of its log.
    """
    with ExitStack() as stack:
        stack.enter_context(_alone(folder))
        site = _with_free_ports(folder)
        passwords = _make_users(site)
        settings = site.settings
        router = Peer(settings.dicom.host, settings.dicom.port, settings.dicom.ae_title)
        address = settings.destinations["PACS"].with_
        pacs = Peer(address["host"], address["port"], "PACS")
        portal = f"http://{settings.portal.host}:{settings.portal.port}"
        kept = settings.data / "pacs"
        where = ["--port", str(pacs.port), "--folder", str(kept)]
        children = [
            _child(stack, settings.data, "pacs", ["overread.simulator.pacs", *where]),
            _child(stack, settings.data, "serve", ["overread", "serve", "--site", str(folder)]),
        ]

        def check() -> None:
            for name, process in children:
                if process.poll() is not None:
                    log = _log(settings.data, name)
                    raise Unavailable(f"{name} has ended; {log} ends with\n{_end_of(log)}")

        def ready() -> bool:
            return _answers(portal) and echo(router) and echo(pacs)

        ends = time.monotonic() + _READY_WITHIN
        while not ready():
            check()
            if time.monotonic() > ends:
                log = _log(settings.data, "serve")
                raise Unavailable(f"not ready within {_READY_WITHIN:.0f} s; {_end_of(log)}")
            time.sleep(0.25)
        yield Hospital(site, router, pacs, portal, kept, passwords, check)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = folder / "data" / "demo.lock"
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another demo runs on {folder}; end it first") from error
        yield


def _with_free_ports(folder: Path) -> SiteFolder:
    """Load the site with its own ports where they are free, and others where they are taken."""
    overlay = folder / "environments" / f"{ENVIRONMENT}.yaml"
    overlay.parent.mkdir(exist_ok=True)
    overlay.unlink(missing_ok=True)
    own = load(folder.resolve(), {**os.environ, "OVERREAD_ENV": ""}).settings
    if "PACS" not in own.destinations:
        raise UsageError(f"{folder} has no destination PACS; the demo needs one")
    pacs = own.destinations["PACS"].with_
    ports = _free([own.dicom.port, own.portal.port, int(pacs["port"])])
    changes = {
        "dicom": {"port": ports[0]},
        "portal": {"port": ports[1]},
        "destinations": {"PACS": {"with": {"port": ports[2]}}},
    }
    # JSON is YAML.
    overlay.write_text(
        f"# Written by overread demo: the ports of its latest run.\n{json.dumps(changes)}\n"
    )
    return load(folder.resolve(), {**os.environ, "OVERREAD_ENV": ENVIRONMENT})


def _free(wanted: Sequence[int]) -> list[int]:
    """Choose a TCP port for each one wanted: that one where it is free, else any."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in wanted]
        for probe, port in zip(probes, wanted, strict=True):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _make_users(site: SiteFolder) -> dict[str, str]:
    """Make the demo's users, each with a role for the whole site and a new password."""
    database = Database(site.settings.database_url)
    database.upgrade()
    accounts = users.StoredAccounts(database)
    passwords = {}
    for name, role in USERS.items():
        passwords[name] = secrets.token_urlsafe(9)
        known = accounts.find(name)
        secret = hash_password(passwords[name])
        if known is not None:
            accounts.replace_secret(known, secret)
        else:
            with database.write() as session:
                users.add_user(
                    session,
                    datetime.now(UTC),
                    "overread demo",
                    name=name,
                    secret=secret,
                    role=role,
                )
    database.close()
    return passwords


def _child(
    stack: ExitStack, data: Path, name: str, module: list[str]
) -> tuple[str, subprocess.Popen[bytes]]:
    """Start a child process that ends with this one, its output in a log of its own."""
    libc = ctypes.CDLL(None)

    def end_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))

    log = stack.enter_context(_log(data, name).open("wb"))
    environment = {**os.environ, "OVERREAD_ENV": ENVIRONMENT, "OVERREAD_ALLOW_ROOT": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", *module],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        preexec_fn=end_with_parent,  # noqa: PLW1509 - no thread is started before this
        start_new_session=True,  # so that Ctrl-C reaches the demo alone, which ends it in order
    )
    stack.callback(_end, process)
    return name, process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_GOES_WITHIN)
    except subprocess.TimeoutExpired:
        # Its session is its own: this reaches what it started, too.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(portal: str) -> bool:
    try:
        return httpx.get(f"{portal}/readyz", timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _log(data: Path, name: str) -> Path:
    return data / f"{name}.log"


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-12:])
