"""OpenID Connect: people sign in at a provider, such as Keycloak, Entra ID or a hospital's own.

The authorization code flow (OpenID Connect Core 1.0, section 3.1) with PKCE (RFC 7636, S256), for
clients with a secret and without. What comes back shows who somebody is only if it belongs to the
way that this browser set out on (``state``, ``nonce``, the verifier), and the ID token is signed
with a key of the provider and made for this client now. Only asymmetric signatures count.
"""

from __future__ import annotations

import hmac
import secrets
import ssl
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn
from urllib.parse import urlencode, urlsplit

import httpx
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from pydantic import Field, SecretStr, field_validator

from overread.errors import Unavailable
from overread.identity import Accounts, Errand, NotProven, Person, authority_of, settings_of
from overread.settings import Duration, Frozen, parse_duration

ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519",
)  # fmt: skip
"""Signatures of ID tokens that count: ``none`` and those by a shared secret do not."""

_FRESH = 3600.0
"""Seconds that what a provider says of itself is kept."""
_REFETCH_AFTER = 10.0
"""Seconds after which keys are fetched again for a token that none of them has signed."""

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class OidcSettings(Frozen):
    """What ``identity.with.oidc`` says.

    Attributes
    ----------
    issuer : str
        The provider's issuer identifier; ``http://`` only on this machine.
    title : str
        What the provider is called on the sign-in page; its host where left out.
    client_id, client_secret : str, SecretStr
        As registered with the provider; a public client has no secret.
    client_authentication : {"client_secret_basic", "client_secret_post"}
        How the secret is sent.
    scopes : tuple of str
        What is asked for beside ``openid``.
    name_claim, groups_claim, email_claim : str
        Claims with the name to sign in with, the groups, the mail address; a dot leads into an
        object. Empty for none.
    userinfo : bool
        Whether the claims of the userinfo endpoint are asked for, too.
    hosts : tuple of str
        Hosts beside the issuer's own that its endpoints may be on.
    certificate_authority : Path, optional
        PEM file of who signed the provider's certificate, relative to the site folder; where left
        out, the system's.
    skew : timedelta
        How far the provider's clock may be from ours.
    timeout : timedelta
        How long the provider may be silent.
    """

    issuer: str
    title: str = ""
    client_id: str = Field(min_length=1)
    client_secret: SecretStr = SecretStr("")
    client_authentication: Literal["client_secret_basic", "client_secret_post"] = (
        "client_secret_basic"
    )
    scopes: tuple[Annotated[str, Field(pattern=r"^[!#-\[\]-~]+$")], ...] = ("profile", "email")
    name_claim: str = Field(default="preferred_username", min_length=1)
    groups_claim: str = "groups"
    email_claim: str = "email"
    userinfo: bool = False
    hosts: tuple[str, ...] = ()
    certificate_authority: Path | None = None
    skew: Duration = parse_duration("60s")
    timeout: Duration = parse_duration("10s")

    @field_validator("issuer")
    @classmethod
    def _safe(cls, issuer: str) -> str:
        if not _is_safe(issuer) or urlsplit(issuer).query or urlsplit(issuer).fragment:
            raise ValueError("it is no issuer; write one as https://login.hospital/realm")
        return issuer


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    plain = parts.scheme == "http" and parts.hostname in _LOOPBACK
    return bool(parts.hostname) and (parts.scheme == "https" or plain) and "@" not in parts.netloc


