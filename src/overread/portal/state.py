"""What every page works on, and how it is reached from a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.templating import Jinja2Templates

from overread.identity import Identity, Provider
from overread.portal.text import FILTERS
from overread.site import SiteFolder
from overread.store.archive import Archive
from overread.store.database import Database

HERE = Path(__file__).parent


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Portal:
    """The portal's site, store and means.

    Attributes
    ----------
    identity : mapping of str to Identity
        Who is asked for names and passwords, in the site's order.
    providers : mapping of str to Provider
        Where one can sign in elsewhere, likewise.
    now : callable
        The clock; a test gives its own.
    told : dict
        Sign-in, action and subject of what `overread.portal.told` told the audit of, and when.
    """

    site: SiteFolder
    database: Database
    archive: Archive
    identity: Mapping[str, Identity]
    providers: Mapping[str, Provider]
    templates: Jinja2Templates
    now: Callable[[], datetime] = _now
    told: dict[tuple[str, str, str], datetime] = field(default_factory=dict)


def templates(site: SiteFolder) -> Jinja2Templates:
    """Make the template environment: everything is escaped, an unknown name is an error."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    environment.globals["site"] = site.settings.site
    return Jinja2Templates(env=environment)


def portal_of(request: Request) -> Portal:
    """Return the portal that answers this request."""
    portal = request.app.state.portal
    assert isinstance(portal, Portal)  # noqa: S101 - build() has put it there
    return portal


Here = Annotated[Portal, Depends(portal_of)]
