"""A site's own operators whose files change while a worker runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import structlog

from overread.errors import SiteError
from overread.site import SiteFolder, load

_log = structlog.get_logger(__name__)


class OwnOperators:
    """Watches ``operators/*.py``.

    In development (``site.development``) what changed is read again, and holds for the exams that
    close from then on. Else a change is told in the log once, and counts after a restart: nobody
    changes what runs on patients by saving a file.

    Parameters
    ----------
    site : SiteFolder
        As it was read.
    """

    def __init__(self, site: SiteFolder) -> None:
        self.site = site
        self._seen = dict(site.operator_texts)

    def look(self) -> SiteFolder | None:
        """Return the site with its operators as they are now; none where nothing is to change."""
        now = _texts(self.site.root)
        if now == self._seen:
            return None
        before, self._seen = self._seen, now
        changed = sorted(
            file.name for file in now.keys() | before.keys() if now.get(file) != before.get(file)
        )
        if not self.site.settings.site.development:
            _log.warning("operators have changed; restart the worker to use them", files=changed)
            return None
        try:
            fresh = load(self.site.root)
        except SiteError as error:
            _log.error("changed operators have faults and are not used", faults=str(error))
            return None
        _log.info("operators were read again", files=changed)
        self.site = replace(
            self.site,
            operators=fresh.operators,
            operator_sources=fresh.operator_sources,
            operator_texts=fresh.operator_texts,
        )
        return self.site


def _texts(root: Path) -> dict[Path, bytes]:
    found = {}
    for file in root.glob("operators/*.py"):
        try:
            found[file] = file.read_bytes()
        except OSError:  # being replaced just now; the next look finds it
            continue
    return found
