from __future__ import annotations

import pytest
from argon2 import PasswordHasher

from overread.errors import UsageError
from overread.identity import Account, Person
from overread.identity.local import Local, hash_password

PASSWORD = "correct horse"


class Known:
    def __init__(self, *accounts: Account) -> None:
        self.accounts = {account.name: account for account in accounts}
        self.replaced: dict[str, str] = {}

    def find(self, name: str) -> Account | None:
        return self.accounts.get(name)

    def replace_secret(self, account: Account, secret: str) -> None:
        self.replaced[account.name] = secret


def account(name: str = "ada", secret: str = "", disabled: bool = False) -> Account:
    return Account("1", name, secret or hash_password(PASSWORD), disabled)


def test_hash_is_argon2id_and_salted() -> None:
    one, other = hash_password(PASSWORD), hash_password(PASSWORD)
    assert one.startswith("$argon2id$")
    assert one != other
    assert PASSWORD not in one


def test_short_password_is_refused() -> None:
    with pytest.raises(UsageError, match="7 characters; expected at least 8"):
        hash_password("seven77")


def test_right_password_signs_in() -> None:
    known = Known(account())
    assert Local(known).sign_in("ada", PASSWORD) == Person("ada")
    assert not known.replaced


@pytest.mark.parametrize(
    ("name", "password"), [("ada", "wrong password"), ("ada", ""), ("eve", PASSWORD), ("", "")]
)
def test_anything_else_does_not(name: str, password: str) -> None:
    assert Local(Known(account())).sign_in(name, password) is None


def test_an_account_of_a_directory_has_no_password_here() -> None:
    known = Known(Account("1", "ada", hash_password(PASSWORD), origin="ldap"))
    assert Local(known).sign_in("ada", PASSWORD) is None


def test_it_has_no_settings() -> None:
    with pytest.raises(ValueError, match="local has no settings, but is given length"):
        Local(Known(), {"length": 12})


def test_a_disabled_account_does_not() -> None:
    assert Local(Known(account(disabled=True))).sign_in("ada", PASSWORD) is None


def test_a_broken_hash_does_not() -> None:
    assert Local(Known(account(secret="not a hash"))).sign_in("ada", PASSWORD) is None


def test_a_weaker_hash_is_replaced_at_sign_in() -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    known = Known(account(secret=weak))
    assert Local(known).sign_in("ada", PASSWORD) is not None
    assert known.replaced["ada"] != weak
    PasswordHasher().verify(known.replaced["ada"], PASSWORD)
