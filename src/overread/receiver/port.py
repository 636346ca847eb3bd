"""Whose the DICOM port is: one site's, and no other's.

Receivers bind with SO_REUSEPORT, by which the kernel would let those of another site of this user
listen there too, and give each some of the connections: studies would be torn apart.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from overread.errors import UsageError
from overread.settings import Dicom, Settings


@contextmanager
def hold(settings: Settings, *, share: bool = False) -> Iterator[None]:
    """Hold the site's DICOM port while the block runs, so that only this site's receivers listen.

    Parameters
    ----------
    settings : Settings
        The site's.
    share : bool
        Whether it may be held by another process of this site already.

    Raises
    ------
    UsageError
        Somebody else has the port, or it cannot be bound.
    """
    folder = settings.data / "listener"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as held:
        ours = _open(held, folder / f"{settings.dicom.port}.lock")
        with ExitStack() as gate:  # one after the other: nobody is between port and lock
            fcntl.flock(_open(gate, folder / f"{settings.dicom.port}.gate"), fcntl.LOCK_EX)
            try:
                held.enter_context(_take(settings.dicom))
            except OSError as error:
                if not _is_held(ours):
                    raise _refusal(settings.dicom, error) from error
                if not share:
                    raise UsageError(
                        f"receivers of this site hold the DICOM port {settings.dicom.port} already "
                        "(`overread receiver`, or another `overread serve`); stop them first"
                    ) from error
            fcntl.flock(ours, fcntl.LOCK_SH)
        yield


@contextmanager
def join(settings: Settings) -> Iterator[None]:
    """Show, while the block runs, that a receiver of this site is behind a port that is held."""
    folder = settings.data / "listener"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as held:
        ours = _open(held, folder / f"{settings.dicom.port}.lock")
        fcntl.flock(ours, fcntl.LOCK_SH)
        yield


def _open(stack: ExitStack, path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    stack.callback(os.close, file)
    return file


def _is_held(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _take(dicom: Dicom) -> socket.socket:
    """Bind the port for us alone, and only then let our own receivers in beside us.

    The socket never listens, so it gets no connection; while it is open, nobody else can take the
    port, not even when all receivers have died.
    """
    family = socket.AF_INET6 if ":" in dicom.host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        # connections of a predecessor that wait for their end are no reason to refuse
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((dicom.host, dicom.port))
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        taken.close()
        raise
    return taken


def _refusal(dicom: Dicom, error: OSError) -> UsageError:
    return UsageError(
        f"the DICOM port {dicom.port} of {dicom.host} cannot be had: {error.strerror}; stop what "
        "listens there (another site, say), or set dicom.host and dicom.port in overread.yaml"
    )
