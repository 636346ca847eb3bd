"""The settings of a site: what ``overread.yaml`` says, frozen, in one object.

Only shapes and defaults stand here; `overread.site` reads the files, applies the overlay of
``OVERREAD_ENV``, resolves the secrets and reports faults with file and line.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from overread.settings.fhir import FhirServer, Smart
from overread.settings.values import (
    AETitle,
    Duration,
    Frozen,
    Port,
    Size,
    check_ae_title,
    check_zone,
    parse_duration,
    parse_size,
    write_duration,
)

__all__ = [
    "AETitle",
    "Containers",
    "DestinationSettings",
    "Dicom",
    "Duration",
    "Engine",
    "FhirServer",
    "Frozen",
    "GroupRole",
    "Identity",
    "ModelServer",
    "Notify",
    "Port",
    "Portal",
    "Sender",
    "Settings",
    "Site",
    "Size",
    "Smart",
    "Smtp",
    "Storage",
    "Webhook",
    "check_ae_title",
    "parse_duration",
    "parse_size",
    "write_duration",
]


class Site(Frozen):
    """Who this installation is.

    Attributes
    ----------
    name : str
        Shown on every page, and used as the deriving name of this installation.
    timezone : str
        The zone of DICOM dates and times that carry no offset.
    development : bool
        Whether operators of the site's own are read again when their files change; else what they
        hold counts after a restart.
    environment : str
        Filled from ``OVERREAD_ENV``; empty when no overlay is chosen.
    """

    name: str = Field(min_length=1, max_length=64)
    timezone: Annotated[str, AfterValidator(check_zone)] = "UTC"
    development: bool = False
    environment: str = ""


class Storage(Frozen):
    """Where the archive lies and how full the disk may get.

    Attributes
    ----------
    path : Path
        Folder of databases, archive and work files; relative to the site folder.
    watermark : int
        Bytes that must stay free; below that a C-STORE is answered A700 and nothing is kept.
    """

    path: Path = Path("data")
    watermark: Size = 2 * 10**9


class Dicom(Frozen):
    """The DICOM listener.

    Attributes
    ----------
    unknown_senders : {"reject", "accept"}
        Whether an AE that ``senders`` does not list may open an association.
    processes : int
        Receiver processes that share the port.
    max_associations : int
        Associations open at once in one receiver process.
    """

    ae_title: AETitle = "OVERREAD"
    host: str = "127.0.0.1"
    port: Port = 11112
    processes: int = Field(default=1, ge=1, le=64)
    unknown_senders: Literal["reject", "accept"] = "reject"
    max_associations: int = Field(default=50, ge=1)


class Sender(Frozen):
    """An AE that may send to us.

    Attributes
    ----------
    addresses : tuple of str
        Peer addresses it may come from; empty allows any.
    issuer : str
        IssuerOfPatientID for images of this sender that carry none.
    """

    ae_title: AETitle
    addresses: tuple[str, ...] = ()
    issuer: str = ""


class DestinationSettings(Frozen):
    """Where we send. Its key in ``destinations`` is the AE title by which routes name it.

    Attributes
    ----------
    use : str
        Name of the destination plugin.
    with_ : dict
        The plugin's own settings; for ``dimse`` ``host``, ``port`` and optionally ``calling``.
    attempts : int
        How often a delivery is tried before it waits for a person.
    backoff : timedelta
        Pause after the first failure; doubled after each further one, up to ``backoff_limit``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    use: str = "dimse"
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    attempts: int = Field(default=12, ge=1)
    backoff: Duration = timedelta(seconds=2)
    backoff_limit: Duration = timedelta(minutes=15)
    concurrency: int = Field(default=1, ge=1)


class ModelServer(Frozen):
    """A server that runs models. Its key in ``model_servers`` is the name that cards give it.

    Attributes
    ----------
    url : str
        ``http://HOST:PORT`` or ``grpc://HOST:PORT``: the two forms of the KServe protocol, v2.
    """

    url: str = Field(pattern=r"^(http|grpc)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):\d{1,5}$")


class Portal(Frozen):
    """The web.

    Attributes
    ----------
    session : timedelta
        How long a sign-in lasts without activity.
    session_limit : timedelta
        How long a sign-in lasts, however active.
    embed : tuple of str
        Origins that may show pages in a frame of theirs, as ``https://pacs.hospital``.
    link_key : SecretStr, optional
        The secret of 16 characters or more that this site shares with a PACS, which signs its
        links to ``/open`` with it (HMAC-SHA-256 and expiry: `overread.validation.links`). A signed
        link must be right, whatever ``signed_links`` says; it gives no right to see anything.
    signed_links : {"allow", "require"}
        Whether ``/open`` takes unsigned links too.
    address : str
        How browsers reach it, as ``https://overread.hospital``; for links that leave this house.
    proxy : str
        Address of the TLS proxy in front, where the portal binds wider than loopback.
    certificate, key : Path, optional
        PEM files, where the portal ends TLS itself.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    session: Duration = timedelta(hours=1)
    session_limit: Duration = timedelta(hours=12)
    embed: tuple[Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+$")], ...] = ()
    link_key: SecretStr | None = None
    signed_links: Literal["allow", "require"] = "allow"
    address: str = ""
    proxy: str = ""
    certificate: Path | None = None
    key: Path | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in {"127.0.0.1", "::1", "localhost"}

    @model_validator(mode="after")
    def _links_need_a_key(self) -> Portal:
        key = self.link_key.get_secret_value() if self.link_key is not None else None
        if key is not None and len(key) < 16:
            raise ValueError("link_key is shorter than 16 characters; make one of random ones")
        if key is None and self.signed_links == "require":
            raise ValueError("signed_links: require needs a link_key, which the PACS knows too")
        return self

    @model_validator(mode="after")
    def _wide_needs_tls(self) -> Portal:
        if not self.is_loopback and not self.proxy and not (self.certificate and self.key):
            raise ValueError(
                f"host {self.host!r} is wider than loopback; that needs certificate and key, "
                "or the address of the proxy that ends TLS"
            )
        return self


class GroupRole(Frozen):
    """A role that the members of a group hold.

    Attributes
    ----------
    group : str
        As the directory or identity provider names it: a distinguished name, or a name.
    role : str
        One of `overread.validation.permissions.ROLES`.
    project : str
        Name of the project that it is held for; empty for the whole site.
    """

    group: str = Field(min_length=1)
    role: str
    project: str = ""


class Identity(Frozen):
    """Who may sign in, and how.

    Attributes
    ----------
    use : tuple of str
        Names of the identity plugins that are asked, in this order.
    with_ : dict
        Plugin to its own settings.
    roles : tuple of GroupRole
        Which roles groups give.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    use: tuple[str, ...] = ("local",)
    with_: dict[str, dict[str, Any]] = Field(default_factory=dict, alias="with")
    roles: tuple[GroupRole, ...] = ()


