"""A site's own operators whose files change while a worker runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

import structlog

from overread.errors import SiteError
from overread.site import SiteFolder, load

_log = structlog.get_logger(__name__)


class Holder(Protocol):
    """Works with the site that it holds."""

    site: SiteFolder


class OwnOperators:
    """Watches ``operators/*.py``.

    In development (``site.development``) what changed is read again, and holds for the exams that
    close from then on. Else a change is told in the log once, and counts after a restart: nobody
    changes what runs on patients by saving a file.

    Parameters
    ----------
    site : SiteFolder
        As it was read.
    *holders
        What is given the site anew when its operators were read again.
    """

    def __init__(self, site: SiteFolder, *holders: Holder) -> None:
        self.site = site
        self._holders = holders
        self._seen = dict(site.operator_texts)

    def look(self, _now: datetime | None = None) -> None:
        """Look at the files once."""
        texts = _texts(self.site.root)
        if texts == self._seen:
            return
        before, self._seen = self._seen, texts
        changed = sorted(
            file.name
            for file in texts.keys() | before.keys()
            if texts.get(file) != before.get(file)
        )
        if not self.site.settings.site.development:
            _log.warning("operators have changed; restart the worker to use them", files=changed)
            return
        try:
            fresh = load(self.site.root)
        except SiteError as error:
            _log.error("changed operators have faults and are not used", faults=str(error))
            return
        _log.info("operators were read again", files=changed)
        self.site = replace(
            self.site,
            operators=fresh.operators,
            operator_sources=fresh.operator_sources,
            operator_texts=fresh.operator_texts,
        )
        for holder in self._holders:
            holder.site = self.site


def _texts(root: Path) -> dict[Path, bytes]:
    found = {}
    for file in root.glob("operators/*.py"):
        try:
            found[file] = file.read_bytes()
        except OSError:  # being replaced just now; the next look finds it
            continue
    return found
