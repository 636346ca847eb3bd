"""Server-sent events: pages learn at once that what they show has changed.

An event says that something changed, never what: the page then asks for its part again, by its own
address and with its own permission. So an event carries nothing of a patient.

One poller in each portal process looks at the database every half second for whatever has
listeners, and wakes them. As the database is all it looks at, any number of portals and workers may
run.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from overread.portal import opened
from overread.portal.auth import require, still_signed_in
from overread.portal.state import Here, Portal, portal_of
from overread.store import signs
from overread.store.database import Database
from overread.store.users import Signed
from overread.validation.permissions import may

router = APIRouter(include_in_schema=False)

LOOK_EVERY = 0.5
_BEAT_EVERY = 10.0
"""Between two signs of life, at each of which it is asked whether the sign-in still holds."""
_MOST = 8
"""Open streams of one sign-in; a page without one asks by itself every few seconds."""

_STOP = "stop"

_log = logging.getLogger(__name__)

Sign = Hashable
Look = Callable[[Session], dict[str, Sign]]


@dataclass
class _Watched:
    """What has listeners: its latest signs, and whom to wake."""

    look: Look
    seen: dict[str, Sign] = field(default_factory=dict)
    listeners: set[asyncio.Queue[str]] = field(default_factory=set)


class Poller:
    """Looks at what has listeners, and wakes those of what has changed.

    It runs while there are any. Used from one event loop.

    Parameters
    ----------
    is_ending : callable
        Whether the server ends, and with it every stream.
    """

    def __init__(self, database: Database, is_ending: Callable[[], bool]) -> None:
        self._database, self._is_ending = database, is_ending
        self._watched: dict[str, _Watched] = {}
        self._task: asyncio.Task[None] | None = None
        self.open: Counter[str] = Counter()
        """Streams by sign-in."""

    async def listen(self, name: str, look: Look) -> asyncio.Queue[str]:
        """Begin to listen; the queue gets the name of each event.

        Parameters
        ----------
        name : str
            What is listened to: those who listen to the same share one look.
        look : callable
            Returns a sign for each event: the event happens when its sign changes.
        """
        if name not in self._watched:
            seen = await run_in_threadpool(self._look, look)
            self._watched.setdefault(name, _Watched(look, seen))
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._watched[name].listeners.add(queue)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return queue

    def leave(self, name: str, queue: asyncio.Queue[str]) -> None:
        """Listen no more."""
        watched = self._watched.get(name)
        if watched is not None:
            watched.listeners.discard(queue)
            if not watched.listeners:
                del self._watched[name]

    def _look(self, look: Look) -> dict[str, Sign]:
        with self._database.read() as session:
            return look(session)

    def _look_at_all(self, looks: dict[str, Look]) -> dict[str, dict[str, Sign]]:
        with self._database.read() as session:
            return {name: look(session) for name, look in looks.items()}

    async def _run(self) -> None:
        while self._watched:
            await asyncio.sleep(LOOK_EVERY)
            if self._is_ending():
                self._wake(_STOP)
                return
            looks = {name: one.look for name, one in self._watched.items()}
            try:
                seen = await run_in_threadpool(self._look_at_all, looks)
            except SQLAlchemyError as error:  # the database is away: pages ask by themselves
                _log.error("events: the database does not answer: %s", type(error).__name__)
                continue
            for name, signs_now in seen.items():
                self._compare(self._watched.get(name), signs_now)

    def _compare(self, watched: _Watched | None, signs_now: dict[str, Sign]) -> None:
        if watched is None:
            return
        before, watched.seen = watched.seen, signs_now
        for event in [one for one in signs_now if signs_now[one] != before.get(one)]:
            for queue in watched.listeners:
                queue.put_nowait(event)

    def _wake(self, event: str) -> None:
        for watched in self._watched.values():
            for queue in watched.listeners:
                queue.put_nowait(event)


def _poller(request: Request) -> Poller:
    state = request.app.state
    if not hasattr(state, "poller"):
        state.poller = Poller(portal_of(request).database, getattr(state, "is_ending", bool))
    poller: Poller = state.poller
    return poller


@router.get("/events")
async def list_events(
    request: Request, signed: Annotated[Signed, Depends(require("case.list"))]
) -> Response:
    """Tell a list: ``list`` when the reader's own work, or any case, has changed."""
    reader = signed.account.id
    return await _stream(
        request, signed, f"lists of {reader}", lambda session: signs.of_lists(session, reader),
        lambda now: may(now.actor, "case.list").yes,
    )  # fmt: skip


@router.get("/cases/{case_id}/events")
async def case_events(
    request: Request,
    portal: Here,
    signed: Annotated[Signed, Depends(require("case.see"))],
    case_id: str,
) -> Response:
    """Tell a case's page: ``state`` when it goes on, ``results`` when there are other results.

    Of a patient with a PatientID the other exams' results count too: a prior may come late.
    """
    root_id = await run_in_threadpool(_root_of, portal, signed, case_id)

    def still(now: Signed) -> bool:
        try:
            return _root_of(portal, now, case_id) == root_id
        except (opened.NoSuchCase, opened.SeveralCases):
            return False

    return await _stream(
        request, signed, f"case {root_id}", lambda session: signs.of_case(session, root_id), still
    )


def _root_of(portal: Portal, signed: Signed, case_id: str) -> str:
    with portal.database.read() as session:
        return opened.find(portal, session, signed, case_id).case.id


async def _stream(
    request: Request, signed: Signed, name: str, look: Look, still: Callable[[Signed], bool]
) -> Response:
    """Answer with a stream, that ends when the sign-in does, or may no longer see this."""
    poller = _poller(request)
    if poller.open[signed.session_id] >= _MOST:
        return PlainTextResponse("too many pages of this sign-in listen already\n", 429)
    poller.open[signed.session_id] += 1
    queue = await poller.listen(name, look)

    async def told() -> AsyncIterator[str]:
        try:
            yield "retry: 3000\nevent: hello\ndata:\n\n"
            until = 0.0
            while True:
                now = asyncio.get_running_loop().time()
                if now >= until:  # before the first event, and with every sign of life
                    if not await run_in_threadpool(_holds, request, still):
                        break
                    until = now + _BEAT_EVERY
                    yield ": here\n\n"
                try:
                    event = await asyncio.wait_for(queue.get(), until - now)
                except TimeoutError:
                    continue
                if event == _STOP:
                    return
                yield f"event: {event}\ndata:\n\n"
            yield "event: end\ndata:\n\n"
        finally:
            poller.leave(name, queue)
            poller.open[signed.session_id] -= 1

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(told(), media_type="text/event-stream", headers=headers)


def _holds(request: Request, still: Callable[[Signed], bool]) -> bool:
    """Ask anew whether the sign-in holds, and may still see this."""
    signed = still_signed_in(request)
    return signed is not None and still(signed)
