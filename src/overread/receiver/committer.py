"""One thread that commits for all associations of a process, so that they share a sync."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from overread.store.database import Database

Result = TypeVar("Result")

_AT_ONCE = 64


@dataclass(frozen=True)
class _Item:
    work: Callable[[Session], Any]
    outcome: Future[Any]


class Committer:
    """Takes pieces of work for the database and commits what has gathered, in one transaction.

    While one transaction is being synced, what comes in waits together for the next. A piece of
    work may be run a second time, after its transaction was rolled back, and must not do anything
    but read and write in its session.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread = Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Session], Result]) -> Future[Result]:
        """Hand in a piece of work; the future is done once it is committed, or has failed."""
        outcome: Future[Result] = Future()
        self._items.put(_Item(work, outcome))
        return outcome

    def close(self) -> None:
        """Commit what has been handed in, and end."""
        self._items.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._items.get()) is not None:
            batch = [first]
            last = False
            while len(batch) < _AT_ONCE:
                try:
                    item = self._items.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    last = True
                    break
                batch.append(item)
            self._commit(batch)
            if last:
                return

    def _commit(self, batch: list[_Item]) -> None:
        try:
            with self._database.write() as session:
                results = [item.work(session) for item in batch]
        except Exception as error:  # noqa: BLE001 - handed to the one who waits for it
            if len(batch) == 1:
                batch[0].outcome.set_exception(error)
                return
            for item in batch:  # so that one bad piece of work spoils only its own
                self._commit([item])
            return
        for item, result in zip(batch, results, strict=True):
            item.outcome.set_result(result)
