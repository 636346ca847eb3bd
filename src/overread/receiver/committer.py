"""Commits for all associations of a process, so that they share a sync."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from overread.store.database import Database

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class _Item:
    work: Callable[[Session], Any]
    outcome: Future[Any]


class Committer:
    """Takes pieces of work for the database and commits what has gathered, in one transaction.

    The first thread that comes commits for itself. While its transaction is being synced, those
    that come gather; the first of them then commits for all of them. So a thread alone waits for
    nobody, and many wait for one sync, not for one each.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = Lock()
        self._gathering = Lock()
        self._items: list[_Item] = []

    def run(self, work: Callable[[Session], Result]) -> Result:
        """Do a piece of work; its result comes, or its error, once that is committed.

        It may be run a second time, after its transaction was rolled back, and must not do
        anything but read and write in its session.
        """
        outcome: Future[Result] = Future()
        with self._gathering:
            self._items.append(_Item(work, outcome))
        with self._turn:
            if not outcome.done():
                with self._gathering:
                    items, self._items = self._items, []
                self._commit(items)
        return outcome.result()

    def _commit(self, items: list[_Item]) -> None:
        try:
            with self._database.write() as session:
                results = [item.work(session) for item in items]
        except Exception as error:  # noqa: BLE001 - handed to the one whose work it was
            if len(items) == 1:
                items[0].outcome.set_exception(error)
                return
            for item in items:  # so that one bad piece of work spoils only its own
                self._commit([item])
            return
        for item, result in zip(items, results, strict=True):
            item.outcome.set_result(result)
