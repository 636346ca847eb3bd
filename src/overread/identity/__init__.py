"""Identity: who is signing in.

An identity plugin answers one question: are this name and this secret those of a person who may
sign in? Accounts that this house keeps itself come through `Accounts`, which the store implements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


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


class Accounts(Protocol):
    """Where accounts are looked up."""

    def find(self, name: str) -> Account | None:
        """Return the account of that name, disabled ones too."""
        ...

    def replace_secret(self, account: Account, secret: str) -> None:
        """Keep a new hash of the same password, made with stronger parameters."""
        ...


class Identity(Protocol):
    """What an identity plugin does. It is made with the `Accounts` of this house."""

    def sign_in(self, name: str, password: str) -> Account | None:
        """Return the person's account, or none; never say which of name and password was wrong.

        Raises
        ------
        Unavailable
            The directory that knows does not answer.
        """
        ...
