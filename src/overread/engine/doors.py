"""Doors in the walls of a child process: to one server each, and to nothing else.

A child has no network. Where a step runs a model on a server of the site's, the worker opens a door
for the length of that step: a socket in the child's box, whose bytes it carries to that server's
host and port and back. Inside, a listener on the child's own loopback leads to the door, so that
the server's client library finds the TCP that it expects. A child that knocks elsewhere, or while
no such step runs, finds no one.

::

    client ── 127.0.0.1:N ── relay │ NAME.door │ worker ── host:port
                 in the child      │ the box   │  outside
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from overread.errors import StepFailed

_CHUNK = 1 << 18
_CONNECT_SECONDS = 10.0
_AT_ONCE = 16
"""Connections through a door; each takes two of the files that the worker may have open."""


@contextmanager
def opened(box: Path, servers: Mapping[str, tuple[str, int]]) -> Iterator[None]:
    """Open a door to each server, and close it again with all that goes through it.

    Parameters
    ----------
    box : Path
        The child's box.
    servers : mapping
        Name to host and port.

    Raises
    ------
    StepFailed
        Something lies in the way that the child has put there.
    """
    if not servers:
        yield
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="doors", daemon=True)
    sockets: dict[str, socket.socket] = {}
    thread.start()
    try:
        for name, address in servers.items():
            sockets[name] = _bind(box, name)
            serving = _serve(sockets[name], address)
            asyncio.run_coroutine_threadsafe(serving, loop).result()
        yield
    finally:
        asyncio.run_coroutine_threadsafe(_close_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        for name, door in sockets.items():
            door.close()
            with suppress(OSError):  # what the child has put in its place goes with the box
                (box / _door(name)).unlink()


def _door(name: str) -> str:
    return f"{name}.door"


def _bind(box: Path, name: str) -> socket.socket:
    """Make the socket in the box; by the box's handle, as a socket's path must not be long."""
    handle = os.open(box, os.O_PATH | os.O_DIRECTORY)
    door = socket.socket(socket.AF_UNIX)
    try:
        with suppress(FileNotFoundError):
            os.unlink(_door(name), dir_fd=handle)
        door.bind(f"/proc/self/fd/{handle}/{_door(name)}")
    except OSError as error:
        door.close()
        raise StepFailed(f"no door to server {name} can be made in its box: {error}") from error
    finally:
        os.close(handle)
    return door


async def _serve(door: socket.socket, address: tuple[str, int]) -> None:
    inside: set[asyncio.StreamWriter] = set()

    async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(inside) >= _AT_ONCE:
            writer.close()
            return
        inside.add(writer)
        try:
            await pass_on(reader, writer)
        finally:
            inside.discard(writer)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                far_reader, far_writer = await asyncio.open_connection(*address)
        except OSError:  # the server is away; its client sees a connection that ends at once
            writer.close()
            return
        try:
            await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))
        finally:
            writer.close()
            far_writer.close()

    await asyncio.start_unix_server(enter, sock=door)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until they end, and tell the other side that they did."""
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof()


async def _close_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Relays:
    """Inside a child: listeners on its loopback that lead to the doors in its box.

    Parameters
    ----------
    box : Path
        The box.
    """

    def __init__(self, box: Path) -> None:
        self._box = os.open(box, os.O_PATH | os.O_DIRECTORY)
        self._ports: dict[str, int] = {}

    def port(self, name: str) -> int:
        """Return the port that leads to a server's door; the same one for as long as this lives."""
        if name not in self._ports:
            listener = socket.create_server(("127.0.0.1", 0))
            self._ports[name] = int(listener.getsockname()[1])
            threading.Thread(target=self._listen, args=(listener, name), daemon=True).start()
        return self._ports[name]

    def _listen(self, listener: socket.socket, name: str) -> None:
        while True:
            near, _ = listener.accept()
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            door = socket.socket(socket.AF_UNIX)
            try:
                door.connect(f"/proc/self/fd/{self._box}/{_door(name)}")
            except OSError:  # no step runs that may go through
                near.close()
                door.close()
                continue
            threading.Thread(target=_join, args=(near, door), daemon=True).start()


def _join(near: socket.socket, door: socket.socket) -> None:
    with near, door:
        other = threading.Thread(target=_pump, args=(near, door), daemon=True)
        other.start()
        _pump(door, near)
        other.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def through(request: dict[str, Any], relays: Relays) -> dict[str, Any]:
    """Let a request's models find their servers by the doors.

    Parameters
    ----------
    request : dict
        See `overread.engine.child`; ``server`` of a model is the server's own address.
    """
    inside = dict(request["models"])
    for reference, facts in inside.items():
        name = facts["card"]["server"]["name"] if facts["server"] else ""
        if name in request["servers"]:
            scheme = facts["server"].partition("://")[0]
            url = f"{scheme}://127.0.0.1:{relays.port(name)}"
            inside[reference] = {**facts, "server": url}
    return {**request, "models": inside}
