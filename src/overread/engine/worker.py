"""The worker: one process that gathers exams, runs jobs and delivers."""

from __future__ import annotations

from threading import Event

from overread.site import SiteFolder


def serve(site: SiteFolder, stop: Event, *, name: str = "") -> None:
    """Work until ``stop`` is set.

    Parameters
    ----------
    site : SiteFolder
        The site.
    stop : Event
        Set it to stop; a step that runs is killed, and resumes at the next start.
    name : str
        The worker's name, stable and unique among workers of one database; the host's name where
        it is empty.

    Raises
    ------
    UsageError
        A worker of that name runs on this machine already, or bubblewrap does not work here.
    """
    raise NotImplementedError