class Oidc:
    """An OpenID provider; see `overread.identity.Provider`.

    Raises
    ------
    ValueError
        A setting is missing or makes no sense.
    """

    def __init__(self, accounts: Accounts, settings: Mapping[str, Any], root: Path) -> None:
        del accounts  # its people are not ours
        self.settings = told = settings_of("oidc", OidcSettings, settings)
        self.title = told.title or str(urlsplit(told.issuer).hostname)
        self._authority = authority_of("oidc", told.certificate_authority, root)
        self._known: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    def send(self, back: str) -> Errand:
        """Return where to send a browser."""
        kept = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")}
        url = prepare_grant_uri(
            self._endpoint("authorization_endpoint"),
            self.settings.client_id,
            "code",
            redirect_uri=back,
            scope=" ".join(("openid", *self.settings.scopes)),
            state=kept["state"],
            nonce=kept["nonce"],
            code_challenge=create_s256_code_challenge(kept["verifier"]),
            code_challenge_method="S256",
        )
        return Errand(url, kept)

    def receive(
        self, back: str, kept: Mapping[str, str], brought: Mapping[str, str], now: datetime
    ) -> Person:
        """Return who a browser that has come back belongs to."""
        state, nonce, verifier = (kept.get(one, "") for one in ("state", "nonce", "verifier"))
        same = hmac.compare_digest(state.encode(), brought.get("state", "").encode())
        if not (state and nonce and verifier and same):
            raise NotProven("the answer is to another request than this browser's")
        if brought.get("iss", self.settings.issuer) != self.settings.issuer:  # RFC 9207
            raise NotProven("the answer is another provider's")
        if "error" in brought:
            error = "".join(filter(str.isprintable, brought["error"]))[:60]
            raise NotProven(f"it says {error}")
        if not brought.get("code"):
            raise NotProven("it gave no code")
        given = self._redeem(brought["code"], verifier, back)
        claims = self._verified(given, nonce, now)
        if self.settings.userinfo:
            claims = {**self._userinfo(given, str(claims["sub"])), **claims}
        return self._person(claims)

    def leaving(self, to: str) -> str:
        """Return where one signs out of the provider too (RP-Initiated Logout 1.0)."""
        end = self._metadata().get("end_session_endpoint")
        if not isinstance(end, str) or not _is_safe(end):
            return ""
        query = {"client_id": self.settings.client_id, "post_logout_redirect_uri": to}
        return f"{end}{'&' if '?' in end else '?'}{urlencode(query)}"

    def _person(self, claims: Mapping[str, Any]) -> Person:
        told = self.settings
        name = _claim(claims, told.name_claim)
        if not isinstance(name, str) or not name:
            raise NotProven(f"its ID token has no {told.name_claim}")
        groups = _claim(claims, told.groups_claim)
        groups = [groups] if isinstance(groups, str) else groups
        email = _claim(claims, told.email_claim)
        if not isinstance(email, str) or claims.get("email_verified") is False:
            email = ""
        named = groups if isinstance(groups, list) else []
        return Person(
            name,
            f"{told.issuer} {claims['sub']}",
            frozenset(one for one in named if isinstance(one, str)),
            email,
        )

    def _redeem(self, code: str, verifier: str, back: str) -> dict[str, Any]:
        """Exchange a code for tokens; a provider gives them once."""
        told = self.settings
        secret = told.client_secret.get_secret_value()
        body = urlencode(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": back,
                "code_verifier": verifier,
            }
        )
        how = told.client_authentication if secret else "none"
        url, headers, body = ClientAuth(told.client_id, secret, how).prepare(
            "POST",
            self._endpoint("token_endpoint"),
            {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
            body,
        )
        answer = self._ask("POST", url, content=body, headers=headers)
        if answer.status_code in (400, 401):
            raise NotProven("it does not take the code, which is used up or not this client's")
        return _json(answer)

    def _verified(self, given: Mapping[str, Any], nonce: str, now: datetime) -> dict[str, Any]:
        """Check an ID token (OpenID Connect Core 1.0, section 3.1.3.7)."""
        told = self.settings
        encoded = given.get("id_token")
        if not isinstance(encoded, str):
            raise NotProven("it gave no ID token")
        try:
            token = self._decoded(encoded)
            claims = CodeIDToken(
                token.claims,
                token.header,
                {
                    "iss": {"essential": True, "value": told.issuer},
                    "aud": {"essential": True, "value": told.client_id},
                    "sub": {"essential": True},
                    "exp": {"essential": True},
                    "iat": {"essential": True},
                },
                {
                    "nonce": nonce,
                    "client_id": told.client_id,
                    "access_token": given.get("access_token"),
                },
            )
            claims.validate(int(now.timestamp()), int(told.skew.total_seconds()))
        except (JoseError, ValueError, TypeError) as error:
            _refuse(error)
        return dict(claims)

    def _decoded(self, encoded: str) -> jwt.Token:
        keys, age = self._key_set()
        try:
            return jwt.decode(encoded, keys, algorithms=ALGORITHMS)
        except (InvalidKeyIdError, BadSignatureError):
            if age < _REFETCH_AFTER:  # else anybody could make us ask without end
                raise
        self._keys = None  # the provider may have new ones
        return jwt.decode(encoded, self._key_set()[0], algorithms=ALGORITHMS)

    def _key_set(self) -> tuple[KeySet, float]:
        """Return the provider's keys, and how many seconds ago they were fetched."""
        now = time.monotonic()
        if self._keys is None or now - self._keys[0] > _FRESH:
            found = _json(self._ask("GET", self._endpoint("jwks_uri")))
            try:
                self._keys = (now, KeySet.import_key_set(found))  # type: ignore[arg-type]  # JSON
            except (JoseError, LookupError, TypeError, ValueError) as error:
                raise Unavailable(f"{self.title} gave no keys") from error
        return self._keys[1], now - self._keys[0]

    def _userinfo(self, given: Mapping[str, Any], subject: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {given.get('access_token', '')}"}
        url = self._endpoint("userinfo_endpoint")
        claims = _json(self._ask("GET", url, headers=headers))
        if claims.get("sub") != subject:
            raise NotProven("its userinfo is about somebody else")
        return claims

    def _metadata(self) -> dict[str, Any]:
        """Return what the provider says of itself (OpenID Connect Discovery 1.0)."""
        now = time.monotonic()
        if self._known is None or now - self._known[0] > _FRESH:
            url = f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration"
            found = _json(self._ask("GET", url))
            if found.get("issuer") != self.settings.issuer:
                raise Unavailable(f"{self.title} says that it is another issuer")
            self._known = (now, found)
        return self._known[1]

    def _endpoint(self, name: str) -> str:
        url = self._metadata().get(name)
        if not isinstance(url, str) or not _is_safe(url):
            raise Unavailable(f"{self.title} names no {name} over TLS")
        host = urlsplit(url).hostname
        if host not in {urlsplit(self.settings.issuer).hostname, *self.settings.hosts}:
            raise Unavailable(f"the {name} of {self.title} is on {host}, which hosts does not name")
        return url

    def _ask(self, method: str, url: str, **more: Any) -> httpx.Response:
        seconds = self.settings.timeout.total_seconds()
        trusted = ssl.create_default_context(cafile=self._authority)
        try:
            with httpx.Client(verify=trusted, timeout=seconds, trust_env=False) as client:
                answer = client.request(method, url, **more)
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.title} does not answer: {type(error).__name__}") from error
        if answer.status_code >= 500 or answer.is_redirect:
            raise Unavailable(f"{self.title} answers {answer.status_code}")
        return answer


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError as error:
        raise Unavailable("it answers with something other than JSON") from error
    if answer.status_code != 200 or not isinstance(found, dict):
        raise Unavailable(f"it answers {answer.status_code}")
    return found


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """Return a claim by its name, or, where no claim has that, by its path through objects."""
    if path in claims or not path:
        return claims.get(path)
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _refuse(error: Exception) -> NoReturn:
    """Say what is wrong with an ID token, in the words of the library."""
    words = getattr(error, "description", "") or getattr(error, "error", "") or "malformed"
    raise NotProven(f"its ID token does not hold: {words}") from error
