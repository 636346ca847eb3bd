"""``overread doctor``: whether everything that a site needs is there."""

from __future__ import annotations

from pathlib import Path

from overread.cli.terminal import JsonOption, SiteOption


def doctor(site: SiteOption = Path(), as_json: JsonOption = False) -> None:
    """Check what a site needs to work."""
    raise SystemExit(1)
