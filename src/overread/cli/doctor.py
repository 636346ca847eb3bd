"""``overread doctor``: whether everything that a site needs is there and answers."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import typer
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from overread import registry, store
from overread.cli.terminal import JsonOption, SiteOption, open_site, table
from overread.destinations.dimse import Dimse
from overread.engine.weights import verify
from overread.errors import OverreadError, Unavailable
from overread.site import SiteFolder
from overread.store.database import Database
from overread.store.tables import Worker

Check = tuple[str, Callable[[], str]]
"""A name, and what finds out: it returns what is well, or raises with what is not."""


class Wrong(OverreadError):
    """Something is not as it must be; the message says what to do."""


def doctor(site: SiteOption = Path(), as_json: JsonOption = False) -> None:
    """Check what a site needs: system, disk, database, models, services, destinations.

    Exits with 1 if something is wrong.
    """
    folder = open_site(site)
    rows = [_examine(name, find) for name, find in checks(folder)]
    table(rows, ["check", "well", "said"], as_json=as_json)
    if not all(row["well"] for row in rows):
        raise typer.Exit(1)


def _examine(name: str, find: Callable[[], str]) -> dict[str, object]:
    try:
        return {"check": name, "well": True, "said": find()}
    except (OverreadError, OSError, ValueError, SQLAlchemyError, httpx.HTTPError) as error:
        return {"check": name, "well": False, "said": str(error)}


def checks(site: SiteFolder) -> Iterator[Check]:
    """List what is checked of a site."""
    yield "python", _python
    yield "isolation of model code", partial(_isolation, site)
    yield "disk", partial(_disk, site)
    yield "database", partial(_database, site)
    for reference, model in sorted(site.models.items()):
        yield f"model {reference}", partial(_model, model.file, model.card.sha256)
        yield f"runtime {model.card.runtime}", partial(_runtime, model.card.runtime)
    yield "receiver", partial(_receiver, site)
    yield "worker", partial(_worker, site)
    yield "portal", partial(_portal, site)
    for name in sorted(site.settings.destinations):
        yield f"destination {name}", partial(_destination, site, name)


def _python() -> str:
    return f"{sys.version.split()[0]} at {sys.prefix}"


def _isolation(site: SiteFolder) -> str:
    from overread.engine.worker import box  # the engine takes a while to import

    limits = box(site)
    limits.work.mkdir(mode=0o700, parents=True, exist_ok=True)
    problem = limits.problem()
    if problem:
        raise Wrong(problem)
    return {"bubblewrap": "bubblewrap works"}.get(limits.isolation, "none, as the site wants it")


def _disk(site: SiteFolder) -> str:
    settings = site.settings
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.data).free
    if free < settings.storage.watermark:
        raise Wrong(
            f"{free / 1e9:.1f} GB are free at {settings.data}, less than storage.watermark; "
            "images are turned away until there is more"
        )
    return f"{free / 1e9:.1f} GB free at {settings.data}"


def _database(site: SiteFolder) -> str:
    database = Database(site.settings.database_url)
    with database.engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    config = Config()
    config.set_main_option("script_location", str(Path(store.__file__).parent / "migrations"))
    expected = ScriptDirectory.from_config(config).get_current_head()
    if found != expected:
        raise Wrong(
            f"its schema is {found or 'empty'}, expected {expected}; starting a service upgrades it"
        )
    return f"{database.url.get_backend_name()}, schema {found}"


def _model(file: Path, digest: str) -> str:
    verify(file, digest)
    return f"SHA-256 {digest[:12]}…"


def _runtime(name: str) -> str:
    missing = registry.load("runtimes", name)().available()
    if missing:
        raise Wrong(missing)
    return "can run here"


def _receiver(site: SiteFolder) -> str:
    dicom = site.settings.dicom
    listener = Dimse(
        dicom.ae_title,
        {"host": dicom.host, "port": dicom.port, "calling": dicom.ae_title, "timeout": 5},
    )
    try:
        listener.echo()
    except Unavailable as error:
        # It knows its senders, and we are none of them; that it says so is answer enough.
        if "rejected" not in str(error):
            raise
    return f"answers at {dicom.host}:{dicom.port}"


def _worker(site: SiteFolder) -> str:
    from overread.engine.janitor import DEAD_AFTER

    with Database(site.settings.database_url).read() as session:
        workers = session.scalars(select(Worker)).all()
    now = datetime.now(UTC)
    alive = [worker.name for worker in workers if now - worker.seen_at < DEAD_AFTER]
    if not alive:
        raise Wrong("no worker has given a sign of life; overread worker starts one")
    return ", ".join(alive)


def _portal(site: SiteFolder) -> str:
    portal = site.settings.portal
    scheme = "https" if portal.certificate else "http"
    address = f"{scheme}://{portal.host}:{portal.port}"
    # Its certificate is for its name on the network; here only life is asked for.
    httpx.get(f"{address}/healthz", timeout=5, verify=False).raise_for_status()  # noqa: S501
    return f"answers at {address}"


def _destination(site: SiteFolder, name: str) -> str:
    settings = site.settings.destinations[name]
    registry.load("destinations", settings.use)(name, settings.with_).echo()
    return "answers"
