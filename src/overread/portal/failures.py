"""Failed sign-ins, counted, so that passwords cannot be guessed by trying."""

from __future__ import annotations

from collections import defaultdict, deque
from datetime import datetime, timedelta
from threading import Lock

_WINDOW = timedelta(minutes=5)
_PER_PAIR, _PER_ADDRESS = 5, 50
_REMEMBERED = 10_000


class Failures:
    """Counts failures in the last five minutes: by name and address together, and by address.

    A name alone is never locked: that would let anybody lock out anybody.
    """

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], deque[datetime]] = defaultdict(deque)
        self._lock = Lock()

    def wait(self, at: datetime, name: str, address: str) -> timedelta:
        """Return how long this name at this address has to wait; zero if it need not."""
        with self._lock:
            return max(
                self._left(at, (name, address), _PER_PAIR),
                self._left(at, ("", address), _PER_ADDRESS),
            )

    def add(self, at: datetime, name: str, address: str) -> None:
        """Count a failure."""
        with self._lock:
            if len(self._times) > _REMEMBERED:
                self._forget(at)
            self._times[(name, address)].append(at)
            self._times[("", address)].append(at)

    def clear(self, name: str, address: str) -> None:
        """Forget the failures of a name that has signed in."""
        with self._lock:
            self._times.pop((name, address), None)

    def _left(self, at: datetime, key: tuple[str, str], limit: int) -> timedelta:
        times = self._times.get(key, deque())
        while times and times[0] <= at - _WINDOW:
            times.popleft()
        return times[-limit] + _WINDOW - at if len(times) >= limit else timedelta(0)

    def _forget(self, at: datetime) -> None:
        old = [key for key, times in self._times.items() if not times or times[-1] <= at - _WINDOW]
        for key in old:
            del self._times[key]
