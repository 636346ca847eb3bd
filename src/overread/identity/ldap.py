"""LDAP and Active Directory: people sign in with the password that they have in the directory.

A person is found in the directory by a search, made as a service account (or, with ``bind_as``, as
the person), and has the right password if the directory lets that person bind with it (RFC 4513,
section 5.1.3). Nothing goes over the network without TLS, and no referral is followed: it would
take the password to a server that the site does not name.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from ldap3 import NONE, SIMPLE, SUBTREE, Connection, Server, Tls
from ldap3.core.exceptions import LDAPException
from ldap3.core.results import (
    RESULT_CONSTRAINT_VIOLATION,
    RESULT_INAPPROPRIATE_AUTHENTICATION,
    RESULT_INVALID_CREDENTIALS,
    RESULT_INVALID_DN_SYNTAX,
    RESULT_NO_SUCH_OBJECT,
    RESULT_SIZE_LIMIT_EXCEEDED,
    RESULT_SUCCESS,
    RESULT_UNWILLING_TO_PERFORM,
)
from ldap3.protocol.sasl.sasl import validate_simple_password
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import escape_rdn
from pydantic import Field, SecretStr, model_validator

from overread.errors import Unavailable
from overread.identity import Accounts, Person, authority_of, settings_of
from overread.settings import Duration, Frozen, parse_duration

_NOT_LET_IN = frozenset(
    {
        RESULT_INVALID_CREDENTIALS,
        RESULT_INAPPROPRIATE_AUTHENTICATION,
        RESULT_INVALID_DN_SYNTAX,
        RESULT_NO_SUCH_OBJECT,
        # How directories say that an account is locked, expired or disabled.
        RESULT_CONSTRAINT_VIOLATION,
        RESULT_UNWILLING_TO_PERFORM,
    }
)
"""Results of a bind (RFC 4511, appendix A) that are about the person; others are the server's."""

Address = Annotated[str, Field(pattern=r"^ldaps?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?$")]
Template = Annotated[str, Field(pattern=r"\{name\}")]


class LdapSettings(Frozen):
    """What ``identity.with.ldap`` says.

    Attributes
    ----------
    servers : tuple of str
        ``ldaps://HOST[:PORT]``, or ``ldap://HOST[:PORT]``, which is turned to TLS before anything
        is said (StartTLS). They are tried in this order.
    certificate_authority : Path, optional
        PEM file of who signed the servers' certificates, relative to the site folder; where left
        out, the system's.
    bind, password : str, SecretStr
        Distinguished name and password of the service account that searches.
    bind_as : str
        Instead of a service account: whom a person binds as, ``{name}`` in it, as
        ``uid={name},ou=people,dc=hospital`` or ``{name}@hospital.example``.
    base : str
        Where people are.
    find : str
        The filter that finds a person by ``{name}``.
    name, subject, email, groups : str
        Attributes that hold the name to sign in with; what stays when that changes; the mail
        address; the groups. Empty for none.
    find_groups, group_base, group_name : str
        Where a person's entry does not name the groups: the filter that finds those of ``{dn}``,
        where they are, and the attribute that holds what they are called; their distinguished name
        where that is empty.
    timeout : timedelta
        How long a server may be silent.
    """

    servers: tuple[Address, ...] = Field(min_length=1)
    certificate_authority: Path | None = None
    bind: str = ""
    password: SecretStr = SecretStr("")
    bind_as: Literal[""] | Template = ""
    base: str = Field(min_length=1)
    find: Template = "(uid={name})"
    name: str = Field(default="uid", min_length=1)
    subject: str = "entryUUID"
    email: str = "mail"
    groups: str = "memberOf"
    find_groups: Literal[""] | Annotated[str, Field(pattern=r"\{dn\}")] = ""
    group_base: str = ""
    group_name: str = ""
    timeout: Duration = parse_duration("10s")

    @model_validator(mode="after")
    def _one_way(self) -> LdapSettings:
        if bool(self.bind) == bool(self.bind_as):
            raise ValueError("expected either bind and password, or bind_as")
        if self.bind and not self.password.get_secret_value():
            raise ValueError("bind needs a password: without one a directory lets anybody in")
        if self.find_groups and not self.group_base:
            raise ValueError("find_groups needs group_base: where the groups are")
        return self


@dataclass(frozen=True)
class _Entry:
    """What a search found: an entry's name, and the raw values of its attributes."""

    dn: str
    values: Mapping[str, list[bytes]]

    def texts(self, attribute: str) -> list[str]:
        """Return the values of an attribute, whatever the case of its name."""
        for name, values in self.values.items():
            if name.lower() == attribute.lower():
                return [_text(value) for value in values]
        return []

    def text(self, attribute: str) -> str:
        """Return the first value of an attribute; empty where there is none."""
        return next(iter(self.texts(attribute)), "")


