"""Local users: names and argon2id hashes in this house's own database."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from overread.errors import UsageError
from overread.identity import Accounts, Person

MINIMUM_LENGTH = 8
"""Characters that a password has at least (NIST SP 800-63B, section 5.1.1.2)."""

_hasher = PasswordHasher()  # argon2id, RFC 9106's low-memory profile


def hash_password(password: str) -> str:
    """Return the argon2id hash of a new password, salt and parameters within.

    Raises
    ------
    UsageError
        The password is shorter than `MINIMUM_LENGTH`.
    """
    if len(password) < MINIMUM_LENGTH:
        raise UsageError(
            f"the password has {len(password)} characters; expected at least {MINIMUM_LENGTH}"
        )
    return _hasher.hash(password)


@cache
def _decoy() -> str:
    return _hasher.hash("nobody has this password")


class Local:
    """Sign-in against the accounts of this house. It has no settings."""

    def __init__(
        self, accounts: Accounts, settings: Mapping[str, Any] | None = None, root: Path = Path()
    ) -> None:
        del root
        if settings:
            raise ValueError(f"local has no settings, but is given {', '.join(sorted(settings))}")
        self._accounts = accounts

    def sign_in(self, name: str, password: str) -> Person | None:
        """Return the person, or none. An unknown name takes as long as a wrong password."""
        account = self._accounts.find(name)
        usable = account is not None and not account.disabled and account.origin == "local"
        secret = account.secret if account is not None and usable else _decoy()
        try:
            _hasher.verify(secret, password)
        except (VerificationError, InvalidHashError):
            return None
        if account is None or not usable:
            return None
        if _hasher.check_needs_rehash(secret):
            self._accounts.replace_secret(account, _hasher.hash(password))
        return Person(account.name)
