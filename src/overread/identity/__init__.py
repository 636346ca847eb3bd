"""Identity: who is signing in.

An identity plugin answers one question: is this a person who may sign in? Either it is asked with a
name and a password (`Identity`), or it sends the browser to a provider that asks by itself, and
reads what the browser brings back (`Provider`). What the person may do is decided elsewhere, by
the roles that the site gives names and groups.

A plugin is made with the accounts of this house, its own settings (``identity.with``), and the site
folder, from which its files are named. It raises `ValueError` where the settings do not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from overread.errors import OverreadError

_Settings = TypeVar("_Settings", bound=BaseModel)


def settings_of(plugin: str, kind: type[_Settings], given: Mapping[str, Any]) -> _Settings:
    """Read a plugin's own settings.

    Raises
    ------
    ValueError
        One is missing or makes no sense; each is told, with its name and without its value.
    """
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        what = "; ".join(
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}".lstrip(": ")
            for one in error.errors()
        )
        raise ValueError(f"identity {plugin}: {what}") from error


def authority_of(plugin: str, named: Path | None, root: Path) -> Path | None:
    """Return the file of who signed a server's certificate; none where the system's are meant.

    Raises
    ------
    ValueError
        There is no such file in the site folder.
    """
    if named is not None and not (root / named).is_file():
        raise ValueError(f"identity {plugin}: certificate_authority: there is no file {named}")
    return root / named if named is not None else None


@dataclass(frozen=True)
class Account:
    """A person that this house knows.

    Attributes
    ----------
    id : str
        Opaque.
    name : str
        The name to sign in with.
    secret : str
        The hash of the password.
    disabled : bool
        Whether sign-in is refused.
    origin : str
        Name of the identity plugin that knows the person.
    """

    id: str
    name: str
    secret: str = ""
    disabled: bool = False
    origin: str = "local"


@dataclass(frozen=True)
class Person:
    """Who has shown to be whom, as an identity plugin says it.

    Attributes
    ----------
    name : str
        The name to sign in with, as the plugin writes it.
    subject : str
        What the plugin calls the person for good; empty where it has nothing but the name.
    groups : frozenset of str
        Groups that the person is in, as the plugin names them.
    email : str
        Where the person gets mail; empty where the plugin does not say.
    """

    name: str
    subject: str = ""
    groups: frozenset[str] = frozenset()
    email: str = ""


class Accounts(Protocol):
    """Where accounts are looked up."""

    def find(self, name: str) -> Account | None:
        """Return the account of that name, disabled ones too."""
        ...

    def replace_secret(self, account: Account, secret: str) -> None:
        """Keep a new hash of the same password, made with stronger parameters."""
        ...


class Nobody:
    """A house without accounts: with it a plugin is made only to check its settings."""

    def find(self, _name: str) -> Account | None:
        """Return none."""
        return None

    def replace_secret(self, _account: Account, _secret: str) -> None:
        """Do nothing."""


class Identity(Protocol):
    """A plugin that is asked with a name and a password."""

    def sign_in(self, name: str, password: str) -> Person | None:
        """Return the person, or none; never say which of name and password was wrong.

        Raises
        ------
        Unavailable
            The directory that knows does not answer.
        """
        ...


class NotProven(OverreadError):
    """What came back from a provider does not show who somebody is; the message says why."""


@dataclass(frozen=True)
class Errand:
    """A browser's way to a provider and back.

    Attributes
    ----------
    url : str
        Where the browser is sent.
    kept : mapping of str to str
        What the browser keeps until it comes back, and shows to nobody else; ``state`` is in it.
    """

    url: str
    kept: Mapping[str, str]


class Provider(Protocol):
    """A plugin that sends the browser elsewhere to sign in.

    Attributes
    ----------
    title : str
        What the provider is called on the sign-in page.
    """

    title: str

    def send(self, back: str) -> Errand:
        """Return where to send a browser, that comes back to the address ``back``.

        Raises
        ------
        Unavailable
            The provider does not answer.
        """
        ...

    def receive(
        self, back: str, kept: Mapping[str, str], brought: Mapping[str, str], now: datetime
    ) -> Person:
        """Return who a browser that has come back belongs to.

        Parameters
        ----------
        back : str
            The address that it came back to.
        kept : mapping
            As of the errand.
        brought : mapping
            The query that the provider sent it with.
        now : datetime
            Aware.

        Raises
        ------
        NotProven
            It does not show who it is.
        Unavailable
            The provider does not answer.
        """
        ...

    def leaving(self, to: str) -> str:
        """Return where one signs out of the provider too; empty where it has no such address.

        Parameters
        ----------
        to : str
            Where the provider may send the browser afterwards.
        """
        ...
