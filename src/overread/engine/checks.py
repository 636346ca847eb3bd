"""What a site needs, looked at: system, disk, database, models, services, destinations."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, literal_column, select
from sqlalchemy.exc import OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.orm import Session

from overread import registry, store
from overread.destinations.dimse import Dimse
from overread.engine.requests import address
from overread.engine.weights import verify
from overread.errors import OverreadError, Unavailable
from overread.pipelines.ports import Model
from overread.settings import Settings
from overread.site import SiteFolder
from overread.store.database import Database
from overread.store.tables import Instance, Quarantine, Turned, Worker

Look = Callable[[], str]
"""Finds something out: returns what is well, or raises with what is not."""


class Notice(OverreadError):
    """Something that a person should look at; the site works all the same."""


class Wrong(OverreadError):
    """Something is not as it must be; the message says what to do."""


def examine(name: str, find: Look) -> dict[str, str]:
    """Look at one thing: its ``check``, its ``state`` (well, notice, wrong), what was ``said``."""
    try:
        state, said = "well", find()
    except Notice as notice:
        state, said = "notice", str(notice)
    except (OverreadError, OSError, ValueError, SQLAlchemyError, httpx.HTTPError) as error:
        state, said = "wrong", str(error)
    return {"check": name, "state": state, "said": said}


def dead_after() -> timedelta:
    """Return after how long without a sign of life a worker counts as gone."""
    from overread.engine.janitor import DEAD_AFTER  # takes a while to import

    return DEAD_AFTER


def checks(settings: Settings, site: SiteFolder | None) -> Iterator[tuple[str, Look]]:
    """List what is checked of a site, by name; what needs its models only where it has no fault."""
    if site is not None:
        yield "site", lambda: "no fault"
    yield "python", _python
    yield "disk", partial(_disk, settings)
    yield "database", partial(_database, settings)
    if site is not None:
        yield "isolation of model code", partial(_isolation, site)
        for reference, one in sorted(site.models.items()):
            yield f"model {reference}", partial(model, one)
        for runtime in sorted({model.card.runtime for model in site.models.values()}):
            yield f"runtime {runtime}", partial(_runtime, runtime)
        for name in sorted(settings.model_servers):
            yield f"model server {name}", partial(_model_server, settings, name)
    yield "receiver", partial(_receiver, settings)
    yield "worker", partial(_worker, settings)
    yield "portal", partial(_portal, settings)
    for name in sorted(settings.destinations):
        yield f"destination {name}", partial(_destination, settings, name)
    yield "quarantined objects", partial(_quarantined, settings)
    yield "conflicts", partial(_conflicts, settings)
    yield "associations turned away today", partial(_turned_away, settings)


def _python() -> str:
    return f"{sys.version.split()[0]} at {sys.prefix}"


def _isolation(site: SiteFolder) -> str:
    from overread.engine.worker import box  # takes a while to import

    limits = box(site)
    limits.work.mkdir(mode=0o700, parents=True, exist_ok=True)
    problem = limits.problem()
    if problem:
        raise Wrong(problem)
    return {"bubblewrap": "bubblewrap works"}.get(limits.isolation, "none, as the site wants it")


def _disk(settings: Settings) -> str:
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.data).free
    if free < settings.storage.watermark:
        raise Wrong(
            f"{free / 1e9:.1f} GB are free at {settings.data}, less than storage.watermark; "
            "images are turned away until there is more"
        )
    return f"{free / 1e9:.1f} GB free at {settings.data}"


def _database(settings: Settings) -> str:
    database = Database(settings.database_url)
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


def model(pinned: Model) -> str:
    """Compare a model's files with the digests that its card pins, and say those.

    Raises
    ------
    StepFailed
        A file is not there, or is another one.
    """
    for one in pinned.members:
        verify(one.file, one.card.sha256, "model.yaml pins")
    return "SHA-256 " + ", ".join(f"{one.card.sha256[:12]}…" for one in pinned.members)


def _model_server(settings: Settings, name: str) -> str:
    url = settings.model_servers[name].url
    with socket.create_connection(address(url), timeout=5):
        return f"{url} is reached"


def _runtime(name: str) -> str:
    missing = registry.load("runtimes", name)().available()
    if missing:
        raise Wrong(missing)
    return "can run here"


def _receiver(settings: Settings) -> str:
    dicom = settings.dicom
    listener = Dimse(
        dicom.ae_title,
        {"host": dicom.host, "port": dicom.port, "calling": dicom.ae_title, "timeout": 5},
    )
    try:
        listener.echo()
    except Unavailable as error:
        # It knows its senders, and we are none of them; that it says so is answer enough.
        if "rejected" not in str(error):
            raise Wrong(f"{error}{_perhaps_demo(settings)}") from error
    return f"answers at {dicom.host}:{dicom.port}"


def _perhaps_demo(settings: Settings) -> str:
    """Say under which ports the demo runs, where it may be the demo that is looked for."""
    overlay = settings.root / "environments" / "demo.yaml"
    if os.environ.get("OVERREAD_ENV") or not overlay.is_file():
        return ""
    return "; the demo runs with OVERREAD_ENV=demo"


def _worker(settings: Settings) -> str:
    with _session(settings) as session:
        workers = session.scalars(select(Worker)).all()
    now = datetime.now(UTC)
    alive = [worker.name for worker in workers if now - worker.seen_at < dead_after()]
    if not alive:
        raise Wrong("no worker has given a sign of life; overread worker starts one")
    return ", ".join(alive)


def _portal(settings: Settings) -> str:
    portal = settings.portal
    scheme = "https" if portal.certificate else "http"
    address = f"{scheme}://{portal.host}:{portal.port}"
    # Its certificate is for its name on the network; here only life is asked for.
    try:
        httpx.get(f"{address}/healthz", timeout=5, verify=False).raise_for_status()  # noqa: S501
    except httpx.TransportError as error:
        raise Wrong(f"{address} cannot be reached{_perhaps_demo(settings)}") from error
    return f"answers at {address}"


def _destination(settings: Settings, name: str) -> str:
    destination = settings.destinations[name]
    registry.load("destinations", destination.use)(name, destination.with_).echo()
    return "answers"


@contextmanager
def _session(settings: Settings) -> Iterator[Session]:
    database = Database(settings.database_url)
    try:
        with database.read() as session:
            yield session
    except (OperationalError, ProgrammingError) as error:
        raise Wrong("not known, as the database cannot be read") from error
    finally:
        database.close()


def _quarantined(settings: Settings) -> str:
    with _session(settings) as session:
        number = session.scalar(select(func.count()).select_from(Quarantine)) or 0
        last = session.scalar(select(Quarantine).order_by(Quarantine.at.desc()).limit(1))
    if last is None:
        return "none"
    raise Notice(
        f"{number}, the last one at {last.at:%Y-%m-%d %H:%M:%S} UTC: {last.reason}; "
        f"kept as {last.key} in {settings.data / 'archive'}"
    )


def _conflicts(settings: Settings) -> str:
    conflict = Instance.standing == literal_column("'conflict'")  # as the partial index has it
    with _session(settings) as session:
        number = session.scalar(select(func.count()).select_from(Instance).where(conflict)) or 0
        last = session.scalar(
            select(Instance).where(conflict).order_by(Instance.received_at.desc()).limit(1)
        )
    if last is None:
        return "none"
    raise Notice(
        f"{number}, the last one at {last.received_at:%Y-%m-%d %H:%M:%S} UTC: conflict "
        f"{last.standing_reason}; overread why {last.accession or 'ACCESSION'} tells its way"
    )


def _turned_away(settings: Settings) -> str:
    today = Turned.day == f"{datetime.now(UTC):%Y-%m-%d}"
    with _session(settings) as session:
        number = session.scalar(select(func.sum(Turned.count)).where(today)) or 0
        last = session.scalar(select(Turned).where(today).order_by(Turned.last_at.desc()).limit(1))
    if last is None:
        return "none"
    raise Notice(
        f"{number}, the last one at {last.last_at:%H:%M:%S} UTC: {last.calling_ae} at "
        f"{last.peer_address}, calling {last.called_ae}: {last.reason}"
    )