class Smtp(Frozen):
    """The mail server by which readers are told.

    Attributes
    ----------
    from_ : str
        The address that mail comes from.
    tls : {"starttls", "tls", "none"}
        How the connection is encrypted; ``none`` only to this machine.
    user, password : str, SecretStr
        Where the server asks for them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    host: str = Field(min_length=1)
    port: Port = 587
    from_: str = Field(alias="from", pattern=r"^[^@\s<>,]+@[^@\s<>,]+$")
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password: SecretStr | None = None

    @model_validator(mode="after")
    def _is_safe(self) -> Smtp:
        if self.tls == "none" and self.host not in {"127.0.0.1", "::1", "localhost"}:
            raise ValueError(
                f"mail to {self.host!r} would go in the clear; write tls: starttls or tls: tls"
            )
        return self


class Webhook(Frozen):
    """An address of the site's own that is told by HTTP.

    Attributes
    ----------
    secret : SecretStr
        The key of the signature that each request carries.
    """

    url: str = Field(
        pattern=r"^(https://[^\s@]+|http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/\S*)?)$"
    )
    secret: SecretStr


class Notify(Frozen):
    """How readers are told that there is something to read; projects say of what.

    Attributes
    ----------
    smtp : Smtp, optional
        Mail, to the readers that have an address.
    webhook : Webhook, optional
        One request a case.
    """

    smtp: Smtp | None = None
    webhook: Webhook | None = None


class Engine(Frozen):
    """How jobs run.

    Attributes
    ----------
    concurrency : int
        Jobs that one worker runs at once; each has a child process of its own.
    isolation : {"bubblewrap", "none"}
        What keeps model code from network, credentials and archive.
    step_timeout : timedelta
        Wall-clock limit of one step that states none of its own.
    memory : int
        Bytes that a step may use, with all processes that it starts.
    disk : int
        Bytes that the files of one job may take while it runs: its exam, and what its steps made.
    tasks : int
        Processes and threads that a step may start.
    device : str
        Where models run: ``cpu``, ``cuda:N``, or ``auto``: the first GPU that a model's runtime
        sees, else the CPU.
    keep_work : timedelta
        How long the files between steps are kept after a job has ended.
    programs : tuple of Path
        Folders, beyond those of the system, that the programs of `process` steps may read.
    """

    concurrency: int = Field(default=1, ge=1)
    isolation: Literal["bubblewrap", "none"] = "bubblewrap"
    step_timeout: Duration = timedelta(minutes=30)
    memory: Size = 8 * 10**9
    disk: Size = 20 * 10**9
    tasks: int = Field(default=2000, ge=50)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda:\d+)$")
    keep_work: Duration = timedelta(days=7)
    programs: tuple[Path, ...] = ()


class Containers(Frozen):
    """The container engine that `container` steps run in: Docker, or podman's service.

    Attributes
    ----------
    socket : str
        ``unix:///run/podman/podman.sock``; where empty, DOCKER_HOST of the worker's environment
        says, else it is Docker's own.
    """

    socket: str = Field(default="", pattern=r"^(unix:///.+)?$")


class Settings(Frozen):
    """Everything that ``overread.yaml`` says, after overlay and secrets.

    Attributes
    ----------
    database : SecretStr or None
        SQLAlchemy URL; none means SQLite below ``storage.path``. Secret, as it may hold a password.
    root : Path
        The site folder, absolute. Not part of the file.
    """

    site: Site
    database: SecretStr | None = None
    storage: Storage = Storage()
    dicom: Dicom = Dicom()
    senders: tuple[Sender, ...] = ()
    destinations: dict[AETitle, DestinationSettings] = Field(default_factory=dict)
    model_servers: dict[str, ModelServer] = Field(default_factory=dict)
    fhir: dict[str, FhirServer] = Field(default_factory=dict)
    portal: Portal = Portal()
    identity: Identity = Identity()
    notify: Notify = Notify()
    engine: Engine = Engine()
    containers: Containers = Containers()
    root: Path = Path()

    @property
    def data(self) -> Path:
        """Folder of databases, archive and work files, absolute."""
        return self.root / self.storage.path

    @property
    def tables(self) -> Path:
        """Folder of the tables that steps are given rows of, absolute; it need not be there."""
        return self.root / "tables"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the store's database."""
        if self.database is not None:
            return self.database.get_secret_value()
        return f"sqlite:///{self.data / 'overread.sqlite'}"