def _text(value: bytes) -> str:
    """Read a value; one that is no text, such as Active Directory's objectGUID, as hexadecimal."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value.hex()
    return text if text.isprintable() else value.hex()


class Ldap:
    """A directory; see `overread.identity.Identity`.

    Raises
    ------
    ValueError
        A setting is missing or makes no sense.
    """

    def __init__(self, accounts: Accounts, settings: Mapping[str, Any], root: Path) -> None:
        del accounts  # its people are not ours
        self.settings = settings_of("ldap", LdapSettings, settings)
        authority = authority_of("ldap", self.settings.certificate_authority, root)
        self._authority = str(authority) if authority is not None else None

    def sign_in(self, name: str, password: str) -> Person | None:
        """Return the person, or none.

        Raises
        ------
        Unavailable
            No server answers as it should.
        """
        prepared = _prepared(password)
        if not name or not name.isprintable() or not prepared:
            return None
        problems = []
        for address in self.settings.servers:
            try:
                return self._ask(address, name, prepared)
            except LDAPException as error:
                problems.append(f"{address}: {type(error).__name__}")
            except Unavailable as error:
                problems.append(f"{address}: {error}")
        raise Unavailable(f"no directory answers: {'; '.join(problems)}")

    def _ask(self, address: str, name: str, password: bytes) -> Person | None:
        told = self.settings
        if told.bind_as:
            # In a distinguished name it must not end its part; a principal has no such parts.
            safe = escape_rdn(name) if "=" in told.bind_as else name
            with self._bound(address, told.bind_as.replace("{name}", safe), password) as own:
                return None if own is None else self._person(own, name)
        secret = told.password.get_secret_value().encode()
        with self._bound(address, told.bind, secret) as service:
            if service is None:
                raise Unavailable("it does not take the service account")
            entry = self._find(service, name)
            if entry is None:
                return None
            with self._bound(address, entry.dn, password) as own:
                if own is None:
                    return None
            return self._made(service, entry)

    def _person(self, own: Connection, name: str) -> Person | None:
        entry = self._find(own, name)
        return None if entry is None else self._made(own, entry)

    @contextmanager
    def _bound(self, address: str, user: str, password: bytes) -> Iterator[Connection | None]:
        """Connect over TLS and bind; none where the directory does not let that user in."""
        parts = urlsplit(address)
        seconds = max(1, round(self.settings.timeout.total_seconds()))  # ldap3 takes whole ones
        host = parts.hostname or ""
        server = Server(
            host,
            port=parts.port or (636 if parts.scheme == "ldaps" else 389),
            use_ssl=parts.scheme == "ldaps",
            tls=Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=self._authority, sni=host),
            get_info=NONE,
            connect_timeout=seconds,
        )
        connection = Connection(
            server, user, password,  # type: ignore[arg-type]  # bytes: prepared already
            authentication=SIMPLE, auto_referrals=False, read_only=True,
            receive_timeout=seconds,
        )  # fmt: skip
        try:
            connection.open(read_server_info=False)
            if not server.ssl and not connection.start_tls(read_server_info=False):
                raise Unavailable("it does not start TLS")
            connection.bind(read_server_info=False)
            result = connection.result["result"]
            if result not in (RESULT_SUCCESS, *_NOT_LET_IN):
                raise Unavailable(f"its answer to a bind is {connection.result['description']}")
            yield connection if result == RESULT_SUCCESS else None
        finally:
            connection.unbind()

    def _find(self, connection: Connection, name: str) -> _Entry | None:
        """Find the one entry that a name is of; none where there are several, too."""
        told = self.settings
        query = told.find.replace("{name}", escape_filter_chars(name))
        wanted = [told.name, told.subject, told.email, told.groups]
        found = _search(connection, told.base, query, [one for one in wanted if one])
        return found[0] if len(found) == 1 else None

    def _made(self, connection: Connection, entry: _Entry) -> Person | None:
        told = self.settings
        groups = set(entry.texts(told.groups)) if told.groups else set()
        if told.find_groups:
            query = told.find_groups.replace("{dn}", escape_filter_chars(entry.dn))
            named = [told.group_name] if told.group_name else ["1.1"]  # RFC 4511: no attributes
            for group in _search(connection, told.group_base, query, named, most=0):
                groups.add(group.text(told.group_name) if told.group_name else group.dn)
        name = entry.text(told.name)
        if not name:
            raise Unavailable(f"the entry of a person has no {told.name}")
        subject = entry.text(told.subject) if told.subject else ""
        email = entry.text(told.email) if told.email else ""
        return Person(name, subject, frozenset(groups - {""}), email)


def _prepared(password: str) -> bytes:
    """Write a password as a directory compares it (RFC 4013); empty where it cannot be one.

    With an empty password a directory says yes to anybody (RFC 4513, section 5.1.2), and some
    characters are nothing once they are prepared.
    """
    if not password:
        return b""
    try:
        return bytes(validate_simple_password(password))
    except LDAPException:
        return b""


def _search(
    connection: Connection, base: str, query: str, attributes: list[str], *, most: int = 2
) -> list[_Entry]:
    connection.search(base, query, SUBTREE, attributes=attributes, size_limit=most)
    result = connection.result
    if result["result"] not in (RESULT_SUCCESS, RESULT_SIZE_LIMIT_EXCEEDED, RESULT_NO_SUCH_OBJECT):
        raise Unavailable(f"its answer to a search is {result['description']}")
    return [
        _Entry(one["dn"], one["raw_attributes"])
        for one in connection.response or ()
        if one["type"] == "searchResEntry"
    ]
