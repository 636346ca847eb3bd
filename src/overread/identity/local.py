"""Local users: names and argon2id hashes in this house's own database."""

from __future__ import annotations

from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from overread.errors import UsageError
from overread.identity import Account, Accounts

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
    """Sign-in against the accounts of this house."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def sign_in(self, name: str, password: str) -> Account | None:
        """Return the account, or none. An unknown name takes as long as a wrong password."""
        account = self._accounts.find(name)
        usable = account is not None and not account.disabled
        secret = account.secret if account is not None and usable else _decoy()
        try:
            _hasher.verify(secret, password)
        except (VerificationError, InvalidHashError):
            return None
        if account is None or not usable:
            return None
        if _hasher.check_needs_rehash(secret):
            self._accounts.replace_secret(account, _hasher.hash(password))
        return account
